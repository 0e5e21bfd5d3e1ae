"""What nobody wants any more is stopped in the database itself."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import bind

from .contract import CSV, NDJSON, DatabaseContract, NativeWriter, pause

GONE_SECONDS = 5.0
"""A second is promised; a busy test machine may need longer to notice."""


class Cancellation(DatabaseContract):
    async def test_cancelling_stops_the_statement(self) -> None:
        caller = self.caller(max=1)
        for accept in (None, CSV, NDJSON):
            called = Deferred.fromCoroutine(caller.query(self.subject.endless, accept=accept))
            reactor.callLater(0.3, called.cancel)  # type: ignore[attr-defined]
            await self.assertFailure(called, Exception)
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_a_cancelled_statement_is_gone_from_the_server(self) -> None:
        if self.subject.running("contract_marker_0") is None:
            return
        caller = self.caller(max=1)
        for number, call in enumerate((caller.query, caller.execute), 1):
            marker = f"contract_marker_{number}"
            sql = f"{self.subject.endless} /* {marker} */"

            def seen(marker: str = marker) -> bool:
                return bool(self.subject.running(marker))

            def gone(marker: str = marker) -> bool:
                return not self.subject.running(marker)

            called = Deferred.fromCoroutine(call(sql))
            self.assertTrue(await self.until(seen), "it isn't seen on the server")
            called.cancel()
            await self.assertFailure(called, Exception)
            self.assertTrue(await self.until(gone, GONE_SECONDS), "it still runs on the server")
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_cancelling_twice_leaves_nothing_behind(self) -> None:
        caller = self.caller(max=1)
        for _ in range(3):
            called: Deferred[Any] = Deferred.fromCoroutine(caller.query(self.subject.endless))
            await pause(0.2)
            called.cancel()
            called.cancel()
            await self.assertFailure(called, Exception)
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_cancelling_at_any_moment_leaves_a_good_pool(self) -> None:
        caller = self.caller(max=2)
        for step in range(15):
            called = Deferred.fromCoroutine(caller.query(self.subject.numbers, {"n": 20_000}))
            await pause(step * 0.004)
            called.addErrback(lambda _: None)
            called.cancel()
            await called
        for _ in range(3):
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_what_is_cancelled_is_not_committed(self) -> None:
        if self.subject.slow_write is None:
            return
        await self.table("contract_slow", "id int")
        caller = self.caller(max=1)
        called = Deferred.fromCoroutine(caller.execute(self.subject.slow_write))
        await pause(0.5)
        called.cancel()
        await self.assertFailure(called, Exception)
        await pause(0.2)
        self.assertEqual(await self.count("contract_slow"), 0)

    async def test_a_statement_may_not_run_for_longer_than_the_policy_says(self) -> None:
        caller = self.caller(DatabasePolicy(statement_timeout=0.3), max=1)
        for accept in (None, CSV):
            problem = await self.problem(
                caller.query(self.subject.endless, accept=accept), "deadline_exceeded"
            )
            self.assertIn("0.3 s", (problem.hint or "") + problem.detail)
        await self.problem(caller.execute(self.subject.endless), "deadline_exceeded")
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_a_slow_readers_time_is_not_the_statements(self) -> None:
        adapter = self.adapter(DatabasePolicy(statement_timeout=1.0))
        writer = NativeWriter()
        statement = bind(self.subject.numbers, {"n": 30_000}, self.dialect)
        stream = await adapter.query(statement, Output(writer))
        await stream.next_block()
        await pause(1.3)
        while await stream.next_block() is not None:
            pass
        await stream.finish()
        self.assertEqual(len(writer.kept), 30_000)
