"""How long a target may be silent while it owes something."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Patience:
    """Ends when nothing has been heard for a while, the time excepted in which nothing is owed.

    :param limit: seconds; 0: without end.
    :param owed: whether the other side is to speak just now.
    :param lost: called once it has not.
    """

    def __init__(
        self,
        clock: IReactorTime,
        limit: float,
        owed: Callable[[], bool],
        lost: Callable[[], None],
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._owed = owed
        self._lost = lost
        self._heard = 0.0
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """From now on something is owed."""
        if self.limit:
            self._heard = self._clock.seconds()
            self._timer = self._clock.callLater(self.limit, self._look)

    def heard(self) -> None:
        """Something came."""
        if self._timer is not None:
            self._heard = self._clock.seconds()

    def end(self) -> None:
        """Nothing is owed any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if not self._owed():
            self._heard = now
        left = self._heard + self.limit - now
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._lost()
