"""Blocking drivers in threads: stopping, places of the pool, what may be committed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from threading import Event
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.drivers import ScriptedDriver
from workato_agent.services.database import connections
from workato_agent.services.database.adapters import threaded, threaded_connection
from workato_agent.services.database.adapters.base import Outcome, Output
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.loading import Load, LoadFormat
from workato_agent.services.database.results import JsonWriter, Row
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_agent.services.database.statements import Batch, Statement, TableName, Text
from workato_tunnel.problems import Problem


def statement(sql: str) -> Statement:
    return Statement(sql, (Text(0, sql),))


def pause(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


@define
class Body:
    """A body whose blocks come when the test lets them."""

    count: int = 3
    gate: Callable[[], Deferred[None]] = lambda: pause(0)
    failure: Exception | None = None
    format: LoadFormat = "csv"
    given: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)

    async def columns(self) -> Sequence[str]:
        return ["a"]

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"a\r\n"

    async def blocks(self) -> AsyncIterator[Sequence[Row]]:
        try:
            for _ in range(self.count):
                await self.gate()
                self.given += 1
                yield [[1], [2]]
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed = True


class Threaded(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.driver = ScriptedDriver()

    def adapter(self, *, limit: float = 0.0, **pool: Any) -> ThreadedAdapter:
        adapter = ThreadedAdapter.build(
            reactor, self.driver, PoolSettings(**pool), DatabasePolicy(statement_timeout=limit)
        )

        async def close() -> None:
            for connection in self.driver.connections:
                connection.release.set()
            await adapter.close()
            self.assertEqual(self.driver.misuse, [])
            self.assertTrue(all(each.closed for each in self.driver.connections))

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return adapter

    def execute(self, adapter: ThreadedAdapter, sql: str) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(adapter.execute(statement(sql), Output(JsonWriter())))

    async def problem(self, work: Any, code: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(500):
            if condition():
                return
            await pause(0.01)
        self.fail("it did not come to that")


class Committing(Threaded):
    async def test_work_is_committed_once_and_the_connection_used_again(self) -> None:
        adapter = self.adapter(max=1)
        await self.execute(adapter, "one")
        await self.execute(adapter, "two")
        (connection,) = self.driver.connections
        once = ["begin", "one", "close cursor", "commit", "renew"]
        twice = [*once, *(entry.replace("one", "two") for entry in once)]
        await self.until(lambda: len(connection.journal) == len(twice))
        self.assertEqual(connection.journal, twice)

    async def test_what_the_database_refuses_is_rolled_back_and_the_connection_kept(self) -> None:
        adapter = self.adapter(max=1)
        await self.problem(self.execute(adapter, "fail"), "query_failed")
        await self.execute(adapter, "one")
        (connection,) = self.driver.connections
        self.assertEqual(connection.journal.count("commit"), 1)
        self.assertEqual(connection.journal[:3], ["begin", "fail", "renew"])

    async def test_work_that_was_stopped_is_never_committed_even_if_it_was_done(self) -> None:
        adapter = self.adapter(max=1)
        begin: Sequence[Callable[[], Deferred[Any]]] = (
            lambda: self.execute(adapter, "deaf"),
            lambda: Deferred.fromCoroutine(adapter.batch(Batch(statement("deaf"), [[]]))),
        )
        for start in begin:
            work = start()
            await pause(0.1)
            work.cancel()
            await self.assertFailure(work, CancelledError)
            await self.execute(adapter, "next")
        self.assertEqual(self.driver.journal.count("commit"), 2)
        self.assertEqual([each.closed for each in self.driver.connections], [True, True, False])

    async def test_work_whose_time_is_over_is_never_committed_even_if_it_was_done(self) -> None:
        adapter = self.adapter(max=1, limit=0.1)
        await self.problem(self.execute(adapter, "deaf"), "deadline_exceeded")
        await self.problem(self.execute(adapter, "wait"), "deadline_exceeded")
        self.assertNotIn("commit", self.driver.journal)

    async def test_a_result_that_is_given_up_is_not_committed(self) -> None:
        self.driver.rows = 10_000
        adapter = self.adapter(max=1)
        rows = await adapter.query(statement("rows"), Output(JsonWriter()))
        await rows.next_block()
        await rows.abort()
        await rows.abort()
        self.assertNotIn("commit", self.driver.journal)
        await self.execute(adapter, "one")
        self.assertEqual(len(self.driver.connections), 2)


class Reading(Threaded):
    async def test_one_block_is_read_ahead_and_no_more(self) -> None:
        self.driver.rows = 10_000
        adapter = self.adapter()
        output = Output(JsonWriter())
        rows = await adapter.query(statement("rows"), output)
        sizes = []
        for _ in range(6):
            block = await rows.next_block()
            assert block is not None
            sizes.append(len(block.data))
            before = output.rows
            await pause(0.05)
            self.assertLessEqual(output.size - sum(sizes), 100_000)
            await pause(0.05)
            self.assertLessEqual(output.rows, before + 70)
        self.assertLess(sizes[0], 20_000)
        self.assertTrue(all(size < 100_000 for size in sizes), sizes)
        self.assertGreater(sizes[-1], 50_000)
        await rows.abort()

    async def test_all_rows_come_in_order(self) -> None:
        adapter = self.adapter()
        for count in (1, 31, 32, 33, 1000):
            self.driver.rows = count
            writer = JsonWriter()
            rows = await adapter.query(statement("rows"), Output(writer))
            parts = [writer.head(rows.columns)]
            while (block := await rows.next_block()) is not None:
                parts.append(block.data)
            await rows.finish()
            found = b"".join(parts)
            self.assertEqual(found.count(b'"' + b"x" * 1000), count)
            for index in range(count):
                self.assertIn(b"[%d," % index, found)

    async def test_a_procedures_results_and_values(self) -> None:
        name = TableName(None, "p")
        returned = await self.adapter().call(name, None, lambda: Output(JsonWriter()))
        self.assertEqual([each.row_count for each in returned.result_sets], [2, 2])
        self.assertEqual(returned.out, {"result": 7})


class Stopping(Threaded):
    async def test_it_is_asked_to_stop_until_it_does(self) -> None:
        adapter = self.adapter(max=1)
        work = self.execute(adapter, "stubborn")
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        (connection,) = self.driver.connections
        await self.until(lambda: connection.stops >= 3)
        self.assertFalse(connection.closed)
        connection.release.set()
        await self.until(lambda: connection.closed)
        await self.execute(adapter, "one")

    async def test_a_second_cancellation_changes_nothing(self) -> None:
        adapter = self.adapter(max=1)
        self.driver.rows = 10_000
        rows = await adapter.query(statement("rows"), Output(JsonWriter()))
        aborting = Deferred.fromCoroutine(rows.abort())
        aborting.cancel()
        aborting.addErrback(lambda failure: failure.trap(CancelledError))
        work = self.execute(adapter, "wait")
        await pause(0.1)
        work.cancel()
        work.cancel()
        await self.assertFailure(work, CancelledError)
        await self.execute(adapter, "one")
        await self.until(lambda: [each.closed for each in self.driver.connections].count(True) == 2)

    async def test_a_thread_that_never_comes_back_is_left_and_its_place_given_on(self) -> None:
        self.patch(threaded_connection, "LOST_SECONDS", 0.2)
        adapter = self.adapter(max=1)
        work = self.execute(adapter, "stubborn")
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        await self.execute(adapter, "one")
        stuck, used = self.driver.connections
        self.assertFalse(stuck.closed)
        stuck.release.set()
        await self.until(lambda: stuck.closed)
        self.assertFalse(used.closed)
        await self.execute(adapter, "two")

    async def test_closing_does_not_wait_for_ever(self) -> None:
        self.patch(threaded, "_CLOSE_SECONDS", 0.2)
        adapter = self.adapter(max=1)
        work = self.execute(adapter, "stubborn")
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        closing = Deferred.fromCoroutine(adapter.close())
        await pause(0.3)
        (connection,) = self.driver.connections
        connection.release.set()
        await closing
        await self.until(lambda: connection.closed)

    async def test_closing_ends_sessions(self) -> None:
        adapter = self.adapter()
        session = await adapter.session()
        await session.execute(statement("one"), Output(JsonWriter()))
        await adapter.close()
        self.assertTrue(session.ended)
        self.assertNotIn("commit", self.driver.journal)

    async def test_cancelling_anything_at_any_time(self) -> None:
        self.driver.rows = 300
        adapter = self.adapter(max=3, wait=5)
        chance = random.Random(7)

        async def query() -> None:
            rows = await adapter.query(statement("rows"), Output(JsonWriter()))
            try:
                while await rows.next_block() is not None:
                    await pause(chance.random() * 0.002)
                await rows.finish()
            finally:
                await rows.abort()

        async def session() -> None:
            held = await adapter.session()
            try:
                for sql in ("one", "rows", "fail" if chance.random() < 0.5 else "two"):
                    await held.execute(statement(sql), Output(JsonWriter()))
                await held.commit()
            finally:
                await held.close()

        kinds: list[Callable[[], Any]] = [
            query,
            session,
            lambda: adapter.execute(statement("fail"), Output(JsonWriter())),
            lambda: adapter.execute(statement("wait"), Output(JsonWriter())),
            lambda: adapter.load(Load(TableName(None, "t"), Body())),
        ]
        ended: list[Deferred[Any]] = []
        for _ in range(150):
            work = Deferred.fromCoroutine(chance.choice(kinds)())
            work.addErrback(lambda failure: failure.trap(CancelledError, Problem))
            for _ in range(chance.choice((1, 1, 2))):
                reactor.callLater(chance.random() * 0.05, work.cancel)  # type: ignore[attr-defined]
            ended.append(work)
            await pause(chance.random() * 0.01)
        await pause(0.06)
        for work in ended:
            await work
        await self.until(lambda: adapter._pool.lent == 0)
        for _ in range(3):
            await self.execute(adapter, "one")


class Connecting(Threaded):
    async def test_a_hung_connect_keeps_its_place_until_it_ends(self) -> None:
        released = Event()
        self.addCleanup(released.set)
        self.driver.opening = lambda: released.wait(20) and None
        adapter = self.adapter(max=1, wait=0.1)
        work = self.execute(adapter, "one")
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        await self.problem(self.execute(adapter, "one"), "overloaded")
        released.set()
        await self.until(lambda: adapter._pool.idle == 1)
        await self.execute(adapter, "one")
        self.assertEqual(len(self.driver.connections), 1)

    async def test_nobody_waits_longer_than_the_connect_time_out(self) -> None:
        self.patch(threaded, "_PATIENCE", 0.0)
        released = Event()
        self.driver.connect_timeout = 0.2
        self.driver.opening = lambda: released.wait(20) and None
        adapter = self.adapter(max=1)
        await self.problem(self.execute(adapter, "one"), "target_unreachable")
        released.set()

    async def test_a_hung_connect_does_not_hold_up_closing(self) -> None:
        self.patch(threaded, "_CLOSE_SECONDS", 0.2)
        released = Event()
        self.driver.opening = lambda: released.wait(20) and None
        adapter = ThreadedAdapter.build(reactor, self.driver, PoolSettings(), DatabasePolicy())
        work = self.execute(adapter, "one")
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        reactor.callLater(0.5, released.set)  # type: ignore[attr-defined]
        await adapter.close()
        await self.until(lambda: [each.closed for each in self.driver.connections] == [True])

    async def test_what_opening_raises_is_told_and_the_place_is_free(self) -> None:
        failure: Exception = Problem("target_login_failed", "wrong password")

        def refuse() -> None:
            raise failure

        self.driver.opening = refuse
        adapter = self.adapter(max=1, wait=0.1)
        for _ in range(3):
            await self.problem(self.execute(adapter, "one"), "target_login_failed")
        failure = ValueError("a bug")
        await self.assertFailure(self.execute(adapter, "one"), ValueError)

    async def test_a_connection_that_does_not_answer_is_replaced(self) -> None:
        self.patch(connections, "TRUST_SECONDS", 0.0)
        self.patch(threaded_connection, "ANSWER_SECONDS", 0.2)
        self.patch(threaded_connection, "LOST_SECONDS", 0.2)
        adapter = self.adapter(max=1)
        await self.execute(adapter, "one")
        self.driver.alive = False
        await self.execute(adapter, "two")
        self.assertEqual(len(self.driver.connections), 2)
        self.assertTrue(self.driver.connections[0].answering.is_set())

    async def test_a_connection_that_is_lost_is_not_used_again(self) -> None:
        adapter = self.adapter(max=1)
        await self.execute(adapter, "one")
        await self.until(lambda: adapter._pool.idle == 1)
        self.driver.connections[0].lost = True
        await self.execute(adapter, "two")
        self.assertEqual([each.closed for each in self.driver.connections], [True, False])

    async def test_when_one_was_lost_the_others_are_asked_before_they_are_used(self) -> None:
        adapter = self.adapter()
        await gatherResults([self.execute(adapter, "one") for _ in range(4)])
        await self.until(lambda: adapter._pool.idle == 4)
        for connection in self.driver.connections:
            connection.dead = True
        await self.problem(self.execute(adapter, "two"), "query_failed")
        for _ in range(4):
            await self.execute(adapter, "three")


class Loading(Threaded):
    def load(self, body: Body) -> Load:
        return Load(TableName(None, "t"), body)

    async def test_a_slow_callers_time_is_not_the_databases(self) -> None:
        adapter = self.adapter(limit=0.3)
        body = Body(4, lambda: pause(0.15))
        self.assertEqual(await adapter.load(self.load(body)), 8)

    async def test_the_body_is_not_read_far_ahead(self) -> None:
        adapter = self.adapter()
        body = Body(100)
        work = Deferred.fromCoroutine(adapter.load(Load(TableName(None, "stubborn"), body)))
        await pause(0.3)
        self.assertLessEqual(body.given, 4)
        self.driver.connections[0].release.set()
        self.assertEqual(await work, 200)

    async def test_what_is_wrong_with_the_body_is_told_and_nothing_committed(self) -> None:
        adapter = self.adapter(max=1)
        body = Body(3, failure=Problem("bad_request", "row 7"))
        await self.problem(adapter.load(self.load(body)), "bad_request")
        self.assertNotIn("commit", self.driver.journal)
        await self.execute(adapter, "one")

    async def test_what_the_database_refuses_ends_the_body(self) -> None:
        adapter = self.adapter(max=1)
        body = Body(1000)
        await self.problem(adapter.load(Load(TableName(None, "fail"), body)), "query_failed")
        self.assertTrue(body.closed)
        self.assertLess(body.given, 10)

    async def test_cancelling_ends_a_thread_that_waits_for_rows(self) -> None:
        adapter = self.adapter(max=1)
        never: Deferred[None] = Deferred()
        body = Body(3, lambda: never)
        work = Deferred.fromCoroutine(adapter.load(self.load(body)))
        await pause(0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        self.assertTrue(body.closed)
        await self.execute(adapter, "one")
        self.assertEqual(self.driver.journal.count("commit"), 1)

    async def test_columns_have_to_match(self) -> None:
        work = self.adapter().load(Load(TableName(None, "t"), Body(), ["a", "b"]))
        problem = await self.problem(work, "bad_request")
        self.assertEqual(problem.extra, {"field": "columns"})
