"""The gateway's end of a tunnel's WebSocket: admission, HELLO, then everything is the session's."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from workato_tunnel.connection import Role
from workato_tunnel.errors import ErrorCode, RemoteProtocolError
from workato_tunnel.frames import Hello
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import SUBPROTOCOL, VERSION
from workato_tunnel.tx.session import CLOSE_POLICY, CLOSE_PROTOCOL_ERROR, Session
from workato_tunnel.tx.websocket import TunnelWebSocket

from ..agents.registry import LiveAgent
from ..identity.admission import AdmittedAgent, NotAdmitted

if TYPE_CHECKING:
    from .factory import TunnelFactory

HELLO_TIMEOUT: Final = 10.0


class GatewayTunnel(TunnelWebSocket, WebSocketServerProtocol):
    """One socket of an agent."""

    factory: TunnelFactory
    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        self.admitted: AdmittedAgent | None = None
        self._live: LiveAgent | None = None
        self._hello_call: Any = None

    # -- Autobahn's callbacks ------------------------------------------------------------------

    def onConnect(self, request: Any) -> Deferred[str]:
        return Deferred.fromCoroutine(self._admit(request.protocols))

    def onOpen(self) -> None:
        super().onOpen()
        self.factory.opened(self)
        clock = self.factory.clock
        self._hello_call = clock.callLater(HELLO_TIMEOUT, self._refuse, "no HELLO in time")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N803
        self._hello_received()
        self.factory.closed(self)
        if self._live is not None:
            self._log.info(
                "Socket of agent {name} in group {group} closed ({code}): {reason}",
                event="agent_socket_closed",
                name=self._live.name,
                group=self._live.group,
                code=code,
                reason=reason,
            )
            self._live.session.link_lost(self)

    def tunnel_message(self, message: bytes) -> None:
        if self._live is not None:
            self._live.session.message_received(self, message)
        elif self._hello_call is not None:
            self._on_hello(message)

    def tunnel_closed(self, reason: str) -> None:
        if self._live is not None:
            self._live.session.link_closed(self, reason)

    # -- inside --------------------------------------------------------------------------------

    async def _admit(self, protocols: list[str]) -> str:
        if SUBPROTOCOL not in protocols:
            raise ConnectionDeny(400, f"the subprotocol must be {SUBPROTOCOL}")
        presented = self.transport.getPeerCertificate()
        address = self.transport.getPeer().host
        try:
            if presented is None:
                raise NotAdmitted("no client certificate: enrol the agent")
            self.admitted = await self.factory.admission.admit(presented.to_cryptography(), address)
        except NotAdmitted as refused:
            self._log.warn(
                "tunnel from {peer} refused: {reason}",
                event="tunnel_refused",
                peer=address,
                reason=refused.message,
                agent_id=refused.agent_id,
            )
            raise ConnectionDeny(403, refused.message) from None
        if self.state == self.STATE_CLOSED:
            # Autobahn would open a WebSocket that nobody can close any more.
            raise ConnectionDeny(503, "the agent has left")
        return SUBPROTOCOL

    def _on_hello(self, message: bytes) -> None:
        self._hello_received()
        try:
            hello = decode_hello(message)
        except RemoteProtocolError as error:
            self._refuse(str(error), CLOSE_PROTOCOL_ERROR)
            return
        agent = self.admitted
        if agent is None:
            self._refuse("not admitted")
            return
        live = None
        if hello.session is not None and hello.received is not None:
            live = self.factory.registry.resumable(hello.session, agent.agent_id)
        if live is None or not self._resume(live, hello):
            live = self._begin(agent, hello)
        peer = self.transport.getPeer()
        live.address = f"{peer.host}:{peer.port}"
        live.certificate_serial = agent.serial
        live.round_trip = lambda: self.round_trip

    def _resume(self, live: LiveAgent, hello: Hello) -> bool:
        session = live.session
        received = session.supersede()
        self._send_hello(session.secret, received)
        self._live = live
        try:
            session.attach(self, hello.received)
        except RemoteProtocolError as error:
            self._log.error(
                "Agent {name} can't resume: {reason}",
                event="resumption_failed",
                name=live.name,
                reason=str(error),
            )
            session.terminate(ErrorCode.TUNNEL_LOST, "the session could not be resumed")
            self._refuse(str(error), CLOSE_PROTOCOL_ERROR)
        else:
            self._log.info(
                "Agent {name} of group {group} resumed its session",
                event="agent_resumed",
                name=live.name,
                group=live.group,
            )
        return True

    def _begin(self, agent: AdmittedAgent, hello: Hello) -> LiveAgent:
        factory = self.factory
        secret = secrets.token_bytes(16)
        session = Session(
            Role.GATEWAY,
            factory.clock,
            factory.settings,
            hello,
            secret,
            hold=factory.hold,
            accept=factory.accept_for(agent.agent_id),
            shared_budget=factory.shared_budget,
        )
        live = LiveAgent(agent.agent_id, agent.name, agent.group, session, since=time.time())
        self._live = live
        peer = self.transport.getPeer()
        live.address = f"{peer.host}:{peer.port}"
        live.certificate_serial = agent.serial
        self._send_hello(secret, None)
        session.attach(self)
        factory.registry.add(live)
        self._log.info(
            "Agent {name} of group {group} connected from {address}, software {software}",
            event="agent_connected",
            name=agent.name,
            group=agent.group,
            address=live.address,
            software=hello.software[:64],
        )
        return live

    def _send_hello(self, secret: bytes, received: int | None) -> None:
        factory = self.factory
        hello = Hello(
            versions=(VERSION,),
            limits=factory.settings.limits(),
            session=secret,
            received=received,
            software=factory.software,
            hold=factory.hold,
        )
        self.send_message(encode_hello(hello))

    def _hello_received(self) -> None:
        call, self._hello_call = self._hello_call, None
        if call is not None and call.active():
            call.cancel()

    def _refuse(self, reason: str, code: int = CLOSE_POLICY) -> None:
        self._hello_call = None
        self._log.warn("Closing a tunnel: {reason}", event="tunnel_closed", reason=reason)
        self.close(code, reason)
