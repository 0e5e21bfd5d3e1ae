"""The bounded pool of a profile's database connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from .settings import PoolSettings

TRUST_SECONDS: Final = 5.0
"""A connection unused for longer is asked whether it still lives before it is used again."""


class PooledConnection(Protocol):
    """What the pool needs of a connection. None of its methods raises."""

    kind: str

    def seems_alive(self) -> bool:
        """Whether nothing has happened to it since it was last used; costs no round trip."""
        ...

    async def answers(self) -> bool:
        """Whether the server answers on it, within a short time."""
        ...

    async def renew(self) -> bool:
        """Remove every trace of its last use. False means that it has to be closed."""
        ...

    async def close(self) -> None:
        """Close it. Safe to call again."""
        ...


C = TypeVar("C", bound=PooledConnection)


@define
class _Waiter:
    turn: Deferred[None]
    timeout: IDelayedCall


@define
class ConnectionPool(Generic[C]):
    """Lends at most ``settings.max`` connections, and has at most as many open.

    Connections come in kinds (one for each way in which an adapter uses its driver); ``open``
    makes one of a kind. Callers are served in the order in which they came. Who gives up waiting
    for a connection to be opened leaves its place taken until that has ended.

    :ivar open_timeout: seconds after which nobody waits any longer for a connection to be opened.
    """

    _clock: IReactorTime
    _settings: PoolSettings
    _open: Callable[[str], Coroutine[Deferred[Any], Any, C]]
    _open_timeout: float | None = None
    _lent: int = field(default=0, init=False)
    _idle: list[tuple[C, float]] = field(factory=list, init=False)
    _waiting: deque[_Waiter] = field(factory=deque, init=False)
    _reaping: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=Logger, init=False)

    @property
    def lent(self) -> int:
        """Connections in use, and those being opened."""
        return self._lent

    @property
    def idle(self) -> int:
        """Open connections that nobody uses."""
        return len(self._idle)

    async def acquire(self, kind: str) -> C:
        """A connection of a kind, alive and with no trace of an earlier use.

        Raises Problem ``overloaded`` when none is free in time, and what ``open`` raises.
        """
        await self._turn()
        candidate: C | None = None
        try:
            while (entry := self._take_idle(kind)) is not None:
                candidate, since = entry
                if await self._is_fit(candidate, since):
                    return candidate
                await candidate.close()
                candidate = None
            while self._lent + len(self._idle) > self._settings.max:
                await self._idle.pop(0)[0].close()
        except BaseException:
            if candidate is None:
                self._leave()
            else:
                Deferred.fromCoroutine(self.release(candidate, reusable=False))
            raise
        return await self._opened(kind)

    async def release(self, connection: C, *, reusable: bool) -> None:
        """Give a connection back. It is closed when in doubt about its state."""
        try:
            kept = reusable and not self._closed and await connection.renew()
            if kept and not self._closed:
                self._idle.append((connection, self._clock.seconds()))
                self._schedule_reaping()
            else:
                await connection.close()
        finally:
            self._leave()

    def doubt(self) -> None:
        """A connection was lost: the others are asked whether they live before they are used."""
        asked_from = self._clock.seconds() - TRUST_SECONDS
        self._idle = [(connection, min(since, asked_from)) for connection, since in self._idle]

    async def close(self) -> None:
        """Close what is idle and refuse what waits; what is lent is closed as it comes back."""
        self._closed = True
        if self._reaping is not None and self._reaping.active():
            self._reaping.cancel()
        for waiter in list(self._waiting):
            waiter.turn.errback(_closing())
        while self._idle:
            await self._idle.pop()[0].close()

    async def _opened(self, kind: str) -> C:
        opening = Deferred.fromCoroutine(self._open(kind))
        answer: Deferred[C] = Deferred()
        given_up = False

        def ended(result: C | Failure) -> None:
            if given_up:
                self._came_late(result)
            elif isinstance(result, Failure):
                self._leave()
                answer.errback(result)
            else:
                answer.callback(result)

        opening.addBoth(ended)
        if self._open_timeout is not None:
            answer.addTimeout(self._open_timeout, self._clock)
        try:
            return await answer
        except CancelledError:
            given_up = not opening.called
            opening.cancel()
            raise
        except TookTooLong:
            given_up = True
            raise Problem(
                "target_unreachable",
                f"the database has not let the agent in within {self._open_timeout:g} s",
                hint="check that host and port are reachable from the agent's machine",
            ) from None

    def _came_late(self, result: C | Failure) -> None:
        """A connection that nobody waits for any more is kept for others; an error was told."""
        if isinstance(result, Failure):
            if not result.check(CancelledError, Problem):
                self._log.failure(
                    "Opening a connection failed", event="database_connecting_broke", failure=result
                )
            self._leave()
        else:
            Deferred.fromCoroutine(self.release(result, reusable=True))

    async def _turn(self) -> None:
        if self._closed:
            raise _closing()
        if self._lent < self._settings.max and not self._waiting:
            self._lent += 1
            return
        turn: Deferred[None] = Deferred()
        waiter = _Waiter(turn, self._clock.callLater(self._settings.wait, self._give_up, turn))
        self._waiting.append(waiter)
        try:
            await turn
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if waiter.timeout.active():
                waiter.timeout.cancel()

    def _give_up(self, turn: Deferred[None]) -> None:
        limit, wait = self._settings.max, self._settings.wait
        turn.errback(
            Problem(
                "overloaded",
                f"all {limit} connections of the profile were in use for {wait:g} s",
                hint="try again later, or raise pool.max in the agent's configuration",
                retry_after=max(1, round(wait)),
            )
        )

    def _leave(self) -> None:
        """Pass the place of a lent connection on to the first who waits."""
        if self._waiting and not self._closed:
            waiter = self._waiting.popleft()
            waiter.turn.callback(None)
        else:
            self._lent -= 1

    def _take_idle(self, kind: str) -> tuple[C, float] | None:
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0].kind == kind:
                return self._idle.pop(index)
        return None

    async def _is_fit(self, connection: C, since: float) -> bool:
        if not connection.seems_alive():
            return False
        if self._clock.seconds() - since < TRUST_SECONDS:
            return True
        return await connection.answers()

    def _schedule_reaping(self) -> None:
        if self._reaping is None and self._idle:
            wait = self._idle[0][1] + self._settings.idle - self._clock.seconds()
            self._reaping = self._clock.callLater(max(0.0, wait), self._reap)

    def _reap(self) -> None:
        self._reaping = None
        horizon = self._clock.seconds() - self._settings.idle
        fresh = [entry for entry in self._idle if entry[1] > horizon]
        stale = [entry for entry in self._idle if entry[1] <= horizon]
        surplus = len(stale) - max(0, self._settings.min - len(fresh))
        now = self._clock.seconds()
        self._idle = [(connection, now) for connection, _ in stale[max(0, surplus) :]] + fresh
        for connection, _ in stale[: max(0, surplus)]:
            Deferred.fromCoroutine(connection.close())
        self._schedule_reaping()


def _closing() -> Problem:
    return Problem("overloaded", "the profile is being closed", hint="try again", retry_after=1)
