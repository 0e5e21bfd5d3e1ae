"""Certificates that end although somebody should have renewed them.

An agent renews at two thirds of its certificate's life, so what is left never falls below a third
while all is well, however long that life is. It is told at a quarter or at 90 days, and then at
30 days, 7 days and 1 day as far as each is at most half of the step before: at 7.5 days and 1 day
of a certificate for 30 days. Last, when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from ..identity.authority import AuthorityError, load_chain
from ..storage.interface import Store, Transaction
from .events import Event, EventType, rfc3339

DAY: Final = 86400.0
_DAYS: Final = (30 * DAY, 7 * DAY, 1 * DAY)
OVERDUE: Final = 1 / 4
LONGEST_NOTICE: Final = 90 * DAY


def steps_of(lifetime: float) -> list[float]:
    """Seconds before the end at which a certificate of that lifetime is told of."""
    steps = [min(lifetime * OVERDUE, LONGEST_NOTICE)]
    for step in _DAYS:
        if step <= steps[-1] / 2:
            steps.append(step)
    return [*steps, 0.0]


@frozen
class Certified:
    """A certificate, and what to say of it.

    :ivar kind: whose, ``agent`` or ``gateway``.
    :ivar data: names it.
    """

    subject: str
    kind: str
    begin: float
    end: float
    data: Mapping[str, str]

    def left(self, now: float) -> float:
        """The share of its life that is left, 0 to 1."""
        return min(1.0, max(0.0, (self.end - now) / (self.end - self.begin)))


class Expiry:
    """Looks from time to time. What it has told is forgotten with the process.

    :param own: PEM files of the gateway by what they are for.
    """

    def __init__(
        self,
        store: Store,
        own: Mapping[str, Path],
        tell: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._own = own
        self._tell = tell
        self._now = now
        self._told: dict[tuple[str, float], int] = {}
        self._seen: list[Certified] = []

    async def review(self) -> None:
        """Tell of each certificate that has passed a step since the last look. Raises
        StoreError."""
        self._seen = [*await self._store.read(_of_agents), *self._of_gateway()]
        told = {}
        for each in self._seen:
            key = (each.subject, each.end)
            left = each.end - self._now()
            passed = sum(left <= step for step in steps_of(each.end - each.begin))
            if passed > self._told.get(key, 0):
                self._tell(self._event(each, left))
            told[key] = passed
        self._told = told

    def left(self, kind: str) -> list[tuple[Mapping[str, str], float]]:
        """For the metrics: the certificates of the last look, each with the share of its life that
        is left now."""
        now = self._now()
        return [(each.data, each.left(now)) for each in self._seen if each.kind == kind]

    def _of_gateway(self) -> Iterable[Certified]:
        """A file that can't be read was logged by who uses it."""
        for use, path in self._own.items():
            try:
                leaf = load_chain(path)[0]
            except AuthorityError:
                continue
            begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            yield Certified(use, "gateway", begin.timestamp(), end.timestamp(), {"use": use})

    def _event(self, each: Certified, left: float) -> Event:
        names: dict[tuple[str, bool], EventType] = {
            ("agent", True): "agent.certificate_expiring",
            ("agent", False): "agent.certificate_expired",
            ("gateway", True): "gateway.certificate_expiring",
            ("gateway", False): "gateway.certificate_expired",
        }
        data = {**each.data, "expires": rfc3339(each.end), "seconds_left": max(0, int(left))}
        return Event(names[each.kind, left > 0], self._now(), data)


def _of_agents(rows: Transaction) -> list[Certified]:
    found = []
    for agent in rows.agents():
        certificate = rows.certificate(agent.serial) if agent.serial and agent.enabled else None
        if certificate is not None and certificate.revoked is None:
            data = {"group": agent.group, "agent": agent.name, "agent_id": agent.id}
            begin, end = certificate.issued, certificate.not_after
            found.append(Certified(agent.id, "agent", begin, end, data))
    return found
