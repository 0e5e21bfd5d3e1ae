"""A driver's connection in the hands of one thread at a time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ..statements import Statement
from ..work import Cleanups, Lane, Threads, fire, wait_for
from .allowance import Allowance
from .driver import DriverConnection

ANSWER_SECONDS: Final = 5.0
"""A server that takes longer to say that it is there is not there."""
RENEW_SECONDS: Final = 10.0
LOST_SECONDS: Final = 10.0
"""A thread that can't be stopped for longer is left behind, and its place given to another."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


@define(eq=False)
class ThreadedConnection:
    """What the pool lends; see :class:`~..connections.PooledConnection`.

    :ivar allowance: of the work that is being done; :meth:`begin` makes a new one.
    :ivar stopped: its work was stopped: it is of no more use.
    """

    raw: DriverConnection
    _reactor: Any
    _threads: Threads
    _cancels: Threads
    _cleanups: Cleanups
    kind: str = "threaded"
    allowance: Allowance = field(factory=lambda: Allowance(None))
    stopped: bool = False
    _lane: Lane = field(init=False)
    _stopping: bool = False
    _quiet: list[Deferred[None]] = field(factory=list)
    _stop_lock: Any = field(factory=Lock)
    _gone: bool = False
    _closing: bool = False
    _timer: IDelayedCall | None = None
    _log: Logger = field(factory=Logger)

    def __attrs_post_init__(self) -> None:
        self._lane = Lane(self._threads)

    @property
    def busy(self) -> bool:
        """Whether a thread has it."""
        return self._lane.busy

    def begin(self, limit: float | None) -> None:
        """Begin a piece of work that the database may work on for ``limit`` seconds."""
        self.allowance = Allowance(limit)

    async def run(self, work: Callable[[], T], statement: Statement | None = None) -> T:
        """Do a part of the work in a thread. Raises Problem.

        Cancelling stops only the waiting: call :meth:`stop` then.
        """
        if self.stopped:
            raise self.allowance.problem()
        allowance = self.allowance
        self._watch(allowance)
        try:
            return await self._lane.run(self._thd_run, work, statement, allowance)
        finally:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def stop(self) -> None:
        """Stop what runs, in the database, again and again until the thread is back."""
        if not self.stopped:
            self.stopped = True
            self.allowance.stop()
            self._stopping = True
            self._cleanups.run(self._stop_until_quiet())

    def seems_alive(self) -> bool:
        return not self.stopped and self.raw.seems_alive()

    async def answers(self) -> bool:
        return await self._within(ANSWER_SECONDS, self.raw.thd_answers)

    async def renew(self) -> bool:
        return self.seems_alive() and await self._within(RENEW_SECONDS, self.raw.thd_renew)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            await self._cleanups.run(self._close())

    async def _close(self) -> None:
        ending = self._cleanups.run(self._end())
        if not await wait_for(self._reactor, ending, LOST_SECONDS):
            self._log.warn(
                "A database connection can't be stopped; its thread is left behind",
                event="thread_left_behind",
            )
            self._threads.allow(1)
            ending.addCallback(lambda _: self._threads.allow(-1))

    async def _within(self, seconds: float, question: Callable[[], bool]) -> bool:
        """The driver's answer; False, and the connection is being stopped, after so long."""
        self.begin(None)
        asked = Deferred.fromCoroutine(self.run(question))
        answer = False

        def keep(result: bool) -> None:
            nonlocal answer
            answer = result

        asked.addCallbacks(keep, lambda failure: self._not_answered(failure.value))
        if not await wait_for(self._reactor, asked, seconds):
            self.stop()
        return answer and not self.stopped

    def _not_answered(self, error: BaseException) -> None:
        if not isinstance(error, Problem):
            self._log.error(
                "A database connection failed: {error!r}",
                event="database_connection_failed",
                error=error,
            )

    async def _end(self) -> None:
        if self._lane.busy:
            self.stop()
        while self._stopping or self._lane.busy:
            if self._stopping:
                quiet: Deferred[None] = Deferred()
                self._quiet.append(quiet)
                await quiet
            else:
                await self._lane.settled()
        await self._lane.run(self._thd_end)

    async def _stop_until_quiet(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                await self._cancels.run(self._thd_stop)
                if not self._lane.busy:
                    break
                settled = Deferred.fromCoroutine(self._lane.settled())
                if await wait_for(self._reactor, settled, pause):
                    break
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._stopping = False
            waiting, self._quiet = self._quiet, []
            for each in waiting:
                fire(each)

    def _watch(self, allowance: Allowance) -> None:
        """Stop the work when its time in the database is over."""
        if allowance.limit is None:
            return
        left = allowance.left
        if left > 0:
            self._timer = self._reactor.callLater(max(0.01, left), self._watch, allowance)
        elif allowance.expire():
            self.stop()

    def _thd_run(self, work: Callable[[], T], statement: Statement | None, within: Allowance) -> T:
        try:
            result = work()
        except self.raw.errors as error:
            if within.expired or self.stopped:
                raise within.problem() from None
            raise self.raw.problem(error, statement) from None
        if within.expired:
            raise within.problem()
        return result

    def _thd_stop(self) -> None:
        with self._stop_lock:
            if not self._gone:
                self.raw.thd_stop()

    def _thd_end(self) -> None:
        with self._stop_lock:
            self._gone = True
            self.raw.thd_close()
