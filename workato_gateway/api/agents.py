"""``/v1/groups/{group}/agents``: who is enrolled, what they are and do right now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from workato_tunnel.frames import Catalogue
from workato_tunnel.problems import Problem

from ..agents.registry import LiveAgent
from ..storage.interface import Agent, Store, Transaction
from .documents import Changed, Now, audit, moment, read_body
from .groups import existing_group
from .messages import AdminRequest, AdminResponse

STALE: Final = 30.0
"""Seconds: an agent of another process that was not seen for longer doesn't respond."""

LiveAgents = Callable[[str], Iterable[LiveAgent]]
"""The sessions of a group in this process."""


class AgentChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v1/groups/{group}/agents/{agent}``."""

    enabled: bool


def no_sessions(_: str) -> Iterable[LiveAgent]:
    """For a process that has no tunnels."""
    return ()


def existing_agent(transaction: Transaction, group: str, name: str) -> Agent:
    """The agent of that name or id. Raises Problem ``group_not_found`` or ``not_found``."""
    existing_group(transaction, group)
    agent = transaction.agent_named(group, name) or transaction.agent(name)
    if agent is None or agent.group != group or agent.revoked is not None:
        raise Problem("not_found", f"the group {group!r} has no agent {name!r}")
    return agent


def _status(agent: Agent, connected: bool) -> str:
    if agent.revoked is not None:
        return "revoked"
    if not agent.enabled:
        return "disabled"
    if agent.serial is None:
        return "awaiting_setup"
    return "active" if connected else "no_response"


def _last_catalogue(agent: Agent) -> Catalogue:
    if agent.catalogue is None:
        return Catalogue()
    return msgspec.msgpack.decode(agent.catalogue, type=Catalogue)


class Agents:
    """The resource."""

    def __init__(
        self, store: Store, sessions: LiveAgents, changed: Changed, now: Now = time.time
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._changed = changed
        self._now = now

    async def list(self, request: AdminRequest) -> AdminResponse:
        """The agents of a group by name."""
        name = request.path[1]

        def thd_list(transaction: Transaction) -> list[Agent]:
            existing_group(transaction, name)
            return transaction.agents(name)

        agents = await self._store.read(thd_list)
        live = self._live(name)
        return AdminResponse(
            200, {"agents": [self._document(agent, live.get(agent.id)) for agent in agents]}
        )

    async def read(self, request: AdminRequest) -> AdminResponse:
        """One agent."""
        group, name = request.path[1], request.path[3]
        agent = await self._store.read(lambda rows: existing_agent(rows, group, name))
        return AdminResponse(200, self._document(agent, self._live(group).get(agent.id)))

    async def change(self, request: AdminRequest) -> AdminResponse:
        """Enable or disable; disabling cuts the agent's session before this answers."""
        group, name = request.path[1], request.path[3]
        enabled = read_body(request, AgentChange).enabled

        def thd_change(transaction: Transaction) -> Agent:
            agent = existing_agent(transaction, group, name)
            transaction.set_enabled(agent.id, enabled)
            action = "agent.enable" if enabled else "agent.disable"
            audit(transaction, request, action, f"{group}/{agent.name}", None, self._now)
            return existing_agent(transaction, group, agent.id)

        agent = await self._store.write(thd_change)
        await self._changed()
        return AdminResponse(200, self._document(agent, self._live(group).get(agent.id)))

    async def revoke(self, request: AdminRequest) -> AdminResponse:
        """For good: certificates and codes too. The session is cut before this answers."""
        group, name = request.path[1], request.path[3]

        def thd_revoke(transaction: Transaction) -> None:
            agent = existing_agent(transaction, group, name)
            transaction.revoke_agent(agent.id, self._now())
            detail = {"id": agent.id}
            audit(transaction, request, "agent.revoke", f"{group}/{agent.name}", detail, self._now)

        await self._store.write(thd_revoke)
        await self._changed()
        return AdminResponse(204)

    def _live(self, group: str) -> dict[str, LiveAgent]:
        """By id. Of two sessions of one agent the one that would answer."""
        live: dict[str, LiveAgent] = {}
        for session in self._sessions(group):
            if session.connected or session.agent_id not in live:
                live[session.agent_id] = session
        return live

    def _document(self, agent: Agent, live: LiveAgent | None) -> dict[str, object]:
        now = self._now()
        if live is None:
            seen_lately = agent.last_seen is not None and now - agent.last_seen <= STALE
            connected = agent.connected and seen_lately
            catalogue = _last_catalogue(agent)
        else:
            connected = live.connected
            catalogue = live.catalogue
        status = _status(agent, connected)
        active = status == "active"
        round_trip = live.round_trip() if live is not None and active else None
        return {
            "id": agent.id,
            "name": agent.name,
            "group": agent.group,
            "status": status,
            "created": moment(agent.created),
            "last_seen": moment(now if live is not None and connected else agent.last_seen),
            "address": agent.last_address,
            "version": catalogue.version or None,
            "host": catalogue.host or None,
            "os": catalogue.os or None,
            "pid": catalogue.pid or None,
            "user": catalogue.user or None,
            "uptime": int(max(0.0, now - catalogue.since)) if active and catalogue.since else None,
            "certificate_serial": agent.serial,
            "certificate_expires": moment(agent.certificate_expires),
            "config_hash": catalogue.config_hash or None,
            "config_problem": catalogue.config_problem or None,
            "calls": live.streams if live is not None else 0,
            "round_trip_ms": None if round_trip is None else round(round_trip * 1000, 2),
            "profiles": [
                {
                    "service": each.service,
                    "name": each.name,
                    "type": each.type,
                    "operations": each.operations,
                    "ok": each.ok,
                }
                for each in catalogue.profiles
            ],
        }
