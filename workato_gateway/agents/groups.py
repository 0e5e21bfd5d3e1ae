"""Which agent of a group takes a call. Pure: who is connected goes in, an order comes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from workato_tunnel.frames import Catalogue, Open
from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

RETRY_AFTER = 5
"""Seconds: an agent that lost its connection tries again within this time at first."""


class Candidate(Protocol):
    """An agent with a session (:class:`workato_gateway.agents.registry.LiveAgent`)."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def connected(self) -> bool:
        """A call sent now would reach it."""

    @property
    def streams(self) -> int:
        """Calls in flight."""

    @property
    def round_trip(self) -> Callable[[], float | None]:
        """Seconds, of the tunnel's latest ping."""

    def offers(self, service: str, profile: str) -> bool: ...

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> StreamTransport:
        """``end``: there is no body. Raises StreamRefused, HeadTooLarge."""


C = TypeVar("C", bound=Candidate)


def candidates(
    agents: Sequence[C],
    group: str,
    service: str,
    profile: str,
    pinned: str | None = None,
    *,
    kept: bool = False,
) -> list[C]:
    """The agents that can take a call, the least busy one **last** (so that ``pop()`` takes it).

    Equals come in random order, so that bursts do not fall on one of them.

    :param agents: the group's live agents.
    :param pinned: the only agent that may be taken.
    :param kept: it is taken because it keeps what the call names; else ``X-Agent`` says so.

    Raises Problem: ``agent_inactive``, ``profile_not_found`` or ``service_not_found``.
    """
    if pinned is None:
        ready = [agent for agent in agents if agent.connected]
    else:
        ready = [agent for agent in agents if agent.connected and agent.name == pinned]
    offering = [agent for agent in ready if agent.offers(service, profile)]
    if len(offering) == 1:
        return offering
    if not offering:
        raise _absence(agents, ready, group, service, profile, pinned, kept=kept)
    random.shuffle(offering)
    offering.sort(key=_busy, reverse=True)
    return offering


_NOT_YET: Final = Catalogue()
"""What is known of an agent before its first catalogue has come."""


def _busy(agent: Candidate) -> int:
    return agent.streams


def _absence(
    agents: Sequence[Candidate],
    ready: Sequence[Candidate],
    group: str,
    service: str,
    profile: str,
    pinned: str | None,
    *,
    kept: bool,
) -> Problem:
    """Why there is no agent for a call."""
    whose = f"the agents of group {group!r}" if pinned is None else f"agent {pinned!r}"
    if not ready:
        if pinned is not None:
            detail = f"agent {pinned!r} of group {group!r} is not connected"
            if kept:
                detail += "; what the call names is kept there, and ends when that agent stops"
        elif agents:
            detail = f"the agents of group {group!r} are reconnecting or leaving"
        else:
            detail = f"no agent of group {group!r} is connected"
        return Problem(
            "agent_inactive",
            detail,
            hint="See `workato-gateway agent list`, and `workato-agent status` on its machine.",
            retry_after=RETRY_AFTER,
        )
    silent = [agent.name for agent in ready if agent.catalogue == _NOT_YET]
    if silent:
        return Problem(
            "agent_inactive",
            f"agent {silent[0]!r} of group {group!r} has just connected",
            hint="It has not yet said what it offers: try again in a moment.",
            retry_after=RETRY_AFTER,
        )
    services = {entry.service for agent in ready for entry in agent.catalogue.profiles}
    if service not in services:
        return Problem(
            "service_not_found",
            f"none of {whose} offers the service {service!r}"
            if pinned is None
            else f"{whose} does not offer the service {service!r}",
            hint=f"Services offered now: {', '.join(sorted(services)) or 'none'}.",
        )
    return Problem(
        "profile_not_found",
        f"none of {whose} offers a profile {profile!r} in {service!r}"
        if pinned is None
        else f"{whose} does not offer a profile {profile!r} in {service!r}",
        hint=f"Add it under `{service}:` in the agent's config.yml, or check the name's spelling.",
    )
