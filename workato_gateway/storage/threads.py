"""Where units of work run: in one thread of their own, or on the spot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

T = TypeVar("T")

MAX_WAITING: Final = 2000
"""Units in the queue; at some 50 µs each a tenth of a second's work."""


class WorkThread(Protocol):
    """Runs functions one after another, always in the same thread."""

    def run(self, work: Callable[[], T]) -> Awaitable[T]: ...

    def stop(self) -> None:
        """Nothing runs after this; what waits is finished first."""


class OwnThread:
    """A thread beside the reactor's, so that the store's disk never holds up anything else.

    It starts with the first work: a process that becomes a daemon has lost its threads by then.
    """

    def __init__(self, reactor: IReactorFromThreads, *, max_waiting: int = MAX_WAITING) -> None:
        self._reactor = reactor
        self._max_waiting = max_waiting
        self._waiting = 0
        self._pool = ThreadPool(1, 1, "store")

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """The result as a Deferred. Cancelled before its turn, ``work`` never runs; cancelled
        later, it finishes and its result is dropped. Raises Problem ``overloaded``."""
        if self._waiting >= self._max_waiting:
            raise Problem("overloaded", "the gateway's store is busy", retry_after=1)
        self._waiting += 1
        if not self._pool.started:
            self._pool.start()
        dropped = False

        def drop(_: Deferred[T]) -> None:
            nonlocal dropped
            dropped = True

        def thd_work() -> T | None:
            return None if dropped else work()

        def deliver(outcome: object) -> None:
            self._waiting -= 1
            if dropped:
                return
            if isinstance(outcome, Failure):
                result.errback(outcome)
            else:
                result.callback(cast("T", outcome))

        def thd_done(_: bool, outcome: object) -> None:
            self._reactor.callFromThread(deliver, outcome)

        result: Deferred[T] = Deferred(drop)
        self._pool.callInThreadWithCallback(thd_done, thd_work)
        return result

    def stop(self) -> None:
        """Joins the thread, when it was ever needed."""
        if self._pool.started:
            self._pool.stop()


class CallingThread:
    """No thread: for commands and synchronous tests. The awaitable has its result at once."""

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Exceptions arrive through the Deferred, as from a thread."""
        result: Deferred[T] = Deferred()
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - delivered, whatever it is
            result.errback(error)
        else:
            result.callback(outcome)
        return result

    def stop(self) -> None:
        """Nothing to stop."""
