"""The connections of one profile, kept between calls. Each serves one call at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from workato_tunnel.problems import Problem

from .connection import LdapConnection
from .settings import LdapSettings, Server

MAX_WAITING: Final = 256
"""Calls that may wait for a connection; the next is refused."""


class ConnectionPool:
    """At most ``max_connections``, the most recently used first; callers beyond them wait in line.

    A slot belongs to the attempt while a connection is being made, then to the connection until it
    is given up.

    :param connect: makes a connection; given up by cancelling, it must close what it has opened.
    :param healthy: whether a connection that was idle still answers.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settings: LdapSettings,
        connect: Callable[[float], Awaitable[LdapConnection]],
        healthy: Callable[[LdapConnection], Awaitable[bool]],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._connect = connect
        self._healthy = healthy
        self._slots = settings.max_connections
        self._idle: deque[LdapConnection] = deque()
        self._open: set[LdapConnection] = set()
        self._closing: set[LdapConnection] = set()
        self._line: deque[Deferred[LdapConnection | None]] = deque()
        self._sweep: IDelayedCall | None = None
        self._shut = False

    async def take(self, deadline: float) -> LdapConnection:
        """A connection that works; until it is given back or up it is the caller's.

        ``deadline`` is absolute. Raises Problem ``overloaded`` when none gets free in time, and
        what connecting raises.
        """
        while (connection := self._newest()) is not None:
            if await self._works(connection):
                return connection
        return await self.fresh(deadline)

    async def fresh(self, deadline: float) -> LdapConnection:
        """A new one, or the next that gets free where no more may be made; as :meth:`take`."""
        if not self._slots and self._idle:
            self.give_up(self._idle.popleft())
        while not self._slots or self._shut:
            connection = await self._queue(deadline)
            if connection is None:
                break
            if connection.lost is None:
                return connection
            self.give_up(connection)
        else:
            self._slots -= 1
        try:
            made = await self._connect(deadline)
        except BaseException:
            self._give_slot()
            raise
        if self._shut:
            made.close()
            self._give_slot()
            raise _closed()
        self._open.add(made)
        return made

    def give_back(self, connection: LdapConnection) -> None:
        """The call is over and the connection fit for the next one."""
        connection.kept = True
        if self._shut or connection.lost is not None:
            self.give_up(connection)
        elif self._line:
            self._line.popleft().callback(connection)
        else:
            connection.idle_since = self._clock.seconds()
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = self._clock.callLater(self._settings.idle_timeout, self._expire)

    def give_up(self, connection: LdapConnection) -> None:
        """Close a connection, what is asked on it too."""
        connection.abandon()
        if connection in self._open:
            self._open.remove(connection)
            if not connection.gone.called:
                self._closing.add(connection)
                connection.gone.addCallback(lambda _none: self._closing.discard(connection))
            self._give_slot()

    def forget(self, server: Server) -> None:
        """Close what is idle on a server that does not answer."""
        for connection in [each for each in self._idle if each.server == server]:
            self._idle.remove(connection)
            self.give_up(connection)

    async def close(self) -> None:
        """Close every connection, whatever is on it, and wait until the last one is."""
        self._shut = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._line:
            self._line.popleft().errback(_closed())
        self._idle.clear()
        for connection in tuple(self._open):
            self.give_up(connection)
        await DeferredList([connection.gone for connection in self._closing])

    # -- inside --------------------------------------------------------------------------------

    def _newest(self) -> LdapConnection | None:
        while self._idle:
            connection = self._idle.pop()
            idle = self._clock.seconds() - connection.idle_since
            if connection.lost is None and idle < self._settings.idle_timeout:
                return connection
            self.give_up(connection)
        return None

    async def _works(self, connection: LdapConnection) -> bool:
        try:
            works = await self._healthy(connection)
        except BaseException:
            self.give_up(connection)
            raise
        if not works:
            self.give_up(connection)
        return works

    async def _queue(self, deadline: float) -> LdapConnection | None:
        """Wait in line for a connection, or (None) for the right to make one."""
        if self._shut:
            raise _closed()
        limit = self._settings.max_connections
        if len(self._line) >= MAX_WAITING:
            raise _overloaded(f"all {limit} connections are in use and {MAX_WAITING} calls wait")
        wait = max(min(self._settings.wait_timeout, deadline - self._clock.seconds()), 0)
        turn: Deferred[LdapConnection | None] = Deferred(self._line.remove)
        self._line.append(turn)
        turn.addTimeout(wait, self._clock)
        try:
            return await turn
        except DeferredTimeout as error:
            raise _overloaded(
                f"none of the {limit} connections got free within {wait:g} s"
            ) from error

    def _give_slot(self) -> None:
        if self._line:
            self._line.popleft().callback(None)
        else:
            self._slots += 1

    def _expire(self) -> None:
        """Close what has been idle for long enough; look again when the next one will have been."""
        self._sweep = None
        oldest = self._clock.seconds() - self._settings.idle_timeout
        while self._idle and (self._idle[0].idle_since <= oldest or self._idle[0].lost):
            self.give_up(self._idle.popleft())
        if self._idle:
            wait = max(self._idle[0].idle_since - oldest, 0.01)
            self._sweep = self._clock.callLater(wait, self._expire)


def _overloaded(detail: str) -> Problem:
    return Problem(
        "overloaded",
        detail,
        hint="send fewer calls at a time, read searches faster, or raise the profile's pool.max",
        retry_after=1,
    )


def _closed() -> Problem:
    return Problem("overloaded", "the profile is being closed", retry_after=1)
