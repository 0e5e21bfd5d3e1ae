"""Keeps the tunnel up: dials, says HELLO, resumes the session or begins one, dials again.

Reconnection is Twisted's ClientService. It counts a connection as made once TLS has begun; what
comes after (certificate, WebSocket handshake, HELLO) may still fail, so the pace of further
attempts is decided here, by what happened last.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from twisted.application.internet import ClientService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from workato_tunnel.connection import Role
from workato_tunnel.errors import ErrorCode, HeadTooLarge, RemoteProtocolError
from workato_tunnel.frames import Catalogue, Goaway, Hello
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import VERSION, Settings
from workato_tunnel.tx.session import CLOSE_PROTOCOL_ERROR, Accept, Session
from workato_tunnel.tx.tls import PromptTLSFactory

from ..identity.store import Identity
from ..identity.tls import tls_failure
from .protocol import AgentTunnel, AgentTunnelFactory

CONNECT_TIMEOUT: Final = 30.0
FIRST_DELAY: Final = 0.5
MAX_DELAY: Final = 60.0
RESUME_DELAY: Final = 2.0
"""While a session waits to be resumed no attempt waits longer: its time is limited anyway."""
STEADY: Final = 60.0
"""A connection that held this long (seconds) clears the count of failures."""

_REFUSED: Final = re.compile(r"upgrade failed \[(401|403|404|426)\]: ?(.*?)\)?$")


class Route(Protocol):
    """A way out other than a direct one (an HTTP proxy)."""

    def endpoint(self, reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint whose connections carry plain bytes to and from ``host:port``."""
        ...


