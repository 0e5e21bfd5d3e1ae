"""Brokers that are not there, refuse, hang or are killed."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from workato_agent.services.jms.broker import (
    Destination,
    Source,
)

from .case import LIMIT, BrokerCase, pause


class Failures(BrokerCase):
    """What callers are told, and that nothing is lost."""

    async def test_nobody_listens(self) -> None:
        broker = self.broker_at(1)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        queue = Destination("queue", "contract.x")
        await self.problem(broker.test(), "target_unreachable")
        await self.problem(self.publish(broker, queue, "x"), "target_unreachable")
        await self.problem(broker.receive(Source(queue), 1, 1.0, LIMIT), "target_unreachable")

    async def test_wrong_password(self) -> None:
        broker = self.rejected_broker()
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        problem = await self.problem(broker.test(), "target_login_failed")
        self.assertNotIn("wrong-password", f"{problem} {problem.hint} {broker!r}")

    async def test_a_broker_that_says_nothing(self) -> None:
        port = self.silent_port()
        broker = self.broker_at(port, connect_timeout=1.0)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        await self.problem(broker.test(), "target_unreachable")
        waiting = Deferred.fromCoroutine(broker.test())
        await pause(0.1)
        waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        else:
            raise AssertionError("it was not cancelled")

    async def test_something_else_listens(self) -> None:
        port = self.silent_port(b"220 mail.example ESMTP\r\n")
        broker = self.broker_at(port, connect_timeout=2.0)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        await self.problem(broker.test(), "target_wrong_type", "target_unreachable")

    async def test_a_killed_broker_loses_nothing(self) -> None:
        if not self.survives:
            return
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "kept", "delivered", "acknowledged")
        messages, batches = [], []
        for _ in range(3):
            batch = await self.batch(broker, queue, 1)
            messages += batch.messages
            batches.append(batch)
        await batches[2].acknowledge()
        await batches[0].release()
        self.kill_server()
        try:
            problem = await self.problem(batches[1].acknowledge(), "conflict", "target_unreachable")
            self.assertTrue(problem.detail)
            await self.problem(self.publish(broker, queue, "x"), "target_unreachable")
            await batches[1].release()
        finally:
            self.restart_server()
        await self.publish(broker, queue, "new")
        marked: dict[str, bool] = {}
        bodies = [str(message.body) for message in messages]
        expected = {*bodies[:2], "new"}
        while not expected <= set(marked):
            batch = await self.batch(broker, queue)
            marked.update((str(each.body), each.redelivered) for each in batch.messages)
            batches.append(batch)
        if self.keeps_acknowledgements:
            self.assertEqual(set(marked), expected)
        self.assertFalse(marked["new"])
        if self.marks_after_crash:
            self.assertEqual({marked[body] for body in bodies if body in marked}, {True})
        for batch in batches[3:]:
            await batch.acknowledge()

    def silent_port(self, greeting: bytes = b"") -> int:
        """A port that takes connections and says this and nothing more."""

        class Silent(Protocol):
            def connectionMade(self) -> None:
                if greeting:
                    self.transport.write(greeting)

        factory = Factory.forProtocol(Silent)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number
