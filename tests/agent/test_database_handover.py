"""The queue between a database's thread and the reactor: bounded, ordered, and it can be left."""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from workato_agent.services.database.handover import Abandoned, Handover


class Handing(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.handover = Handover[int](reactor, limit=10)

    async def test_items_arrive_in_order(self) -> None:
        def thd_produce() -> None:
            for number in range(500):
                self.handover.thd_put(number, 3)

        produced = deferToThread(thd_produce)
        self.assertEqual([await self.handover.get() for _ in range(500)], list(range(500)))
        await produced

    async def test_the_thread_waits_for_a_slow_reader(self) -> None:
        put: list[int] = []

        def thd_produce() -> None:
            for number in range(20):
                self.handover.thd_put(number, 3)
                put.append(number)

        produced = deferToThread(thd_produce)
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.2, pause.callback, None)  # type: ignore[attr-defined]
        await pause
        self.assertEqual(len(put), 4)
        self.assertGreater(self.handover.waited, 0.1)
        for _ in range(20):
            await self.handover.get()
        await produced

    async def test_a_thread_that_waits_is_told_that_nobody_reads(self) -> None:
        full = threading.Event()

        def thd_produce() -> None:
            while True:
                self.handover.thd_put(1, 10)
                full.set()

        produced = deferToThread(thd_produce)
        await deferToThread(full.wait)
        self.handover.abandon()
        await self.assertFailure(produced, Abandoned)

    async def test_a_reader_who_waits_makes_the_thread_hurry(self) -> None:
        self.assertFalse(self.handover.hungry)
        reading = Deferred.fromCoroutine(self.handover.get())
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.2, pause.callback, None)  # type: ignore[attr-defined]
        await pause
        self.assertTrue(self.handover.hungry)
        await deferToThread(self.handover.thd_put, 7, 1)
        self.assertEqual(await reading, 7)
        self.assertFalse(self.handover.hungry)
