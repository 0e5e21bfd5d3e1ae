"""Any broker with a JMS client library (JMS 1.1, 2.0, Jakarta Messaging), through Java."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

from attrs import define, field
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.task import deferLater

from workato_agent.jvm import PROCESS_JVM, Jvm
from workato_tunnel.problems import Problem

from ..broker import Batch, Destination, IncomingMessage, OutgoingMessage, Source
from ..settings import JavaSettings
from .jms_java_errors import late
from .jms_java_link import Link
from .jms_java_links import Links
from .jms_java_messages import size
from .jms_java_workers import Late, Pool, Workers

_PATIENCE: Final = 5.0
"""Seconds beyond a wait after which a broker is taken to hang."""
_SETTLE_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.5
"""Between attempts at a durable subscription that another has."""


@define(eq=False)
class JavaBroker:
    """See :class:`~..broker.Broker`. Nothing of Java is loaded before the first call."""

    _reactor: Any
    _settings: JavaSettings
    _links: Links
    _subscriptions: dict[str, DeferredLock] = field(factory=dict, init=False)

    @classmethod
    def of(cls, reactor: Any, pool: Pool, settings: JavaSettings, jvm: Jvm = PROCESS_JVM) -> Self:
        """A broker.

        :param pool: threads of the profile's own, one for each session at least.
        """
        return cls(reactor, settings, Links(reactor, Workers(reactor, pool), settings, jvm))

    @property
    def type(self) -> str:
        return self._settings.type

    async def test(self) -> Mapping[str, object]:
        link, facts = await self._links.run(Link.thd_facts)
        await self._links.give(link)
        return facts

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        for message in messages:
            if size(message) > self._settings.max_message:
                raise Problem(
                    "payload_too_large",
                    f"a message's body has {size(message)} bytes, and the profile takes "
                    f"{self._settings.max_message}",
                    hint="send less at once, or raise limits.message in the profile",
                )
        link, ids = await self._links.run(lambda link: link.thd_publish(destination, messages))
        await self._links.give(link)
        return ids

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        if source.subscription is None:
            return await self._receive(source, limit, wait, max_bytes, None)
        until = self._reactor.seconds() + wait
        lock = self._subscriptions.setdefault(source.subscription, DeferredLock())
        await self._locked(lock, source.subscription, wait)
        batch = None
        try:
            batch = await self._receive_durable(source, limit, until, max_bytes, lock)
        finally:
            if batch is None:
                self._unlock(source.subscription, lock)
        return batch

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        link, found = await self._links.run(
            lambda link: link.thd_browse(destination, limit, selector)
        )
        await self._links.give(link)
        return found

    async def close(self) -> None:
        await self._links.close()

    async def _receive_durable(
        self, source: Source, limit: int, until: float, max_bytes: int, lock: DeferredLock
    ) -> Batch | None:
        """Receive of a durable subscription, within that time also when another has it first."""
        while True:
            left = max(0.0, until - self._reactor.seconds())
            try:
                return await self._receive(source, limit, left, max_bytes, lock)
            except Problem as problem:
                if problem.code != "conflict" or left <= _AGAIN_SECONDS:
                    raise
            await deferLater(self._reactor, _AGAIN_SECONDS)

    async def _receive(
        self, source: Source, limit: int, wait: float, max_bytes: int, lock: DeferredLock | None
    ) -> Batch | None:
        client_id = None if lock is None else f"{self._settings.client_id}.{source.subscription}"
        milliseconds, seconds = round(wait * 1000), wait + _PATIENCE
        try:
            link, messages = await self._links.run(
                lambda link: link.thd_receive(source, limit, milliseconds, max_bytes),
                client_id=client_id,
                reserve=1,
                seconds=seconds,
            )
        except Late:
            raise late(self._settings, "no answer", seconds) from None
        if not messages:
            await self._links.give(link)
            return None
        settled = partial(self._unlock, source.subscription, lock)
        return JavaBatch(tuple(messages), self._settings, self._links, link, settled)

    def _unlock(self, name: str | None, lock: DeferredLock | None) -> None:
        if name is not None and lock is not None:
            lock.release()
            if not lock.locked:
                self._subscriptions.pop(name, None)

    async def _locked(self, lock: DeferredLock, name: str, wait: float) -> None:
        """Have the subscription to oneself, for a broker would refuse a second connection."""
        waiting = lock.acquire()
        timer = self._reactor.callLater(wait, waiting.cancel)
        try:
            await waiting
        except CancelledError:
            if timer.active():
                raise
            raise Problem(
                "conflict",
                f"the durable subscription {name} is in use: its messages are not settled yet",
                hint="acknowledge or release them first",
            ) from None
        finally:
            if timer.active():
                timer.cancel()


@define(eq=False)
class JavaBatch:
    """See :class:`~..broker.Batch`: a transaction that has not ended.

    :ivar settled: called once, when its connection is free.
    """

    messages: tuple[IncomingMessage, ...] = field(repr=False)
    _settings: JavaSettings
    _links: Links
    _link: Link
    _settled: Callable[[], None]
    _over: bool = field(default=False, init=False)

    async def acknowledge(self) -> None:
        if self._over:
            raise Problem("conflict", "the messages have been settled already")
        try:
            await self._settle(acknowledge=True)
        except Late:
            raise late(self._settings, "no word on the acknowledgement", _SETTLE_SECONDS) from None

    async def release(self) -> None:
        if self._over:
            return
        # Without its connection the broker has them back already.
        with suppress(Problem, Late):
            await self._settle(acknowledge=False)

    async def _settle(self, *, acknowledge: bool) -> None:
        self._over = True
        try:
            await self._links.on(
                self._link, lambda link: link.thd_settle(acknowledge=acknowledge), _SETTLE_SECONDS
            )
            await self._links.give(self._link)
        finally:
            self._settled()
