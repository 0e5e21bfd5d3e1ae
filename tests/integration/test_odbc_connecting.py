"""Connecting through ODBC drivers: what went wrong is told, and passwords hold anything."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.mariadb import DATABASE
from tests.support.mariadb import PASSWORD as MARIADB_PASSWORD
from tests.support.mariadb import USER as MARIADB_USER
from tests.support.mariadb import shared_server as mariadb
from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER
from tests.support.postgresql import shared_server as postgresql
from tests.support.tds import PASSWORD as TDS_PASSWORD
from tests.support.tds import USER as TDS_USER
from tests.support.tds import TdsServer
from workato_agent.services.database.adapters.odbc import OdbcDriver
from workato_agent.services.database.adapters.sqlserver import SqlserverDriver
from workato_agent.services.database.settings import (
    DatabasePolicy,
    OdbcSettings,
    SqlserverSettings,
)
from workato_tunnel.problems import Problem

_ODD = ("a;b", "a}b", "{a", "{a}", "a}}b;UID=x", "a=b", "a'b\"c%41+d", "[x]*!@", "}", "é😀")


class OdbcConnecting(SynchronousTestCase):
    def open(self, driver: str, user: str, password: str, **keys: str) -> Any:
        settings = OdbcSettings(
            {"Driver": driver, "Server": "127.0.0.1", **keys}, user, password, connect_timeout=3
        )
        connection = OdbcDriver.build(settings, DatabasePolicy()).thd_open()
        self.addCleanup(connection.thd_close)
        return connection

    def told(self, code: str, *words: str, driver: str, **keys: str) -> None:
        user, password = keys.pop("user", "nobody"), keys.pop("password", "wr0ng-secret")
        with self.assertRaises(Problem) as caught:
            self.open(driver, user, password, **keys)
        problem = caught.exception
        self.assertEqual(problem.code, code, problem)
        for word in words:
            self.assertIn(word, problem.detail + (problem.hint or ""))
        self.assertNotIn(password, problem.detail + (problem.hint or ""))

    def test_passwords_of_postgresql_hold_anything(self) -> None:
        for number, password in enumerate(_ODD):
            name = f"odbc_{number}"
            with postgresql().connect() as link, link.cursor() as cursor:
                cursor.execute(f"drop role if exists {name}")
                cursor.execute(f"create role {name} login password %s", (password,))
            self.open(
                "PostgreSQL Unicode",
                name,
                password,
                Port=str(postgresql().port),
                Database="postgres",
                SSLmode="require",
            )

    def test_passwords_of_mariadb_hold_anything(self) -> None:
        for number, password in enumerate(_ODD):
            name = f"odbc_{number}"
            with mariadb().connect() as link, link.cursor() as cursor:
                cursor.execute(f"create or replace user {name} identified by %s", (password,))
            self.open("MariaDB Unicode", name, password, Port=str(mariadb().port))

    def test_postgresqls_refusals(self) -> None:
        driver, port = "PostgreSQL Unicode", str(postgresql().port)
        ours = {"driver": driver, "Port": port, "SSLmode": "require"}
        self.told("target_login_failed", driver=driver, Port=port, Database="postgres",
                  SSLmode="require")  # fmt: skip
        self.told("target_not_found", "nowhere", **ours, Database="nowhere", user=SUPERUSER,
                  password=PASSWORD)  # fmt: skip
        self.told("target_tls_failed", **ours | {"SSLmode": "verify-full"}, Database="postgres")

    def test_mariadbs_refusals(self) -> None:
        ours = {"driver": "MariaDB Unicode", "Port": str(mariadb().port)}
        self.told("target_login_failed", **ours, Database=DATABASE)
        self.told("target_not_found", "nowhere", **ours, Database="nowhere", user=MARIADB_USER,
                  password=MARIADB_PASSWORD)  # fmt: skip

    def test_strangers_at_the_port_are_named(self) -> None:
        for driver, port, name in (
            ("PostgreSQL Unicode", mariadb().port, "MySQL"),
            ("FreeTDS", mariadb().port, "MySQL"),
            ("MariaDB Unicode", postgresql().port, "MySQL"),
            ("FreeTDS", postgresql().port, "SQL Server"),
        ):
            self.told("target_wrong_type", name, driver=driver, Port=str(port), Database="x")

    def test_what_is_not_there_is_told(self) -> None:
        for driver in ("PostgreSQL Unicode", "MariaDB Unicode", "FreeTDS"):
            self.told("target_unreachable", "refused", driver=driver, Port=str(free_port()))
            with self.assertRaises(Problem) as caught:
                self.open(driver, "u", "p", Server="no-such-host.invalid")
            self.assertIn("resolved", caught.exception.detail)

    def test_silence_has_an_end(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = str(silent.getsockname()[1])
            for driver in ("PostgreSQL Unicode", "MariaDB Unicode", "FreeTDS"):
                self.told("target_unreachable", "nothing is said", driver=driver, Port=port)

    def test_drivers_and_sources_that_are_missing(self) -> None:
        self.told("target_unreachable", "FreeTDS", "not installed", driver="No Such")
        self.told("target_unreachable", "odbc-mariadb", driver="MariaDB 9 Driver")
        self.told("target_unreachable", "not installed", driver="/no/such/library.so")
        settings = OdbcSettings({"DSN": "no-such-source"})
        with self.assertRaises(Problem) as caught:
            OdbcDriver.build(settings, DatabasePolicy()).thd_open()
        self.assertEqual(caught.exception.code, "target_not_found")

    def test_sqlite_files(self) -> None:
        folder = folder_for(self)
        noise = Path(folder) / "noise.db"
        noise.write_bytes(b"no database at all, whatever one may think" * 40)
        for name, code in (("none.db", "target_not_found"), ("noise.db", "target_wrong_type")):
            settings = OdbcSettings({"Driver": "SQLite3", "Database": str(Path(folder) / name)})
            with self.assertRaises(Problem) as caught:
                OdbcDriver.build(settings, DatabasePolicy()).thd_open()
            self.assertEqual(caught.exception.code, code)


class SqlserverConnecting(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = TdsServer.start()
        self.addCleanup(self.server.close)

    def open(self, **more: Any) -> Any:
        known = {"host": "127.0.0.1", "port": self.server.port, "user": TDS_USER}
        settings = SqlserverSettings(
            **{**known, "password": TDS_PASSWORD, "connect_timeout": 3.0, **more}
        )
        connection = SqlserverDriver.build(settings, DatabasePolicy()).thd_open()
        self.addCleanup(connection.thd_close)
        return connection

    def test_the_best_driver_that_is_installed_is_taken(self) -> None:
        self.assertIn("tdsodbc", self.open().thd_facts()["driver"])

    def test_refusals(self) -> None:
        for more, code in (
            ({"password": "wrong-secret"}, "target_login_failed"),
            ({"database": "nowhere"}, "target_not_found"),
            ({"driver": "ODBC Driver 18 for SQL Server"}, "target_unreachable"),
            ({"encrypt": True, "trust_certificate": True}, "target_unreachable"),
        ):
            with self.assertRaises(Problem) as caught:
                self.open(**more)
            self.assertEqual(caught.exception.code, code, caught.exception)
            self.assertNotIn("wrong-secret", caught.exception.detail)

    def test_a_value_that_would_be_another_key_is_refused(self) -> None:
        with self.assertRaises(Problem) as caught:
            self.open(password="x};Server=evil")
        self.assertIn("PWD", caught.exception.detail)
        self.assertNotIn("evil", caught.exception.detail)
