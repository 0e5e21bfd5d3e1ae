"""Blocking calls off the reactor, so that whoever cancels them can't pull a file from under them.

A thread can't be interrupted. Twisted's own ``deferToThreadPool`` lets go of a cancelled call while
the function is still at work; the descriptor that the caller then closes may be another file's by
the time the function uses it. Here a cancel asks the function to stop, waits for its end, and only
then is the caller told.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


class ReactorFromThreads(Protocol):
    """What is used of a reactor here."""

    def callFromThread(  # noqa: N802
        self,
        callable: Callable[..., object],  # noqa: A002
        *args: object,
    ) -> object: ...


class ThreadPool(Protocol):
    """What is used of ``twisted.python.threadpool.ThreadPool``."""

    def callInThreadWithCallback(  # noqa: N802
        self,
        onResult: Callable[[bool, Any], object] | None,  # noqa: N803
        func: Callable[..., object],
        *args: Any,
        **kw: Any,
    ) -> object: ...


class ThreadCall(Generic[T]):
    """A function at work in a thread.

    :ivar stop: set when the caller no longer wants the result; long functions look at it.
    :ivar results: what it returned, once it has; else empty.
    :ivar failure: what it raised, once it has.
    """

    def __init__(self, stop: Event) -> None:
        self.stop = stop
        self.results: list[T] = []
        self.failure: Failure | None = None
        self._done = False
        self._waiting: Deferred[None] | None = None

    def finish(self, result: list[T], failure: Failure | None) -> None:
        """The function has ended. Called once, on the reactor."""
        self.results = result
        self.failure = failure
        self._done = True
        if self._waiting is not None:
            self._waiting.callback(None)

    async def ended(self) -> bool:
        """Wait for the function's end, come what may. Returns whether a cancel came meanwhile."""
        cancelled = False
        while not self._done:
            self._waiting = Deferred()
            try:
                await self._waiting
            except CancelledError:
                cancelled = True
                self.stop.set()
            finally:
                self._waiting = None
        return cancelled

    async def result(self) -> T:
        """What the function returned or raised. Raises CancelledError once it has ended."""
        if await self.ended():
            raise CancelledError
        if self.failure is not None:
            self.failure.raiseException()
        return self.results[0]


class Threads:
    """A thread pool, as the coroutines here use it."""

    def __init__(self, reactor: ReactorFromThreads, pool: ThreadPool) -> None:
        self._reactor = reactor
        self._pool = pool

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> ThreadCall[T]:
        """Begin a call and go on; whoever started it must wait for its end."""
        return self.start_stoppable(Event(), function, *args, **kwargs)

    def start_stoppable(
        self, stop: Event, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> ThreadCall[T]:
        """The same for a function that looks at ``stop``."""
        call: ThreadCall[T] = ThreadCall(stop)

        def ended(success: bool, result: Any) -> None:
            outcome = ([result], None) if success else ([], result)
            self._reactor.callFromThread(call.finish, *outcome)

        self._pool.callInThreadWithCallback(ended, function, *args, **kwargs)
        return call

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread and wait for it."""
        return await self.start(function, *args, **kwargs).result()

    async def acquire(self, release: Callable[[T], object], call: ThreadCall[T]) -> T:
        """The result of a call that opens something. After a cancel it is released, in a thread."""
        try:
            return await call.result()
        except CancelledError:
            for resource in call.results:
                await self.start(release, resource).ended()
            raise
