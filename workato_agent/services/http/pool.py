"""The connections to one target, kept between calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from workato_tunnel.problems import Problem

from .connection import HttpConnection
from .settings import HttpSettings

_MARGIN: Final = 1.0
"""Seconds by which we leave a kept connection earlier than the target says it will."""


class ConnectionPool:
    """At most ``max_connections``, the most recently used first; callers beyond them wait in line.

    A slot belongs to the attempt while a connection is being made, then to the connection until
    it is gone.

    :param connect: makes a connection; given up by cancelling, it must close what it has opened.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settings: HttpSettings,
        connect: Callable[[], Awaitable[HttpConnection]],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._connect = connect
        self._slots = settings.max_connections
        self._idle: deque[HttpConnection] = deque()
        self._open: set[HttpConnection] = set()
        self._closing: set[HttpConnection] = set()
        self._line: deque[Deferred[HttpConnection | None]] = deque()
        self._sweep: IDelayedCall | None = None
        self._shut = False

    @property
    def counts(self) -> tuple[int, int, int]:
        """Connections in use or being made, idle ones, and waiting callers."""
        in_use = self._settings.max_connections - self._slots - len(self._idle)
        return in_use, len(self._idle), len(self._line)

    def take(self) -> HttpConnection | None:
        """An idle connection that is still open."""
        now = self._clock.seconds()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < self._keep(connection) and connection.usable():
                return connection
            connection.abort()
        return None

    async def fresh(self, deadline: float) -> HttpConnection:
        """A new connection, or the next one that gets free where no more may be made.

        ``deadline`` is absolute. Raises Problem ``overloaded`` when none gets free in time, and
        what connecting raises.
        """
        if not self._slots and self._idle:
            self._idle[0].abort()
        if self._slots and not self._shut:
            self._slots -= 1
        else:
            connection = await self._queue(deadline)
            if connection is not None:
                return connection
        try:
            connection = await self._connect()
        except BaseException:
            self._give_slot()
            raise
        self._open.add(connection)
        return connection

    async def _queue(self, deadline: float) -> HttpConnection | None:
        """Wait in line for a connection, or (None) for the right to make one."""
        limit = self._settings.max_connections
        if self._shut or len(self._line) >= self._settings.max_waiting:
            raise _overloaded(
                f"All {limit} connections are in use and {len(self._line)} calls wait"
            )
        wait = max(min(self._settings.wait_timeout, deadline - self._clock.seconds()), 0)
        turn: Deferred[HttpConnection | None] = Deferred(self._line.remove)
        self._line.append(turn)
        turn.addTimeout(wait, self._clock)
        try:
            return await turn
        except DeferredTimeout as error:
            raise _overloaded(
                f"None of the {limit} connections got free within {wait:g} s"
            ) from error

    def released(self, connection: HttpConnection) -> None:
        """The call is over and the connection fit for the next one."""
        if self._shut:
            connection.abort()
            return
        if self._line:
            self._line.popleft().callback(connection)
            return
        connection.idle_since = self._clock.seconds()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._clock.callLater(self._keep(connection), self._expire)

    def gone(self, connection: HttpConnection) -> None:
        """The connection is closed or will be in a moment."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._closing.add(connection)
        connection.ended.addCallback(lambda _none: self._closing.discard(connection))
        if connection in self._open:
            self._open.remove(connection)
            self._give_slot()

    async def close(self) -> None:
        """Close every connection, whatever is on it, and wait until the last one is."""
        self._shut = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._line:
            self._line.popleft().errback(_overloaded("The profile is being closed"))
        for connection in tuple(self._open):
            connection.abort()
        await DeferredList([connection.ended for connection in self._closing])

    def _give_slot(self) -> None:
        if self._line:
            self._line.popleft().callback(None)
        else:
            self._slots += 1

    def _keep(self, connection: HttpConnection) -> float:
        if connection.kept is None:
            return self._settings.idle_timeout
        return min(self._settings.idle_timeout, max(connection.kept - _MARGIN, 0))

    def _expire(self) -> None:
        """Close what has been idle for long enough; look again when the next one will have been."""
        self._sweep = None
        now = self._clock.seconds()
        for connection in tuple(self._idle):
            if now - connection.idle_since >= self._keep(connection):
                connection.retire()
        if self._idle:
            soonest = min(each.idle_since + self._keep(each) for each in self._idle)
            self._sweep = self._clock.callLater(max(soonest - now, 0.01), self._expire)


def _overloaded(detail: str) -> Problem:
    return Problem(
        "overloaded",
        detail,
        hint="Send fewer calls at a time, or raise the profile's max_connections",
        retry_after=1,
    )
