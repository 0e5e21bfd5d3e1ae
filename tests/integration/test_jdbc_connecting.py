"""How a login through JDBC fails, with real drivers."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.mariadb import shared_server as shared_mariadb
from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER
from tests.support.postgresql import shared_server as shared_postgresql
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.adapters.jdbc_connection import JdbcConnection
from workato_agent.services.database.adapters.jdbc_errors import without_secrets
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings
from workato_agent.services.database.statements import GENERIC, MYSQL, POSTGRESQL
from workato_tunnel.problems import Problem

POSTGRESQL_DRIVER = "org.postgresql.Driver"
MARIADB_DRIVER = "org.mariadb.jdbc.Driver"
SECRET = "hush-hush-4711"


def driver(url: str, driver_class: str, **more: Any) -> JdbcDriver:
    return JdbcDriver.build(
        JdbcSettings(url=url, driver_class=driver_class, **more), DatabasePolicy()
    )


class ConnectingCase(SynchronousTestCase):
    def problem(self, url: str, driver_class: str, **more: Any) -> Problem:
        problem = self.assertRaises(Problem, driver(url, driver_class, **more).thd_open)
        self.assertNotIn(SECRET, f"{problem.detail} {problem.hint} {problem.extra}")
        self.assertTrue(problem.hint)
        return problem

    def url(self, rest: str = "/postgres?sslmode=require") -> str:
        return f"jdbc:postgresql://127.0.0.1:{shared_postgresql().port}{rest}"


class Servers(ConnectingCase):
    def test_a_wrong_password(self) -> None:
        problem = self.problem(self.url(), POSTGRESQL_DRIVER, user=SUPERUSER, password=SECRET)
        self.assertEqual(problem.code, "target_login_failed")
        self.assertIn(f"127.0.0.1:{shared_postgresql().port}", problem.detail)
        url = f"jdbc:mariadb://127.0.0.1:{shared_mariadb().port}/mysql"
        problem = self.problem(url, MARIADB_DRIVER, user="nobody", password=SECRET)
        self.assertEqual(problem.code, "target_login_failed")

    def test_an_unknown_database(self) -> None:
        problem = self.problem(
            self.url("/nope?sslmode=require"), POSTGRESQL_DRIVER, user=SUPERUSER, password=PASSWORD
        )
        self.assertEqual(problem.code, "target_not_found")

    def test_nothing_listens(self) -> None:
        port = free_port()
        url = f"jdbc:postgresql://127.0.0.1:{port}/x"
        problem = self.problem(url, POSTGRESQL_DRIVER, user="x", password=SECRET)
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn("nothing listens", problem.hint or "")

    def test_an_unknown_host(self) -> None:
        url = f"jdbc:postgresql://no-such-host.invalid/x?password={SECRET}"
        problem = self.problem(url, POSTGRESQL_DRIVER, user="x")
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn("name", problem.hint or "")

    def test_a_certificate_that_is_not_trusted(self) -> None:
        url = self.url("/postgres?sslmode=verify-full")
        problem = self.problem(url, POSTGRESQL_DRIVER, user=SUPERUSER, password=SECRET)
        self.assertEqual(problem.code, "target_tls_failed")

    def test_something_else_answers(self) -> None:
        url = f"jdbc:postgresql://127.0.0.1:{shared_mariadb().port}/x"
        problem = self.problem(
            url, POSTGRESQL_DRIVER, user="x", password=SECRET, connect_timeout=2.0
        )
        self.assertEqual(problem.code, "target_wrong_type")

    def test_one_that_says_nothing_is_waited_for_no_longer_than_told(self) -> None:
        silent = socket.create_server(("127.0.0.1", free_port()))
        self.addCleanup(silent.close)
        url = f"jdbc:postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        problem = self.problem(
            url, POSTGRESQL_DRIVER, user="x", password=SECRET, connect_timeout=1.0
        )
        self.assertEqual(problem.code, "target_unreachable")


class Drivers(ConnectingCase):
    def test_a_class_that_is_nowhere_names_where_it_was_looked_for(self) -> None:
        folder = folder_for(self)
        shutil.copy("/usr/share/java/h2.jar", folder / "h2.jar")
        problem = self.problem("jdbc:acme:x", "com.acme.Driver", classpath=[folder])
        self.assertEqual(problem.code, "target_not_found")
        self.assertIn(str(folder / "h2.jar"), problem.detail)
        self.assertIn("server.classpath", problem.hint or "")
        problem = self.problem("jdbc:acme:x", "com.acme.Driver")
        self.assertIn("server.classpath is empty", problem.detail)

    def test_a_package_of_debian_is_named(self) -> None:
        problem = self.problem("jdbc:hsqldb:mem:x", "org.hsqldb.jdbc.NoSuchDriver")
        self.assertIn("libhsqldb-java", problem.hint or "")

    def test_a_jar_of_the_class_path_comes_first(self) -> None:
        folder = folder_for(self)
        shutil.copy("/usr/share/java/h2.jar", folder / "own.jar")
        connection = driver(
            "jdbc:h2:mem:own", "org.h2.Driver", classpath=[folder / "*.jar"]
        ).thd_open()
        self.addCleanup(connection.thd_close)
        source = connection.raw.getClass().getProtectionDomain().getCodeSource().getLocation()
        self.assertEqual(Path(str(source.getPath())), folder / "own.jar")

    def test_a_class_that_is_no_driver(self) -> None:
        problem = self.problem("jdbc:h2:mem:x", "org.h2.tools.Server")
        self.assertIn("no JDBC driver", problem.detail)

    def test_a_url_that_the_driver_does_not_take(self) -> None:
        problem = self.problem(f"jdbc:acme://x?password={SECRET}", "org.h2.Driver")
        self.assertEqual(problem.code, "target_wrong_type")
        self.assertIn("jdbc:acme", problem.detail)

    def test_a_file_that_is_not_there(self) -> None:
        folder = folder_for(self)
        url = f"jdbc:h2:{folder}/none;IFEXISTS=TRUE;PASSWORD={SECRET}"
        self.assertEqual(self.problem(url, "org.h2.Driver").code, "target_not_found")

    def test_the_dialect_is_that_of_the_url(self) -> None:
        for url, dialect in (
            ("jdbc:postgresql:x", POSTGRESQL),
            ("jdbc:mariadb:x", MYSQL),
            ("jdbc:acme:x", GENERIC),
        ):
            self.assertEqual(driver(url, "x.Y").dialect, dialect)


class Secrets(ConnectingCase):
    def test_secrets_are_left_out(self) -> None:
        for url, properties in (
            (f"jdbc:x://h/d?user=a&password={SECRET}", {}),
            (f"jdbc:x://h/d;PWD={SECRET};x=1", {}),
            (f"jdbc:oracle:thin:scott/{SECRET}@h:1521:x", {}),
            (f"jdbc:x://scott:{SECRET}@h/d", {}),
            ("jdbc:x://h/d", {"sslKeyPassword": SECRET}),
        ):
            settings = JdbcSettings(url=url, driver_class="x.Y", properties=properties)
            text = without_secrets(f"can't connect to {url} with {properties}", settings)
            self.assertNotIn(SECRET, text)
            self.assertNotIn(SECRET, repr(JdbcDriver.build(settings, DatabasePolicy())))


class Lifetime(ConnectingCase):
    def connection(self) -> JdbcConnection:
        connection = driver(
            self.url(), POSTGRESQL_DRIVER, user=SUPERUSER, password=PASSWORD
        ).thd_open()
        self.addCleanup(connection.thd_close)
        return connection

    def test_a_connection_that_was_ended_is_known_to_be_gone(self) -> None:
        connection = self.connection()
        self.assertTrue(connection.thd_answers())
        (pid,) = (connection.raw.getBackendPID(),)
        shared_postgresql().run(f"select pg_terminate_backend({int(pid)})")
        self.assertFalse(connection.thd_answers())
        self.assertFalse(connection.thd_renew())

    def test_facts(self) -> None:
        facts = self.connection().thd_facts()
        self.assertRegex(str(facts["target"]), r"^PostgreSQL \d+\.\d+")
        self.assertEqual(facts["user"], SUPERUSER)
