"""A broker in memory, for tests: it passes the contract that the real ones pass."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from .broker import Batch, Destination, IncomingMessage, OutgoingMessage, Source


@define(eq=False)
class _Stored:
    message: IncomingMessage
    visible: float
    deliveries: int = 0
    taken: bool = False


@define(eq=False)
class MemoryServer:
    """What outlives a client's connection: queues, and topics' durable subscriptions.

    :ivar down: connecting is refused.
    """

    reactor: Any
    down: bool = False
    _queues: dict[str, list[_Stored]] = field(factory=dict)
    _topics: dict[str, set[str]] = field(factory=dict)
    _clients: list[MemoryBroker] = field(factory=list)
    _waiting: list[Deferred[None]] = field(factory=list)

    def client(self, max_message: int = 2**24) -> MemoryBroker:
        """A client of this server."""
        client = MemoryBroker(self, max_message)
        self._clients.append(client)
        return client

    def crash(self) -> None:
        """Every connection is lost; what is stored stays."""
        self.down = True
        for client in self._clients:
            client.connection_lost()
        self._wake()

    def restart(self) -> None:
        """Take connections again."""
        self.down = False

    def queue(self, source: Source) -> list[_Stored]:
        """The messages of a queue or a durable subscription, made when there is none."""
        destination = source.destination
        if destination.kind == "queue":
            return self._queues.setdefault(f"q:{destination.name}", [])
        name = f"t:{destination.name}:{source.subscription or uuid.uuid4()}"
        self._topics.setdefault(destination.name, set()).add(name)
        return self._queues.setdefault(name, [])

    def forget(self, destination: Destination, queue: list[_Stored]) -> None:
        """End a subscription that has no name."""
        for name in self._topics.get(destination.name, set()).copy():
            if self._queues[name] is queue:
                self._topics[destination.name].discard(name)
                del self._queues[name]

    def store(self, destination: Destination, message: OutgoingMessage) -> str:
        """Keep a message; its id."""
        now = self.reactor.seconds()
        kept = IncomingMessage(
            id=str(uuid.uuid4()),
            body=message.body,
            properties=dict(message.properties),
            priority=4 if message.priority is None else message.priority,
            timestamp=now,
            expires=now + message.ttl if message.ttl else None,
            reply_to=message.reply_to,
            correlation_id=message.correlation_id,
            type=message.type,
            persistent=message.persistent,
        )
        names = (
            [f"q:{destination.name}"]
            if destination.kind == "queue"
            else sorted(self._topics.get(destination.name, ()))
        )
        for name in names:
            queue = self._queues.setdefault(name, [])
            place = len(queue)
            while place and (queue[place - 1].message.priority or 0) < (kept.priority or 0):
                place -= 1
            queue.insert(place, _Stored(kept, now + message.delay))
        if message.delay:
            self.reactor.callLater(message.delay, self._wake)
        self._wake()
        return kept.id

    async def change(self, seconds: float) -> None:
        """Wait until something may have come, or so many seconds."""
        waiting: Deferred[None] = Deferred()
        timer = self.reactor.callLater(seconds, self._fire, waiting)
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            if timer.active():
                timer.cancel()

    def changed(self) -> None:
        """Something was given back."""
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._fire(each)

    def _fire(self, waiting: Deferred[None]) -> None:
        if not waiting.called:
            waiting.callback(None)


@define(eq=False)
class MemoryBatch:
    """Messages taken from a queue (a ``Batch``)."""

    messages: tuple[IncomingMessage, ...]
    _taken: list[_Stored]
    _queue: list[_Stored]
    _server: MemoryServer
    _ended: Callable[[MemoryBatch], None]
    lost: bool = False
    _settled: bool = False

    async def acknowledge(self) -> None:
        """Remove them."""
        if self._settled or self.lost:
            raise Problem("conflict", "the broker has taken the messages back")
        self._settled = True
        for each in self._taken:
            self._queue.remove(each)
        self._ended(self)

    async def release(self) -> None:
        """Give them back."""
        self.give_back()

    def give_back(self) -> None:
        """Give them back."""
        if self._settled:
            return
        self._settled = True
        for each in self._taken:
            each.taken = False
        self._ended(self)
        self._server.changed()


@define(eq=False)
class MemoryBroker:
    """A client of a :class:`MemoryServer` (a ``Broker``). Selectors are refused."""

    type = "memory"

    _server: MemoryServer
    _max_message: int
    _batches: list[MemoryBatch] = field(factory=list)
    _closed: bool = False

    async def test(self) -> Mapping[str, object]:
        """It is there, or not."""
        self._check()
        return {"target": "memory"}

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """Store them."""
        self._check()
        for message in messages:
            if len(message.body) > self._max_message:
                raise Problem("payload_too_large", f"a body is above {self._max_message} bytes")
        return [self._server.store(destination, message) for message in messages]

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        """Take what is there."""
        self._check()
        _no_selector(source.selector)
        reactor = self._server.reactor
        until = reactor.seconds() + wait
        queue = self._server.queue(source)
        try:
            while True:
                batch = self._take(queue, limit, max_bytes)
                if batch is not None:
                    return batch
                left = until - reactor.seconds()
                if left <= 0:
                    return None
                await self._server.change(left)
                self._check()
        finally:
            if source.destination.kind == "topic" and source.subscription is None:
                self._server.forget(source.destination, queue)

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """Look."""
        self._check()
        _no_selector(selector)
        now = self._server.reactor.seconds()
        queue = self._server.queue(Source(destination))
        return [each.message for each in queue if not each.taken and each.visible <= now][:limit]

    async def close(self) -> None:
        """Give all back."""
        self._closed = True
        for batch in list(self._batches):
            batch.give_back()

    def connection_lost(self) -> None:
        """The server has crashed."""
        for batch in list(self._batches):
            batch.lost = True
            batch.give_back()

    def _check(self) -> None:
        if self._server.down or self._closed:
            raise Problem("target_unreachable", "memory: the connection was refused")

    def _take(self, queue: list[_Stored], limit: int, max_bytes: int) -> MemoryBatch | None:
        now = self._server.reactor.seconds()
        queue[:] = [
            each
            for each in queue
            if each.taken or each.message.expires is None or each.message.expires > now
        ]
        taken: list[_Stored] = []
        size = 0
        for each in queue:
            if len(taken) == limit or (taken and size >= max_bytes):
                break
            if not each.taken and each.visible <= now:
                taken.append(each)
                size += len(each.message.body or "")
        if not taken:
            return None
        messages = []
        for each in taken:
            each.taken = True
            each.deliveries += 1
            messages.append(
                evolve(each.message, redelivered=each.deliveries > 1, deliveries=each.deliveries)
            )
        batch = MemoryBatch(tuple(messages), taken, queue, self._server, self._batches.remove)
        self._batches.append(batch)
        return batch


def _no_selector(selector: str | None) -> None:
    if selector is not None:
        raise Problem("bad_request", "this broker has no selectors", extra={"field": "selector"})
