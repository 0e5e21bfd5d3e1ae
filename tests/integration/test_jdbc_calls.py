"""Procedures and functions through JDBC, on PostgreSQL and MariaDB."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.mariadb import DATABASE, USER
from tests.support.mariadb import PASSWORD as MARIADB_PASSWORD
from tests.support.mariadb import shared_server as shared_mariadb
from tests.support.postgresql import PASSWORD, SUPERUSER
from tests.support.postgresql import shared_server as shared_postgresql
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.adapters.jdbc_connection import JdbcConnection
from workato_agent.services.database.parameters import Typed
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings
from workato_agent.services.database.statements import TableName, bind
from workato_tunnel.problems import Problem


class CallsCase(SynchronousTestCase):
    connection: JdbcConnection

    def connect(self, url: str, driver_class: str, user: str, password: str) -> None:
        settings = JdbcSettings(url=url, driver_class=driver_class, user=user, password=password)
        self.connection = JdbcDriver.build(settings, DatabasePolicy()).thd_open()
        self.addCleanup(self.connection.thd_close)

    def run_sql(self, *statements: str) -> None:
        for sql in statements:
            self.connection.thd_run(bind(sql, None, self.connection.dialect)).thd_close()

    def call(self, name: str, params: Any, schema: str | None = None) -> tuple[Any, list[Any]]:
        """OUT parameters and the rows of every result."""
        cursor, out = self.connection.thd_call(TableName(schema, name), params)
        results: list[Any] = []
        while cursor is not None:
            if cursor.columns:
                rows: list[Any] = []
                while block := cursor.thd_read(100, 10_000):
                    rows += cursor.convert(block, "json")
                results.append(rows)
            if not cursor.thd_next():
                cursor.thd_close()
                break
        return dict(out), results

    def refused(self, code: str, name: str, params: Any) -> Problem:
        problem = self.assertRaises(Problem, self.call, name, params)
        self.assertEqual(problem.code, code)
        return problem


class ReadOnly(CallsCase):
    def test_what_a_function_of_the_databases_own_did_is_undone(self) -> None:
        server = shared_postgresql()
        server.run("create function jdbc_made() returns oid language sql as 'select lo_create(0)'")
        self.addCleanup(server.run, "drop function jdbc_made()")
        url = f"jdbc:postgresql://127.0.0.1:{server.port}/postgres?sslmode=require"
        self.connect(url, "org.postgresql.Driver", SUPERUSER, PASSWORD)
        objects = "select count(*) from pg_largeobject_metadata"
        before = server.run(objects)
        self.connection.thd_begin(writing=False)
        self.run_sql("select jdbc_made()")
        self.connection.thd_commit()
        self.assertEqual(server.run(objects), before)


class Postgresql(CallsCase):
    def setUp(self) -> None:
        url = f"jdbc:postgresql://127.0.0.1:{shared_postgresql().port}/postgres?sslmode=require"
        self.connect(url, "org.postgresql.Driver", SUPERUSER, PASSWORD)
        # Never committed.
        self.run_sql(
            "create schema jdbc_calls",
            "create function jdbc_calls.twice(a int) returns numeric language sql"
            " as 'select a * 2.50'",
            "set search_path = jdbc_calls",
        )

    def test_functions_of_one_value(self) -> None:
        for params in ([3], {"a": 3}, {"A": 3}):
            found = self.call("twice", params, "jdbc_calls")
            self.assertEqual(found, ({"return": "7.50"}, []))
        self.assertEqual(self.call("twice", [None]), ({"return": None}, []))

    def test_functions_of_many_rows(self) -> None:
        self.run_sql(
            "create function rows_of(n int) returns table(i int, t text) language sql"
            " as $$select i, 'x' || i from generate_series(1, n) i$$"
        )
        self.assertEqual(self.call("rows_of", [2]), ({}, [[(1, "x1"), (2, "x2")]]))

    def test_out_parameters(self) -> None:
        self.run_sql(
            "create function pair(a int, out b int, out c text) language sql"
            " as $$select a + 1, 'c'$$",
            "create procedure changed(a int, inout b text) language plpgsql"
            " as $$begin b := b || a; end$$",
        )
        self.assertEqual(self.call("pair", [1]), ({"b": 2, "c": "c"}, []))
        self.assertEqual(self.call("changed", [1, "b"]), ({"b": "b1"}, []))

    def test_overloads_odd_names_and_arrays(self) -> None:
        self.run_sql(
            "create function over(a int) returns int language sql as 'select a'",
            "create function over(a text, b int) returns text language sql as 'select a || b'",
            'create function "Odd "" name_%"(d date, l int[]) returns text language sql'
            " as 'select d::text || l::text'",
        )
        self.assertEqual(self.call("over", [1])[0], {"return": 1})
        self.assertEqual(self.call("over", ["a", 1])[0], {"return": "a1"})
        found = self.call('Odd " name_%', [Typed("date", "2024-02-29"), [1, 2]])
        self.assertEqual(found[0], {"return": "2024-02-29{1,2}"})
        self.assertIn("1, 2", self.refused("bad_request", "over", [1, 2, 3]).detail)

    def test_what_is_not_there(self) -> None:
        for name in ("nope", "%", "over"):
            self.refused("operation_not_found", name, [])
        self.refused("bad_request", "twice", {"b": 1})


class Mariadb(CallsCase):
    def setUp(self) -> None:
        url = f"jdbc:mariadb://127.0.0.1:{shared_mariadb().port}/{DATABASE}"
        self.connect(url, "org.mariadb.jdbc.Driver", USER, MARIADB_PASSWORD)
        self.addCleanup(
            shared_mariadb().run,
            "drop function if exists jdbc_twice",
            "drop procedure if exists jdbc_sets",
        )

    def test_functions_and_procedures(self) -> None:
        self.run_sql(
            "create function jdbc_twice(a int) returns decimal(10,2) deterministic return a * 2.5",
            "create procedure jdbc_sets(in a int, out b varchar(10), inout c int)"
            " begin set b = 'x'; set c = c + a; select 1 as x; select 2 as y; end",
        )
        self.assertEqual(self.call("jdbc_twice", [3]), ({"return": "7.50"}, []))
        wanted = ({"b": "x", "c": 7}, [[(1,)], [(2,)]])
        self.assertEqual(self.call("jdbc_sets", [3, 4]), wanted)
        self.assertEqual(self.call("jdbc_sets", {"a": 3, "c": 4}, DATABASE), wanted)
