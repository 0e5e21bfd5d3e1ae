"""Which agents are there, told only once it has lasted: short absences are nobody's business.

An agent counts as gone when its last session has ended, which a lost socket alone does not do: the
session waits for it (``tunnel.session_hold``). From then on the new state has to last a grace
before it is told, in both directions; an agent that comes and goes quicker causes one event, with
the number of changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..agents.watch import ATTENDANCE_INTERVAL
from ..storage.interface import Agent, Store
from .events import Event, rfc3339

HERE_AT_LAST: Final = 1.5 * ATTENDANCE_INTERVAL
"""Seconds before the end of the gateway's last run within which an agent was seen that was
connected at that end, also when the gateway was killed."""


REDIAL: Final = 90.0
"""Seconds that agents may take to dial again after the gateway was down, beyond the grace: they
wait up to a minute between two tries."""


class AgentSession(Protocol):
    """What is used of :class:`workato_gateway.agents.registry.LiveAgent`."""

    @property
    def agent_id(self) -> str: ...


@define
class _Course:
    """One agent's coming and going.

    :ivar here: whether it is connected now, ``since`` then (Unix seconds).
    :ivar told: what was told last.
    :ivar changes: since then.
    """

    here: bool
    told: bool
    since: float
    changes: int = 0
    call: IDelayedCall | None = None


class Presence:
    """Follows the registry.

    :param remaining: the sessions of an agent that there are now.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        remaining: Callable[[str], Sequence[object]],
        tell: Callable[[Event], None],
        *,
        grace: float,
        now: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._store = store
        self._remaining = remaining
        self._tell = tell
        self._grace = grace
        self._now = now
        self._courses: dict[str, _Course] = {}
        self._stopped = False

    async def begin(self) -> None:
        """Expect those who were connected when the gateway stopped. Raises StoreError."""
        agents = await self._store.read(lambda rows: rows.agents())
        seen = {agent.id: agent.last_seen for agent in agents if agent.last_seen is not None}
        stopped = max(seen.values(), default=0.0)
        for agent_id, at in seen.items():
            here = at >= stopped - HERE_AT_LAST
            course = self._courses[agent_id] = _Course(here=False, told=here, since=at)
            self._await(agent_id, course, self._grace + REDIAL)

    def stop(self) -> None:
        """The gateway goes: that sessions end is no news any more."""
        self._stopped = True
        for course in self._courses.values():
            _cancel(course)

    def joined(self, live: AgentSession) -> None:
        """A session has begun."""
        self._changed(live.agent_id, here=True)

    def left(self, live: AgentSession) -> None:
        """A session has ended."""
        if not self._remaining(live.agent_id):
            self._changed(live.agent_id, here=False)

    def _changed(self, agent_id: str, *, here: bool) -> None:
        if self._stopped:
            return
        course = self._courses.get(agent_id)
        if course is None:
            course = self._courses[agent_id] = _Course(here=False, told=False, since=self._now())
        if course.here is here:
            return
        course.here, course.since = here, self._now()
        course.changes += 1
        self._await(agent_id, course, self._grace)

    def _await(self, agent_id: str, course: _Course, seconds: float) -> None:
        _cancel(course)
        if course.here is not course.told:
            course.call = self._clock.callLater(seconds, self._lasted, agent_id, course)

    def _lasted(self, agent_id: str, course: _Course) -> None:
        course.call = None
        course.told, changes, course.changes = course.here, course.changes, 0
        looked: Deferred[None] = Deferred.fromCoroutine(
            self._look(agent_id, course.here, course.since, changes)
        )
        looked.addErrback(
            lambda failure: self._log.failure(
                "It could not be told that agent {agent_id} has come or gone",
                failure,
                event="presence_not_told",
                agent_id=agent_id,
            )
        )

    async def _look(self, agent_id: str, here: bool, since: float, changes: int) -> None:
        """Tell it, unless the agent was shut out, which is an event of its own."""
        agent = await self._store.read(lambda rows: rows.agent(agent_id))
        if agent is None or agent.revoked is not None:
            self._courses.pop(agent_id, None)
        elif here or agent.enabled:
            self._tell(_event(agent, here, since, changes, self._now()))


def _event(agent: Agent, here: bool, since: float, changes: int, now: float) -> Event:
    data: dict[str, Any] = {
        "group": agent.group,
        "agent": agent.name,
        "agent_id": agent.id,
        "address": agent.last_address,
        "since": rfc3339(since),
        "changes": changes,
    }
    return Event("agent.connected" if here else "agent.disconnected", now, data)


def _cancel(course: _Course) -> None:
    call, course.call = course.call, None
    if call is not None and call.active():
        call.cancel()
