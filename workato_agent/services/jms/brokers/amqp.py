"""Brokers that speak AMQP 1.0: RabbitMQ, ActiveMQ, Artemis, Qpid, Azure Service Bus."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from attrs import Factory, define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectingCancelledError

from workato_tunnel.problems import Problem

from ..broker import Batch, Destination, IncomingMessage, OutgoingMessage, Source
from ..dialling import Dialler
from ..settings import Address, AmqpSettings
from ..sharing import Shared
from .amqp_addresses import DELAYED, Dialect, Peer
from .amqp_connection import AmqpConnection, ConnectionLost, Login
from .amqp_errors import UNREADABLE, wrong_type
from .amqp_links import AmqpLink, Sending, SessionCheck
from .amqp_messages import Reader, encode
from .amqp_receiving import AmqpBatch, Limits, Receiving, Wanted

L = TypeVar("L", bound=AmqpLink)
_BROWSED: Final = 64 * 2**20
_RABBITMQ_HOST: Final = "vhost:"


@frozen
class Connected:
    """A connection that has been opened, and to whom."""

    connection: AmqpConnection
    address: Address
    peer: Peer
    dialect: Dialect


@define(eq=False)
class AmqpBroker:
    """One profile's broker (a ``Broker``): one connection, on which every call has a session."""

    type = "amqp"

    _clock: Any
    _settings: AmqpSettings
    _dialler: Dialler
    _attempt: Shared[Connected] = field(
        init=False, default=Factory(lambda self: Shared(self._connect), takes_self=True)
    )
    _now: Connected | None = field(init=False, default=None)
    _opening: int = field(init=False, default=0)
    _receivings: set[Receiving] = field(init=False, factory=set)
    _subscriptions: dict[tuple[str, str], DeferredLock] = field(init=False, factory=dict)
    _closed: bool = field(init=False, default=False)

    @classmethod
    def of(cls, reactor: Any, settings: AmqpSettings) -> AmqpBroker:
        """A broker; nothing is opened yet. Raises ValueError for TLS that can't be used."""
        dialler = Dialler.of(reactor, settings.addresses, settings.tls, settings.connect_timeout)
        return cls(reactor, settings, dialler)

    # A ``Broker``.

    async def test(self) -> Mapping[str, object]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        now = await self._connected()
        patience = self._settings.connect_timeout
        await SessionCheck.make(self._clock, now.connection, str(now.address), patience)
        return {
            "target": str(now.peer),
            "container": now.peer.container,
            "address": str(now.address),
            "capabilities": sorted(now.peer.capabilities),
        }

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        if not messages:
            return []
        for message in messages:
            self._check_size(message)
        now = await self._connected()
        _check_delay(now.peer, messages)
        ids: list[str] = []

        def contents() -> Iterator[bytes]:
            for message in messages:
                identity, content = encode(message, now.dialect, time.time())
                ids.append(identity)
                yield content

        async def link(address: str) -> Sending:
            where = str(now.address)
            return Sending.to(self._clock, now.connection, where, destination, address)

        sending = await self._open(now.dialect.targets(destination), link)
        try:
            await sending.publish(contents())
        finally:
            sending.leave()
        return ids

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        end = self._clock.seconds() + wait
        now = await self._connected()
        now.dialect.check(
            selector=source.selector is not None,
            durable=source.subscription is not None,
            browse=False,
        )
        limits = Limits(limit, max_bytes, self._settings.max_message)
        if source.subscription is None:
            return await self._gathered(now, source, limits, end, _nothing)
        # A link of the same name would take the subscription away from the one before.
        done = await self._reserved(source.destination.name, source.subscription, wait)
        if done is None:
            return None
        try:
            batch = await self._gathered(now, source, limits, end, done)
        except BaseException:
            done()
            raise
        if batch is None:
            done()
        return batch

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        now = await self._connected()
        now.dialect.check(selector=selector is not None, durable=False, browse=True)
        receiving = await self._receiving(now, Source(destination, selector), browse=True)
        try:
            limits = Limits(limit, _BROWSED, self._settings.max_message)
            return list(await receiving.gather(limits, 0.0))
        finally:
            receiving.abandon()
            self._receivings.discard(receiving)

    async def close(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        self._closed = True
        receivings = tuple(self._receivings)
        for receiving in receivings:
            receiving.give_back()
        leaving = [Deferred.fromCoroutine(receiving.left()) for receiving in receivings]
        # What fails has lost its connection.
        await DeferredList(leaving, consumeErrors=True)
        now, self._now = self._now, None
        if now is not None:
            await now.connection.close()

    # Its parts.

    async def _connected(self) -> Connected:
        """The connection, made when there is none. Raises Problem."""
        if self._closed:
            raise _closing()
        if self._now is None or self._now.connection.gone is not None:
            self._now = await self._attempt.result()
        return self._now

    async def _connect(self) -> Connected:
        made = await self._dialler.first(self._login)
        if self._closed:
            made.connection.abort()
            raise _closing()
        return made

    async def _login(self, address: Address) -> Connected:
        settings = self._settings
        end = self._clock.seconds() + settings.connect_timeout
        wanted = settings.virtual_host
        now = await self._opened(address, wanted or address.host, end)
        if now.peer.rabbitmq and wanted is not None and not wanted.startswith(_RABBITMQ_HOST):
            # It would take another name for its default virtual host, without a word.
            now.connection.abort()
            now = await self._opened(address, _RABBITMQ_HOST + wanted, end)
        return now

    async def _opened(self, address: Address, virtual_host: str, end: float) -> Connected:
        settings, where = self._settings, str(address)
        login = Login.of(settings, virtual_host)
        try:
            dialled = await self._dialler.dial(
                address, lambda: AmqpConnection(self._clock, where, login)
            )
        except ConnectingCancelledError as error:
            raise CancelledError from error
        connection = dialled.protocol
        connection.opened.addTimeout(max(end - self._clock.seconds(), 0.1), self._clock)
        try:
            await connection.opened
        except DeferredTimeout:
            connection.abort()
            raise Problem(
                "target_unreachable",
                f"{where}: no login within {settings.connect_timeout:g} s: it answers too slowly,"
                " or something else listens there",
                hint="check the port, that it speaks AMQP 1.0, and the broker's load",
            ) from None
        except CancelledError:
            connection.abort()
            raise
        except ConnectionLost as lost:
            raise dialled.problem(lost.reason) from None
        prefixes = {"queue": settings.queue_prefix, "topic": settings.topic_prefix}
        try:
            peer = Peer.of(connection.proton, prefixes)
        except UNREADABLE:
            connection.abort()
            raise wrong_type(where, None) from None
        return Connected(connection, address, peer, peer.dialect())

    async def _open(self, addresses: Sequence[str], make: Callable[[str], Awaitable[L]]) -> L:
        """A link to the first of the addresses that there is. Raises Problem."""
        for address in addresses[:-1]:
            try:
                return await self._tried(await make(address))
            except Problem as problem:
                if problem.code not in ("target_not_found", "conflict"):
                    raise
        return await self._tried(await make(addresses[-1]))

    async def _tried(self, link: L) -> L:
        try:
            await link.open(self._settings.connect_timeout)
        except BaseException:
            link.leave()
            raise
        return link

    async def _receiving(
        self, now: Connected, source: Source, *, browse: bool = False
    ) -> Receiving:
        most = self._settings.max_receivers
        if len(self._receivings) + self._opening >= most:
            raise Problem(
                "overloaded",
                f"{most} receives and batches that are not settled are the most that this profile"
                " has at a time",
            )
        self._opening += 1
        try:
            receiving = await self._open(
                now.dialect.sources(source),
                lambda address: self._receiving_from(now, Wanted(address, source, browse)),
            )
        finally:
            self._opening -= 1
        self._receivings.add(receiving)
        return receiving

    async def _receiving_from(self, now: Connected, wanted: Wanted) -> Receiving:
        if not now.dialect.shares:
            now = await self._connect()
        reader = Reader(now.dialect)
        return Receiving.of(self._clock, now.connection, str(now.address), wanted, reader)

    async def _gathered(
        self,
        now: Connected,
        source: Source,
        limits: Limits,
        end: float,
        done: Callable[[], None],
    ) -> Batch | None:
        """A batch, which calls ``done`` when it is settled; None when nothing has come."""
        receiving = await self._receiving(now, source)

        def settled() -> None:
            if receiving in self._receivings:
                self._receivings.discard(receiving)
                done()

        try:
            messages = await receiving.gather(limits, max(end - self._clock.seconds(), 0.0))
            if messages:
                return AmqpBatch(tuple(messages), receiving, settled)
            receiving.leave()
            if receiving.durable:
                await receiving.left()
        except BaseException:
            receiving.abandon()
            self._receivings.discard(receiving)
            raise
        self._receivings.discard(receiving)
        return None

    async def _reserved(
        self, topic: str, subscription: str, wait: float
    ) -> Callable[[], None] | None:
        """A subscription for one batch, given back by calling; None when others keep it."""
        key = (topic, subscription)
        lock = self._subscriptions.setdefault(key, DeferredLock())
        waiting = lock.acquire()
        waiting.addTimeout(wait, self._clock)
        try:
            await waiting
        except DeferredTimeout:
            return None

        def done() -> None:
            if not lock.waiting:
                del self._subscriptions[key]
            lock.release()

        return done

    def _check_size(self, message: OutgoingMessage) -> None:
        body = message.body
        size = len(body if isinstance(body, bytes) else body.encode())
        if size > self._settings.max_message:
            raise Problem(
                "payload_too_large",
                f"a body of {size} bytes; this profile takes {self._settings.max_message}",
            )


def _check_delay(peer: Peer, messages: Sequence[OutgoingMessage]) -> None:
    if DELAYED not in peer.capabilities and any(message.delay for message in messages):
        raise Problem(
            "bad_request",
            f"{peer} does not offer delayed delivery over AMQP",
            hint="leave 'delay' out",
            extra={"field": "delay"},
        )


def _closing() -> Problem:
    return Problem("target_unreachable", "the profile is being closed")


def _nothing() -> None:
    """For a batch that holds nothing but its messages."""
