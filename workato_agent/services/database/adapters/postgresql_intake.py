"""A bounded queue from a coroutine to the thread that loads: the caller waits while it is slow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator
from threading import Condition
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

from ..handover import Abandoned
from ..work import fire

T = TypeVar("T")

_LIMIT: Final = 1024 * 1024


class Intake(Generic[T]):
    """Items from one coroutine, taken by one thread.

    What the items' source raises is raised in the thread, so that nothing is committed of a body
    that was cut.
    """

    def __init__(self, reactor: Any, limit: int = _LIMIT) -> None:
        self._reactor = reactor
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._size = 0
        self._changed = Condition()
        self._ended = False
        self._failure: BaseException | None = None
        self._room: Deferred[None] | None = None
        self._waited = 0.0
        self._waiting_since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds that the thread has spent waiting for the caller."""
        with self._changed:
            since = self._waiting_since
            return self._waited + (0.0 if since is None else time.monotonic() - since)

    async def fill(self, source: AsyncGenerator[tuple[T, int], None]) -> None:
        """Take all that a source has, items and their sizes; returns early when it is closed."""
        try:
            async for item, size in source:
                if not await self._put(item, size):
                    return
        except BaseException as error:
            self.close(error if isinstance(error, Exception) else Abandoned())
            raise
        finally:
            await source.aclose()
        self.close(None)

    def close(self, failure: BaseException | None) -> None:
        """Nothing more comes; the first to say so is believed."""
        with self._changed:
            if not self._ended:
                self._ended = True
                self._failure = failure
            if self._failure is not None:
                self._items.clear()
            self._changed.notify()
        self._make_room()

    def thd_take(self) -> T | None:
        """The next item; None after the last. Raises what ended the items before their time."""
        with self._changed:
            if not self._items and not self._ended:
                self._waiting_since = time.monotonic()
                self._changed.wait_for(lambda: self._items or self._ended)
                self._waited += time.monotonic() - self._waiting_since
                self._waiting_since = None
            if self._failure is not None:
                raise self._failure
            if not self._items:
                return None
            item, size = self._items.popleft()
            self._size -= size
            wake = self._room is not None and self._size <= self._limit // 2
        if wake:
            self._reactor.callFromThread(self._make_room)
        return item

    async def _put(self, item: T, size: int) -> bool:
        room: Deferred[None] | None = None
        with self._changed:
            if self._ended:
                return False
            self._items.append((item, size))
            self._size += size
            self._changed.notify()
            if self._size >= self._limit:
                room = self._room = Deferred()
        if room is not None:
            try:
                await room
            finally:
                self._room = None
        return not self._ended

    def _make_room(self) -> None:
        if self._room is not None:
            fire(self._room)
