"""Parts that the gateway and the command line put together in the same way."""

from __future__ import annotations

from twisted.internet.task import Clock

from .api.activation import ActivationCodes
from .api.agents import Agents, LiveAgents, no_sessions
from .api.documents import Changed, nothing_to_tell
from .api.figures import Figures, nothing_counted
from .api.groups import Groups
from .api.health import Health
from .api.resources import Resources
from .api.tokens import AuditResource, TokenResource
from .config import Config
from .identity.authority import Authority
from .identity.enrolment import Enrolment
from .identity.tls import server_hosts
from .storage.interface import Store
from .storage.sqlite import SqliteStore


def server_hosts_of(config: Config) -> tuple[str, ...]:
    """What the gateway's own server certificate is for."""
    return server_hosts(config.public_url.host, (config.tunnel.listen.host, config.api.listen.host))


def enrolment_of(config: Config, store: Store, authority: Authority) -> Enrolment:
    """Enrolment as the config wants it."""
    return Enrolment(
        store,
        authority,
        config.public_url,
        agent_lifetime=config.ca.agent_lifetime,
        failures_a_minute=config.limits.enrolment_failures,
    )


def resources_of(
    store: Store,
    enrolment: Enrolment,
    health: Health,
    figures: Figures,
    *,
    sessions: LiveAgents = no_sessions,
    changed: Changed = nothing_to_tell,
) -> Resources:
    """The administrative resources, in the gateway or on the command line."""
    return Resources(
        groups=Groups(store, changed),
        agents=Agents(store, sessions, changed),
        codes=ActivationCodes(store, enrolment),
        tokens=TokenResource(store, changed),
        audit=AuditResource(store),
        health=health,
        figures=figures,
    )


def local_resources(config: Config) -> Resources:
    """For a command: on the store, in this thread. Raises StoreError and AuthorityError."""
    store = SqliteStore.open_here(config.storage)
    authority = Authority.load(config.ca.certificate, config.ca.key)
    enrolment = enrolment_of(config, store, authority)
    return resources_of(store, enrolment, Health(store, Clock()), Figures(nothing_counted, ()))
