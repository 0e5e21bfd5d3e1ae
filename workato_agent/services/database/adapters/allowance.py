"""How long a database may still work for a call, and whether the work may still be committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import ParamSpec, TypeVar

from workato_tunnel.problems import Problem

P = ParamSpec("P")
T = TypeVar("T")


class Allowance:
    """The time of one call in its database, from the first statement to the commit.

    Only what runs in :meth:`thd_timed` counts: not the time in which the caller is slow to read or
    to send. Work that was stopped, because its time is over or because nobody wants it any more, is
    never committed afterwards: the thread asks with :meth:`thd_seal`, and what comes later is late.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.expired = False
        self._stopped = False
        self._sealed = False
        self._spent = 0.0
        self._since: float | None = None
        self._lock = Lock()

    @property
    def left(self) -> float:
        """Seconds; meaningful only with a limit."""
        with self._lock:
            since = self._since
            spent = self._spent + (0.0 if since is None else time.monotonic() - since)
        return (self.limit or 0.0) - spent

    def thd_timed(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let the database work. Raises Problem when the work has been stopped before."""
        if self._stopped or self.expired:
            raise self.problem()
        self._turn(working=True)
        try:
            return function(*args, **kwargs)
        finally:
            self._turn(working=False)

    def thd_paused(self, function: Callable[[], T]) -> T:
        """Wait for something else, within :meth:`thd_timed`."""
        self._turn(working=False)
        try:
            return function()
        finally:
            self._turn(working=True)

    def expire(self) -> bool:
        """The time is over. Whether there still is something to be stopped."""
        with self._lock:
            if not self._sealed:
                self.expired = True
            return not self._sealed

    def stop(self) -> None:
        """Nobody wants the work any more."""
        with self._lock:
            self._stopped = True

    def thd_seal(self) -> None:
        """From here on the work is committed. Raises Problem when it is too late for that."""
        with self._lock:
            self._sealed = not (self._stopped or self.expired)
            if self._sealed:
                return
        raise self.problem()

    def problem(self) -> Problem:
        """Why the work was stopped."""
        if self.expired:
            return Problem(
                "deadline_exceeded",
                "the database worked longer than the profile's statement_timeout of "
                f"{self.limit:g} s",
                hint="narrow the statement, or raise statement_timeout",
            )
        return Problem(
            "query_failed",
            "the work was stopped before its end, and nothing of it is committed",
            hint="its call was cancelled, or its session or profile was closed",
        )

    def _turn(self, *, working: bool) -> None:
        now = time.monotonic()
        with self._lock:
            if self._since is not None:
                self._spent += now - self._since
            self._since = now if working else None
