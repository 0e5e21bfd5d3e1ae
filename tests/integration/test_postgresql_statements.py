"""Statements on a real PostgreSQL: stopped in time, kept apart, and within their policy."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.support.database import Caller, read, request
from tests.support.postgresql import PASSWORD
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_tunnel.problems import Problem

CSV, NDJSON = "text/csv", "application/x-ndjson"
FORMATS = (None, NDJSON, CSV)
MANY = "select i, repeat('x', 500) as t from generate_series(1, 2000000) as i"


class Stopping(PostgresqlTestCase):
    async def start(self, caller: Caller, sql: str, accept: str | None) -> Any:
        """The body of a large result, its first chunk taken."""
        response = await caller.service.handle(request(body={"sql": sql}, accept=accept))
        body: Any = response.body
        await anext(body)
        return body

    async def test_a_cancelled_call(self) -> None:
        caller = self.caller()
        for accept in FORMATS:
            for sql in (
                "select pg_sleep(60)",
                "select count(*) from generate_series(1, 1e10::int8)",
            ):
                called = Deferred.fromCoroutine(caller.query(sql, accept=accept))
                await self.pause(0.2)
                self.assertEqual(self.working(), 1)
                called.cancel()
                await self.assertFailure(called, CancelledError)
                await self.stops_within(1)

    async def test_a_cancelled_execute(self) -> None:
        caller = self.caller()
        called = Deferred.fromCoroutine(caller.execute("select pg_sleep(60)"))
        await self.pause(0.2)
        called.cancel()
        await self.assertFailure(called, CancelledError)
        await self.stops_within(1)

    async def test_one_cancelled_at_once(self) -> None:
        caller = self.caller()
        for accept in FORMATS:
            for delay in (0, 0.001, 0.003, 0.01):
                called = Deferred.fromCoroutine(caller.query("select pg_sleep(60)", accept=accept))
                await self.pause(delay)
                called.cancel()
                await self.assertFailure(called, CancelledError)
        await self.stops_within(2)
        self.assertEqual((await caller.query("select 1")).rows, [[1]])

    async def test_a_body_that_is_closed(self) -> None:
        caller = self.caller()
        for accept in FORMATS:
            body = await self.start(caller, MANY, accept)
            await body.aclose()
            await self.stops_within(1)

    async def test_a_body_whose_next_chunk_is_cancelled(self) -> None:
        sql = (
            "select i, pg_sleep(case when i > 20000 then 60 else 0 end)::text"
            " from generate_series(1, 30000) i"
        )
        caller = self.caller()
        for accept in FORMATS:
            response = await caller.service.handle(request(body={"sql": sql}, accept=accept))
            reading = Deferred.fromCoroutine(read(response))
            await self.pause(0.7)
            self.assertEqual(self.working(), 1)
            reading.cancel()
            await self.assertFailure(reading, CancelledError)
            await self.stops_within(1)

    async def test_a_reader_who_stands_still_holds_little(self) -> None:
        caller = self.caller()
        bodies = [await self.start(caller, MANY, accept) for accept in FORMATS]
        await self.pause(0.5)
        waiting = self.server.run(
            "select wait_event from pg_stat_activity where application_name = 'workato-agent'"
            " and query like '%COPY%' and state = 'active'"
        )
        self.assertTrue(waiting)
        self.assertEqual({event for (event,) in waiting}, {"ClientWrite"})
        for body in bodies:
            await body.aclose()
        await self.stops_within(1)

    async def test_the_policys_time_does_not_count_that_of_a_slow_reader(self) -> None:
        caller = self.caller(DatabasePolicy(statement_timeout=0.8))
        sql = "select i, repeat('x', 500) as t from generate_series(1, 30000) as i"
        response = await caller.service.handle(request(body={"sql": sql}, accept=CSV))
        body: Any = response.body
        await anext(body)
        await self.pause(1.5)
        rest = [chunk async for chunk in body]
        self.assertTrue(b"".join(rest).endswith(b"\r\n"))
        problem = await self.problem(
            caller.query("select pg_sleep(5)", accept=CSV), "deadline_exceeded"
        )
        self.assertIn("0.8 s", problem.hint or "")

    async def test_the_first_rows_of_a_slow_query_are_not_held_back(self) -> None:
        sql = "select i, pg_sleep(0.2)::text from generate_series(1, 1000) as i"
        response = self.caller().service.handle(request(body={"sql": sql}, accept=CSV))
        called = Deferred.fromCoroutine(response)
        await self.pause(0.6)
        called.cancel()
        await self.assertFailure(called, CancelledError)
        await self.stops_within(1)


class Apart(PostgresqlTestCase):
    async def test_nothing_of_a_call_is_left_to_the_next(self) -> None:
        for accept in FORMATS:
            caller = self.caller(pool=PoolSettings(max=1))
            for sql in (
                "set search_path = nowhere",
                "set statement_timeout = '1h'",
                "create temporary table mine (i int)",
                "listen somebody",
                "prepare mine as select 1",
                "set role none",
            ):
                await caller.execute(sql)
            await caller.query("select pg_advisory_lock(42)::text", accept=accept)
            self.assertEqual((await caller.query("show search_path")).rows, [['"$user", public']])
            self.assertEqual((await caller.query("show statement_timeout")).rows, [["0"]])
            self.assertEqual(
                (await caller.query("select to_regclass('mine')::text")).rows, [[None]]
            )
            self.assertEqual(
                (await caller.query("select count(*) from pg_prepared_statements")).rows, [[0]]
            )
            self.assertEqual(
                self.server.run("select count(*) from pg_locks where locktype = 'advisory'"), [(0,)]
            )

    async def test_a_failed_statement_leaves_the_connection_usable(self) -> None:
        caller = self.caller(pool=PoolSettings(max=1))
        for accept in FORMATS:
            await self.problem(caller.query("select 1/0", accept=accept), "query_failed")
            self.assertIn(b"7", (await caller.query("select 7 as a", accept=accept)).body)

    async def test_an_error_after_many_rows(self) -> None:
        sql = "select 10000 - i, 1 / (15000 - i) from generate_series(1, 20000) as i"
        caller = self.caller()
        for accept in FORMATS:
            response = await caller.service.handle(request(body={"sql": sql}, accept=accept))
            problem = await self.problem(read(response), "query_failed")
            self.assertEqual(problem.extra["sqlstate"], "22012")
        await self.stops_within(1)

    async def test_a_commit_that_fails_is_an_error(self) -> None:
        self.server.run(
            "create table if not exists late (i int unique deferrable initially deferred)"
        )
        self.addCleanup(self.server.run, "drop table late")
        caller = self.caller()
        for work in (
            caller.execute("insert into late values (1), (1)"),
            caller.query("insert into late values (1), (1) returning i"),
        ):
            problem = await self.problem(work, "query_failed")
            self.assertEqual(problem.extra["sqlstate"], "23505")
        self.assertEqual(self.server.run("select count(*) from late"), [(0,)])


class ReadOnly(PostgresqlTestCase):
    async def test_there_is_no_way_around(self) -> None:
        self.server.run("create table if not exists guarded (i int)")
        self.addCleanup(self.server.run, "drop table guarded")
        self.server.run(
            "create or replace function sneak() returns int language plpgsql as"
            " $$begin insert into guarded values (1); return 1; end$$"
        )
        self.addCleanup(self.server.run, "drop function sneak()")
        caller = self.caller(DatabasePolicy(read_only=True))
        attempts = (
            "insert into guarded values (1)",
            "with x as (insert into guarded values (1) returning i) select * from x",
            "select sneak()",
            "commit; insert into guarded values (1)",
            "select 1; commit; insert into guarded values (1)",
            "select 1) t; commit; insert into guarded values (1); select * from (select 1",
            "select 1) to stdout; commit; insert into guarded values (1); copy (select 1",
            (
                "select 1 from (select 1) as t(c0)) to stdout; commit;"
                " insert into guarded values (1); --"
            ),
            "set transaction read write",
            "select set_config('transaction_read_only', 'off', true), sneak()",
            "select set_config('default_transaction_read_only', 'off', false), sneak()",
            (
                "do $$begin execute 'set transaction read write';"
                " insert into guarded values (1); end$$"
            ),
            "explain analyze insert into guarded values (1)",
            "select 1 /*; */; insert into guarded values (1) -- */",
            "select $a$; $b$; $a$; insert into guarded values (1)",
            "select 'a\\'; commit; insert into guarded values (1); --'",
            "set standard_conforming_strings = off",
            "select E'\\'' || '; commit; insert into guarded values (1); --'",
            "create table taken as select 1",
            "select nextval('no_sequence')",
            "truncate guarded",
            "lock table guarded in exclusive mode",
            "prepare transaction 'x'",
        )
        for sql in attempts:
            for accept in FORMATS:
                try:
                    await caller.query(sql, accept=accept)
                except Problem as problem:
                    self.assertIn(problem.code, ("query_failed", "policy_denied"), sql)
            try:
                await caller.execute(sql)
            except Problem as problem:
                self.assertIn(problem.code, ("query_failed", "policy_denied"), sql)
        self.assertEqual(self.server.run("select count(*) from guarded"), [(0,)])
        self.assertEqual(self.server.run("select to_regclass('taken')::text"), [(None,)])

    async def test_values_can_not_leave_their_place(self) -> None:
        caller = self.caller()
        for text in (
            "'; select 1; --", "\\'; select 1; --", "\\\\", "$$", "$onprem$", "*/", "?", ":a", "%s",
            "'||'", "\n'x'", "E'\\'", "\u2019", "\U0001f600", "--", ";",
        ):  # fmt: skip
            for accept in (None, CSV):
                for sql in (
                    "select :a as v, 1 as w",
                    "select E'x'\n:a as v, 1 as w",
                    "select 'x' || :a as v, 1 as w",
                ):
                    try:
                        answer = await caller.query(sql, {"a": text}, accept=accept)
                    except Problem as problem:
                        # Two strings in a row are an error, unless the server joins them.
                        self.assertEqual(problem.code, "query_failed")
                        self.assertIn("\n", sql)
                        continue
                    if accept is None:
                        value = answer.rows[0][0]
                        self.assertIn(value, (text, f"x{text}"))


class Details(PostgresqlTestCase):
    async def test_an_error_carries_state_position_and_hint(self) -> None:
        caller = self.caller()
        sql = "select ?,\n ünknown from pg_class"
        for accept in FORMATS:
            problem = await self.problem(
                caller.query(sql, ["x" * 99], accept=accept), "query_failed"
            )
            self.assertEqual(problem.extra, {"sqlstate": "42703", "position": sql.index("ü") + 1})
            self.assertEqual(problem.detail, 'column "ünknown" does not exist')

    async def test_a_missing_privilege(self) -> None:
        self.server.run("create table if not exists hidden (i int)")
        self.server.run(f"create role reader login password '{PASSWORD}'")
        self.addCleanup(self.server.run, "drop role reader")
        self.addCleanup(self.server.run, "drop table hidden")
        caller = self.caller(user="reader")
        for accept in FORMATS:
            problem = await self.problem(
                caller.query("select * from hidden", accept=accept), "target_permission_denied"
            )
            self.assertIn("hidden", problem.detail)

    async def test_constraints_are_named(self) -> None:
        self.server.run(
            "create table if not exists keyed (i int constraint keyed_once primary key)"
        )
        self.addCleanup(self.server.run, "drop table keyed")
        problem = await self.problem(
            self.caller().execute("insert into keyed values (1), (1)"), "query_failed"
        )
        self.assertEqual(problem.extra, {"sqlstate": "23505", "constraint": "keyed_once"})

    async def test_what_needs_no_transaction_is_explained(self) -> None:
        problem = await self.problem(self.caller().execute("vacuum"), "query_failed")
        self.assertIn("transaction", problem.hint or "")

    async def test_the_order_of_rows_is_kept_even_in_parallel_plans(self) -> None:
        self.server.run(
            "create table if not exists shuffled as"
            " select (i * 7919) % 100003 as i from generate_series(1, 100000) i"
        )
        self.addCleanup(self.server.run, "drop table shuffled")
        for setting in (
            "parallel_setup_cost = 0",
            "parallel_tuple_cost = 0",
            "min_parallel_table_scan_size = 0",
        ):
            self.server.run(f"alter role owner set {setting}")
        self.addCleanup(self.server.run, "alter role owner reset all")
        for accept in FORMATS:
            answer = await self.caller().query(
                "select i from shuffled order by i desc", accept=accept
            )
            if accept is None:
                found = [row[0] for row in answer.rows]
            elif accept == CSV:
                found = [int(line) for line in answer.body.splitlines()[1:]]
            else:
                found = [int(line[5:-1]) for line in answer.body.splitlines()]
            self.assertEqual(found, sorted(found, reverse=True))
            self.assertEqual(len(found), 100000)

    async def test_two_hundred_small_queries_at_once(self) -> None:
        caller = self.caller(pool=PoolSettings(max=10))
        began = time.monotonic()
        calls = [
            Deferred.fromCoroutine(caller.query("select ? as a", [index])) for index in range(200)
        ]
        for index, call in enumerate(calls):
            self.assertEqual((await call).rows, [[index]])
        self.assertLess(time.monotonic() - began, 20)
