"""The agent's end of a tunnel's WebSocket."""

from __future__ import annotations

from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol

from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.tx.session import CLOSE_POLICY, CLOSE_PROTOCOL_ERROR
from workato_tunnel.tx.websocket import OPTIONS, ExactTimer, TunnelWebSocket

HELLO_TIMEOUT: Final = 10.0
_REFUSALS: Final = (CLOSE_PROTOCOL_ERROR, CLOSE_POLICY)


class TunnelOwner(Protocol):
    """Who is told what happens on a socket."""

    def opened(self, socket: AgentTunnel) -> None:
        """The WebSocket handshake is done: say HELLO."""

    def hello(self, socket: AgentTunnel, message: bytes) -> None:
        """The first message."""

    def message(self, socket: AgentTunnel, message: bytes) -> None:
        """A message after HELLO."""

    def session_closed(self, socket: AgentTunnel, reason: str) -> None:
        """The gateway has closed the WebSocket, and with it the session."""

    def closed(self, socket: AgentTunnel, reason: str, refused: bool) -> None:
        """The socket is gone, whether or not it was opened; ``refused``: the gateway did not like
        this agent's HELLO."""


class AgentTunnel(TunnelWebSocket, WebSocketClientProtocol):
    """One socket to the gateway.

    :ivar established: HELLO has been exchanged.
    """

    factory: AgentTunnelFactory

    def __init__(self) -> None:
        super().__init__()
        self.established = False
        self._hello_call: Any = None

    def onConnect(self, response: Any) -> None:
        if response.protocol != SUBPROTOCOL:
            raise ConnectionError(f"the gateway does not speak {SUBPROTOCOL}")

    def onOpen(self) -> None:
        super().onOpen()
        self._hello_call = self.factory.reactor.callLater(HELLO_TIMEOUT, self._no_hello)
        self.factory.owner.opened(self)

    def tunnel_message(self, message: bytes) -> None:
        if self.established:
            self.factory.owner.message(self, message)
        else:
            self._hello_received()
            self.factory.owner.hello(self, message)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N803
        self._hello_received()
        refused = not self.established and self.remoteCloseCode in _REFUSALS
        self.factory.owner.closed(self, reason or f"closed with code {code}", refused)

    def tunnel_closed(self, reason: str) -> None:
        if self.established:
            self.factory.owner.session_closed(self, reason)

    def _no_hello(self) -> None:
        self._hello_call = None
        self.wasNotCleanReason = f"no HELLO from the gateway within {HELLO_TIMEOUT:g} s"
        self.abort()

    def _hello_received(self) -> None:
        call, self._hello_call = self._hello_call, None
        if call is not None and call.active():
            call.cancel()


class AgentTunnelFactory(WebSocketClientFactory):
    """Builds the agent's sockets, one at a time."""

    protocol = AgentTunnel
    noisy = False

    def __init__(self, url: str, owner: TunnelOwner, reactor: Any, software: str) -> None:
        super().__init__(url, protocols=[SUBPROTOCOL], useragent=software, reactor=reactor)
        self._batched_timer = ExactTimer(reactor)
        self.setProtocolOptions(**OPTIONS, acceptMaskedServerFrames=False)
        self.owner = owner
        self.reactor = reactor
