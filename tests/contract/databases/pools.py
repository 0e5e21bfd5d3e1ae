"""Connections: how many, for how long one waits, and databases that come and go."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.database import Caller
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_tunnel.problems import Problem

from .contract import CSV, DatabaseContract, pause


class Pools(DatabaseContract):
    async def test_more_callers_than_connections(self) -> None:
        caller = self.caller(max=2)
        sql = f"select {self.subject.given('integer')} as a"
        calls = [
            Deferred.fromCoroutine(caller.query(sql, [index], accept=accept))
            for index, accept in enumerate([None, CSV] * 20)
        ]
        for index, call in enumerate(calls):
            self.assertIn(str(index).encode(), (await call).body)

    async def test_who_waits_too_long_is_told(self) -> None:
        caller = self.caller(max=1, wait=0.1)
        running = Deferred.fromCoroutine(caller.query(self.subject.endless))
        problem = await self.problem(caller.query("select 1"), "overloaded")
        self.assertEqual(problem.retry_after, 1)
        running.cancel()
        await self.assertFailure(running, Exception)

    async def test_an_absent_database_is_told_in_time(self) -> None:
        adapter = self.subject.absent(DatabasePolicy(), PoolSettings())
        if adapter is None:
            return
        caller = self.serving(adapter)
        for _ in range(3):
            problem = await self.problem(caller.query("select 1"), "target_unreachable")
            self.assertTrue(problem.hint)
        await self.problem(caller.test(), "target_unreachable")

    async def test_a_database_that_says_nothing_is_waited_for_no_longer_than_told(self) -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        adapter = self.subject.stuck(
            silent.getsockname()[1], DatabasePolicy(), PoolSettings(max=1, wait=20)
        )
        if adapter is None:
            return
        caller = self.serving(adapter)
        began = reactor.seconds()  # type: ignore[attr-defined]
        await self.problem(caller.query("select 1"), "target_unreachable")
        await self.problem(caller.test(), "target_unreachable")
        self.assertLess(reactor.seconds() - began, 10)  # type: ignore[attr-defined]

    async def test_connecting_can_be_cancelled_and_does_not_hold_up_closing(self) -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        adapter = self.subject.stuck(silent.getsockname()[1], DatabasePolicy(), PoolSettings(max=1))
        if adapter is None:
            return
        service = DatabaseService.build(reactor, adapter, DatabasePolicy())
        calling = Deferred.fromCoroutine(Caller(service).query("select 1"))
        await pause(0.2)
        began = reactor.seconds()  # type: ignore[attr-defined]
        calling.cancel()
        await self.assertFailure(calling, Exception)
        self.assertLess(reactor.seconds() - began, 1)  # type: ignore[attr-defined]
        await service.close()
        self.assertLess(reactor.seconds() - began, 8)  # type: ignore[attr-defined]

    async def test_connections_that_the_server_has_ended_are_replaced(self) -> None:
        caller = self.caller(max=2)
        await caller.query("select 1 as a")
        if not self.subject.end_connections():
            return
        await pause(0.2)
        try:
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
        except Problem as problem:
            self.assertEqual(problem.code, "target_unreachable", problem)
        for _ in range(3):
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_a_connection_lost_during_a_statement_is_told_and_replaced(self) -> None:
        caller = self.caller(max=1)
        running = Deferred.fromCoroutine(caller.query(self.subject.endless))
        await pause(0.5)
        if self.subject.end_connections():
            problem = await self.problem(running, "target_unreachable", "query_failed")
            self.assertTrue(problem.detail)
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
        else:
            running.cancel()
            await self.assertFailure(running, Exception)

    async def test_closing_with_work_under_way_is_quick(self) -> None:
        adapter = self.subject.adapter(DatabasePolicy(), PoolSettings(max=1))
        service = DatabaseService.build(reactor, adapter, DatabasePolicy())
        caller = Caller(service)
        running = Deferred.fromCoroutine(caller.query(self.subject.endless))
        await pause(0.3)
        running.cancel()
        await self.assertFailure(running, Exception)
        began = reactor.seconds()  # type: ignore[attr-defined]
        await service.close()
        self.assertLess(reactor.seconds() - began, 5)  # type: ignore[attr-defined]
        await self.problem(caller.query("select 1"), "overloaded")
