"""Receiving over AMQP: credit for what was asked, called back when the waiting ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field, frozen
from proton import Delivery, Described, Endpoint, Event, Link, Terminus, symbol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ..broker import IncomingMessage, Source
from .amqp_connection import AmqpConnection
from .amqp_errors import UNREADABLE
from .amqp_links import AmqpLink, link_name
from .amqp_messages import Reader, Unreadable

_SELECTOR: Final = symbol("apache.org:selector-filter:string")
_SELECTOR_CODE: Final = 0x0000468C00000004
_PATIENCE: Final = 1.0
"""Seconds for the answer to a drain, or to credit that is taken back."""
_STRAGGLERS: Final = 0.05
"""Seconds for messages that were under way when a broker that can't drain has answered."""
_QUIET: Final = 0.02
_LONGEST_QUIET: Final = 0.15
"""Seconds in which nothing more comes from a broker that can't drain; and all of them together."""
_ENVELOPE: Final = 256 * 1024
"""Bytes that a message's headers and properties may have beside its body."""


@frozen
class Limits:
    """What one receive may bring.

    :ivar messages: how many at most. ``size``: no more once their bodies have so many bytes.
    :ivar largest: bytes of one body.
    """

    messages: int
    size: int
    largest: int


@frozen
class Wanted:
    """What a link that receives asks the broker for.

    :ivar browse: messages stay in the queue.
    """

    address: str
    source: Source
    browse: bool = False


