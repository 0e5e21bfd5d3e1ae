"""Ways around a policy, tried on a real SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.support.database import Caller, request
from tests.support.folders import folder_for
from workato_agent.services.database.adapters.sqlite import SqliteDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    SqliteSettings,
)
from workato_tunnel.problems import Problem

WRITES: Final = (
    "insert into orders values (9, 'z')",
    "replace into orders values (1, 'z')",
    "with a as (select 1) delete from orders",
    "select 1; delete from orders",
    "create table taken (a)",
    "create temp table taken (a)",
    "attach '{folder}/taken.db' as taken",
    "vacuum into '{folder}/taken.db'",
    "vacuum",
    "reindex",
    "analyze",
    "begin immediate",
    "savepoint a",
    "select load_extension('x')",
    "select writefile('{folder}/taken.db', 'x')",
    "pragma user_version = 9",
    "pragma writable_schema = on",
)
REACHES: Final = (
    "select * from secret",
    "select * from SECRET",
    "select * from 'secret'",
    "select * from [secret]",
    "select * from `secret`",
    'select * from main."secret"',
    "select * from orders where id in secret",
    "select * from orders where id not in main.secret",
    "select * from orders where id in (select id from secret)",
    "with orders as (select * from secret) select * from orders",
    "with secret as (select * from secret) select * from secret",
    "insert into orders select * from secret",
    "insert into orders values (9, (select text from secret))",
    "insert into orders values (1, 'x') on conflict do update set text = (select text from secret)",
    "update orders set text = (select text from secret) returning text",
    "update orders set text = s.text from secret s",
    "delete from secret returning text",
    "select * from sqlite_master",
    "select * from sqlite_schema",
    "select * from pragma_table_info('secret')",
    "pragma table_info(secret)",
    "explain select * from secret",
    "attach '{folder}/data.db' as other",
    "create view orders2 as select * from secret",
    "create temp trigger t after insert on orders begin select * from secret; end",
    "select * from orders, secret",
    "select * from secret not indexed",
)


class Bypasses(TestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.file = self.folder / "data.db"
        with sqlite3.connect(self.file) as database:
            database.executescript(
                "create table orders (id integer primary key, text);"
                "insert into orders values (1, 'x');"
                "create table secret (id integer primary key, text);"
                "insert into secret values (1, 'the secret');"
            )
        database.close()

    def caller(self, **policy: Any) -> Caller:
        rules = DatabasePolicy(**policy)
        driver = SqliteDriver(SqliteSettings(self.file), rules)
        adapter = ThreadedAdapter.build(reactor, driver, PoolSettings(), rules)
        service = DatabaseService.build(reactor, adapter, rules)
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

    def state(self) -> tuple[str, list[Path]]:
        files = sorted(self.folder.iterdir())
        return hashlib.sha256(self.file.read_bytes()).hexdigest(), files

    async def attempt(self, rule: str, caller: Caller, statements: tuple[str, ...]) -> None:
        session = (await caller.call("sessions", None)).json["session"]
        for statement in statements:
            sql = statement.format(folder=self.folder)
            for path in ("query", "execute", f"sessions/{session}/execute"):
                try:
                    answer = await caller.call(path, {"sql": sql})
                except Problem as problem:
                    self.assertEqual(problem.code, "policy_denied", f"{sql}: {problem}")
                    self.assertIn(problem.extra["rule"], (rule, "sqlite"), sql)
                else:
                    # SQLite takes no notice of some settings on a file that it only reads.
                    self.assertTrue(sql.startswith("pragma "), sql)
                    self.assertNotIn(b"the secret", answer.body)

    def test_read_only_changes_nothing(self) -> Deferred[None]:
        async def work() -> None:
            before = self.state()
            await self.attempt("read_only", self.caller(read_only=True), WRITES)
            self.assertEqual(self.state(), before)

        return Deferred.fromCoroutine(work())

    def test_tables_keep_the_secret(self) -> Deferred[None]:
        async def work() -> None:
            before = self.state()
            caller = self.caller(tables=("orders",))
            await self.attempt("tables", caller, REACHES)
            for method, path in (("GET", "schema/secret"), ("POST", "load/secret")):
                with self.assertRaises(Problem) as caught:
                    await caller.service.handle(request(method, path, b"id\n9\n"))
                self.assertEqual(caught.exception.extra["rule"], "tables")
            listed = await caller.service.handle(request("GET", "schema"))
            self.assertNotIn(b"secret", listed.body)  # type: ignore[arg-type]
            self.assertEqual((await caller.query("select text from Orders")).rows, [["x"]])
            self.assertEqual(self.state(), before)

        return Deferred.fromCoroutine(work())

    def test_without_adhoc_there_are_named_queries_only(self) -> Deferred[None]:
        async def work() -> None:
            caller = self.caller(adhoc=False)
            await self.attempt("adhoc", caller, ("select 1", "select * from orders"))

        return Deferred.fromCoroutine(work())
