"""Work that several callers wait for, as connecting is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@define(eq=False)
class Shared(Generic[T]):
    """One run of the work at a time; it is cancelled when the last who waits has gone."""

    _work: Callable[[], Awaitable[T]]
    _running: Deferred[None] | None = field(default=None, init=False)
    _waiting: list[Deferred[T]] = field(factory=list, init=False)

    async def result(self) -> T:
        """What the work gives, or raises."""
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        if self._running is None:
            running: Deferred[None] = Deferred.fromCoroutine(self._run())
            if not running.called:
                self._running = running
        try:
            return await waiting
        except CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            if not self._waiting and self._running is not None:
                running, self._running = self._running, None
                running.cancel()
            raise

    async def _run(self) -> None:
        result: Any
        try:
            result = await self._work()
        except CancelledError:
            result = Failure()
        except Exception:  # noqa: BLE001 - it goes to those who wait
            result = Failure()
        self._running = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(result)
