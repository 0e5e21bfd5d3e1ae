"""Brokers that speak STOMP 1.2, on the reactor: ActiveMQ (Classic) and RabbitMQ."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall

from workato_tunnel.problems import Problem

from ..broker import Batch, Destination, IncomingMessage, OutgoingMessage, Source
from ..settings import StompSettings
from ..sharing import Shared
from .stomp_consumer import Moved, StompConsumer
from .stomp_dialling import Connected, StompDialler, lost, refusal
from .stomp_frames import Frame
from .stomp_link import LinkLost, Refused, StompLink

IDLE: Final = 30.0
"""Seconds until a connection that nobody uses is closed."""
CLOSING: Final = 3.0
BROWSED_BYTES: Final = 16 * 2**20
TRANSACTION: Final = 500
"""Messages of one transaction."""
TRANSACTION_BYTES: Final = 4 * 2**20


@define(eq=False)
class StompBroker:
    """One profile's broker (a ``Broker``)."""

    type: ClassVar[str] = "stomp"

    _clock: Any
    _settings: StompSettings
    _dialler: StompDialler
    _wall: Callable[[], float] = time.time
    _publisher: Connected | None = field(default=None, init=False)
    _dialling: Shared[Connected] = field(init=False)
    _consumers: dict[Source, StompConsumer] = field(factory=dict, init=False)
    _others: set[StompConsumer] = field(factory=set, init=False)
    _opening: dict[Source, Shared[StompConsumer]] = field(factory=dict, init=False)
    _connecting: int = field(default=0, init=False)
    _published: float = field(default=0.0, init=False)
    _tidying: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._dialling = Shared(self._connect)

    @classmethod
    def of(cls, reactor: Any, settings: StompSettings) -> StompBroker:
        """Raises ValueError for TLS settings that can't be used."""
        return cls(reactor, settings, StompDialler.of(reactor, settings))

    async def test(self) -> Mapping[str, object]:
        """Connect, log in and say goodbye."""
        connected = await self._dialler.connect()
        facts = {
            "target": connected.server.replace("/", " ", 1),
            "protocol": "STOMP 1.2",
            "address": str(connected.address),
            "tls": self._settings.tls is not None,
        }
        await self._ended([connected.link.end()])
        return facts

    # -- publishing ------------------------------------------------------------------------------

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """As of ``Broker``. ActiveMQ takes them in transactions, RabbitMQ confirms each."""
        self._check_sizes(messages)
        if not messages:
            return []
        connected = await self._publishing()
        self._published = self._clock.seconds()
        frames = [self._encoded(connected, destination, message) for message in messages]
        published = 0
        try:
            if not connected.dialect.transactions or len(frames) == 1:
                await self._confirmed(connected.link, [frame for _, frame in frames])
            else:
                for part in _parts(frames):
                    await self._transaction(connected.link, part)
                    published += len(part)
        except Refused as error:
            raise _with(refusal(str(error)), published) from None
        except LinkLost as error:
            told = "some of the messages may have been published"
            raise _with(lost(error, done=told), published) from None
        self._published = self._clock.seconds()
        self._tidy_later()
        return [identifier for identifier, _ in frames]

    def _check_sizes(self, messages: Sequence[OutgoingMessage]) -> None:
        for message in messages:
            size = len(message.body.encode() if isinstance(message.body, str) else message.body)
            if size > self._settings.max_message:
                raise Problem(
                    "payload_too_large",
                    f"a body of {size} bytes is above {self._settings.max_message}",
                    hint="raise limits.message in the agent's configuration, or send less",
                )

    def _encoded(
        self, connected: Connected, destination: Destination, message: OutgoingMessage
    ) -> tuple[str, _Send]:
        dialect = connected.dialect
        identifier = str(uuid.uuid4())
        body = message.body.encode() if isinstance(message.body, str) else message.body
        headers = [("destination", dialect.destination(destination))]
        headers += dialect.message(message, identifier, self._wall())
        if dialect.sized(message):
            headers.append(("content-length", str(len(body))))
        return identifier, (headers, body)

    async def _confirmed(self, link: StompLink, frames: Sequence[_Send]) -> None:
        """Each with a receipt of its own. Raises Refused, LinkLost."""
        receipts: list[Deferred[None]] = []
        try:
            for headers, body in frames:
                receipts.append(link.request("SEND", headers, body))
                await link.writable()
            for receipt in receipts:
                await receipt
        except BaseException:
            for receipt in receipts:
                receipt.addErrback(lambda _: None)
                receipt.cancel()
            raise

    async def _transaction(self, link: StompLink, frames: Sequence[_Send]) -> None:
        """All of them or none. Raises Refused, LinkLost."""
        transaction = ("transaction", uuid.uuid4().hex)
        link.send("BEGIN", [transaction])
        try:
            for headers, body in frames:
                link.send("SEND", [*headers, transaction], body)
                await link.writable()
        except BaseException:
            link.send("ABORT", [transaction])
            raise
        await link.request("COMMIT", [transaction])

    async def _publishing(self) -> Connected:
        connected = self._publisher
        if connected is None or connected.link.lost is not None:
            connected = await self._dialling.result()
        return connected

    async def _connect(self) -> Connected:
        self._publisher = await self._dial()
        return self._publisher

    async def _dial(self, client_id: str | None = None) -> Connected:
        """A connection; none is left open behind :meth:`close`."""
        self._refuse_when_closed()
        self._tidy_later()
        connected = await self._dialler.connect(client_id)
        try:
            self._refuse_when_closed()
        except Problem:
            connected.link.end()
            raise
        return connected

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Problem("target_unreachable", "the profile has been closed", hint="call again")

    # -- receiving -------------------------------------------------------------------------------

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        """As of ``Broker``."""
        until = self._clock.seconds() + wait
        while True:
            consumer = await self._consumer(source)
            left = max(0.0, until - self._clock.seconds())
            try:
                return await consumer.receive(limit, left, max_bytes)
            except Moved:
                continue
            finally:
                self._tidy_later()

    async def _consumer(self, source: Source) -> StompConsumer:
        if source.destination.kind == "topic" and source.subscription is None:
            consumer = await self._new_consumer(source)
            consumer.retired = True
            self._others.add(consumer)
            return consumer
        consumer_there = self._consumers.get(source)
        if consumer_there is not None:
            if consumer_there.link.lost is None and not consumer_there.retired:
                return consumer_there
            del self._consumers[source]
            if consumer_there.single and not consumer_there.busy:
                # The broker knows one holder of a client id, and has to have let go of it.
                await consumer_there.close()
            else:
                self._others.add(consumer_there)
        opening = self._opening.get(source)
        if opening is None:
            opening = self._opening[source] = Shared(lambda: self._open_consumer(source))
        return await opening.result()

    async def _open_consumer(self, source: Source) -> StompConsumer:
        try:
            consumer = self._consumers[source] = await self._new_consumer(source)
        finally:
            del self._opening[source]
        return consumer

    async def _new_consumer(self, source: Source) -> StompConsumer:
        self._forget_lost()
        in_use = len(self._consumers) + len(self._others) + self._connecting
        if in_use >= self._settings.max_connections - 1:
            self._close_idle(0.0)
            in_use = len(self._consumers) + len(self._others) + self._connecting
        if in_use >= self._settings.max_connections - 1:
            raise Problem(
                "overloaded",
                f"{in_use} queues and topics are being received from, the profile's limit",
                hint="settle messages sooner, or raise limits.batches in the agent's configuration",
                retry_after=5,
            )
        client_id = None
        if source.subscription is not None:
            client_id = f"{self._settings.client_id}.{source.subscription}"
        self._connecting += 1
        try:
            connected = await self._dial(client_id)
        finally:
            self._connecting -= 1
        dialect = connected.dialect
        single = source.destination.kind == "topic" and not (
            source.subscription is not None and dialect.shared_durable
        )
        try:
            dialect.subscription(source, 1)
        except Problem:
            connected.link.end()
            raise
        return StompConsumer(self._clock, connected.link, dialect, source, single)

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """As of ``Broker``: ActiveMQ has a kind of subscription for it."""
        connected = await self._dial()
        link, dialect = connected.link, connected.dialect
        try:
            if not dialect.browsing:
                raise Problem(
                    "bad_request",
                    f"{dialect.name} can't be browsed over STOMP",
                    hint="receive messages and release them instead",
                )
            return await self._browse(connected, destination, limit, selector)
        except Refused as error:
            raise refusal(str(error)) from None
        except LinkLost as error:
            raise lost(error) from None
        finally:
            await self._ended([link.end()])

    async def _browse(
        self, connected: Connected, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        link, dialect = connected.link, connected.dialect
        found: list[IncomingMessage] = []
        size = 0
        seen: Deferred[None] = Deferred()

        def take(frame: Frame) -> None:
            nonlocal size
            if seen.called:
                return
            if frame.headers.get("browser") != "end":
                found.append(dialect.received(frame))
                size += len(frame.body)
                if len(found) < limit and size < BROWSED_BYTES:
                    return
            seen.callback(None)

        def on_lost() -> None:
            if not seen.called and link.lost is not None:
                seen.errback(link.lost)

        link.messages["b"] = take
        link.on_lost = on_lost
        headers = dialect.subscription(Source(destination, selector), min(limit, 1000))
        headers = [("ack", "auto") if each[0] == "ack" else each for each in headers]
        await link.request("SUBSCRIBE", [("id", "b"), ("browser", "true"), *headers])
        await seen
        await link.request("UNSUBSCRIBE", [("id", "b")])
        return found

    # -- ending ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends within seconds."""
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        ends = [each.close() for each in (*self._consumers.values(), *self._others)]
        self._consumers.clear()
        self._others.clear()
        if self._publisher is not None:
            ends.append(self._publisher.link.end())
            self._publisher = None
        await self._ended(ends)

    async def _ended(self, ends: Sequence[Deferred[None]]) -> None:
        """Wait for the ends of connections, but not for long."""
        together = gatherResults(ends)
        together.addTimeout(CLOSING, self._clock)
        with suppress(DeferredTimeout):
            await together

    def _forget_lost(self) -> None:
        for source, consumer in list(self._consumers.items()):
            if consumer.link.lost is not None:
                del self._consumers[source]
        self._others = {each for each in self._others if each.link.lost is None}

    def _close_idle(self, after: float) -> None:
        now = self._clock.seconds()
        for source, consumer in list(self._consumers.items()):
            if not consumer.busy and now - consumer.idle_since >= after:
                del self._consumers[source]
                consumer.close()

    def _tidy_later(self) -> None:
        if self._tidying is None and not self._closed:
            self._tidying = self._clock.callLater(IDLE, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        self._forget_lost()
        self._close_idle(IDLE)
        publisher = self._publisher
        if publisher is not None and self._clock.seconds() - self._published >= IDLE:
            self._publisher = None
            publisher.link.end()
        if self._consumers or self._others or self._publisher is not None:
            self._tidy_later()


_Send = tuple[list[tuple[str, str]], bytes]


def _parts(frames: Sequence[tuple[str, _Send]]) -> list[list[_Send]]:
    """Parts for transactions."""
    parts: list[list[_Send]] = []
    size = 0
    for _, frame in frames:
        if not parts or len(parts[-1]) >= TRANSACTION or size >= TRANSACTION_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(frame)
        size += len(frame[1])
    return parts


def _with(problem: Problem, published: int) -> Problem:
    return Problem(
        problem.code,
        problem.detail,
        hint=problem.hint,
        retry_after=problem.retry_after,
        extra={**problem.extra, "published": published},
    )
