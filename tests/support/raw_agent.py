"""An agent's socket driven by hand, over real TLS: for what a well-behaved client never does."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.tunnel import TunnelGateway, reactor
from workato_agent.identity.enrolment import enrol
from workato_agent.identity.store import Identity, load_identity
from workato_tunnel.frames import Hello
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.tx.tls import PromptTLSFactory
from workato_tunnel.tx.websocket import ExactTimer


class RawAgent(WebSocketClientProtocol):
    """Sends what it is told, keeps what comes. ``gone`` fires with (code, reason)."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.opened: Deferred[RawAgent] = Deferred()
        self.gone: Deferred[tuple[int | None, str | None]] = Deferred()

    def onOpen(self) -> None:
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        self.messages.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N803
        if not self.opened.called:
            self.opened.errback(ConnectionError(str(reason)))
        self.gone.callback((self.remoteCloseCode or code, self.remoteCloseReason or reason))

    def send(self, *frames: bytes) -> None:
        """One binary message."""
        self.sendMessage(b"".join(frames), isBinary=True)

    def hello(self, **members: Any) -> None:
        """An agent's HELLO."""
        self.send(encode_hello(Hello(**members)))

    @property
    def answer(self) -> Hello:
        """The gateway's HELLO."""
        return decode_hello(self.messages[0])

    def cut(self) -> None:
        """Lose the TCP connection."""
        self.transport.abortConnection()


async def identity_for(gateway: TunnelGateway, name: str) -> Identity:
    """Enrol once; afterwards the same identity again."""
    directory = gateway.folder / name
    if name not in gateway.enrolled:
        gateway.enrolled.add(name)
        await enrol(await gateway.code(name), directory, reactor=reactor, name=name)
    return load_identity(directory)


async def connect_raw(
    gateway: TunnelGateway, options: Any, protocol: type[RawAgent] = RawAgent
) -> RawAgent:
    """A socket whose WebSocket is being opened, with these TLS options."""
    factory = WebSocketClientFactory(gateway.url.tunnel, protocols=[SUBPROTOCOL], reactor=reactor)
    factory._batched_timer = ExactTimer(reactor)
    factory.setProtocolOptions(serverConnectionDropTimeout=0)
    factory.protocol = protocol
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", gateway.url.port)
    tls: Any = await endpoint.connect(PromptTLSFactory(options, True, factory, reactor))
    raw: RawAgent = tls.wrappedProtocol
    return raw


async def raw_agent(gateway: TunnelGateway, name: str = "raw") -> RawAgent:
    """An enrolled agent's socket, its WebSocket open and nothing said."""
    identity = await identity_for(gateway, name)
    raw = await connect_raw(gateway, identity.client_options("localhost"))
    return await raw.opened


@implementer(IHandshakeListener)
class RawBytes(Protocol):
    """A stranger's connection without WebSocket. ``gone`` fires with everything that came."""

    def __init__(self) -> None:
        self.secured: Deferred[None] = Deferred()
        self.data = b""
        self.gone: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.gone.callback(self.data)

    def handshakeCompleted(self) -> None:  # noqa: N802
        self.secured.callback(None)

    def send(self, data: bytes) -> None:
        """Write, in a TLS record of its own."""
        transport: Any = self.transport
        transport.write(data)

    def cut(self) -> None:
        """Lose the TCP connection, if it is still there."""
        transport: Any = self.transport
        if not self.gone.called:
            transport.abortConnection()


async def stranger(gateway: TunnelGateway, options: Any = None) -> RawBytes:
    """TLS without a client certificate (or with those options), and nothing sent."""
    factory = PromptTLSFactory(
        options or CertificateOptions(verify=False), True, Factory.forProtocol(RawBytes), reactor
    )
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", gateway.url.port)
    tls: TLSMemoryBIOProtocol = await endpoint.connect(factory)
    raw: Any = tls.wrappedProtocol
    assert isinstance(raw, RawBytes)
    await raw.secured
    return raw
