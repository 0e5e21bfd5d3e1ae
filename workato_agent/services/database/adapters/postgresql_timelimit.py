"""The policy's time-out for statements that also wait for their caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from .postgresql_connection import ThreadConnection

_STEP = 0.05


@define(eq=False)
class TimeLimit:
    """Stops a statement on which the server has worked for too long.

    The server's own timer can't be used: it would count the time in which the caller is slow.

    :ivar passed: the statement has been stopped.
    """

    _reactor: Any
    _connection: ThreadConnection
    _limit: float
    _waited: Callable[[], float]
    passed: bool = field(default=False, init=False)
    _began: float = field(default=0.0, init=False)
    _timer: Any = field(default=None, init=False)

    def start(self) -> None:
        """The statement begins."""
        self._began = self._reactor.seconds()
        self._watch()

    def stop(self) -> None:
        """The statement has ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _watch(self) -> None:
        if not self._limit:
            return
        worked = self._reactor.seconds() - self._began - self._waited()
        if worked >= self._limit:
            self.passed = True
            Deferred.fromCoroutine(self._connection.stop())
        else:
            self._timer = self._reactor.callLater(max(_STEP, self._limit - worked), self._watch)
