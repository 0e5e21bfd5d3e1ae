"""Connection strings and guarded statements of ODBC, without a driver."""

from __future__ import annotations

import re
from threading import Event, Thread

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.odbc import OdbcDriver, dbms_of
from workato_agent.services.database.adapters.odbc_dbms import Link
from workato_agent.services.database.adapters.odbc_errors import diagnosis
from workato_agent.services.database.adapters.odbc_keys import connection_string
from workato_agent.services.database.adapters.sqlserver import keys
from workato_agent.services.database.settings import (
    DatabasePolicy,
    OdbcSettings,
    SqlserverSettings,
)
from workato_agent.services.database.statements import MSSQL, MYSQL, POSTGRESQL, SQLITE
from workato_tunnel.problems import Problem

_PAIR = re.compile(r"([^=;]+)=(?:\{((?:[^}]|\}\})*)\}|([^;]*));")


def read(text: str) -> dict[str, str]:
    """A connection string as the driver manager reads it."""
    found: dict[str, str] = {}
    at = 0
    while match := _PAIR.match(text, at):
        braced = match[2]
        found[match[1]] = match[3] if braced is None else braced.replace("}}", "}")
        at = match.end()
    assert at == len(text), text
    return found


class ConnectionStrings(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="ab;{}=[] é\"'", max_size=8))
    def test_a_value_means_itself(self, value: str) -> None:
        wanted = {"Driver": "X", "PWD": value, "UID": "u"}
        self.assertEqual(read(connection_string(wanted)), wanted)

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="ab;{}=", max_size=8))
    def test_a_driver_without_escapes_is_never_given_another_key(self, value: str) -> None:
        for braces in ("plain", "none"):
            try:
                text = connection_string({"PWD": value, "UID": "u"}, braces)
            except Problem:
                continue
            body = text.removeprefix("PWD=").removesuffix("UID=u;")
            inner = body[1:-2] if body.startswith("{") else body[:-1]
            self.assertEqual(inner, value)
            self.assertNotIn("};", inner)

    def test_what_can_not_be_said_is_refused(self) -> None:
        for pairs, braces in (
            ({"PWD": "a\0b"}, "doubled"),
            ({"P;D": "a"}, "doubled"),
            ({"PWD": "a};UID=b"}, "plain"),
            ({"PWD": "a;b"}, "none"),
        ):
            with self.assertRaises(Problem) as caught:
                connection_string(pairs, braces)  # type: ignore[arg-type]  # of the tuple
            self.assertNotIn("UID=b", caught.exception.detail)

    def test_sql_servers_keys_in_the_words_of_the_driver(self) -> None:
        profile = SqlserverSettings(host="db", user="u", database="d", encrypt=True, port=1444)
        microsofts = keys(profile, "ODBC Driver 18 for SQL Server")
        self.assertEqual(microsofts["Server"], "tcp:db,1444")
        self.assertEqual(microsofts["Encrypt"], "yes")
        with self.assertRaises(Problem) as caught:
            keys(profile, "FreeTDS")
        self.assertEqual(caught.exception.code, "target_tls_failed")
        named = SqlserverSettings(host="db", user="u", instance="i", trust_certificate=True)
        self.assertEqual(keys(named, "FreeTDS")["Server"], "db\\i")
        self.assertEqual(keys(named, "ODBC Driver 17 for SQL Server")["Server"], "db\\i")
        self.assertNotIn("Port", keys(named, "FreeTDS"))

    def test_the_dialect_is_the_drivers(self) -> None:
        for name, dialect in (
            ("PostgreSQL Unicode", POSTGRESQL),
            ("/usr/lib/odbc/libmaodbc.so", MYSQL),
            ("SQLite3", SQLITE),
            ("FreeTDS", MSSQL),
        ):
            driver = OdbcDriver.build(OdbcSettings({"Driver": name}), DatabasePolicy())
            self.assertIs(driver.dialect, dialect)


