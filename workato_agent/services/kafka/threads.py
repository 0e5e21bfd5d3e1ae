"""How the reactor asks something of a thread, and hears of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Any, Final, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

T = TypeVar("T")

WAITING: Final = 1000
"""Things that may wait for one thread."""


@define(eq=False)
class Asked(Generic[T]):
    """Something a thread is to do, and who waits for it.

    :ivar cancelled: nobody waits any more; the thread looks at it.
    :ivar unwanted: takes, on the reactor, what came although nobody waits any more.
    """

    reactor: Any
    unwanted: Callable[[T], None] = field(default=lambda _: None)
    cancelled: bool = field(default=False, init=False)
    answered: bool = field(default=False, init=False)
    outcome: Deferred[T] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outcome = Deferred(self._cancel)

    def thd_answer(self, value: T) -> None:
        """Give the result; only the first one counts."""
        if not self.answered:
            self.answered = True
            self.reactor.callFromThread(self._answer, value)

    def thd_fail(self, problem: Problem | Failure) -> None:
        """Give an error."""
        if not self.answered:
            self.answered = True
            self.reactor.callFromThread(self._fail, problem)

    def _cancel(self, _: Deferred[T]) -> None:
        self.cancelled = True

    def _answer(self, value: T) -> None:
        if self.outcome.called:
            self.unwanted(value)
        else:
            self.outcome.callback(value)

    def _fail(self, problem: Problem | Failure) -> None:
        if not self.outcome.called:
            self.outcome.errback(problem)


M = TypeVar("M")


@define(eq=False)
class Mailbox(Generic[M]):
    """What is asked of a thread, in order."""

    _ready: Condition = field(factory=Condition, init=False)
    _items: deque[M] = field(factory=deque, init=False)

    def put(self, item: M) -> None:
        """Ask. Raises Problem ``overloaded`` when too much waits."""
        with self._ready:
            if len(self._items) >= WAITING:
                raise Problem(
                    "overloaded",
                    f"{WAITING} calls wait for the profile's Kafka client",
                    hint="try again shortly, with more messages in each call",
                    retry_after=1,
                )
            self._items.append(item)
            self._ready.notify()

    def force(self, item: M) -> None:
        """Ask what has to be done however much waits."""
        with self._ready:
            self._items.append(item)
            self._ready.notify()

    def wake(self) -> None:
        """Let the thread look up although nothing is asked."""
        with self._ready:
            self._ready.notify()

    def thd_take(self, timeout: float) -> list[M]:
        """All that is there, once something is or the time is up."""
        with self._ready:
            if not self._items and timeout > 0:
                self._ready.wait(timeout)
            items = list(self._items)
            self._items.clear()
            return items
