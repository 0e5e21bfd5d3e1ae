"""An HTTP proxy that does CONNECT with Basic credentials, or misbehaves as told."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class _Far(Protocol):
    """The proxy's connection to the target."""

    def __init__(self, near: ProxyConnection) -> None:
        self.near = near

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.near.transport.loseConnection()


class ProxyConnection(Protocol):
    """A client of the proxy."""

    factory: TestProxy
    transport: Any

    def __init__(self) -> None:
        self._head = b""
        self._far: Any = None

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        if self.factory.answer is not None and not self.factory.wait_for_request:
            self.transport.write(self.factory.answer)

    def dataReceived(self, data: bytes) -> None:
        if self._far is not None:
            self._far.transport.write(data)
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self.factory.requests.append(self._head.decode("ascii"))
            self._answer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.remove(self)
        if self._far is not None:
            self._far.transport.loseConnection()

    def _answer(self) -> None:
        if self.factory.answer is not None:
            if self.factory.wait_for_request:
                self.transport.write(self.factory.answer)
            if self.factory.close:
                self.transport.loseConnection()
            return
        credentials = self.factory.credentials
        if credentials is not None:
            expected = base64.b64encode(credentials.encode()).decode()
            if f"Proxy-Authorization: Basic {expected}\r\n" not in self._head.decode("ascii"):
                self.transport.write(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b'Proxy-Authenticate: Basic realm="x"\r\n\r\n'
                )
                self.transport.loseConnection()
                return
        host, _, port = self._head.split(b" ")[1].decode().rpartition(":")
        target = TCP4ClientEndpoint(
            self.factory.reactor, host.replace("localhost", "127.0.0.1"), int(port)
        )
        connectProtocol(target, _Far(self)).addCallbacks(self._connected, self._failed)

    def _connected(self, far: _Far) -> None:
        self._far = far
        self.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")

    def _failed(self, _: Failure) -> None:
        self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        self.transport.loseConnection()


class TestProxy(Factory):
    """The proxy.

    :ivar answer: sent instead of doing the work, after the request or (not ``wait_for_request``)
        before it; then the connection is closed unless ``close`` is false.
    """

    protocol = ProxyConnection
    noisy = False

    def __init__(self, reactor: Any, credentials: str | None = None) -> None:
        self.reactor = reactor
        self.credentials = credentials
        self.answer: bytes | None = None
        self.wait_for_request = True
        self.close = True
        self.requests: list[str] = []
        self.connections: list[ProxyConnection] = []

    async def start(self) -> int:
        """Listen; returns the port."""
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self._port: Any = await endpoint.listen(self)
        return int(self._port.getHost().port)

    async def stop(self) -> None:
        """Stop listening and hang up."""
        await self._port.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()
