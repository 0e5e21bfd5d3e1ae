"""From the config's profiles to services: one mapping function for each section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from workato_tunnel.frames import Profile

from . import policy
from .calls import ServedProfile
from .config.database import ADAPTERS, DatabaseProfile
from .config.errors import ConfigError, ConfigProblem
from .config.files import FilesProfile
from .config.http import HttpAuth, HttpProfile
from .config.profiles import ProfileConfig
from .config.schema import AgentConfig
from .config.sections import PROFILES
from .requests import Request
from .services.base import ProfileService
from .services.files.posix import LocalFilesystem
from .services.files.service import FilesService
from .services.files.settings import FilesPolicy, FilesSettings
from .services.http.credentials import Basic, Bearer
from .services.http.service import HttpService
from .services.http.settings import HttpSettings
from .serving_databases import DatabaseContext, database_service

FILE_THREADS: Final = 8
"""Threads of one files profile: a file server that hangs holds up no other profile."""
CLOSE_TIMEOUT: Final = 5.0


class ProfileUnusable(ConfigError):
    """Profiles whose settings are valid one by one and can't work together."""


class DaemonThreadPool(ThreadPool):
    """A pool whose stuck threads do not keep the process from ending."""

    class threadFactory(Thread):  # noqa: N801 - ThreadPool's own name for it
        """A thread that is a daemon."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, daemon=True)


@define
class ServedProfiles:
    """Every profile of a config as a service, and what they were given to work with."""

    reactor: Any
    profiles: dict[str, dict[str, ServedProfile]] = field(factory=dict)
    databases: DatabaseContext = field(factory=DatabaseContext)
    pools: list[DaemonThreadPool] = field(factory=list)
    _log: Logger = field(factory=Logger)

    def thread_pool(self, name: str) -> DaemonThreadPool:
        """A pool that lives as long as the profiles; it has no thread before there is work."""
        pool = DaemonThreadPool(0, FILE_THREADS, name)
        self.pools.append(pool)
        return pool

    def start(self) -> None:
        """Let the thread pools take work."""
        for pool in self.pools:
            pool.start()

    def catalogue(self) -> tuple[Profile, ...]:
        """What the gateway is told of them."""
        return tuple(
            Profile(service, name, served.service.type, served.service.operations)
            for service, entries in self.profiles.items()
            for name, served in entries.items()
        )

    async def close(self) -> None:
        """Close all services, then end the threads. One that fails or hangs delays no other."""
        closing = [
            Deferred.fromCoroutine(self._close(f"{service}.{name}", served.service))
            for service, entries in self.profiles.items()
            for name, served in entries.items()
        ]
        for each in closing:
            await each
        # Stopping waits for threads that may hang, so it is left to a thread of its own.
        for pool in self.pools:
            Thread(target=pool.stop, daemon=True).start()

    async def _close(self, name: str, service: ProfileService) -> None:
        closing = Deferred.fromCoroutine(service.close())
        closing.addTimeout(CLOSE_TIMEOUT, self.reactor)
        try:
            await closing
        except Exception:  # noqa: BLE001 - a service that can't close must not keep others open
            self._log.failure("Closing profile {name} failed", name=name)


def serve_profiles(config: AgentConfig, reactor: Any, agent: str = "") -> ServedProfiles:
    """Build the service of every profile; none opens anything yet. Raises ProfileUnusable.

    :param agent: the agent's name; calls that have to come back to it carry it.
    """
    none: dict[str, dict[str, ServedProfile]] = {kind.service: {} for kind in PROFILES.values()}
    served = ServedProfiles(reactor, none, DatabaseContext(agent, config.server.jars()))
    problems: list[ConfigProblem] = []
    for service, name, profile in config.every_profile():
        try:
            built = _BUILDERS[type(profile)](served, name, profile)
        except ValueError as error:
            problems.append(ConfigProblem(f"{service}.{name}", str(error)))
        else:
            served.profiles[service][name] = ServedProfile(built, _Admission(service, profile))
    if problems:
        raise ProfileUnusable(config.file or Path("config.yml"), problems)
    return served


@frozen
class _Admission:
    """A profile's policy as the dispatcher asks it."""

    service: str
    profile: ProfileConfig

    def __call__(self, request: Request, operation: str) -> None:
        now = datetime.now()  # noqa: DTZ005 - windows are in the agent's local time
        policy.check(self.profile.policy, self.service, operation, request, now)


def _database(served: ServedProfiles, name: str, profile: DatabaseProfile) -> ProfileService:
    return database_service(served.reactor, served.databases, profile)


def _files(served: ServedProfiles, name: str, profile: FilesProfile) -> ProfileService:
    rules = profile.policy
    allowed = FilesPolicy(rules.operations, rules.patterns or (), rules.max_bytes)
    return FilesService(
        name,
        FilesSettings(profile.base, allowed),
        LocalFilesystem(profile.base),
        served.reactor,
        served.thread_pool(f"files.{name}"),
    )


def _http(served: ServedProfiles, name: str, profile: HttpProfile) -> ProfileService:
    settings = HttpSettings(
        base_url=profile.base_url,
        auth=_http_auth(profile.auth),
        trust_all=profile.trust_all,
        verify_host=profile.verify_host,
        ca=None if profile.ca is None else _read(profile.ca),
        max_connections=profile.pool.max,
        wait_timeout=profile.pool.wait,
        idle_timeout=profile.pool.idle,
        connect_timeout=profile.timeout,
    )
    return HttpService(served.reactor, settings)


def _http_auth(auth: HttpAuth | None) -> Basic | Bearer | None:
    if auth is None:
        return None
    if auth.basic is not None:
        return Basic(auth.basic.username, auth.basic.password.reveal())
    return None if auth.bearer is None else Bearer(auth.bearer.reveal())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


_BUILDERS: Final[
    Mapping[type[ProfileConfig], Callable[[ServedProfiles, str, Any], ProfileService]]
] = {
    **dict.fromkeys(ADAPTERS.values(), _database),
    FilesProfile: _files,
    HttpProfile: _http,
}
