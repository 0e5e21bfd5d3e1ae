"""What the mock cluster lacks: TLS and a login, as a relay in front of its one broker.

It ends TLS, answers SASL PLAIN itself (KIP-43, KIP-152), and passes everything else on. Where the
broker names its own address it puts its own, which has as many bytes.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from attrs import define, field
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from .ports import free_port

reactor: Any = _reactor
HANDSHAKE: Final = 17
API_VERSIONS: Final = 18
AUTHENTICATE: Final = 36
_UNSUPPORTED_VERSION: Final = 35
_REFUSED: Final = 58


def _frames(buffer: bytearray) -> list[bytes]:
    """The whole frames at the beginning of a buffer, taken out of it."""
    found = []
    while len(buffer) >= 4:
        (size,) = struct.unpack_from(">i", buffer)
        if len(buffer) < 4 + size:
            break
        found.append(bytes(buffer[4 : 4 + size]))
        del buffer[: 4 + size]
    return found


def _framed(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


class _Backend(Protocol):
    """The connection to the broker."""

    def __init__(self, front: _Front) -> None:
        self._front = front
        self._buffer = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        for frame in _frames(self._buffer):
            self._front.answered(frame)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._front.transport.loseConnection()  # type: ignore[union-attr]


class _Front(Protocol):
    """The connection of a client."""

    def __init__(self, gate: KafkaGate) -> None:
        self._gate = gate
        self._buffer = bytearray()
        self._waiting: list[bytes] = []
        self._backend: Any = None
        self._versions: set[int] = set()
        self._welcome = not gate.logins

    def connectionMade(self) -> None:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._gate.broker)
        connectProtocol(endpoint, _Backend(self)).addCallbacks(self._connected, self._refused)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        for frame in _frames(self._buffer):
            self._asked(frame)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._backend is not None:
            self._backend.transport.loseConnection()

    def answered(self, frame: bytes) -> None:
        """The broker has answered."""
        (correlation,) = struct.unpack_from(">i", frame)
        if correlation in self._versions:
            self._versions.discard(correlation)
            (count,) = struct.unpack_from(">i", frame, 6)
            more = struct.pack(">hhhhhh", HANDSHAKE, 0, 1, AUTHENTICATE, 0, 1)
            frame = frame[:6] + struct.pack(">i", count + 2) + frame[10:] + more
        self._send(frame.replace(self._gate.address(self._gate.broker), self._gate.own_address))

    def _asked(self, frame: bytes) -> None:
        kind, version, correlation = struct.unpack_from(">hhi", frame)
        if kind == API_VERSIONS and version > 0:
            # The broker's own answer to later versions can't be added to as easily.
            entry = struct.pack(">ihhh", 1, API_VERSIONS, 0, 0)
            self._send(struct.pack(">ih", correlation, _UNSUPPORTED_VERSION) + entry)
        elif kind == HANDSHAKE:
            self._send(struct.pack(">ihih5s", correlation, 0, 1, 5, b"PLAIN"))
        elif kind == AUTHENTICATE:
            self._authenticate(frame, version, correlation)
        elif kind != API_VERSIONS and not self._welcome:
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            if kind == API_VERSIONS:
                self._versions.add(correlation)
            self._pass_on(frame)

    def _authenticate(self, frame: bytes, version: int, correlation: int) -> None:
        _, user, password = frame.rsplit(b"\0", 2) if frame.count(b"\0") > 1 else (b"", b"", b"")
        self._welcome = self._gate.logins.get(user.decode()) == password.decode()
        reason = b"Authentication failed: Invalid username or password"
        error, text = (0, struct.pack(">h", -1)) if self._welcome else (
            _REFUSED, struct.pack(">h", len(reason)) + reason)  # fmt: skip
        lifetime = struct.pack(">q", 0) if version else b""
        self._send(struct.pack(">ih", correlation, error) + text + struct.pack(">i", 0) + lifetime)
        if not self._welcome:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def _send(self, content: bytes) -> None:
        self.transport.write(_framed(content))  # type: ignore[union-attr]

    def _pass_on(self, frame: bytes) -> None:
        if self._backend is None:
            self._waiting.append(frame)
        else:
            self._backend.transport.write(_framed(frame))

    def _connected(self, backend: _Backend) -> None:
        self._backend = backend
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            self._pass_on(frame)

    def _refused(self, failure: Failure) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]


@define(eq=False)
class KafkaGate:
    """Listens on ``port`` for the broker at port ``broker``; both of 127.0.0.1.

    :ivar logins: passwords by user name; where there are none, nobody has to log in.
    """

    broker: int
    logins: dict[str, str] = field(factory=dict)
    tls: CertificateOptions | None = None
    port: int = field(factory=free_port)
    _listening: Any = field(default=None, init=False)

    async def start(self) -> None:
        """Listen."""
        factory: Any = Factory.forProtocol(lambda: _Front(self))
        if self.tls is not None:
            factory = TLSMemoryBIOFactory(self.tls, False, factory)
        endpoint = TCP4ServerEndpoint(reactor, self.port, interface="127.0.0.1")
        self._listening = await endpoint.listen(factory)

    def stop(self) -> Deferred[None]:
        """Listen no more."""
        stopped: Deferred[None] = self._listening.stopListening()
        return stopped

    def address(self, port: int) -> bytes:
        """An address as brokers write it, behind the host's length."""
        return b"127.0.0.1" + struct.pack(">i", port)

    @property
    def own_address(self) -> bytes:
        return self.address(self.port)
