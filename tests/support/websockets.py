"""Both ends of a tunnel's WebSocket over transports in memory, and frames by hand."""

from __future__ import annotations

import os
import struct
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.tx.websocket import OPTIONS, ExactTimer, TunnelWebSocket

BINARY, TEXT, CONTINUATION, CLOSE, PING, PONG = 0x2, 0x1, 0x0, 0x8, 0x9, 0xA
FIN = 0x80


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    masked: bool,
    fin: bool = True,
    rsv: int = 0,
    form: int | None = None,
    length: int | None = None,
) -> bytes:
    """A frame, well-formed unless told otherwise.

    ``form``: 7, 16 or 64, the length's form; ``length``: another than the payload's.
    """
    size = len(payload) if length is None else length
    if form is None:
        form = 7 if size < 126 else 16 if size < 65536 else 64
    bit = 0x80 if masked else 0
    first = (FIN if fin else 0) | rsv << 4 | opcode
    if form == 7:
        head = struct.pack("!BB", first, bit | size)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    covered = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + mask + covered


class WireTransport:
    """A transport that keeps what is written, and pauses its producer above ``limit`` bytes."""

    def __init__(self, limit: int = 128 * 1024) -> None:
        self.written = bytearray()
        self.limit = limit
        self.producer: Any = None
        self.paused = False
        self.protocol: Any = None
        self.lost = False
        self.stubborn = False  # as a TLS peer that never shuts down its side
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self.lost:
            return
        self.written += data
        if self.producer is not None and len(self.written) > self.limit and not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def take(self) -> bytes:
        """What was written; the producer goes on."""
        data = bytes(self.written)
        self.written.clear()
        if self.producer is not None and self.paused:
            self.paused = False
            self.producer.resumeProducing()
        return data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self.paused = False

    def loseConnection(self) -> None:
        if not self.stubborn:
            self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose(ConnectionAborted())

    def _lose(self, error: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.factory.reactor.callLater(0, self.protocol.connectionLost, Failure(error))

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 2)


class Listening(TunnelWebSocket):
    """Writes down what came."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.peer_closed: list[str] = []
        self.closed: tuple[bool, int | None, str | None] | None = None

    def tune_socket(self) -> None:
        """There is no socket."""

    def tunnel_message(self, message: bytes) -> None:
        self.messages.append(message)

    def tunnel_closed(self, reason: str) -> None:
        self.peer_closed.append(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N803
        self.closed = (wasClean, code, reason)


class ServerEnd(Listening, WebSocketServerProtocol):
    """A gateway's end."""

    def onConnect(self, request: Any) -> str:
        return SUBPROTOCOL


class ClientEnd(Listening, WebSocketClientProtocol):
    """An agent's end."""


class PlainServer(WebSocketServerProtocol):
    """Autobahn by itself, to compare with."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []

    def onConnect(self, request: Any) -> str:
        return SUBPROTOCOL

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        if self.state == self.STATE_OPEN:
            self.messages.append(payload)


class PlainClient(WebSocketClientProtocol):
    """As PlainServer."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        if self.state == self.STATE_OPEN:
            self.messages.append(payload)


class Wire:
    """A server's and a client's end, their handshake done. Bytes move when told to."""

    def __init__(
        self,
        server: type[Any] = ServerEnd,
        client: type[Any] = ClientEnd,
        *,
        handshake: bool = True,
    ) -> None:
        self.clock = Clock()
        clock: Any = self.clock
        options: dict[str, Any] = {**OPTIONS, "serverConnectionDropTimeout": 0}
        client_factory = WebSocketClientFactory(
            "ws://localhost/tunnel", protocols=[SUBPROTOCOL], reactor=clock
        )
        client_factory.setProtocolOptions(**options, acceptMaskedServerFrames=False)
        options.pop("serverConnectionDropTimeout")
        server_factory = WebSocketServerFactory(protocols=[SUBPROTOCOL], reactor=clock)
        server_factory.setProtocolOptions(**options, requireMaskedClientFrames=True)
        self.server = self._end(server, server_factory)
        self.client = self._end(client, client_factory)
        self.server_side: WireTransport = self.server.transport
        self.client_side: WireTransport = self.client.transport
        if handshake:
            self.server.dataReceived(self.client_side.take())
            self.client.dataReceived(self.server_side.take())
            assert self.server.state == self.client.state == self.server.STATE_OPEN

    def _end(self, kind: type[Any], factory: Any) -> Any:
        factory._batched_timer = ExactTimer(self.clock)
        factory.protocol = kind
        protocol = factory.buildProtocol(None)
        transport = WireTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return protocol

    def flush(self) -> None:
        """Let bytes pass until there are none."""
        while self.server_side.written or self.client_side.written:
            for near, far in ((self.server_side, self.client), (self.client_side, self.server)):
                data = near.take()
                if data and not far.transport.lost:
                    far.dataReceived(data)
            self.clock.advance(0)

    def lose(self) -> None:
        """Both transports are gone."""
        for transport in (self.server_side, self.client_side):
            transport.abortConnection()
        self.clock.advance(0)

    def ends(self) -> list[tuple[Any, bool]]:
        """Each receiving end with whether the frames that it gets are masked."""
        return [(self.server, True), (self.client, False)]