@define(eq=False)
class Receiving(AmqpLink):
    """A link that receives for one call. Its session lives until the batch is settled.

    :ivar alone: the connection is its own, and is closed with it.
    """

    _log = Logger()

    _wanted: Wanted
    _reader: Reader
    alone: bool
    _taken: list[tuple[Any, IncomingMessage]] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)
    _limits: Limits = field(init=False, default=Limits(0, 0, 0))
    _late: bool = field(init=False, default=True)
    _part: bytearray = field(init=False, factory=bytearray)
    _unconfirmed: int = field(init=False, default=0)
    _turned_down: int = field(init=False, default=0)
    _too_large: Problem | None = field(init=False, default=None)
    _heard: bool = field(init=False, default=False)

    @classmethod
    def of(
        cls,
        clock: IReactorTime,
        connection: AmqpConnection,
        where: str,
        wanted: Wanted,
        reader: Reader,
    ) -> Receiving:
        """A link from an address, not yet opened. Raises Problem."""
        source = wanted.source
        kind, name = source.destination.kind, source.destination.name
        alone = not reader.dialect.shares
        made = cls(clock, connection, where, f"the {kind} {name}", wanted, reader, alone)
        made.durable = source.subscription is not None
        made.session = connection.session(made)
        made.link = link = made.session.receiver(source.subscription or link_name("receive"))
        link.snd_settle_mode = Link.SND_UNSETTLED
        link.source.address = wanted.address
        link.source.capabilities.put_object(symbol(kind))
        link.target.address = link.name
        if kind == "queue":
            # RabbitMQ 3 declares a durable queue for a durable source.
            link.source.durability = Terminus.CONFIGURATION
        if made.durable:
            link.source.durability = Terminus.DELIVERIES
            link.source.expiry_policy = Terminus.EXPIRE_NEVER
        if wanted.browse:
            link.source.distribution_mode = Terminus.DIST_MODE_COPY
        if source.selector is not None:
            link.source.filter.put_object({_SELECTOR: Described(_SELECTOR, source.selector)})
        return made

    async def open(self, patience: float) -> None:
        await super().open(patience)
        # A broker that can't do what was asked attaches without it (part 3 section 3.5.3).
        granted, asked = self.link.remote_source, self._wanted
        if asked.source.selector is not None and not _selects(granted):
            raise _unable("selectors", "selector")
        if self.durable and granted.durability == Terminus.NONDURABLE:
            raise _unable("durable subscriptions", "subscription")
        if asked.browse and granted.distribution_mode != Terminus.DIST_MODE_COPY:
            raise _unable("browsing", None)

    async def gather(self, limits: Limits, wait: float) -> Sequence[IncomingMessage]:
        """Up to so many messages: wait for the first one, then take what is there.

        Raises Problem: ``payload_too_large`` when the first message is larger than it may be.
        """
        self._limits = limits
        self._late = False
        self._ask(limits.messages)
        try:
            if not self._reader.dialect.drains:
                # Credit that is called back at once is never seen.
                await self.until(lambda: self._has_something() or self._heard, _PATIENCE)
                wait = max(wait, _STRAGGLERS)
            await self.until(self._has_something, wait)
            if not self._full():
                await self._stop()
        finally:
            self._late = True
        if self._too_large is not None and not self._taken:
            raise self._too_large
        return [message for _, message in self._taken]

    async def accept(self) -> None:
        """Acknowledge what was gathered. Raises Problem ``conflict`` when that is too late."""
        if self.failure is not None or self.leaving:
            raise Problem(
                "conflict",
                f"{self.where}: the messages have gone back to the broker, which delivers them"
                " again: the connection they came by is gone",
                hint="receive them again",
            )
        confirms = self._reader.dialect.confirms
        count = len(self._taken)
        self._accept_all(confirms=confirms)
        self.connection.pump()
        try:
            if confirms:
                await self.until(lambda: not self._unconfirmed)
                self.leave()
                if self._turned_down:
                    raise self._too_late(count)
            else:
                # Its answer means that all before it has been done.
                self.detach()
                await self.until(lambda: self.detached)
                self.leave()
        except Problem as problem:
            if problem.code != "target_unreachable":
                raise
            raise Problem(
                problem.code,
                f"{problem.detail}; whether the messages were acknowledged is not known",
                hint="they may be delivered again",
            ) from None

    def give_back(self) -> None:
        """Give back what was gathered, as delivered in vain; then leave. Idempotent."""
        if self.failure is None and not self.leaving:
            counts = self._reader.dialect.counts
            for delivery, _ in self._taken:
                if counts:
                    delivery.local.failed = True
                    delivery.update(Delivery.MODIFIED)
                else:
                    delivery.update(Delivery.RELEASED)
                delivery.settle()
            self._taken.clear()
            self.connection.pump()
        self.leave()

    def abandon(self) -> None:
        """Nobody has seen what was gathered: give it back uncounted, then leave. Idempotent."""
        self._late = True
        if self.failure is None and not self.leaving:
            for delivery, _ in self._taken:
                self._release(delivery)
            self._taken.clear()
            self.connection.pump()
        self.leave()

    def end(self) -> None:
        if self.alone:
            self.detach()
            Deferred.fromCoroutine(self.connection.close())
        elif self.session.state & Endpoint.REMOTE_ACTIVE:
            # It detaches the link; what is durable stays.
            self.session.close()

    def happened(self, event: Event) -> None:
        if event.type == Event.SESSION_REMOTE_OPEN and self.leaving and not self.alone:
            # Before this proton would not know any more what it is an answer to.
            self.session.close()
        super().happened(event)

    # Events.

    def agreed(self) -> bool:
        return bool(self.link.remote_source.type != Terminus.UNSPECIFIED)

    def flowed(self) -> None:
        self._heard = True

    def delivered(self, delivery: Any) -> None:
        if self._unconfirmed and delivery.settled and delivery.local_state == Delivery.ACCEPTED:
            self._unconfirmed -= 1
            self._turned_down += delivery.remote_state not in (Delivery.ACCEPTED, 0)
            delivery.settle()
            return
        while (current := self.link.current) is not None and current.readable:
            content = self.link.recv(current.pending) if current.pending else None
            if content and len(self._part) <= self._limits.largest + _ENVELOPE:
                self._part += content
            if current.aborted:
                self._part = bytearray()
                current.settle()
                continue
            if current.partial:
                break
            self.link.advance()
            if self.link.credit < 0:
                # It was under way when its credit was called back; a negative one is told as huge.
                self.link.flow(-self.link.credit)
            content, self._part = bytes(self._part), bytearray()
            self._complete(current, content)

    def _complete(self, delivery: Any, content: bytes) -> None:
        if self._late or self._full():
            self._release(delivery)
            return
        message, size = self._read(content)
        if size > self._limits.largest:
            self._too_large = Problem(
                "payload_too_large",
                f"{self.where}: {self.what} has a message of more than {self._limits.largest} bytes"
                " next",
                hint="raise limits.message in the agent's config.yml",
            )
            self._release(delivery)
        else:
            self._taken.append((delivery, message))
            self._size += size
        if self._full() and self.link.credit:
            self._ask(-self.link.credit)

    def _read(self, content: bytes) -> tuple[IncomingMessage, int]:
        """A message and its size. One that can't be read has no body: a caller can remove it."""
        if len(content) > self._limits.largest + _ENVELOPE:
            return IncomingMessage(id="", body=None), len(content)
        try:
            message = self._reader.read(content)
        except Unreadable as why:
            self._log.warn(
                "{where}: {what}: a message can't be read: {why}",
                event="amqp_message_unreadable",
                where=self.where,
                what=self.what,
                why=str(why),
            )
            return IncomingMessage(id="", body=None), 0
        body = message.body or b""
        return message, len(body.encode() if isinstance(body, str) else body)

    def _release(self, delivery: Any) -> None:
        delivery.update(Delivery.RELEASED)
        delivery.settle()

    def _has_something(self) -> bool:
        return bool(self._taken) or self._too_large is not None

    def _full(self) -> bool:
        return (
            len(self._taken) >= self._limits.messages
            or (bool(self._taken) and self._size >= self._limits.size)
            or self._too_large is not None
        )

    def _let_go(self) -> None:
        self._taken.clear()
        super()._let_go()

    def _ask(self, credit: int) -> None:
        self._heard = False
        self.link.flow(credit)
        self.connection.pump()

    async def _stop(self) -> None:
        """Call the credit back, and take what comes until the broker has heard it."""
        if self._reader.dialect.drains:
            self.link.drain(0)
            self.connection.pump()
            if await self.until(lambda: self._full() or not self.link.credit, _PATIENCE):
                return
        elif self._taken:
            await self._settle_down()
        if self.link.credit:
            self._ask(-self.link.credit)
            await self.until(lambda: self._full() or self._heard, _PATIENCE)
            await self.until(self._full, _STRAGGLERS)

    async def _settle_down(self) -> None:
        """Without drain nobody tells that no more is there: nothing comes for a moment."""
        end = self.clock.seconds() + _LONGEST_QUIET
        count = 0
        while len(self._taken) > count and not self._full() and self.clock.seconds() < end:
            count = len(self._taken)
            await self.until(lambda: len(self._taken) > count or self._full(), _QUIET)  # noqa: B023

    def _accept_all(self, *, confirms: bool) -> None:
        for delivery, _ in self._taken:
            delivery.update(Delivery.ACCEPTED)
            if confirms and not delivery.settled:
                self._unconfirmed += 1
            else:
                delivery.settle()
        self._taken.clear()

    def _too_late(self, count: int) -> Problem:
        return Problem(
            "conflict",
            f"{self.where}: the broker had taken {self._turned_down} of {count} messages back"
            " before they were acknowledged",
            hint="they will be delivered again; settle within the broker's own lock time",
        )


@define(eq=False)
class AmqpBatch:
    """A ``Batch``: the session in which its messages came is its own."""

    messages: tuple[IncomingMessage, ...]
    _receiving: Receiving
    _settled: Callable[[], None]

    async def acknowledge(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Batch`."""
        try:
            await self._receiving.accept()
            if self._receiving.durable:
                await self._receiving.left()
        finally:
            self._receiving.leave()
            self._settled()

    async def release(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Batch`."""
        self._receiving.give_back()
        try:
            await self._receiving.left()
        finally:
            self._settled()


def _selects(source: Any) -> bool:
    """Whether a broker has agreed to a selector."""
    filters = source.filter
    filters.rewind()
    try:
        granted = filters.get_object() if filters.next() else None
    except UNREADABLE:
        return False
    return isinstance(granted, dict) and any(
        isinstance(each, Described) and each.descriptor in (_SELECTOR, _SELECTOR_CODE)
        for each in granted.values()
    )


def _unable(what: str, field: str | None) -> Problem:
    return Problem(
        "bad_request",
        f"this broker has no {what} over AMQP",
        extra={"field": field} if field else None,
    )
