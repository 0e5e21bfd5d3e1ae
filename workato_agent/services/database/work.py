"""Blocking work in threads of its own, and clean-up that a second cancellation can't interrupt."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

STOP_SECONDS: Final = 2.0


def fire(waiting: Deferred[None]) -> None:
    """Fire a Deferred unless it has fired or was cancelled."""
    if not waiting.called:
        waiting.callback(None)


class _DaemonThread(Thread):
    """A thread that can't keep a process from ending: a database may hang in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"daemon": True}))


class _DaemonThreads(ThreadPool):
    threadFactory = _DaemonThread  # noqa: N815 - Twisted's name


async def wait_for(reactor: Any, work: Deferred[Any], seconds: float) -> bool:
    """Wait for work, but not longer than that; it goes on. Whether it has ended."""
    waiting: Deferred[None] = Deferred()
    ended = False

    def end(result: T) -> T:
        nonlocal ended
        ended = True
        fire(waiting)
        return result

    work.addBoth(end)
    timer = reactor.callLater(seconds, fire, waiting)
    try:
        await waiting
    finally:
        if timer.active():
            timer.cancel()
    return ended


@define
class Threads:
    """A thread pool of one profile: a slow database can't starve anything else of threads."""

    _reactor: Any
    _pool: ThreadPool
    _started: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)

    @classmethod
    def of(cls, reactor: Any, size: int, name: str) -> Threads:
        """At most ``size`` threads; none runs before it is needed, none outlives the process."""
        return cls(reactor, _DaemonThreads(0, size, name))

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a function in a thread. Cancelling the Deferred doesn't stop the thread.

        What comes after :meth:`stop`, such as closing what lets go only then, has its own thread.
        """
        if self._stopped:
            return self._run_alone(lambda: function(*args, **kwargs))
        if not self._started:
            self._started = True
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)

    def allow(self, more: int) -> None:
        """Have so many threads more, in place of some that hang; or less."""
        self._pool.adjustPoolsize(maxthreads=self._pool.max + more)

    async def stop(self) -> None:
        """End the threads; waits some seconds for what still runs in them, off the reactor."""
        if self._stopped or not self._started:
            self._stopped = True
            return
        self._stopped = True
        stopped: Deferred[None] = Deferred()

        def thd_stop() -> None:
            self._pool.stop()
            self._reactor.callFromThread(fire, stopped)

        timeout = self._reactor.callLater(STOP_SECONDS, fire, stopped)
        Thread(target=thd_stop, daemon=True).start()
        await stopped
        if timeout.active():
            timeout.cancel()

    def _run_alone(self, function: Callable[[], T]) -> Deferred[T]:
        outcome: Deferred[T] = Deferred()

        def settle(result: T | Failure) -> None:
            if not outcome.called:
                outcome.callback(result)

        def thd_run() -> None:
            try:
                result: T | Failure = function()
            except BaseException:  # noqa: BLE001 - it goes to who waits
                result = Failure()
            self._reactor.callFromThread(settle, result)

        Thread(target=thd_run, daemon=True).start()
        return outcome


@define
class Lane:
    """One thing that must never be on two threads at once, such as a connection.

    A job whose caller has been cancelled runs on; :meth:`settled` tells when it has ended.
    """

    _threads: Threads
    _busy: bool = field(default=False, init=False)
    _settled: list[Deferred[None]] = field(factory=list, init=False)

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._busy

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread. Cancelling leaves it running, and the lane busy."""
        if self._busy:
            raise RuntimeError("the connection is busy in another thread")
        self._busy = True
        outcome: Deferred[T] = Deferred()

        def ended(result: T | Failure) -> None:
            self._busy = False
            settled, self._settled = self._settled, []
            for waiting in settled:
                waiting.callback(None)
            if not outcome.called:
                outcome.callback(result)

        self._threads.run(function, *args, **kwargs).addBoth(ended)
        return await outcome

    async def settled(self) -> None:
        """Wait until nothing runs. Not to be cancelled."""
        while self._busy:
            waiting: Deferred[None] = Deferred()
            self._settled.append(waiting)
            await waiting


@define
class Cleanups:
    """Clean-up work that goes on when the call that began it is cancelled once more."""

    _running: int = field(default=0, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _log: Logger = field(factory=Logger, init=False)

    def run(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Start the work. Cancelling the Deferred stops only the waiting for it."""
        outer: Deferred[None] = Deferred()
        self._running += 1

        def ended(result: Failure | None) -> None:
            self._running -= 1
            if isinstance(result, Failure):
                self._log.failure(
                    "Clean-up after a database call failed",
                    event="database_cleanup_broke",
                    failure=result,
                )
            if not self._running:
                for waiting in self._waiting:
                    fire(waiting)
                self._waiting.clear()
            fire(outer)

        Deferred.fromCoroutine(work).addBoth(ended)
        return outer

    async def ended(self) -> None:
        """Wait for all that is running."""
        while self._running:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done