class State(StrEnum):
    """What ``status`` says of the tunnel."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    REFUSED = "refused"
    DRAINING = "draining"


class Outcome(StrEnum):
    """How an attempt to connect ended: a new session, the present one goes on, the gateway would
    not have this agent, or anything else.
    """

    CONNECTED = "connected"
    RESUMED = "resumed"
    REFUSED = "refused"
    FAILED = "failed"


@implementer(IStreamClientEndpoint)
class _GatewayEndpoint:
    """Resolves the name anew and takes the identity's present certificate for each attempt."""

    def __init__(self, client: TunnelClient) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<gateway {self._client.host}:{self._client.port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:  # noqa: N803
        return self._client.dial(protocolFactory)


class TunnelClient(MultiService):
    """The agent's tunnel as a service.

    :param gateway_url: ``wss://host[:port]/tunnel``.
    :param accept: takes the streams that the gateway opens (the dispatcher).
    :param catalogue: what to announce when a session begins.
    :param system_trust: trust the system's authorities instead of the pinned CA.
    :param attempted: told how each attempt to connect ended, but for one that a stop cuts short.
    :ivar session: the present session; None before the first.
    :ivar state: see :class:`State`; ``problem`` is the latest reason for not being connected.
    :ivar since: reactor seconds of the latest change of ``state``.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        gateway_url: str,
        accept: Accept,
        catalogue: Callable[[], Catalogue],
        *,
        proxy: Route | None = None,
        system_trust: bool = False,
        settings: Settings | None = None,
        software: str = "workato-agent",
        attempted: Callable[[Outcome], None] = lambda _outcome: None,
    ) -> None:
        super().__init__()
        parts = urlsplit(gateway_url)
        if parts.scheme != "wss" or not parts.hostname:
            raise ValueError(f"the gateway's URL must be wss://HOST[:PORT]/tunnel: {gateway_url!r}")
        self.host = parts.hostname
        self.port = parts.port or 443
        self.session: Session | None = None
        self.state = State.STOPPED
        self.problem = ""
        self.since = reactor.seconds()
        self.reconnections = 0
        self.connected_once: Deferred[None] = Deferred()
        self._reactor = reactor
        self._identity = identity
        self._accept = accept
        self._catalogue = catalogue
        self._proxy = proxy
        self._system_trust = system_trust
        self._settings = settings or Settings()
        self._software = software
        self._attempted = attempted
        self._socket: AgentTunnel | None = None
        self._failures = 0
        self._refused = False
        self._refusal = False
        self._established_at: float | None = None
        factory = AgentTunnelFactory(gateway_url, self, reactor, software)
        service = ClientService(
            _GatewayEndpoint(self), factory, retryPolicy=self._delay, clock=reactor
        )
        service.setServiceParent(self)

    # -- the service ---------------------------------------------------------------------------

    def startService(self) -> None:
        self._enter(State.CONNECTING)
        super().startService()

    def stopService(self) -> Any:
        """Close for good; calls in flight are lost. ``drain`` first."""
        if self.session is not None:
            self.session.terminate(ErrorCode.DRAINING, "the agent stops")
        stopped = super().stopService()
        self._enter(State.STOPPED)
        return stopped

    def drain(self, timeout: float) -> Deferred[None]:
        """Take no new calls and wait, ``timeout`` seconds at most, for those in flight."""
        session = self.session
        self._enter(State.DRAINING)
        if session is None:
            return succeed(None)
        done = session.drain(ErrorCode.DRAINING, "the agent stops")
        done.addTimeout(timeout, self._reactor, onTimeoutCancel=lambda _result, _seconds: None)
        return done

    def announce(self) -> None:
        """Tell the gateway that the catalogue has changed."""
        if self.session is not None:
            self._announce(self.session)

    @property
    def round_trip(self) -> float | None:
        """Seconds of the latest ping, None before the first."""
        return self._socket.round_trip if self._socket is not None else None

    # -- dialling ------------------------------------------------------------------------------

    def dial(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect once (called by the ClientService)."""
        if self.state is not State.DRAINING:
            self._enter(State.CONNECTING)
        plain: IStreamClientEndpoint
        if self._proxy is not None:
            plain = self._proxy.endpoint(self._reactor, self.host, self.port)
        else:
            plain = HostnameEndpoint(self._reactor, self.host, self.port, timeout=CONNECT_TIMEOUT)
        options = self._identity.client_options(self.host, system_trust=self._system_trust)
        connecting: Deferred[Any] = plain.connect(
            PromptTLSFactory(options, True, factory, self._reactor)
        )
        connecting.addCallbacks(lambda tls: tls.wrappedProtocol, self._not_connected)
        return connecting

    def _not_connected(self, failure: Failure) -> Failure:
        self._lost(failure.getErrorMessage() or repr(failure.value))
        return failure

    def _delay(self, _attempt: int) -> float:
        bound: float = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._failures, 16))
        self._failures += 1
        if self._refused:
            return random.uniform(MAX_DELAY / 2, MAX_DELAY)  # noqa: S311 - jitter
        if self.session is not None and not self.session.ended:
            bound = min(bound, RESUME_DELAY)
        return random.uniform(0.0, bound)  # noqa: S311 - jitter

    def _lost(self, reason: str) -> None:
        now = self._reactor.seconds()
        established = self._established_at is not None
        if self._established_at is not None and now - self._established_at >= STEADY:
            self._failures = 0
        self._established_at = None
        refusal = _REFUSED.search(reason)
        if refusal is not None:
            reason = refusal[2]
        self._refused = self._refusal or refusal is not None
        self._refusal = False
        if self._refused:
            reason = f"the gateway refuses this agent: {reason}"
        if not self.running:
            return
        if not established:
            self._attempted(Outcome.REFUSED if self._refused else Outcome.FAILED)
        if self.state is not State.DRAINING:
            self._enter(State.REFUSED if self._refused else State.WAITING)
        if reason != self.problem:
            self._log.warn(
                "No tunnel to {host}:{port}: {reason}",
                event="tunnel_failed",
                host=self.host,
                port=self.port,
                reason=reason,
            )
        self.problem = reason

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._reactor.seconds()

    # -- a socket (workato_agent.tunnel.protocol.TunnelOwner) ----------------------------------

    def opened(self, socket: AgentTunnel) -> None:
        """Say HELLO; a session that is still alive asks to be resumed."""
        session = self.session
        if session is not None and session.ended:
            session = None
        hello = Hello(
            versions=(VERSION,),
            limits=self._settings.limits(),
            session=session.secret if session is not None else None,
            received=session.supersede() if session is not None else None,
            software=self._software,
        )
        socket.send_message(encode_hello(hello))

    def hello(self, socket: AgentTunnel, message: bytes) -> None:
        """The gateway's HELLO: the session goes on, or a new one begins."""
        try:
            hello = decode_hello(message)
            if not hello.session:
                raise RemoteProtocolError("HELLO without a session")
            socket.established = True
            self._socket = socket
            outcome = self._attach(socket, hello, hello.session)
        except RemoteProtocolError as error:
            self._refusal = error.code == ErrorCode.UNSUPPORTED_VERSION
            self._log.error(
                "The gateway's HELLO: {reason}", event="tunnel_hello_refused", reason=str(error)
            )
            socket.close(CLOSE_PROTOCOL_ERROR, str(error))
            return
        self._established_at = self._reactor.seconds()
        self.problem = ""
        self._attempted(outcome)
        if self.state is not State.DRAINING:
            self._enter(State.CONNECTED)
        if not self.connected_once.called:
            self.connected_once.callback(None)

    def _attach(self, socket: AgentTunnel, hello: Hello, secret: bytes) -> Outcome:
        session = self.session
        if session is not None and not session.ended:
            if hello.received is not None and session.secret == secret:
                self._resume(session, socket, hello.received)
                self.reconnections += 1
                self._log.info(
                    "Tunnel resumed to {host}:{port}",
                    event="tunnel_resumed",
                    host=self.host,
                    port=self.port,
                )
                return Outcome.RESUMED
            session.terminate(ErrorCode.TUNNEL_LOST, "the gateway no longer holds the session")
        session = Session(
            Role.AGENT,
            self._reactor,
            self._settings,
            hello,
            secret,
            hold=hello.hold,
            accept=self._accept,
        )
        session.on_goaway = self._on_goaway
        self.session = session
        self._announce(session)
        session.attach(socket)
        self._log.info(
            "Tunnel up to {host}:{port}", event="tunnel_up", host=self.host, port=self.port
        )
        return Outcome.CONNECTED

    def _resume(self, session: Session, socket: AgentTunnel, received: int) -> None:
        try:
            session.attach(socket, received)
        except RemoteProtocolError as error:
            # Asking for it again would get the same answer.
            session.terminate(ErrorCode.TUNNEL_LOST, str(error))
            raise

    def _announce(self, session: Session) -> None:
        try:
            session.announce(self._catalogue())
        except HeadTooLarge as error:
            self._log.error(
                "The profiles do not fit the tunnel, so the gateway does not know them: {reason};"
                " split them among several agents",
                event="catalogue_too_large",
                reason=str(error),
            )

    def _on_goaway(self, goaway: Goaway) -> None:
        self._log.info(
            "The gateway takes no more calls: {code} {reason}",
            event="tunnel_draining",
            code=goaway.code,
            reason=goaway.message,
        )
        if goaway.code == ErrorCode.REVOKED:
            self._refusal = True

    def message(self, socket: AgentTunnel, message: bytes) -> None:
        """A message of the session."""
        if self.session is not None:
            self.session.message_received(socket, message)

    def session_closed(self, socket: AgentTunnel, reason: str) -> None:
        """The gateway has ended the session; the next socket begins a new one."""
        if self.session is not None:
            self.session.link_closed(socket, reason)

    def closed(self, socket: AgentTunnel, reason: str, refused: bool) -> None:
        """A socket is gone; the ClientService dials again."""
        self._refusal = self._refusal or refused
        if socket is self._socket:
            self._socket = None
        if self.session is not None:
            self.session.link_lost(socket)
        error = socket.lost_reason.value if socket.lost_reason is not None else None
        self._lost((error is not None and tls_failure(error)) or reason)
