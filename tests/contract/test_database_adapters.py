"""What every database adapter keeps to, each tried on its real database."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.support.database import Caller, request, typed
from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server
from workato_agent.services.database.adapters.postgresql import PostgresqlAdapter
from workato_agent.services.database.adapters.sqlite import SqliteDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    PostgresqlSettings,
    SqliteSettings,
)
from workato_tunnel.problems import Problem

CSV, NDJSON = "text/csv", "application/x-ndjson"


class DatabaseContract:
    """Tests that hold for every adapter; a subclass makes the service and knows the dialect."""

    numbers: str
    """A query of the integers from 1 to ``:n`` in order, in a column ``i``."""
    endless: str
    """A query that runs for ever without bringing a row."""

    def make(self, policy: DatabasePolicy, pool: PoolSettings) -> DatabaseService:
        raise NotImplementedError

    def caller(self, policy: DatabasePolicy | None = None, **pool: Any) -> Caller:
        service = self.make(policy or DatabasePolicy(), PoolSettings(**pool))
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

    async def problem(self, work: Any, code: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def test_the_profile_is_tested(self) -> None:
        facts = await self.caller().test()
        self.assertTrue(facts["ok"])
        self.assertRegex(facts["target"], r"^(SQLite|PostgreSQL) \d+\.\d+")

    async def test_parameters_of_both_styles(self) -> None:
        caller = self.caller()
        answer = await caller.query("select ? as a, ? as b, '?' as c -- ?", [1, "it's \\ ☃ 😀"])
        self.assertEqual(answer.rows, [[1, "it's \\ ☃ 😀", "?"]])
        answer = await caller.query("select :b as x, :a as y, ':a' as z", {"a": 1, "b": -2})
        self.assertEqual(answer.rows, [[-2, 1, ":a"]])

    async def test_values_survive_both_ways(self) -> None:
        caller = self.caller()
        for value in (
            0, -1, 2**31, -(2**31), 2**63 - 1, -(2**63),
            "", " ", "null", "NULL", "\\N", "'", '"', "\\", "a\nb\r\n\tc", "é ☃ 😀", "x" * 100_000,
        ):  # fmt: skip
            for accept in (None, NDJSON):
                answer = await caller.query("select :v as v, 1 as w", {"v": value}, accept=accept)
                found = answer.rows[0][0] if accept is None else answer.json["v"]
                self.assertEqual((found, type(found)), (value, type(value)), accept)

    async def test_floats_survive_both_ways(self) -> None:
        caller = self.caller()
        for value in (0.0, 1.0, 1.5, -0.25, 0.1, 1e15, 1e22, 1e300, 5e-324, 1.7976931348623157e308):
            for accept in (None, NDJSON):
                answer = await caller.query(
                    "select :v as v, 1 as w", {"v": typed("float", value)}, accept=accept
                )
                found = answer.rows[0][0] if accept is None else answer.json["v"]
                self.assertEqual((found, type(found)), (value, float), accept)
        answer = await caller.query("select ? as v", [typed("float", "-Infinity")])
        self.assertEqual(answer.rows, [["-Infinity"]])

    async def test_bytes_are_base64_and_null_is_null(self) -> None:
        caller = self.caller()
        data = bytes(range(256)) * 40
        answer = await caller.query("select ? as b, ? as n", [typed("bytes", data), None])
        self.assertEqual(typed("bytes", data)["value"], answer.rows[0][0])
        self.assertIsNone(answer.rows[0][1])
        answer = await caller.query("select ? as b, 1 as i", [typed("bytes", data)], accept=CSV)
        self.assertIn(str(typed("bytes", data)["value"]).encode(), answer.body)

    async def test_a_table_is_written_and_read(self) -> None:
        caller = self.caller()
        await caller.execute("drop table if exists contract")
        self.assertEqual(
            await caller.execute("create table contract (id int primary key, name varchar(20))"),
            {"row_count": 0},
        )
        inserted = await caller.execute(
            "insert into contract values (?, ?), (2, null) returning id, name", [1, "one"]
        )
        self.assertEqual(inserted["rows"], [[1, "one"], [2, None]])
        self.assertEqual((inserted["row_count"], inserted["truncated"]), (2, False))
        updated = await caller.execute("update contract set name = 'x' where id > :i", {"i": 0})
        self.assertEqual(updated, {"row_count": 2})
        answer = await caller.query("insert into contract values (3, 'y') returning id")
        self.assertEqual(answer.rows, [[3]])
        answer = await caller.query("insert into contract values (4, 'y')")
        self.assertEqual((answer.json["columns"], answer.json["row_count"]), ([], 1))
        answer = await caller.query("select * from contract order by id desc", accept=CSV)
        self.assertEqual(answer.body, b"id,name\r\n4,y\r\n3,y\r\n2,x\r\n1,x\r\n")
        self.assertEqual(answer.request.usage.rows, 4)
        self.assertEqual(await caller.execute("delete from contract"), {"row_count": 4})
        await caller.execute("drop table contract")

    async def test_a_failed_statement_changes_nothing(self) -> None:
        caller = self.caller()
        await caller.execute("drop table if exists half")
        await caller.execute("create table half (id int primary key)")
        problem = await self.problem(
            caller.execute("insert into half values (1), (2), (1)"), "query_failed"
        )
        self.assertIn("half", problem.detail)
        self.assertEqual((await caller.query("select count(*) from half")).rows, [[0]])
        await caller.execute("drop table half")

    async def test_what_a_call_leaves_behind_is_gone(self) -> None:
        caller = self.caller(max=1)
        await caller.execute("create temporary table mine (id int)")
        await self.problem(caller.query("select * from mine"), "query_failed")

    async def test_no_call_ends_a_transaction_or_brings_two_statements(self) -> None:
        caller = self.caller()
        for sql in ("commit", "rollback", "begin", "savepoint x"):
            try:
                await caller.execute(sql)
            except Problem as problem:
                self.assertIn(problem.code, ("query_failed", "policy_denied"))
            else:
                self.fail(f"{sql} was let through")
        for sql in (
            "select 1; select 2",
            "select 1; commit; drop table x",
            "select 1 /*'*/; select 2",
        ):
            for accept in (None, CSV):
                await self.problem(caller.query(sql, accept=accept), "query_failed")

    async def test_empty_results_keep_their_columns(self) -> None:
        caller = self.caller()
        sql = "select 1 as a, 'x' as b where 1 = 0"
        answer = await caller.query(sql)
        self.assertEqual([column["name"] for column in answer.json["columns"]], ["a", "b"])
        self.assertEqual((answer.rows, answer.json["row_count"]), ([], 0))
        self.assertEqual((await caller.query(sql, accept=CSV)).body, b"a,b\r\n")
        self.assertEqual((await caller.query(sql, accept=NDJSON)).body, b"")

    async def test_columns_may_have_the_same_or_odd_names(self) -> None:
        caller = self.caller()
        sql = 'select 1 as a, 2 as a, 3 as "x,""é", 4 as ":a"'
        self.assertEqual((await caller.query(sql)).rows, [[1, 2, 3, 4]])
        answer = await caller.query(sql, accept=CSV)
        self.assertEqual(answer.body.decode(), 'a,a,"x,""é",:a\r\n1,2,3,4\r\n')
        answer = await caller.query(sql, accept=NDJSON)
        self.assertEqual(answer.json, {"a": 1, "a_2": 2, 'x,"é': 3, ":a": 4})

    async def test_a_thousand_columns(self) -> None:
        caller = self.caller()
        sql = "select " + ", ".join(f"{index} as c{index}" for index in range(1000))
        self.assertEqual((await caller.query(sql)).rows, [list(range(1000))])
        answer = await caller.query(sql, accept=CSV)
        self.assertEqual(answer.body.splitlines()[1].split(b",")[-1], b"999")

    async def test_trailing_comments_and_semicolons_do_no_harm(self) -> None:
        caller = self.caller()
        for sql in ("select 1 as a;", "select 1 as a -- x", "select 1 as a /* ; */ ; -- ;\n ;"):
            for accept in (None, CSV, NDJSON):
                self.assertIn(b"1", (await caller.query(sql, accept=accept)).body)

    async def test_large_results_are_streamed_in_order_in_every_format(self) -> None:
        caller = self.caller()
        count = 20_000
        expected = [[index, f"row {index}"] for index in range(1, count + 1)]
        sql = f"select i, 'row ' || i as t from ({self.numbers}) n"
        answer = await caller.query(sql, {"n": count})
        self.assertNotIsInstance(answer.response.body, bytes)
        self.assertEqual(answer.rows, expected)
        answer = await caller.query(sql, {"n": count}, accept=NDJSON)
        self.assertEqual(
            [list(json.loads(line).values()) for line in answer.body.splitlines()], expected
        )
        answer = await caller.query(sql, {"n": count}, accept=CSV)
        read = csv.reader(io.StringIO(answer.body.decode(), newline=""))
        self.assertEqual([[int(row[0]), row[1]] for row in list(read)[1:]], expected)
        self.assertEqual(answer.request.usage.rows, count)

    async def test_max_rows_cuts(self) -> None:
        caller = self.caller()
        for limit, count in ((0, 0), (1, 1), (50, 50), (51, 51), (7000, 7000), (9000, 8000)):
            answer = await caller.query(self.numbers, {"n": 8000}, max_rows=limit)
            self.assertEqual(answer.json["row_count"], count)
            self.assertEqual(answer.json["truncated"], limit < 8000)
            self.assertEqual(len(answer.rows), count)
            answer = await caller.query(self.numbers, {"n": 8000}, max_rows=limit, accept=CSV)
            self.assertEqual(len(answer.body.splitlines()) - 1, count)
            answer = await caller.query(self.numbers, {"n": 8000}, max_rows=limit, accept=NDJSON)
            self.assertEqual(len(answer.body.splitlines()), count)

    async def test_the_policys_bounds(self) -> None:
        caller = self.caller(DatabasePolicy(max_rows=100))
        answer = await caller.query(self.numbers, {"n": 100})
        self.assertFalse(answer.json["truncated"])
        answer = await caller.query(self.numbers, {"n": 101})
        self.assertEqual((answer.json["row_count"], answer.json["truncated"]), (100, True))
        answer = await caller.query(self.numbers, {"n": 100}, accept=CSV)
        self.assertEqual(len(answer.body.splitlines()), 101)
        for accept in (CSV, NDJSON):
            work = caller.query(self.numbers, {"n": 101}, accept=accept)
            self.assertEqual(
                (await self.problem(work, "policy_denied")).extra, {"rule": "max_rows"}
            )
        caller = self.caller(DatabasePolicy(max_bytes=1000))
        answer = await caller.query(self.numbers, {"n": 8000})
        self.assertTrue(answer.json["truncated"])
        self.assertEqual(answer.rows[-1], [answer.json["row_count"]])
        self.assertGreater(answer.json["row_count"], 150)
        for accept in (CSV, NDJSON):
            work = caller.query(self.numbers, {"n": 8000}, accept=accept)
            await self.problem(work, "policy_denied")

    async def test_what_execute_brings_back_is_bounded(self) -> None:
        caller = self.caller()
        result = await caller.execute(self.numbers, {"n": 10_001})
        self.assertEqual((result["row_count"], len(result["rows"])), (10_001, 10_000))
        self.assertTrue(result["truncated"])

    async def test_read_only_can_not_be_written(self) -> None:
        await self.caller().execute("drop table if exists kept")
        await self.caller().execute("create table kept (id int)")
        caller = self.caller(DatabasePolicy(read_only=True))
        for sql in (
            "insert into kept values (1)",
            "insert into kept values (1) returning id",
            "drop table kept",
            "create table other (id int)",
        ):
            for work in (caller.execute(sql), caller.query(sql), caller.query(sql, accept=CSV)):
                problem = await self.problem(work, "policy_denied")
                self.assertEqual(problem.extra, {"rule": "read_only"})
        self.assertEqual((await caller.query("select count(*) from kept")).rows, [[0]])
        await self.caller().execute("drop table kept")

    async def test_an_error_in_the_statement_is_the_databases_own(self) -> None:
        caller = self.caller()
        for accept in (None, CSV, NDJSON):
            work = caller.query("select * from no_such_table", accept=accept)
            self.assertIn("no_such_table", (await self.problem(work, "query_failed")).detail)

    async def test_cancelling_stops_the_statement(self) -> None:
        caller = self.caller(max=1)
        for accept in (None, CSV, NDJSON):
            called = Deferred.fromCoroutine(caller.query(self.endless, accept=accept))
            reactor.callLater(0.3, called.cancel)  # type: ignore[attr-defined]
            await self.assertFailure(called, Exception)
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_closing_the_body_stops_the_statement(self) -> None:
        caller = self.caller(max=1)
        for accept in (None, CSV, NDJSON):
            sent = request(body={"sql": self.numbers, "params": {"n": 5_000_000}}, accept=accept)
            response = await caller.service.handle(sent)
            body: Any = response.body
            self.assertGreater(len(await anext(body)), 1000)
            await body.aclose()
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_a_statement_may_not_run_for_longer_than_the_policy_says(self) -> None:
        caller = self.caller(DatabasePolicy(statement_timeout=0.3))
        for accept in (None, CSV):
            problem = await self.problem(
                caller.query(self.endless, accept=accept), "deadline_exceeded"
            )
            self.assertIn("0.3 s", (problem.hint or "") + problem.detail)
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_more_callers_than_connections(self) -> None:
        caller = self.caller(max=2)
        calls = [
            Deferred.fromCoroutine(caller.query("select ? as a", [index], accept=accept))
            for index, accept in enumerate([None, CSV] * 20)
        ]
        for index, call in enumerate(calls):
            self.assertIn(str(index).encode(), (await call).body)

    async def test_who_waits_too_long_is_told(self) -> None:
        caller = self.caller(max=1, wait=0.1)
        running = Deferred.fromCoroutine(caller.query(self.endless))
        problem = await self.problem(caller.query("select 1"), "overloaded")
        self.assertEqual(problem.retry_after, 1)
        running.cancel()
        await self.assertFailure(running, Exception)


class Sqlite(DatabaseContract, TestCase):
    timeout = 60
    numbers = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < :n)"
        " select i from n"
    )
    endless = (
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    )

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="onprem-sqlite-")
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "a b?#%.db"
        self.file.touch()

    def make(self, policy: DatabasePolicy, pool: PoolSettings) -> DatabaseService:
        adapter = ThreadedAdapter.build(
            reactor, SqliteDriver(SqliteSettings(self.file), policy), pool, policy
        )
        return DatabaseService.build(reactor, adapter, policy)


class Postgresql(DatabaseContract, TestCase):
    timeout = 60
    numbers = "select i from generate_series(1, :n) as i"
    endless = "select count(*) from generate_series(1, 1e12::bigint)"

    def make(self, policy: DatabasePolicy, pool: PoolSettings) -> DatabaseService:
        settings = PostgresqlSettings(
            host="127.0.0.1",
            port=shared_server().port,
            database="postgres",
            user=SUPERUSER,
            password=PASSWORD,
        )
        adapter = PostgresqlAdapter.build(reactor, settings, pool, policy)
        return DatabaseService.build(reactor, adapter, policy)
