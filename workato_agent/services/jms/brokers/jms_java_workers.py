"""Threads in which a JMS library may block for as long as it likes.

A thread can't be stopped from outside. What is called here comes with something that makes it end,
such as closing its connection from another thread; whoever waits is let go after a second even
where that doesn't help, and the thread is counted as stuck until it comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
Stop = Callable[[], object]

GENTLE_SECONDS: Final = 0.6
HARD_SECONDS: Final = 0.3


class Late(Exception):
    """A function has not come back in time; it has been made to end, or is stuck."""


class Pool(Protocol):
    """What is used of ``twisted.python.threadpool.ThreadPool``."""

    def callInThreadWithCallback(  # noqa: N802
        self,
        onResult: Callable[[bool, Any], object] | None,  # noqa: N803
        func: Callable[..., object],
        *args: Any,
        **kw: Any,
    ) -> object: ...


@define(eq=False)
class _Call(Generic[T]):
    """A function at work in a thread."""

    outcome: T | Failure | None = None
    ended: bool = False
    abandoned: bool = False
    waiting: Deferred[None] | None = None

    def end(self, outcome: T | Failure) -> None:
        self.outcome = outcome
        self.ended = True
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)


@define(eq=False)
class Workers:
    """The threads of one profile.

    :ivar stuck: how many run functions that nobody waits for any more.
    :ivar thd_leave: the last thing that a thread beside the pool does.
    """

    _reactor: Any
    _pool: Pool
    thd_leave: Callable[[], object] = field(default=lambda: None, init=False)
    stuck: int = field(default=0, init=False)
    _beside: set[_Call[None]] = field(factory=set, init=False)

    @property
    def closing(self) -> int:
        """How many functions run beside the pool, to close something."""
        return len(self._beside)

    async def run(
        self, function: Callable[[], T], stops: Sequence[Stop], seconds: float | None = None
    ) -> T:
        """What a function returns or raises.

        After so many seconds, or when this is cancelled, ``stops`` are called one after the other,
        each in a thread of its own, until the function comes back. Raises Late or CancelledError,
        a second later at most.
        """
        call: _Call[T] = _Call()

        def thd_run() -> T:
            if call.abandoned:  # before a thread was free for it
                raise Late
            return function()

        self._pool.callInThreadWithCallback(
            lambda _, outcome: self._reactor.callFromThread(self._end, call, outcome), thd_run
        )
        try:
            await self._wait(call, seconds)
        except CancelledError:
            await self._stop(call, stops)
            raise
        if not call.ended:
            await self._stop(call, stops)
            raise Late
        if isinstance(call.outcome, Failure):
            call.outcome.raiseException()
        return call.outcome  # type: ignore[return-value]  # it has ended

    async def settled(self, seconds: float) -> bool:
        """Wait until nothing runs beside the pool; whether that was so within that time."""
        until = self._reactor.seconds() + seconds
        while self._beside and self._reactor.seconds() < until:
            await self._wait(next(iter(self._beside)), until - self._reactor.seconds())
        return not self._beside

    def alone(self, function: Stop) -> None:
        """Run it in a thread of its own beside the pool, whatever becomes of it."""
        call: _Call[None] = _Call()
        self._beside.add(call)

        def end() -> None:
            self._beside.discard(call)
            call.end(None)

        ahead: list[Stop] = [function]
        del function

        def thd_run() -> None:
            try:
                ahead[0]()
            finally:
                # Objects of Java's that end with it would take the thread back to Java.
                ahead.clear()
                self.thd_leave()
                self._reactor.callFromThread(end)

        Thread(target=thd_run, daemon=True).start()

    def _end(self, call: _Call[Any], outcome: Any) -> None:
        self.stuck -= call.abandoned
        call.end(outcome)

    async def _stop(self, call: _Call[Any], stops: Sequence[Stop]) -> None:
        for stop, seconds in zip(stops, (GENTLE_SECONDS, HARD_SECONDS), strict=False):
            if call.ended:
                return
            self.alone(stop)
            until = self._reactor.seconds() + seconds
            while not call.ended and self._reactor.seconds() < until:
                try:
                    await self._wait(call, until - self._reactor.seconds())
                except CancelledError:  # once more: it is on its way
                    continue
        if not call.ended:
            call.abandoned = True
            self.stuck += 1

    async def _wait(self, call: _Call[Any], seconds: float | None) -> None:
        if call.ended:
            return
        waiting: Deferred[None] = Deferred()
        call.waiting = waiting

        def late() -> None:
            call.waiting = None
            waiting.callback(None)

        timer = None if seconds is None else self._reactor.callLater(seconds, late)
        try:
            await waiting
        finally:
            call.waiting = None
            if timer is not None and timer.active():
                timer.cancel()
