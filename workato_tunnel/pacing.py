"""How often the peer may open a stream only to reset it (CVE-2023-44487, "rapid reset")."""

from __future__ import annotations

from attrs import define, field


@define
class ResetRate:
    """A token bucket: ``burst`` resets at once, ``per_second`` in the long run."""

    burst: int
    per_second: float
    _level: float = field(default=0.0, init=False)
    _seen: float | None = field(default=None, init=False)

    def _leak(self, now: float) -> None:
        if self._seen is not None:
            self._level = max(0.0, self._level - (now - self._seen) * self.per_second)
        self._seen = now

    def note(self, now: float) -> None:
        """The peer reset a stream that it had opened."""
        self._leak(now)
        self._level += 1

    def allows(self, now: float) -> bool:
        """Whether a further stream may be opened."""
        if self._level <= self.burst:
            return True
        self._leak(now)
        return self._level <= self.burst
