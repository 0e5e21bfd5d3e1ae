"""What the groups of tests have in common: what a broker is, and means to use it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from workato_agent.services.jms.broker import (
    Batch,
    Broker,
    Destination,
    IncomingMessage,
    OutgoingMessage,
    Source,
)
from workato_tunnel.problems import Problem

LIMIT = 16 * 2**20
WAIT = 20.0
"""Seconds for what comes at once, on a slow machine."""


class BrokerCase(TestCase):
    """A group of tests of brokers; :mod:`.contract` puts the groups together."""

    timeout = 120

    target: ClassVar[str]
    """A pattern for the ``target`` that the test tells."""
    type: ClassVar[str]

    short: ClassVar[float] = 0.25
    """Seconds in which what doesn't come would have come."""
    selectors: ClassVar[bool] = True
    browsing: ClassVar[bool] = True
    browsing_marks: ClassVar[bool] = False
    """What was browsed, or is about to be delivered, counts as delivered already."""
    topics: ClassVar[bool] = True
    """Topics with durable subscriptions."""
    durable_batches: ClassVar[bool] = False
    """A durable subscription may have several batches outstanding."""
    delay: ClassVar[bool] = True
    ttl: ClassVar[bool] = True
    priority: ClassVar[bool] = True
    """A message keeps its priority."""
    typed_properties: ClassVar[bool] = True
    """Properties keep their types; else all are text."""
    ordered: ClassVar[bool] = True
    """A queue's messages come in the order in which they were published."""
    known_ids: ClassVar[bool] = True
    """A message has the id that publishing it told."""
    nul: ClassVar[bool] = True
    """Text may hold NUL."""
    empty_text: ClassVar[bool] = True
    """Text may be empty."""
    kinds: ClassVar[bool] = True
    """Text comes back as text and bytes as bytes."""
    reply_to: ClassVar[bool] = True
    message_type: ClassVar[bool] = True
    """A message has a ``type``."""
    release_is_quick: ClassVar[bool] = True
    survives: ClassVar[bool] = True
    """The server keeps persistent messages when it is killed, and can be restarted."""
    keeps_acknowledgements: ClassVar[bool] = True
    """What was acknowledged does not come again after the server was killed."""
    marks_after_crash: ClassVar[bool] = True
    """What a killed server had delivered is marked when it comes again."""
    many: ClassVar[int] = 250
    largest: ClassVar[int] = 5 * 2**20
    """Bytes of a large message."""

    # -- hooks -------------------------------------------------------------------------------

    def make_broker(self, **settings: Any) -> Broker:
        """A client of the real broker.

        :param settings: of the broker's settings class, as ``connect_timeout``, ``max_message``.
        """
        raise NotImplementedError

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        """A client of whatever listens at a port of 127.0.0.1; None where it can't be so."""
        raise NotImplementedError

    def rejected_broker(self) -> Broker | None:
        """A client with a wrong password; None where there is no login."""
        raise NotImplementedError

    async def make_queue(self) -> Destination:
        """An empty queue of the test's own. Override where queues have to be made."""
        return Destination("queue", f"contract.{secrets.token_hex(6)}")

    async def make_topic(self) -> Destination:
        """A topic of the test's own."""
        return Destination("topic", f"contract.{secrets.token_hex(6)}")

    def kill_server(self) -> None:
        """kill -9."""
        raise NotImplementedError

    def restart_server(self) -> None:
        """After :meth:`kill_server`, with the same messages, on the same port."""
        raise NotImplementedError

    # -- means -------------------------------------------------------------------------------

    def broker(self, **settings: Any) -> Broker:
        """A client that is closed after the test."""
        broker = self.make_broker(**settings)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    async def batch(
        self,
        broker: Broker,
        destination: Destination,
        limit: int = 10,
        *,
        subscription: str | None = None,
        selector: str | None = None,
        max_bytes: int = LIMIT,
    ) -> Batch:
        """A batch; the test fails if none comes."""
        source = Source(destination, selector, subscription)
        batch = await broker.receive(source, limit, WAIT, max_bytes)
        assert batch is not None, "nothing has come"
        return batch

    async def gather(
        self, broker: Broker, destination: Destination, count: int
    ) -> tuple[list[IncomingMessage], list[Batch]]:
        """So many messages, in as many batches as it takes."""
        messages: list[IncomingMessage] = []
        batches: list[Batch] = []
        while len(messages) < count:
            batches.append(await self.batch(broker, destination, count - len(messages)))
            messages += batches[-1].messages
        return messages, batches

    async def nothing(self, broker: Broker, destination: Destination, **how: Any) -> None:
        """Nothing comes."""
        source = Source(destination, how.get("selector"), how.get("subscription"))
        self.assertIsNone(await broker.receive(source, 10, self.short, LIMIT))

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        """The problem, of one of these codes, that work ends with."""
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            self.assertTrue(problem.hint)
            return problem
        raise AssertionError("no problem was raised")

    async def one(self, message: OutgoingMessage) -> IncomingMessage:
        """A message after it has gone through the broker."""
        broker, queue = self.broker(), await self.make_queue()
        (published,) = await broker.publish(queue, [message])
        batch = await self.batch(broker, queue)
        (received,) = batch.messages
        await batch.acknowledge()
        if self.known_ids:
            self.assertEqual(received.id, published)
        return received

    async def publish(self, broker: Broker, queue: Destination, *bodies: str) -> list[str]:
        """Publish texts."""
        return await broker.publish(queue, [OutgoingMessage(body) for body in bodies])


def sorted_or(bodies: Sequence[str], ordered: bool) -> list[str]:
    """As they are, or sorted where order means nothing."""
    return list(bodies) if ordered else sorted(bodies)


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor turn for a while."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]