class Guards(SynchronousTestCase):
    def refused(self, product: str, sql: str, *, read_only: bool) -> str | None:
        try:
            dbms_of(product).guard(sql, DatabasePolicy(read_only=read_only))
        except Problem as problem:
            rule = problem.extra.get("rule")
            return f"{problem.code} {rule}" if rule else problem.code
        return None

    def test_where_there_is_no_read_only_transaction_only_queries_pass(self) -> None:
        for product in ("FreeTDS", "SQLite3", "something else"):
            for sql in (
                "select 1",
                "  /* insert */ with x as (select 1 as a) select a from x -- delete",
                "select 'drop table x', \"update\" from t",
            ):
                self.assertIsNone(self.refused(product, sql, read_only=True), sql)
            for sql in (
                "insert into t values (1)",
                "select * into copy from t",
                "with x as (select 1 as a) delete from t",
                "exec xp_cmdshell 'dir'",
                "/* select */ drop table t",
                "select 1 exec p",
                "select * from openrowset('x', 'y', 'z')",
                "declare @a int",
                "pragma query_only = 0",
                "merge t using s on 1 = 1 when matched then delete",
                "select next value for s",
                "",
            ):
                self.assertEqual(
                    self.refused(product, sql, read_only=True), "policy_denied read_only", sql
                )

    def test_no_statement_ends_the_transaction(self) -> None:
        for product in ("PostgreSQL", "MariaDB", "SQLite3", "FreeTDS", "something else"):
            for sql in ("commit", "/**/ rollback", "BEGIN", "savepoint a", "select 1; select 2"):
                self.assertEqual(self.refused(product, sql, read_only=False), "query_failed", sql)
        for sql in ("select 1 commit", "select 1 begin tran", "set implicit_transactions off"):
            self.assertEqual(self.refused("FreeTDS", sql, read_only=False), "query_failed", sql)
        self.assertEqual(
            self.refused("MariaDB", "set autocommit = 1", read_only=False), "query_failed"
        )
        self.assertIsNone(self.refused("FreeTDS", "select [commit] from t", read_only=False))

    def test_a_procedures_body_holds_semicolons(self) -> None:
        body = "create procedure p() begin select 1; select 2; end"
        self.assertIsNone(self.refused("MariaDB", body, read_only=False))
        self.assertEqual(self.refused("PostgreSQL", body, read_only=False), "query_failed")

    def test_marks_that_drivers_misread_are_taken_out(self) -> None:
        sqlite = dbms_of("SQLite3")
        self.assertEqual(sqlite.armour("select [a?], `b?` /* ? */ from t -- ?").count("?"), 2)
        self.assertIn('"a?"', sqlite.armour("select [a?] from t"))
        mysql = dbms_of("MariaDB")
        self.assertEqual(mysql.armour("select '?' # ?\n"), "select '?'    \n")


class Diagnoses(SynchronousTestCase):
    def test_an_error_is_taken_apart(self) -> None:
        for text, state, native, words in (
            (
                (
                    "[42S02] [ma-3.1.15][10.11.18-MariaDB]Table 'a.b' doesn't exist (1146) "
                    "(SQLExecDirectW)"
                ),
                "42S02",
                1146,
                "Table 'a.b' doesn't exist",
            ),
            (
                (
                    "[23505] ERROR: duplicate key;\nError while executing the query (1) "
                    "(SQLExecDirectW)"
                ),
                "23505",
                1,
                "duplicate key",
            ),
            (
                "[23000] [FreeTDS][SQL Server]first (2627) (SQLExecDirectW); [01000] [x]second (3)",
                "23000",
                2627,
                "first",
            ),
        ):
            what = diagnosis(Exception(state, text))
            self.assertEqual((what.state, what.text), (state, words))
            if state != "23000":
                self.assertEqual(what.native, native)


@define(eq=False)
class SlowCursor:
    """A cursor whose cancelling takes as long as the test wants."""

    cancelling: Event = field(factory=Event)
    may_end: Event = field(factory=Event)

    def cancel(self) -> None:
        self.cancelling.set()
        self.may_end.wait(10)


class Cancelling(SynchronousTestCase):
    """A driver manager that frees a statement while it is being cancelled ends the process."""

    def setUp(self) -> None:
        self.link = Link(None, lambda: None, DatabasePolicy())
        self.cursor = SlowCursor()
        self.link.thd_hold(self.cursor)

    def test_a_cursor_is_let_go_only_when_its_cancelling_has_ended(self) -> None:
        for cursor in (self.cursor, None):
            self.link.thd_hold(self.cursor)
            self.cursor.may_end.clear()
            self.cursor.cancelling.clear()
            stopping = Thread(target=self.link.thd_cancel)
            stopping.start()
            self.cursor.cancelling.wait(10)
            let_go = Event()

            def let_it_go(cursor: SlowCursor | None = cursor, let_go: Event = let_go) -> None:
                self.link.thd_let_go(cursor)
                let_go.set()

            closing = Thread(target=let_it_go)
            closing.start()
            self.assertFalse(let_go.wait(0.05))
            self.cursor.may_end.set()
            stopping.join(10)
            closing.join(10)
            self.assertTrue(let_go.is_set())

    def test_what_was_let_go_is_not_cancelled(self) -> None:
        self.link.thd_let_go(self.cursor)
        self.link.thd_cancel()
        self.assertFalse(self.cursor.cancelling.is_set())

    def test_the_next_cursor_is_not_let_go_with_the_last(self) -> None:
        self.cursor.may_end.set()
        self.link.thd_let_go(SlowCursor())
        self.link.thd_cancel()
        self.assertTrue(self.cursor.cancelling.is_set())
