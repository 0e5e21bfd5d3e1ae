"""``workato-agent check`` against real databases: a line for each profile, with what to do."""

from __future__ import annotations

import json
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from tests.support import mariadb, postgresql
from tests.support.commands import run_apart
from tests.support.folders import folder_for

H2 = "/usr/share/java/h2.jar"


class Check(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.file = self.folder / "config.yml"
        self.postgresql = postgresql.shared_server()
        self.mariadb = mariadb.shared_server()
        sqlite3.connect(self.folder / "x.db").close()
        (self.folder / "text.db").write_text("no database, " * 100)

    def write(self, profiles: dict[str, dict[str, object]]) -> None:
        # JSON is YAML, and quotes what has to be.
        config = {"database": profiles, "server": {"classpath": H2}}
        self.file.write_text(json.dumps(config, ensure_ascii=False))
        self.file.chmod(0o600)

    def on_postgresql(self, **changed: object) -> dict[str, object]:
        server = self.postgresql
        return {
            "adapter": "postgresql",
            "host": "127.0.0.1",
            "port": server.port,
            "database": "postgres",
            "username": postgresql.SUPERUSER,
            "password": postgresql.PASSWORD,
            "timeout": 10,
        } | changed

    def on_mariadb(self, **changed: object) -> dict[str, object]:
        return {
            "adapter": "mysql",
            "host": "127.0.0.1",
            "port": self.mariadb.port,
            "database": mariadb.DATABASE,
            "username": mariadb.USER,
            "password": mariadb.PASSWORD,
            "timeout": 10,
        } | changed

    def test_each_adapter_reaches_its_database(self) -> None:
        odbc = {
            "adapter": "odbc",
            "driver": "PostgreSQL Unicode",
            "Servername": "127.0.0.1",
            "Port": self.postgresql.port,
            "Database": "postgres",
            "SSLmode": "prefer",
            "username": postgresql.SUPERUSER,
            "password": postgresql.PASSWORD,
        }
        self.write(
            {
                "pg": self.on_postgresql(),
                "maria": self.on_mariadb(),
                "lite": {"adapter": "sqlite", "database": "x.db"},
                "odbc": odbc,
                "h2": {
                    "adapter": "jdbc",
                    "url": "jdbc:h2:mem:check",
                    "driverClass": "org.h2.Driver",
                    "username": "sa",
                },
            }
        )
        names = ("pg", "maria", "lite", "odbc", "h2")
        outcome = run_apart("check", "--config", self.file, *names)
        self.assertEqual(outcome.status, 0, outcome.out + outcome.err)
        lines = {line.split()[1]: line for line in outcome.out.splitlines()}
        for name, product in (
            ("pg", "PostgreSQL 15"),
            ("maria", "MariaDB"),
            ("lite", "SQLite 3"),
            ("odbc", "PostgreSQL"),
            ("h2", "H2"),
        ):
            self.assertRegex(lines[f"database/{name}"], rf"^ok .* {product}")

    def test_what_is_wrong_is_told_apart_with_a_hint(self) -> None:
        profiles = {
            "refused": (self.on_postgresql(port=1), "target_unreachable"),
            "unnamed": (self.on_mariadb(host="no-such-host.invalid"), "target_unreachable"),
            "password": (self.on_postgresql(password="wrong-secret"), "target_login_failed"),
            "my-password": (self.on_mariadb(password="wrong-secret"), "target_login_failed"),
            "database": (self.on_postgresql(database="none"), "target_not_found"),
            "my-database": (self.on_mariadb(database="none"), "target_not_found"),
            "pg-on-maria": (self.on_postgresql(port=self.mariadb.port), "target_wrong_type"),
            "maria-on-pg": (self.on_mariadb(port=self.postgresql.port), "target_wrong_type"),
            "tls": (
                self.on_mariadb(sslrootcert=str(self.postgresql.folder / "ca.crt")),
                "target_tls_failed",
            ),
            "file": ({"adapter": "sqlite", "database": "none.db"}, "target_not_found"),
            "no-file": ({"adapter": "sqlite", "database": "text.db"}, "target_wrong_type"),
            "class": (
                {"adapter": "jdbc", "url": "jdbc:x:y", "driverClass": "no.such.Driver"},
                "target_",
            ),
            "driver": ({"adapter": "odbc", "driver": "No Such Driver", "Server": "x"}, "target_"),
        }
        self.write({name: keys for name, (keys, _) in profiles.items()})
        outcome = run_apart("check", "--json", "--config", self.file)
        self.assertEqual(outcome.status, 1, outcome.err)
        self.assertNotIn("wrong-secret", outcome.out + outcome.err)
        findings = {each["profile"]: each for each in json.loads(outcome.out)["profiles"]}
        for name, (_, code) in profiles.items():
            with self.subTest(name):
                finding = findings[name]
                self.assertTrue(str(finding["code"]).startswith(code), finding)
                self.assertTrue(finding["hint"], finding)
                self.assertTrue(finding["detail"], finding)
                self.assertNotIn("\n", finding["detail"] + finding["hint"])
