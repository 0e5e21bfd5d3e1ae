"""A profile's connections: as many as are needed, bounded, and kept for a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

from workato_agent.jvm import Jvm
from workato_tunnel.problems import Problem

from ..settings import JavaSettings
from .jms_java_errors import address, late
from .jms_java_link import Link, Stale
from .jms_java_provider import Provider, thd_provider
from .jms_java_workers import Late, Workers

T = TypeVar("T")

IDLE_SECONDS: Final = 60.0
MOST_STUCK: Final = 4
_CLOSE_SECONDS: Final = 3.0
_TEAR_SECONDS: Final = 1.0
_LOAD_SECONDS: Final = 40.0


@define(eq=False)
class Links:
    """Connections that are in use and those that wait for use.

    A link that has been taken is given back or dropped, whatever happens on it.
    """

    _reactor: Any
    _workers: Workers
    _settings: JavaSettings
    _jvm: Jvm
    _provider: Provider | None = field(default=None, init=False)
    _idle: list[Link] = field(factory=list, init=False)
    _all: set[Link] = field(factory=set, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _pruning: Any = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    async def run(
        self,
        function: Callable[[Link], T],
        *,
        client_id: str | None = None,
        reserve: int = 0,
        seconds: float | None = None,
    ) -> tuple[Link, T]:
        """Run a function on a connection, in a thread; the link is the caller's when it is done.

        Raises Late when the function takes longer than that; connecting has its own limit.

        :param reserve: how many connections have to be left for others.
        """
        while True:
            link = await self._take(client_id, reserve)
            try:
                if not link.used:
                    await self._open(link)
                return link, await self.on(link, function, seconds)
            except Stale:
                continue

    async def on(
        self, link: Link, function: Callable[[Link], T], seconds: float | None = None
    ) -> T:
        """Run a function on a link that one has. It is dropped if that fails or is cancelled."""
        stops = (link.thd_close, link.thd_tear_off)
        try:
            return await self._workers.run(partial(function, link), stops, seconds)
        except BaseException:
            self.drop(link)
            raise

    async def give(self, link: Link) -> None:
        """Nothing is outstanding on it: the next one may have it.

        One of a durable subscription is closed first, so that others may connect as its client.
        """
        if link.client_id is not None and link in self._all:
            with suppress(Late):
                await self.on(link, Link.thd_close, _CLOSE_SECONDS)
        if self._closed or link.client_id is not None or link not in self._all:
            self.drop(link)
            return
        link.idle_since = self._reactor.seconds()
        self._idle.append(link)
        self._wake()
        if self._pruning is None:
            self._pruning = self._reactor.callLater(IDLE_SECONDS, self._prune)

    def drop(self, link: Link) -> None:
        """Close it, in a thread; the broker takes back what it has given."""
        if link in self._all:
            self._all.discard(link)
            self._workers.alone(link.thd_close)
            self._wake()

    async def close(self) -> None:
        """Close all and wait for it; a library that hangs is left behind."""
        self._closed = True
        if self._pruning is not None:
            self._pruning.cancel()
            self._pruning = None
        links = list(self._all)
        self._all.clear()
        self._idle.clear()
        self._wake()
        for link in links:
            self._workers.alone(link.thd_close)
        if not await self._workers.settled(_CLOSE_SECONDS):
            for link in links:
                self._workers.alone(link.thd_tear_off)
            await self._workers.settled(_TEAR_SECONDS)

    async def _take(self, client_id: str | None, reserve: int) -> Link:
        most = self._settings.max_sessions
        while not self._closed:
            if len(self._all) - len(self._idle) < most - reserve:
                if client_id is None and self._idle:
                    return self._idle.pop()
                if len(self._all) >= most:
                    self.drop(self._idle.pop(0))
                link = Link(client_id)
                self._all.add(link)
                return link
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        raise Problem("target_unreachable", "the profile is being closed", hint="try again")

    async def _open(self, link: Link) -> None:
        workers = self._workers
        if workers.stuck >= MOST_STUCK or workers.closing > self._settings.max_sessions:
            self.drop(link)
            raise Problem(
                "target_unreachable",
                f"{address(self._settings)}: {workers.stuck + workers.closing} earlier calls "
                "still hang",
                hint="something there takes connections and says nothing: check host, port, "
                "firewalls and the broker",
            )
        try:
            provider = await self._library()
            await workers.run(
                partial(link.thd_open, provider),
                (link.thd_close, link.thd_tear_off),
                self._settings.connect_timeout,
            )
        except Late:
            self.drop(link)
            raise late(self._settings, "no connection", self._settings.connect_timeout) from None
        except BaseException:
            self.drop(link)
            raise

    async def _library(self) -> Provider:
        """Java's start, the loading of classes and looking the factory up have a limit apart."""
        if self._provider is None:
            try:
                self._provider = await self._workers.run(self._thd_provider, (), _LOAD_SECONDS)
            except Late:
                what = "the client library was not loaded"
                raise late(self._settings, what, _LOAD_SECONDS) from None
            self._workers.thd_leave = self._provider.thd_leave
        return self._provider

    def _thd_provider(self) -> Provider:
        return self._provider or thd_provider(self._settings, self._jvm)

    def _wake(self) -> None:
        """Those that wait may look again, in their order."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _prune(self) -> None:
        self._pruning = None
        oldest = self._reactor.seconds() - IDLE_SECONDS
        kept = [link for link in self._idle if link.idle_since > oldest]
        gone, self._idle = [link for link in self._idle if link not in kept], kept
        for link in gone:
            self.drop(link)
        if kept:
            ahead = kept[0].idle_since + IDLE_SECONDS - self._reactor.seconds()
            self._pruning = self._reactor.callLater(max(0.0, ahead), self._prune)
