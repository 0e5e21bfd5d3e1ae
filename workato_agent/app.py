"""The agent put together: every object is built here, and nobody else looks one up."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from workato_tunnel.frames import Catalogue
from workato_tunnel.tx.process import raise_file_limit, settle_heap
from workato_tunnel.tx.systemd import SystemdNotifier

from .audit import AuditError, AuditLog
from .calls import CallObserver
from .config.schema import AgentConfig
from .dispatch import Dispatcher
from .identity.renewal import Renewal
from .identity.store import Identity, IdentityError
from .logs import LogFileError, observer_for
from .metrics import AgentMetrics, MetricsListener, MetricsListenerError
from .reloading import Reloader
from .served import serve_profiles
from .status import StatusSocket, StatusSocketError
from .tunnel.access import identity_of, route_of
from .tunnel.client import Outcome, TunnelClient

SWITCH_INTERVAL: Final = 0.0005
"""Seconds for which a thread may keep the interpreter: a thread that copies a result out of a
database would else hold up every small call beside it."""
ABORT_TIMEOUT: Final = 5.0
"""Seconds that cancelled calls have to end."""
CLOSE_TIMEOUT: Final = 15.0
"""Seconds that systemd allows for closing everything after that."""


class StartError(Exception):
    """The agent can't start; the message says why, in one line, and what to do."""


def agent_version() -> str:
    """The version that is installed."""
    try:
        return version("workato-agent")
    except PackageNotFoundError:
        return "unknown"


LONGEST_PROBLEM: Final = 2000
"""Characters of a config's problem in the catalogue."""


