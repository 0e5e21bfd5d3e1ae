"""The profiles that an agent serves, and how they change while it runs.

A profile whose config is the same stays as it is. One that has changed or gone is retired: calls
that have begun on it end there, then it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from workato_tunnel.frames import Profile

from . import policy
from .calls import ServedProfile
from .config.errors import ConfigError, ConfigProblem
from .config.profiles import ProfileConfig
from .config.schema import AgentConfig
from .config.sections import PROFILES
from .requests import Request
from .services.base import ProfileService
from .serving import DaemonThreadPool, ProfileParts, build_service
from .serving_databases import DatabaseContext

CLOSE_TIMEOUT: Final = 5.0

Name = tuple[str, str]
"""Service and profile."""


class ProfileUnusable(ConfigError):
    """Profiles whose settings are valid one by one and can't work together."""


@frozen(eq=False)
class Entry:
    """A profile with what it was built from."""

    config: ProfileConfig
    served: ServedProfile
    pools: tuple[DaemonThreadPool, ...] = ()


@frozen
class Update:
    """The profiles of another config, built and not yet in service.

    :ivar added: names that were not there before; ``changed`` and ``removed`` likewise.
    """

    entries: Mapping[Name, Entry]
    added: tuple[Name, ...]
    changed: tuple[Name, ...]
    removed: tuple[Name, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@define(eq=False)
class ServedProfiles:
    """Every profile of a config as a service.

    :ivar agent: the agent's name; calls that have to come back to it carry it.
    :ivar profiles: by service and name; a new mapping after each change.
    """

    reactor: Any
    agent: str = ""
    profiles: Mapping[str, Mapping[str, ServedProfile]] = field(factory=dict)
    _entries: Mapping[Name, Entry] = field(factory=dict)
    _retiring: set[Deferred[None]] = field(factory=set)
    _started: bool = False
    _log: Logger = field(factory=Logger)

    def prepare(self, config: AgentConfig) -> Update:
        """Build what is new in a config; nothing changes yet. Raises ProfileUnusable."""
        databases = DatabaseContext(self.agent, config.server.jars())
        entries: dict[Name, Entry] = {}
        problems: list[ConfigProblem] = []
        for service, name, profile in config.every_profile():
            before = self._entries.get((service, name))
            if before is not None and before.config == profile:
                entries[service, name] = before
                continue
            parts = ProfileParts(self.reactor, databases)
            try:
                built = build_service(parts, name, profile)
            except ValueError as error:
                problems.append(ConfigProblem(f"{service}.{name}", str(error)))
            else:
                served = ServedProfile(built, _Admission(service, profile))
                entries[service, name] = Entry(profile, served, tuple(parts.pools))
        if problems:
            raise ProfileUnusable(config.file or Path("config.yml"), problems)
        old = self._entries
        return Update(
            entries,
            added=tuple(name for name in entries if name not in old),
            changed=tuple(
                name for name in entries if name in old and entries[name] is not old[name]
            ),
            removed=tuple(name for name in old if name not in entries),
        )

    def apply(self, update: Update) -> None:
        """Put an update in service, and retire what it replaces."""
        retired = [self._entries[name] for name in (*update.changed, *update.removed)]
        self._entries = update.entries
        profiles: dict[str, dict[str, ServedProfile]] = {
            kind.service: {} for kind in PROFILES.values()
        }
        for (service, name), entry in update.entries.items():
            profiles[service][name] = entry.served
        self.profiles = profiles
        if self._started:
            for fresh in (*update.added, *update.changed):
                _start(update.entries[fresh])
        for entry in retired:
            self._begin_to_retire(entry)

    def start(self) -> None:
        """Let the thread pools take work."""
        self._started = True
        for entry in self._entries.values():
            _start(entry)

    def catalogue(self) -> tuple[Profile, ...]:
        """What the gateway is told of them."""
        return tuple(
            Profile(service, name, entry.served.service.type, entry.served.service.operations)
            for (service, name), entry in self._entries.items()
        )

    def services(self) -> Iterator[tuple[str, str, ProfileService]]:
        """Service, name and the service itself of each profile."""
        for (service, name), entry in self._entries.items():
            yield service, name, entry.served.service

    @property
    def retiring(self) -> int:
        """Profiles that are replaced and still have calls."""
        return len(self._retiring)

    async def close(self) -> None:
        """Close all services, then end the threads. One that fails or hangs delays no other."""
        entries, self._entries = self._entries, {}
        closing = [
            Deferred.fromCoroutine(self._close(f"{service}.{name}", entry))
            for (service, name), entry in entries.items()
        ]
        for retiring in list(self._retiring):
            retiring.cancel()
            closing.append(retiring)
        for each in closing:
            await each

    def _begin_to_retire(self, entry: Entry) -> None:
        retiring = Deferred.fromCoroutine(self._retire(entry))
        self._retiring.add(retiring)
        retiring.addBoth(lambda _: self._retiring.discard(retiring))

    async def _retire(self, entry: Entry) -> None:
        try:
            await entry.served.unused()
        except CancelledError:
            self._log.debug(
                "A retired profile is closed before its calls have ended",
                event="profile_closed_early",
            )
        await self._close(f"{entry.config.service} (as it was)", entry)

    async def _close(self, name: str, entry: Entry) -> None:
        closing = Deferred.fromCoroutine(entry.served.service.close())
        closing.addTimeout(CLOSE_TIMEOUT, self.reactor)
        try:
            await closing
        except Exception:  # noqa: BLE001 - a service that can't close must not keep others open
            self._log.failure(
                "Closing profile {name} failed", event="profile_not_closed", name=name
            )
        # Stopping waits for threads that may hang, so it is left to a thread of its own.
        for pool in entry.pools:
            Thread(target=pool.stop, daemon=True).start()


def serve_profiles(config: AgentConfig, reactor: Any, agent: str = "") -> ServedProfiles:
    """Build the service of every profile; none opens anything yet. Raises ProfileUnusable."""
    served = ServedProfiles(reactor, agent)
    served.apply(served.prepare(config))
    return served


def _start(entry: Entry) -> None:
    for pool in entry.pools:
        pool.start()


@frozen
class _Admission:
    """A profile's policy as the dispatcher asks it."""

    service: str
    profile: ProfileConfig

    def __call__(self, request: Request, operation: str) -> None:
        now = datetime.now()  # noqa: DTZ005 - windows are in the agent's local time
        policy.check(self.profile.policy, self.service, operation, request, now)
