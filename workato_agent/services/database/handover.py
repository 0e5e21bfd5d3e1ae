"""A bounded queue from a thread to the reactor: the thread waits while the reader is slow."""

from __future__ import annotations

import time
from collections import deque
from threading import Condition
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

from .work import fire

T = TypeVar("T")

LIMIT: Final = 512 * 1024
_HUNGRY_SECONDS: Final = 0.05


class Abandoned(Exception):
    """Nobody reads any more: the thread has to stop."""


class Handover(Generic[T]):
    """Items and their sizes, from one thread to one coroutine.

    :ivar hungry: the reader has waited for a while; the thread may hand over less than a full item.
    """

    def __init__(self, reactor: Any, limit: int = LIMIT) -> None:
        self._reactor = reactor
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._size = 0
        self._changed = Condition()
        self._reader: Deferred[None] | None = None
        self._abandoned = False
        self._waited = 0.0
        self._waiting_since: float | None = None
        self.hungry = False

    @property
    def waited(self) -> float:
        """Seconds that the thread has spent waiting for the reader."""
        with self._changed:
            since = self._waiting_since
            return self._waited + (0.0 if since is None else time.monotonic() - since)

    def thd_put(self, item: T, size: int) -> None:
        """Hand an item over; waits for room. Raises Abandoned."""
        with self._changed:
            if self._size >= self._limit and not self._abandoned:
                self._waiting_since = time.monotonic()
                self._changed.wait_for(lambda: self._size < self._limit or self._abandoned)
                self._waited += time.monotonic() - self._waiting_since
                self._waiting_since = None
            if self._abandoned:
                raise Abandoned
            self._items.append((item, size))
            self._size += size
            self.hungry = False
            wake = self._reader is not None
        if wake:
            self._reactor.callFromThread(self._wake)

    async def get(self) -> T:
        """The next item."""
        while True:
            with self._changed:
                if self._items:
                    item, size = self._items.popleft()
                    self._size -= size
                    self._changed.notify()
                    return item
                reader: Deferred[None] = Deferred()
                self._reader = reader
            hunger = self._reactor.callLater(_HUNGRY_SECONDS, self._grow_hungry)
            try:
                await reader
            finally:
                self._reader = None
                if hunger.active():
                    hunger.cancel()

    def abandon(self) -> None:
        """Nobody will read any more; a thread that waits is told so."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify()

    def _grow_hungry(self) -> None:
        self.hungry = True

    def _wake(self) -> None:
        if self._reader is not None:
            fire(self._reader)