class Agent(Service):
    """One agent. It reads its identity when it is made, and opens everything when it is started.

    Stopping drains: no new calls, those in flight end, then everything is closed.
    """

    name = "workato-agent"
    _log = Logger()

    def __init__(self, config: AgentConfig, reactor: Any) -> None:
        """Raises StartError and ConfigError."""
        self.config = config
        self.version = agent_version()
        self._reactor = reactor
        self._began = time.time()
        self.observer = self._log_observer()
        self.identity = self._identity()
        self.served = serve_profiles(config, reactor, self.identity.name)
        self.metrics = AgentMetrics(self.version)
        self.audit = AuditLog(
            config.audit_path,
            reactor=reactor,
            max_size=config.audit.max_size,
            keep=config.audit.keep,
            version=self.version,
        )
        observers: tuple[CallObserver, ...] = (self.audit, self.metrics)
        self.dispatcher = Dispatcher(reactor, self.served.profiles, observers, self.audit.admit)
        self.tunnel = TunnelClient(
            reactor,
            self.identity,
            config.gateway.url or self.identity.facts.gateway_url,
            self.dispatcher.accept,
            self.catalogue,
            proxy=route_of(config.proxy),
            system_trust=config.gateway.ca == "system",
            software=f"workato-agent/{self.version}",
            attempted=self._attempted,
        )
        self.systemd = SystemdNotifier.of(reactor, self._status_line)
        self.reloader = Reloader(
            reactor, config, self.served, self._config_changed, ended=self.systemd.ready
        )
        self.renewal = Renewal(reactor, self.identity, lambda: self.tunnel.session)
        self._watch()
        # In the order in which they start; they stop the other way round.
        self._parts: tuple[IService, ...] = (
            StatusSocket(config.status_socket, self.status, reactor),
            *self._metrics_listener(),
            self.tunnel,
            self.renewal,
            self.reloader,
        )
        self._running: list[IService] = []
        self._tried = False

    # -- parts ---------------------------------------------------------------------------------

    def _log_observer(self) -> ILogObserver:
        try:
            return observer_for(self.config.logging)
        except LogFileError as error:
            raise StartError(str(error)) from error

    def _identity(self) -> Identity:
        try:
            return identity_of(self.config.gateway)
        except IdentityError as error:
            raise StartError(str(error)) from error

    def _metrics_listener(self) -> tuple[MetricsListener, ...]:
        listen = self.config.metrics.listen
        return () if listen is None else (MetricsListener(self.metrics, listen, self._reactor),)

    def _watch(self) -> None:
        metrics, tunnel = self.metrics, self.tunnel
        metrics.connected.set_function(lambda: float(self.connected))
        metrics.round_trip.set_function(lambda: tunnel.round_trip or 0.0)
        metrics.watch(
            "tunnel_resumptions",
            "Times that a session went on over a new socket",
            lambda: float(tunnel.reconnections),
        )
        metrics.watch(
            "config_valid",
            "Whether the config file is the one in force (0: it is refused)",
            lambda: float(not self.reloader.problem),
        )
        metrics.watch(
            "certificate_seconds_left",
            "Seconds until the agent's certificate ends",
            lambda: self.renewal.seconds_left,
        )

    # -- what others ask -----------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a call would reach this agent now."""
        session = self.tunnel.session
        return session is not None and session.available

    def catalogue(self) -> Catalogue:
        """What the gateway is told of this agent."""
        return Catalogue(
            profiles=self.served.catalogue(),
            config_hash=self.config.config_hash,
            config_problem=self.reloader.problem[:LONGEST_PROBLEM],
            version=self.version,
            host=socket.gethostname(),
            os=_operating_system(),
            pid=os.getpid(),
            user=_user(),
            since=self._began,
        )

    def reload(self) -> None:
        """Read the config file anew and serve what it says; see :class:`.reloading.Reloader`."""
        if self.running:
            self.systemd.reloading()
            self.reloader.reload()

    def _attempted(self, outcome: Outcome) -> None:
        """The first attempt to connect makes the agent ready for systemd, whatever came of it: when
        it went well calls succeed from here on, and a gateway that is away must not fail a boot.
        """
        self.metrics.tunnel_attempted(outcome)
        if not self._tried:
            self._tried = True
            self.systemd.ready()

    def _config_changed(self) -> None:
        self.config = self.reloader.config
        self.dispatcher.profiles = self.served.profiles
        self.tunnel.announce()

    def status(self) -> dict[str, object]:
        """For ``workato-agent status``."""
        tunnel, identity = self.tunnel, self.identity
        return {
            "connected": self.connected,
            "agent": {
                "name": identity.name,
                "id": identity.agent_id,
                "group": identity.facts.group,
                "version": self.version,
                "pid": os.getpid(),
                "uptime": round(time.time() - self._began, 1),
            },
            "tunnel": {
                "gateway": f"{tunnel.host}:{tunnel.port}",
                "state": str(tunnel.state),
                "for": round(self._reactor.seconds() - tunnel.since, 1),
                "problem": tunnel.problem or None,
                "round_trip": tunnel.round_trip,
                "resumptions": tunnel.reconnections,
            },
            "calls_in_flight": self.dispatcher.in_flight,
            "certificate": self.renewal.status(),
            "config": {
                "file": None if self.config.file is None else str(self.config.file),
                "hash": self.config.config_hash,
                "reloads": self.reloader.reloads,
                "problem": self.reloader.problem or None,
                "waiting_for_restart": list(self.reloader.waiting),
                "remarks": list(self.config.remarks),
            },
            "profiles": [
                {"service": each.service, "name": each.name, "type": each.type}
                for each in self.served.catalogue()
            ],
            "audit": self.audit.status(),
        }

    def _status_line(self) -> str:
        """For ``systemctl status``."""
        tunnel = self.tunnel
        if not self.running:
            return f"Stopping, {self.dispatcher.in_flight} calls in flight"
        line = f"Connected to {tunnel.host}:{tunnel.port}"
        if not self.connected:
            line = f"Not connected to {tunnel.host}:{tunnel.port}"
            if tunnel.problem:
                line += f": {tunnel.problem}"
        line += f"; {len(self.served.catalogue())} profiles"
        return f"{line}; config.yml is refused, see the log" if self.reloader.problem else line

    # -- life ----------------------------------------------------------------------------------

    def use_log_of(self, application: Any) -> None:
        """Write twistd's log as the config's ``logging`` section says."""
        if isinstance(application, Componentized):
            application.setComponent(ILogObserver, self.observer)

    def startService(self) -> None:
        """Open everything. Raises StartError, with nothing left open."""
        raise_file_limit()
        sys.setswitchinterval(SWITCH_INTERVAL)
        settle_heap()
        for remark in self.config.remarks:
            self._log.warn("{remark}", event="config_remark", remark=remark)
        try:
            self.audit.start()
            self.served.start()
            for part in self._parts:
                part.startService()
                self._running.append(part)
        except (AuditError, StatusSocketError, MetricsListenerError) as error:
            Deferred.fromCoroutine(self._close())
            raise StartError(str(error)) from error
        super().startService()  # type: ignore[no-untyped-call]
        self._log.info(
            "Agent {name} of group {group} started, version {version}, {profiles} profiles",
            event="agent_started",
            name=self.identity.name,
            group=self.identity.facts.group,
            version=self.version,
            profiles=len(self.served.catalogue()),
        )

    def stopService(self) -> Deferred[None]:
        """Drain, then close everything."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        seconds = self.config.gateway.drain
        self.systemd.stopping(seconds + ABORT_TIMEOUT + CLOSE_TIMEOUT)
        if self.dispatcher.in_flight:
            self._log.info(
                "Stopping: {calls} calls in flight have {seconds:g} s to end",
                event="drain_began",
                calls=self.dispatcher.in_flight,
                seconds=seconds,
            )
        await self.tunnel.drain(seconds)
        if self.dispatcher.in_flight:
            self._log.warn(
                "{calls} calls are cancelled",
                event="calls_cancelled",
                calls=self.dispatcher.in_flight,
            )
        self.dispatcher.abort()
        ended = self.dispatcher.drain()
        await ended.addTimeout(
            ABORT_TIMEOUT, self._reactor, onTimeoutCancel=lambda _result, _seconds: None
        )
        await self._close()
        self.systemd.end()
        self._log.info("Stopped", event="agent_stopped")

    async def _close(self) -> None:
        while self._running:
            part = self._running.pop()
            try:
                await _maybe(part.stopService())
            except Exception:  # noqa: BLE001 - one part's fault must not leave the others open
                self._log.failure(
                    "Stopping {part} failed", event="part_not_stopped", part=type(part).__name__
                )
        await self.served.close()
        await self.audit.stop()


async def _maybe(result: Any) -> None:
    if isinstance(result, Deferred):
        await result


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # ImportError: Python looks users up with what Windows lacks.
        return "unknown" if sys.platform == "win32" else str(os.getuid())
