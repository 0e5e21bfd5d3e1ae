"""SQLite files: types, what is out of reach, and files that are not what they should be."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from tests.contract.databases.contract import RowsBody
from tests.support.database import Caller, typed
from workato_agent.services.database import connections
from workato_agent.services.database.adapters.sqlite import SqliteDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.loading import Load
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings, SqliteSettings
from workato_agent.services.database.statements import SQLITE, Batch, TableName, bind
from workato_tunnel.problems import Problem


class SqliteFile(TestCase):
    timeout = 30

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="onprem-sqlite-")
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "data.db"
        self.file.touch()

    def adapter(self) -> ThreadedAdapter:
        policy = DatabasePolicy()
        driver = SqliteDriver(SqliteSettings(self.file), policy)
        adapter = ThreadedAdapter.build(reactor, driver, PoolSettings(), policy)
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        return adapter

    def run_aside(self, *statements: str) -> None:
        """Run statements as another process would."""
        other = sqlite3.connect(self.file, isolation_level=None)
        try:
            for sql in statements:
                other.execute(sql)
        finally:
            other.close()

    def caller(self, policy: DatabasePolicy | None = None, **settings: Any) -> Caller:
        policy = policy or DatabasePolicy()
        profile = SqliteSettings(**({"path": self.file} | settings))
        adapter = ThreadedAdapter.build(
            reactor, SqliteDriver(profile, policy), PoolSettings(), policy
        )
        service = DatabaseService.build(reactor, adapter, policy)
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

    async def problem(self, work: Any, code: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem was raised")


class Types(SqliteFile):
    async def test_a_declaration_names_the_type(self) -> None:
        caller = self.caller()
        await caller.execute(
            "create table t (i integer, b boolean, d decimal(10,2), n numeric, s varchar(5),"
            " x blob, day date, at datetime, j json, u uuid, f double, a)"
        )
        await caller.execute(
            "insert into t values (1, 1, '0.10', 2.5, 'é', x'00ff', '2024-02-29',"
            " '2024-02-29 10:00:00', '{\"a\": [1.10]}', 'u', 1.0, null)"
        )
        answer = await caller.query("select * from t")
        self.assertEqual(
            answer.types,
            ["integer", "boolean", "decimal", "decimal", "string", "bytes", "date", "timestamp",
             "json", "uuid", "float", "unknown"],
        )  # fmt: skip
        self.assertEqual(
            answer.rows,
            [[1, True, "0.1", "2.5", "é", "AP8=", "2024-02-29", "2024-02-29T10:00:00",
              {"a": [1.1]}, "u", 1.0, None]],
        )  # fmt: skip
        self.assertIn(b'{"a": [1.10]}', answer.body)

    async def test_a_value_is_sent_as_what_it_is(self) -> None:
        caller = self.caller()
        await caller.execute("create table t (b boolean, j json, at timestamp, i int)")
        await caller.execute("insert into t values (7, 'no json', 1700000000, 'text')")
        self.assertEqual(
            (await caller.query("select * from t")).rows, [[7, "no json", 1700000000, "text"]]
        )

    async def test_an_expression_has_the_type_of_its_values(self) -> None:
        answer = await self.caller().query(
            "select 1 + 1, 'a' || 'b', 1.5, x'00', null, 9e999, ?"
            " union all select 2, '', 2, x'', 1, 1, 1",
            [typed("bytes", b"\1")],
        )
        self.assertEqual(
            answer.types, ["integer", "string", "float", "bytes", "integer", "float", "unknown"]
        )
        self.assertEqual(answer.rows[0], [2, "ab", 1.5, "AA==", None, "Infinity", "AQ=="])

    async def test_values_that_sqlite_has_not_are_refused(self) -> None:
        caller = self.caller()
        for value in (2**63, [1], typed("float", "NaN")):
            problem = await self.problem(caller.query("select ?", [value]), "bad_request")
            self.assertEqual(problem.extra, {"field": "params[0]"})

    async def test_text_that_is_not_utf8_is_an_error_that_says_so(self) -> None:
        problem = await self.problem(
            self.caller().query("select cast(x'ff' as text)"), "query_failed"
        )
        self.assertIn("BLOB", problem.hint or "")


class Reach(SqliteFile):
    async def test_other_files_are_out_of_reach(self) -> None:
        caller = self.caller()
        other = self.file.with_name("other.db")
        for sql in (
            f"attach '{other}' as other",
            f"vacuum into '{other}'",
            "pragma temp_store_directory = '/tmp'",
            f"select writefile('{other}', 'x')",
            f"select load_extension('{other}')",
        ):
            for work in (caller.query(sql), caller.execute(sql)):
                with self.assertRaises(Problem) as caught:
                    await work
                self.assertIn(caught.exception.code, ("policy_denied", "query_failed"))
        self.assertFalse(other.exists())

    async def test_read_only_is_the_files_own(self) -> None:
        caller = self.caller(DatabasePolicy(read_only=True))
        await caller.query("pragma query_only = off")
        problem = await self.problem(caller.execute("create table t (i int)"), "policy_denied")
        self.assertEqual(problem.extra, {"rule": "read_only"})
        self.assertTrue((await caller.test())["read_only"])

    async def test_a_pragma_lasts_for_one_call(self) -> None:
        caller = self.caller()
        await caller.execute("pragma recursive_triggers = on")
        self.assertEqual((await caller.query("pragma recursive_triggers")).rows, [[0]])


class Files(SqliteFile):
    async def test_a_missing_file_is_not_made(self) -> None:
        missing = self.file.with_name("missing.db")
        caller = self.caller(path=missing)
        await self.problem(caller.test(), "target_not_found")
        self.assertFalse(missing.exists())

    async def test_it_is_made_when_told_to(self) -> None:
        caller = self.caller(path=self.file.with_name("new.db"), create=True)
        await caller.execute("create table t (i int)")
        self.assertEqual((await caller.query("select count(*) from t")).rows, [[0]])

    async def test_a_file_of_another_kind(self) -> None:
        self.file.write_bytes(b"not a database at all " * 100)
        caller = self.caller()
        for work in (caller.test(), caller.query("select * from t")):
            await self.problem(work, "target_wrong_type")

    async def test_a_folder(self) -> None:
        with self.assertRaises(Problem):
            await self.caller(path=self.file.parent).test()

    async def test_another_process_lock_is_waited_for(self) -> None:
        caller = self.caller(busy_timeout=0.2)
        await caller.execute("create table t (i int)")
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("begin exclusive")
        problem = await self.problem(caller.execute("insert into t values (1)"), "query_failed")
        self.assertEqual(problem.extra, {"sqlite_error": "SQLITE_BUSY"})
        patient = self.caller(busy_timeout=20)
        waiting = Deferred.fromCoroutine(patient.execute("insert into t values (1)"))
        reactor.callLater(0.2, other.execute, "commit")  # type: ignore[attr-defined]
        self.assertEqual(await waiting, {"row_count": 1})

    async def test_waiting_for_a_lock_can_be_cancelled(self) -> None:
        caller = self.caller(busy_timeout=60)
        await caller.execute("create table t (i int)")
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("begin exclusive")
        waiting = Deferred.fromCoroutine(caller.execute("insert into t values (1)"))
        reactor.callLater(0.2, waiting.cancel)  # type: ignore[attr-defined]
        await self.assertFailure(waiting, CancelledError)

    async def test_a_table_that_another_process_has_changed(self) -> None:
        caller = self.caller()
        await caller.execute("create table t (a integer)")
        self.assertEqual((await caller.query("select a from t")).types, ["integer"])
        self.run_aside("drop table t", "create table t (a boolean)", "insert into t values (1)")
        answer = await caller.query("select a from t")
        self.assertEqual((answer.types, answer.rows), (["boolean"], [[True]]))

    async def test_a_file_that_was_replaced(self) -> None:
        self.patch(connections, "TRUST_SECONDS", 0.0)
        caller = self.caller()
        await caller.execute("create table t (a integer)")
        self.file.unlink()
        self.run_aside("create table t (b text)")
        self.assertEqual((await caller.query("select b from t")).rows, [])


class Writing(SqliteFile):
    async def load(self, rows: list[list[object]], columns: list[str], **options: Any) -> int:
        load = Load(TableName(None, "t"), RowsBody(columns, rows), **options)
        return await self.adapter().load(load)

    async def test_text_becomes_what_the_column_declares(self) -> None:
        caller = self.caller()
        await caller.execute("create table t (b boolean, x blob, i int, f real, s text)")
        written = await self.load(
            [["true", "AP8=", "12", "1.5", "007"], ["F", None, "x", "", "2"]],
            ["b", "X", "i", "f", "s"],
        )
        self.assertEqual(written, 2)
        answer = await caller.query("select * from t")
        self.assertEqual(answer.rows, [[True, "AP8=", 12, 1.5, "007"], ["F", None, "x", "", "2"]])
        self.run_aside("delete from t")
        work = self.load([["1", "AA=="], ["0", "no base64"]], ["b", "x"])
        problem = await self.problem(work, "bad_request")
        self.assertEqual(problem.extra, {"row": 2, "column": "x"})
        self.assertEqual((await caller.query("select count(*) from t")).rows, [[0]])

    async def test_plain_values_are_written_as_they_are(self) -> None:
        caller = self.caller()
        await caller.execute("create table t (a, b)")
        rows: list[list[object]] = [
            [True, Number("1.5")],
            [b"\0", Typed("decimal", "1.10")],
            [3, 0.5],
        ]
        await self.load(rows, ["a", "b"])
        answer = await caller.query("select * from t")
        self.assertEqual(answer.rows, [[1, 1.5], ["AA==", "1.10"], [3, 0.5]])

    async def test_rows_are_found_by_any_unique_columns(self) -> None:
        caller = self.caller()
        await caller.execute("create table t (a int, b text, n int default 0)")
        work = self.load([[1, "x"]], ["a", "b"], on_conflict="update")
        self.assertEqual((await self.problem(work, "bad_request")).extra, {"field": "keys"})
        await caller.execute("create unique index u on t (a, b)")
        await self.load([[1, "x"], [2, "y"]], ["a", "b"], on_conflict="ignore")
        keys = ["a", "b"]
        await self.load([[1, "x"], [1, "z"]], ["a", "b"], on_conflict="update", keys=keys)
        rows: list[list[object]] = [[1, "x", 5], [2, "y", 6]]
        await self.load(rows, ["a", "b", "n"], on_conflict="update", keys=keys)
        answer = await caller.query("select * from t order by a, b")
        self.assertEqual(answer.rows, [[1, "x", 5], [1, "z", 0], [2, "y", 6]])

    async def test_a_batch_names_the_value_that_is_wrong(self) -> None:
        await self.caller().execute("create table t (a int)")
        statement = bind("insert into t values (?)", [1], SQLITE)
        work = self.adapter().batch(Batch(statement, [[1], [2**64]]))
        self.assertEqual((await self.problem(work, "bad_request")).extra, {"field": "params[1][0]"})

    async def test_a_batch_brings_no_rows_and_ends_no_transaction(self) -> None:
        await self.caller().execute("create table t (a int)")
        for sql in ("select ?", "commit", "insert into t values (?); drop table t"):
            params = [1] if "?" in sql else []
            work = self.adapter().batch(Batch(bind(sql, params, SQLITE), [params, params]))
            with self.assertRaises(Problem):
                await work
        self.assertEqual((await self.caller().query("select count(*) from t")).rows, [[0]])


class Shapes(SqliteFile):
    async def test_what_a_table_has(self) -> None:
        self.run_aside(
            "create table other (k text primary key)",
            "create table t (id integer primary key, name varchar(20) not null default 'x',"
            " twice int as (id * 2), price decimal(10, 2), o text references other, anything,"
            " unique (name, price))",
            "create unique index partly on t (name) where price > 1",
            "create unique index of_expression on t (lower(name))",
            "create table plain (id integer, k text, primary key (k, id)) without rowid",
            "create view v as select id, name from t",
        )
        adapter = self.adapter()
        self.assertEqual(
            [(table.name, table.type) for table in await adapter.tables()],
            [("other", "table"), ("plain", "table"), ("t", "table"), ("v", "view")],
        )
        shape = await adapter.shape(TableName("main", "T"))
        columns = {column.name: column for column in shape.columns}
        self.assertEqual(
            [(c.name, c.type, c.nullable, c.generated) for c in shape.columns],
            [("id", "integer", False, True), ("name", "string", False, False),
             ("twice", "integer", True, True), ("price", "decimal", True, False),
             ("o", "string", True, False), ("anything", "unknown", True, False)],
        )  # fmt: skip
        self.assertEqual((columns["name"].length, columns["name"].default), (20, "'x'"))
        self.assertEqual((columns["price"].precision, columns["price"].scale), (10, 2))
        self.assertEqual(list(shape.primary_key), ["id"])
        self.assertEqual([list(key) for key in shape.unique_keys], [["name", "price"]])
        (key,) = shape.foreign_keys
        self.assertEqual(
            (list(key.columns), key.table, list(key.references)), (["o"], "other", ["k"])
        )
        plain = await adapter.shape(TableName(None, "plain"))
        self.assertEqual(list(plain.primary_key), ["k", "id"])
        self.assertFalse(plain.columns[0].generated)
        self.assertEqual((await adapter.shape(TableName(None, "v"))).type, "view")
        await self.problem(adapter.shape(TableName("temp", "t")), "not_found")
        await self.problem(adapter.shape(TableName(None, "sqlite_master")), "not_found")


class Closing(SqliteFile):
    def test_a_closed_connection_holds_no_lock_though_its_rows_are_still_held(self) -> None:
        self.run_aside("create table t (i integer)")
        for sql, writing in (
            ("insert into t values (1) returning i", True),
            (
                "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n",
                False,
            ),
        ):
            driver = SqliteDriver(SqliteSettings(self.file), DatabasePolicy())
            connection = driver.thd_open()
            connection.thd_begin(writing=True)
            connection.thd_run(bind("insert into t values (0)", None, SQLITE))
            cursor = connection.thd_run(bind(sql, None, SQLITE))
            cursor.thd_read(1, 1)
            connection.thd_stop()
            connection.thd_close()
            self.run_aside("create table u (i integer)", "drop table u")
            self.assertIsNotNone(cursor, writing)
