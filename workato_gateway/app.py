"""The gateway put together: every object is built here, and nobody else looks one up."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from workato_tunnel.errors import ErrorCode
from workato_tunnel.settings import Settings
from workato_tunnel.tx.process import raise_file_limit, settle_heap
from workato_tunnel.tx.systemd import SystemdNotifier
from workato_tunnel.tx.tls import PromptTLSFactory
from workato_tunnel.windows import CreditBudget

from .addresses import admits
from .agents.registry import LiveAgent, Registry
from .agents.watch import Watch
from .api.access_log import AccessLog, RotatingFile, StandardOutput
from .api.connections import Http1Factory, HttpLimits
from .api.figures import Figures
from .api.health import Health
from .api.relay import Relay, RelayLimits
from .api.resources import RESERVED
from .api.routing import Router
from .assembly import enrolment_of, resources_of, server_hosts_of
from .config import Config, KeyPair, Limits
from .identity.admission import Admission
from .identity.authority import Authority, AuthorityError, load_chain
from .identity.directory import Directory
from .identity.enrolment import CODES_KEPT, Enrolment
from .identity.tls import ServerTls, check_leads_to, ensure_server_certificate
from .identity.tokens import Tokens
from .listening import Listener, OnlyFrom, StartError
from .logs import observer_for
from .metrics import Metrics
from .storage.interface import StoreError, Transaction
from .storage.sqlite import SqliteStore, check_file
from .tunnel.factory import TunnelFactory
from .webhooks.webhooks import Webhooks

TICK: Final = 1.0
TOKEN_USES: Final = 60.0
CERTIFICATES: Final = 300.0
HOUSEKEEPING: Final = 3600.0
CLOSE_TIMEOUT: Final = 15.0
"""Seconds that systemd allows for closing everything after the drain."""


def _version() -> str:
    """Of the distribution; a bare checkout has none."""
    try:
        return version("workato-agent")
    except PackageNotFoundError:
        return "0"


def http_limits(limits: Limits) -> HttpLimits:
    """What the config allows to connections of callers."""
    return HttpLimits(connections=limits.connections, header_bytes=limits.header_bytes)


def relay_limits(limits: Limits) -> RelayLimits:
    """What the config allows to calls."""
    return RelayLimits(
        calls=limits.calls,
        calls_per_token=limits.calls_per_token,
        default_timeout=limits.default_timeout,
        max_timeout=limits.max_timeout,
        body=limits.body,
    )


def own_certificates(config: Config) -> dict[str, Path]:
    """The files whose end matters, by what they are for."""
    files = {"ca": config.ca.certificate, "tunnel": config.ca.server}
    if config.tunnel.certificate is not None:
        files["tunnel"] = config.tunnel.certificate
    if isinstance(config.api.tls, KeyPair):
        files["api"] = config.api.tls.certificate
    return files


class Gateway(Service):
    """One gateway. What can go wrong at the start does so in the constructor or in
    ``privilegedStartService``, before the process says that it runs.
    """

    name = "workato-gateway"
    _log = Logger()

    def __init__(self, config: Config, reactor: Any) -> None:
        """Reads certificates and checks the store. Raises AuthorityError, StoreError, OSError."""
        self._config = config
        self._reactor = reactor
        self._authority = Authority.load(config.ca.certificate, config.ca.key)
        self._hosts = server_hosts_of(config)
        ensure_server_certificate(self._authority, config.ca.server, self._hosts)
        check_file(config.storage)
        self._observer = observer_for(config.logging)
        self._draining = False
        self._begun = False
        self._loops: list[LoopingCall] = []
        self.systemd = SystemdNotifier.of(reactor, self._status_line)

        self.store = SqliteStore.beside(config.storage, reactor)
        self.registry = Registry()
        self.tokens = Tokens(self.store)
        self._directory = Directory(self.store)
        admission = Admission(self.store)
        enrolment = enrolment_of(config, self.store, self._authority)
        self._webhooks = Webhooks(
            config.webhooks,
            reactor,
            self.store,
            self.registry,
            own_certificates(config),
            software=f"workato-gateway/{_version()}",
        )
        self._watch = Watch(
            self.store,
            self.registry,
            admission,
            self.tokens,
            self._directory,
            also=self._webhooks.look,
        )
        self.registry.joined = self._joined
        self.registry.left = self._webhooks.left
        self._tunnel_tls = self._tls_for_tunnel()
        tunnels = TunnelFactory(
            reactor,
            self.registry,
            admission,
            enrolment,
            settings=Settings(),
            hold=config.tunnel.session_hold,
            software=f"workato-gateway/{_version()}",
            shared_budget=CreditBudget(config.limits.tunnel_memory),
        )
        self._tunnel_listener = Listener(
            reactor,
            config.tunnel.listen,
            PromptTLSFactory(self._tunnel_tls, False, tunnels.site()),
        )
        self._access_log = self._make_access_log()
        self._metrics = Metrics(
            agents=lambda: self.registry,
            connections=self._connections,
            duplicate_logins=lambda: self.registry.duplicate_logins,
            webhooks=self._webhooks.figures,
            certificates=self._webhooks.expiry.left,
        )
        self._http = Http1Factory(
            self._router(enrolment),
            reactor,
            http_limits(config.limits),
        )
        self._api_tls = self._tls_for_api()
        self._api_listener = Listener(reactor, config.api.listen, self._api_factory())

    # Parts

    def _tls_for_tunnel(self) -> ServerTls:
        section, ca = self._config.tunnel, self._config.ca
        clients: list[x509.Certificate] = [self._authority.certificate]
        if section.client_ca is not None:
            clients = load_chain(section.client_ca)
        if section.certificate is None or section.key is None:
            return ServerTls(ca.server, ca.server, tuple(clients))
        check_leads_to(load_chain(section.certificate), self._authority, section.certificate)
        return ServerTls(section.certificate, section.key, tuple(clients))

    def _tls_for_api(self) -> ServerTls | None:
        api, own = self._config.api, self._config.ca.server
        if api.plain:
            return None
        if isinstance(api.tls, KeyPair):
            return ServerTls(api.tls.certificate, api.tls.key)
        return ServerTls(own, own)

    def _api_factory(self) -> IProtocolFactory:
        if self._api_tls is not None:
            return TLSMemoryBIOFactory(self._api_tls, False, self._http)
        if not self._config.api.listen.loopback:
            return OnlyFrom(self._http, self._config.api.trusted_proxies)
        return self._http

    def _make_access_log(self) -> AccessLog | None:
        where = self._config.logging.access
        if where == "off":
            return None
        sink = StandardOutput() if where == "stdout" else RotatingFile(where)
        return AccessLog(sink, self._reactor, json=self._config.logging.format == "json")

    def _router(self, enrolment: Enrolment) -> Router:
        config = self._config
        resources = resources_of(
            self.store,
            enrolment,
            Health(self.store, self._reactor, [self._not_ready]),
            Figures(self._metrics.exposition, config.metrics.allowed_networks),
            sessions=self.registry.group,
            changed=self._watch.look,
        )
        relay = Relay(
            self.registry,
            self.tokens.authenticate,
            self._directory.has_group,
            self._reactor,
            relay_limits(config.limits),
        )
        return Router(
            relay,
            self.tokens.authenticate,
            resources.answer,
            self._reactor,
            self._metrics,
            public=resources.public,
            reserved=RESERVED,
            proxies=lambda peer: admits(config.api.trusted_proxies, peer),
            access_log=self._access_log,
        )

    def _joined(self, live: LiveAgent) -> None:
        self._watch.joined(live)
        self._webhooks.joined(live)

    def _connections(self) -> int:
        return self._http.connections

    def _not_ready(self) -> str | None:
        if self._draining:
            return "the gateway is draining"
        if not self._begun:
            return "the gateway is starting"
        if not self._tunnel_listener.listening:
            return "the tunnel listener is down"
        return None

    # Life

    log_by_twistd = False
    """Whether twistd's own options say where the log goes."""

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        """Under twistd the parent is the application, whose log we write unless twistd was told."""
        if isinstance(parent, Componentized) and not self.log_by_twistd:
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:  # noqa: N802
        """Bind both ports, while the process may still be root. Ends the program if it can't."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        raise_file_limit()
        settle_heap()
        try:
            self._tunnel_listener.bind()
            self._api_listener.bind()
        except StartError as error:
            raise SystemExit(f"workato-gateway: {error}") from error

    def startService(self) -> None:
        """Open the store, then take connections."""
        if not self._tunnel_listener.listening:
            self.privilegedStartService()  # twist starts services without it
        super().startService()  # type: ignore[no-untyped-call]
        begun = Deferred.fromCoroutine(self._begin())
        begun.addErrback(self._failed_to_begin)

    async def _begin(self) -> None:
        await self.store.open()
        await self._watch.begin()
        await self._webhooks.begin()
        await self._watch.begin_attendance()
        for work, seconds in (
            (self._watch.tick, TICK),
            (self._webhooks.review, CERTIFICATES),
            (self.tokens.store_uses, TOKEN_USES),
            (self._keep_house, HOUSEKEEPING),
        ):
            loop = LoopingCall(self._once, work)
            loop.clock = self._reactor
            self._loops.append(loop)
            loop.start(seconds, now=seconds != TOKEN_USES)
        self._begun = True
        self._tunnel_listener.begin()
        self._api_listener.begin()
        scheme = "http" if self._api_tls is None else "https"
        self._log.info(
            "Ready: tunnels on {tunnel}, API on {scheme}://{api}",
            event="gateway_ready",
            tunnel=str(self._config.tunnel.listen),
            scheme=scheme,
            api=str(self._config.api.listen),
        )
        self.systemd.ready()

    def reload(self) -> None:
        """Read the listeners' certificates anew, as after their renewal by somebody else."""
        if self._begun and not self._draining:
            self.systemd.reloading()
            self._renew_certificates()
            self.systemd.ready()

    def _status_line(self) -> str:
        """For ``systemctl status``."""
        agents, callers = len(list(self.registry)), self._http.connections
        state = "Draining" if self._draining else f"Tunnels on {self._config.tunnel.listen}"
        return f"{state}; {agents} agents, {callers} connections of callers"

    def _once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """A periodic task; one that fails is tried again next time."""
        done = Deferred.fromCoroutine(work())
        done.addErrback(
            lambda failure: self._log.failure(
                "A periodic task failed", event="periodic_task_failed", failure=failure
            )
        )
        return done

    def _failed_to_begin(self, failure: Failure) -> None:
        self._log.failure("The gateway can't start", event="gateway_not_started", failure=failure)
        self._reactor.stop()

    def _renew_certificates(self) -> None:
        """Make the listeners' certificate anew when it is time, and read those of others again."""
        try:
            if ensure_server_certificate(self._authority, self._config.ca.server, self._hosts):
                self._log.info(
                    "The listeners' certificate was renewed", event="listener_certificate_renewed"
                )
            for tls in (self._tunnel_tls, self._api_tls):
                if tls is not None:
                    tls.reload()
        except (AuthorityError, OSError):
            self._log.failure(
                "The listeners' certificates could not be renewed or read again",
                event="listener_certificate_not_renewed",
            )

    async def _keep_house(self) -> None:
        """Renew the listeners' certificate when it is time, and forget what is too old."""
        self._renew_certificates()

        def thd_forget(transaction: Transaction) -> None:
            now = time.time()
            transaction.delete_codes_expired_before(now - CODES_KEPT)
            transaction.delete_certificates_expired_before(now - CODES_KEPT)
            transaction.delete_audit_before(now - self._config.audit.keep)

        await self.store.write(thd_forget)

    def stopService(self) -> Deferred[None]:
        """Drain, then close everything."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        self._draining = True
        self._webhooks.leave_presence()
        self.systemd.stopping(self._config.drain + CLOSE_TIMEOUT)
        self._log.info(
            "Draining: {calls} connections, at most {seconds:g} s",
            event="gateway_draining",
            calls=self._http.connections,
            seconds=self._config.drain,
        )
        # Agents first, so that they can open a tunnel elsewhere before this one goes.
        for live in self.registry:
            live.session.drain(ErrorCode.DRAINING, "the gateway is going down")
        await self._tunnel_listener.stop()
        await self._api_listener.stop()
        await self._http.drain(self._config.drain)
        for live in self.registry:
            live.terminate(ErrorCode.DRAINING, "the gateway is going down")
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._webhooks.stop()
        await self._close()
        self.systemd.end()
        self._log.info("Stopped", event="gateway_stopped")

    async def _close(self) -> None:
        """Write down what is to be kept. A part that fails doesn't keep the next from closing."""
        try:
            if self._begun:
                await self._watch.end()
        except StoreError:
            self._log.failure(
                "The last state of the agents could not be stored", event="agent_state_not_stored"
            )
        finally:
            try:
                if self._access_log is not None:
                    self._access_log.close()
            finally:
                await self.store.close()
