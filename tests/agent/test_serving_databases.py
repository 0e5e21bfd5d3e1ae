"""What each database profile is built into, and what is told where that can't be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock

from tests.support.configs import ConfigTestCase
from workato_agent.config.database import (
    ADAPTERS,
    DatabaseProfile,
)
from workato_agent.serving_databases import DatabaseContext, database_service

LOGIN = "username: u, password: hunter2"
PROFILES = {
    "postgresql": f"{{adapter: postgresql, database: d, {LOGIN}}}",
    "redshift": f"{{adapter: redshift, database: d, {LOGIN}}}",
    "mysql": f"{{adapter: mysql, database: d, {LOGIN}}}",
    "sqlserver": f"{{adapter: sqlserver, host: h, database: d, {LOGIN}}}",
    "oracle": f"{{adapter: oracle, host: h, database: XE, {LOGIN}}}",
    "sqlite": "{adapter: sqlite, database: x.db}",
    "odbc": f"{{adapter: odbc, driver: SQLite3, Database: x.db, {LOGIN}}}",
    "jdbc": f"{{adapter: jdbc, url: 'jdbc:h2:mem:x', driverClass: org.h2.Driver, {LOGIN}}}",
}
ROOT = Path(__file__).parents[2]


class Building(ConfigTestCase):
    def profile(self, keys: str) -> DatabaseProfile:
        return self.load(f"database: {{a: {keys}}}").of(DatabaseProfile)["a"]

    def test_every_adapter_of_the_config_is_served_and_opens_nothing(self) -> None:
        self.assertEqual(set(PROFILES), set(ADAPTERS))
        for adapter, keys in PROFILES.items():
            with self.subTest(adapter):
                reactor = Clock()
                service = database_service(reactor, DatabaseContext("agent"), self.profile(keys))
                self.assertEqual(service.type, adapter)
                self.assertIn("query", service.operations)
                self.assertIn("sessions", service.operations)
                self.assertNotIn("hunter2", repr(service))
                self.assertEqual(reactor.getDelayedCalls(), [])

    def test_a_profiles_policy_leaves_its_operations(self) -> None:
        keys = PROFILES["sqlite"].replace("}", ", policy: {operations: [query, schema]}}")
        service = database_service(Clock(), DatabaseContext(), self.profile(keys))
        self.assertEqual(service.operations, ("test", "query", "schema"))

    def test_a_database_in_memory_is_a_fault(self) -> None:
        profile = self.profile("{adapter: sqlite, database: ':memory:'}")
        error = self.assertRaises(ValueError, database_service, Clock(), DatabaseContext(), profile)
        self.assertIn("name a file", str(error))


class Imports(ConfigTestCase):
    """In a process of its own: other tests have imported everything already."""

    def serve(self, config: str, then: str) -> str:
        self.file.write_text(config)
        program = f"""
import sys
from pathlib import Path
from twisted.internet.task import Clock
{then.partition("|")[0]}
from workato_agent.config import ConfigError, load_config
from workato_agent.served import serve_profiles
try:
    serve_profiles(load_config(Path({str(self.file.absolute())!r})), Clock())
except ConfigError as error:
    print(error)
{then.partition("|")[2]}
"""
        return subprocess.check_output(
            [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, text=True
        )

    def test_a_driver_is_imported_only_for_a_profile_that_needs_it(self) -> None:
        config = "database:\n" + "".join(f"  {name}: {keys}\n" for name, keys in PROFILES.items())
        drivers = "('jpype', 'oracledb', 'pyarrow', 'pyodbc')"
        printed = f"|print([name for name in {drivers} if name in sys.modules])"
        self.assertEqual(self.serve(config, printed), "[]\n")

    def test_without_database_profiles_no_driver_at_all_is(self) -> None:
        drivers = "('psycopg2', 'txpostgres', 'sqlite3', 'sqlglot', 'pyarrow')"
        printed = f"|print([name for name in {drivers} if name in sys.modules])"
        self.assertEqual(self.serve("files: {a: {base: .}}", printed), "[]\n")

    def test_a_driver_that_is_missing_is_a_fault_that_says_what_to_install(self) -> None:
        for name, module, hint in (
            ("oracle", "oracledb", "workato-agent[oracle]"),
            ("jdbc", "jpype", "workato-agent[jdbc]"),
            ("mysql", "pymysql", "pip install pymysql"),
            ("odbc", "pyodbc", "pip install pyodbc"),
        ):
            with self.subTest(name):
                away = f"sys.modules[{module!r}] = None|"
                told = self.serve(f"database: {{a: {PROFILES[name]}}}", away)
                self.assertIn("database.a: its driver is not installed", told)
                self.assertIn(hint, told)
