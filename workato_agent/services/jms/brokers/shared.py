"""Work that several callers wait for, and things that are done once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@define(eq=False)
class Once:
    """Calls a function the first time that it is called itself."""

    _function: Callable[[], object]
    _called: bool = False

    def __call__(self) -> None:
        if not self._called:
            self._called = True
            self._function()


@define(eq=False)
class Shared(Generic[T]):
    """One attempt at a time, whose result goes to everybody who waits.

    It is cancelled when the last of them has gone.
    """

    _work: Callable[[], Coroutine[Any, Any, T]]
    _running: Deferred[None] | None = field(init=False, default=None)
    _waiting: list[Deferred[T]] = field(init=False, factory=list)

    async def result(self) -> T:
        """What the attempt gives that is being made, or a new one. Raises what it raises."""
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        if self._running is None:
            running = self._running = Deferred.fromCoroutine(self._work()).addBoth(self._ended)
            if running.called:
                self._running = None
        try:
            return await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                if not self._waiting:
                    self.cancel()

    def cancel(self) -> None:
        """End the attempt that is being made."""
        if self._running is not None:
            self._running.cancel()

    def _ended(self, outcome: T | Failure) -> None:
        self._running = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(outcome)
