"""All connections of the API's listeners: their number, their clock, their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from typing import Protocol as Interface

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from .exchange import Exchange
from .http1 import Http1Channel
from .responses import DateField

SWEEP: Final = 0.5
"""Seconds between two looks at what has expired."""


class Site(Interface):
    """Who answers."""

    def request_received(self, exchange: Exchange) -> None:
        """A request's head is there. Its body waits until ``exchange.receive_body()``."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """Called once for each exchange: answered, cut, or left by its caller."""

    def refused(self, exchange: Exchange, problem: Problem) -> None:
        """What came is no request: answer it with this problem."""


@frozen
class HttpLimits:
    """What one listener allows. Times in seconds.

    ``linger``: how long the rest of an unwanted body is read away before the connection is closed.
    """

    connections: int = 10_000
    header_bytes: int = 64 * 1024
    header_timeout: float = 15.0
    idle_timeout: float = 75.0
    linger: float = 30.0


class Http1Factory(Factory):
    """Serves HTTP/1.1 on any number of listening endpoints; TLS is theirs."""

    noisy = False
    _log = Logger()

    def __init__(
        self,
        site: Site,
        clock: IReactorTime,
        limits: HttpLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.site = site
        self.clock = clock
        self.limits = limits or HttpLimits()
        self.date = DateField(wall_clock)
        self.draining = False
        self._channels: set[Http1Channel] = set()
        self._sweep: IDelayedCall | None = None
        self._drained: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Twisted: a connection comes."""
        return Http1Channel(self)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._channels)

    def connected(self, channel: Http1Channel) -> bool:
        """Count a connection in; False where it is one too many."""
        self._channels.add(channel)
        if self._sweep is None:
            self._sweep = self.clock.callLater(SWEEP, self._sweep_now)
        return len(self._channels) <= self.limits.connections

    def disconnected(self, channel: Http1Channel) -> None:
        """Count a connection out."""
        self._channels.discard(channel)
        if self._channels:
            return
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        drained, self._drained = self._drained, []
        for deferred in drained:
            deferred.callback(None)

    def _sweep_now(self) -> None:
        self._sweep = self.clock.callLater(SWEEP, self._sweep_now)
        now = self.clock.seconds()
        for channel in tuple(self._channels):
            try:
                channel.check(now)
            except Exception:  # noqa: BLE001 - one connection's bug must not stop the others' clock
                self._log.failure(
                    "A connection's time check failed", event="connection_check_broke"
                )
                channel.transport.abortConnection()

    def drain(self, timeout: float) -> Deferred[None]:
        """Let exchanges in flight finish, idle connections go; after ``timeout`` s cut the rest.

        The endpoints stop listening before this. Fires when no connection is left.
        """
        self.draining = True
        deferred: Deferred[None] = Deferred(self._drained.remove)
        if not self._channels:
            deferred.callback(None)
            return deferred
        self._drained.append(deferred)
        overdue = self.clock.callLater(timeout, self._cut_all)
        deferred.addCallback(lambda _: overdue.cancel() if overdue.active() else None)
        for channel in tuple(self._channels):
            channel.shut()
        return deferred

    def _cut_all(self) -> None:
        for channel in tuple(self._channels):
            channel.transport.abortConnection()
