"""Attempts to connect that nothing can end: they are given so long, and so many may hang."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any, Final, Generic, TypeVar

from attrs import define, field

from workato_tunnel.problems import Problem

MOST_HANGING: Final = 4

T = TypeVar("T")


@define
class _Attempt(Generic[T]):
    ended: Event = field(factory=Event)
    result: T | None = None
    error: Exception | None = None
    abandoned: bool = False


@define(eq=False)
class Attempts(Generic[T]):
    """Runs what may hang in threads that are left behind when they take too long.

    :ivar where: what is connected to, for the words of the problem.
    """

    where: str
    _hanging: int = field(default=0, init=False)
    _lock: Any = field(factory=Lock, init=False)

    def thd_within(
        self, seconds: float, connect: Callable[[], T], close: Callable[[T], object]
    ) -> T:
        """What ``connect`` returns or raises; one that comes too late is closed.

        Raises Problem ``target_unreachable`` after so many seconds, and at once when too many
        earlier attempts still hang.
        """
        with self._lock:
            if self._hanging >= MOST_HANGING:
                raise Problem(
                    "target_unreachable",
                    f"{self.where}: {self._hanging} earlier attempts to connect still hang",
                    hint="something there takes connections and says nothing: check host, port "
                    "and firewalls",
                )
        attempt: _Attempt[T] = _Attempt()
        Thread(target=self._thd_attempt, args=(attempt, connect, close), daemon=True).start()
        attempt.ended.wait(seconds)
        with self._lock:
            attempt.abandoned = not attempt.ended.is_set()
            self._hanging += attempt.abandoned
        if attempt.abandoned:
            raise Problem(
                "target_unreachable",
                f"{self.where}: no connection within {seconds:g} s",
                hint="check host and port and the firewalls between the agent and the database",
            )
        if attempt.error is not None:
            raise attempt.error
        return attempt.result  # type: ignore[return-value]  # without an error there is one

    def _thd_attempt(
        self, attempt: _Attempt[T], connect: Callable[[], T], close: Callable[[T], object]
    ) -> None:
        try:
            attempt.result = connect()
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            attempt.error = error
        with self._lock:
            self._hanging -= attempt.abandoned
            attempt.ended.set()
        if attempt.abandoned and attempt.result is not None:
            close(attempt.result)
