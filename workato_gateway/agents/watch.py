"""What follows from a change in the store, whoever made it: in this process or on the command line.

The gateway looks every second, and at once after a change of its own: new tokens count, revoked
ones don't, and sessions of agents that may no longer be here are cut. In the other direction it
writes down who is connected.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from workato_tunnel.frames import Catalogue
from workato_tunnel.problems import Problem

from ..identity.admission import Admission, Presented
from ..identity.directory import Directory
from ..identity.tokens import Tokens
from ..storage.interface import Attendance, Kind, Store, StoreError
from .registry import LiveAgent, Registry

ATTENDANCE_INTERVAL: Final = 10.0
"""Seconds after which ``last_seen`` of a connected agent is written again."""
REVIEW_INTERVAL: Final = 60.0
"""Seconds after which all sessions are judged again: certificates expire without a change."""

COMPLAIN_EVERY: Final = 60.0


async def _nothing_else() -> None:
    """Nobody else looks."""


class Watch:
    """Keeps the gateway's memory and its store in step.

    :param also: done with each look at the store, as patiently where the store fails.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        registry: Registry,
        admission: Admission,
        tokens: Tokens,
        directory: Directory,
        now: Callable[[], float] = time.time,
        also: Callable[[], Awaitable[None]] = _nothing_else,
    ) -> None:
        self._store = store
        self._registry = registry
        self._admission = admission
        self._tokens = tokens
        self._directory = directory
        self._now = now
        self._also = also
        self._point: int | None = None
        self._turn = DeferredLock()
        self._noted: dict[str, tuple[str, Catalogue]] = {}
        self._noted_at = float("-inf")
        self._reviewed_at = float("-inf")
        self._complained_at = float("-inf")
        self._ended = False

    async def begin(self) -> None:
        """Read everything for the first time. Raises StoreError."""
        self._point = (await self._store.read(lambda rows: rows.changes_after(None))).latest
        await self._tokens.refresh()
        await self._directory.refresh()

    async def begin_attendance(self) -> None:
        """Before anybody can connect: whom a gateway that was killed has left as connected is gone.

        Raises StoreError.
        """
        await self._store.write(lambda rows: rows.forget_attendance())

    async def look(self) -> None:
        """Take in what has changed; when this returns, it is in force. Raises StoreError."""
        async with self._turn:
            await self._look()

    async def _look(self) -> None:
        changes = await self._store.read(lambda rows: rows.changes_after(self._point))
        kinds = {kind for kind, _ in changes.subjects} if changes.complete else set(Kind)
        if Kind.TOKEN in kinds:
            await self._tokens.refresh()
        if Kind.GROUP in kinds:
            await self._directory.refresh()
        overdue = self._now() - self._reviewed_at >= REVIEW_INTERVAL
        if overdue or not kinds.isdisjoint({Kind.GROUP, Kind.AGENT}):
            await self.review(self._registry)
            self._reviewed_at = self._now()
        # Only now: after a failure the same changes are looked at again.
        self._point = changes.latest

    async def review(self, sessions: Iterable[LiveAgent]) -> None:
        """Cut those of the sessions whose agents may not be connected. Raises StoreError."""
        lives = [(live, _presented(live)) for live in sessions]
        if not lives:
            return
        refused = await self._admission.no_longer_admitted({shown for _, shown in lives})
        for live, shown in lives:
            if (verdict := refused.get(shown)) is not None:
                self._log.warn(
                    "Cutting the session of agent {name} of group {group}: {reason}",
                    event="agent_cut",
                    name=live.name,
                    group=live.group,
                    reason=verdict.message,
                )
                live.terminate(verdict.code, verdict.message)

    def joined(self, live: LiveAgent) -> None:
        """For the registry: a session has begun. What changed since its handshake still counts."""
        judged = Deferred.fromCoroutine(self.review([live]))
        judged.addErrback(
            lambda failure: self._log.failure(
                "A new session could not be judged", event="agent_not_judged", failure=failure
            )
        )

    async def _take_attendance(self) -> None:
        """Write down who has come or gone, and from time to time who is here. Raises StoreError."""
        now = self._now()
        here = {
            live.agent_id: (_host(live.address), live.catalogue)
            for live in self._registry
            if live.connected
        }
        repeat = now - self._noted_at >= ATTENDANCE_INTERVAL
        seen = [
            _attendance(agent_id, now, here[agent_id], self._noted.get(agent_id))
            for agent_id in here
            if repeat or here[agent_id] != self._noted.get(agent_id)
        ]
        seen += [Attendance(gone, now, connected=False) for gone in self._noted.keys() - here]
        if seen:
            await self._store.write(lambda rows: rows.record_attendance(seen))
        self._noted = here
        if repeat:
            self._noted_at = now

    async def tick(self) -> None:
        """Once a second. A store that fails is asked again at the next tick, and logged each
        minute."""
        try:
            async with self._turn:
                if not self._ended:
                    await self._look()
                    await self._take_attendance()
                    await self._also()
        except (StoreError, Problem):
            if self._now() - self._complained_at >= COMPLAIN_EVERY:
                self._complained_at = self._now()
                self._log.failure(
                    "The store failed; changes of tokens, groups and agents wait",
                    event="store_failed",
                )

    async def end(self) -> None:
        """Write down that nobody is connected any more, and when tokens were used.

        Nothing is done afterwards. Raises StoreError.
        """
        async with self._turn:
            self._ended = True
            now = self._now()
            seen = [Attendance(gone, now, connected=False) for gone in self._noted]
            if seen:
                await self._store.write(lambda rows: rows.record_attendance(seen))
            await self._tokens.store_uses()


def _host(address: str) -> str:
    """The IP address of ``ADDRESS:PORT``."""
    return address.rpartition(":")[0]


def _presented(live: LiveAgent) -> Presented:
    return Presented(live.agent_id, live.certificate_serial, _host(live.address))


def _attendance(
    agent_id: str, now: float, is_now: tuple[str, Catalogue], was: tuple[str, Catalogue] | None
) -> Attendance:
    address, catalogue = is_now
    news = was is None or was[1] is not catalogue
    return Attendance(
        agent_id,
        now,
        connected=True,
        address=address,
        catalogue=msgspec.msgpack.encode(catalogue) if news else None,
    )
