"""The gateway's HTTP side over agents in memory: on a Clock, or on a real port of 127.0.0.1."""

from __future__ import annotations

import re
from typing import Any

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.memory_agents import MemoryAgent, MemoryRegistry, MemoryStream
from workato_gateway.api.access_log import AccessLog
from workato_gateway.api.connections import Http1Factory, HttpLimits
from workato_gateway.api.http1 import ICallerTransport
from workato_gateway.api.messages import AdminRequest, AdminResource, AdminResponse
from workato_gateway.api.relay import Relay, RelayLimits
from workato_gateway.api.routing import Router
from workato_gateway.identity.tokens import Caller
from workato_gateway.metrics import Metrics
from workato_tunnel.problems import Problem

WALL = 1_700_000_000.25
CALLERS = {
    "Bearer all": Caller("alice", "t1", ("sales:*:*:*", "admin")),
    "Bearer read": Caller("bob smith", "t2", ("sales:http:crm:GET",)),
}
CALL = b"/v1/groups/sales/http/crm"


def authenticate(authorization: str | None) -> Caller:
    """Two tokens are known."""
    caller = CALLERS.get(authorization or "")
    if caller is None:
        raise Problem("unauthenticated", "the token is unknown here")
    return caller


class MemoryLines:
    """A sink of an access log."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Sink."""
        if self.error is not None:
            raise self.error
        self.data += data

    def close(self) -> None:
        """Sink."""
        self.closed = True


@implementer(ICallerTransport)
class MemoryTransport:
    """The gateway's end of a caller's connection. ``take()`` is the caller reading.

    As Twisted's own: the producer is paused above 64 KiB, and a close waits for what is unread.
    """

    disconnecting = False

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = bytearray()
        self.taken = bytearray()
        self.most_unread = 0
        self.writes = 0
        self.reading = True
        self.no_delay = False
        self.gone = False
        self.aborted = False
        self.half_closed = False
        self._producer: Any = None
        self._producer_paused = False

    def write(self, data: bytes) -> None:
        """ITransport."""
        assert isinstance(data, bytes)
        if self.gone or self.disconnecting or self.half_closed or not data:
            return
        self.writes += 1
        self.written += data
        self.most_unread = max(self.most_unread, len(self.written))
        if len(self.written) > 65536 and self._producer is not None:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """ITransport."""
        self.write(b"".join(data))

    def take(self, size: int | None = None) -> bytes:
        """What the caller reads: all of it, or that much."""
        size = len(self.written) if size is None else size
        data = bytes(self.written[:size])
        del self.written[:size]
        self.taken += data
        if not self.written:
            if self.disconnecting:
                self.lose(ConnectionDone())
            elif self._producer_paused and self._producer is not None:
                self._producer_paused = False
                self._producer.resumeProducing()
        return data

    def lose(self, reason: Exception) -> None:
        """The connection ends."""
        if not self.gone:
            self.gone = True
            if self._producer is not None:
                self._producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))

    def loseConnection(self) -> None:
        """ITransport."""
        assert self._producer is None, "a producer would keep the connection open"
        if self.half_closed or not self.written:
            self.lose(ConnectionDone())
        else:
            self.disconnecting = True

    def abortConnection(self) -> None:
        """ITCPTransport."""
        self.aborted = True
        self.lose(ConnectionLost())

    def loseWriteConnection(self) -> None:
        """ITCPTransport."""
        self.half_closed = True

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """IConsumer."""
        assert streaming
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        """IConsumer."""
        self._producer = None

    def pauseProducing(self) -> None:
        """IPushProducer."""
        self.reading = False

    def resumeProducing(self) -> None:
        """IPushProducer."""
        assert not self.gone
        self.reading = True

    def stopProducing(self) -> None:
        """IPushProducer."""
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        """ITCPTransport."""
        self.no_delay = enabled

    def getTcpNoDelay(self) -> bool:  # noqa: N802
        """ITCPTransport."""
        return self.no_delay

    def getTcpKeepAlive(self) -> bool:  # noqa: N802
        """ITCPTransport."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        """ITCPTransport."""

    def getHandle(self) -> object:  # noqa: N802
        """ISystemHandle: there is no socket."""
        return None

    def getPeer(self) -> IPv4Address:
        """ITransport."""
        return IPv4Address("TCP", "192.0.2.7", 40000)

    def getHost(self) -> IPv4Address:
        """ITransport."""
        return IPv4Address("TCP", "192.0.2.1", 8080)


@define
class Answer:
    """A response as a caller reads it. ``rest``: bytes behind it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes = b""
    chunks: tuple[bytes, ...] = ()


def parse_answer(data: bytes, *, to_head: bool = False) -> Answer:
    """Read one whole response; a cut one raises ValueError."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError(f"no whole head: {data!r}")
    line, *fields = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 ([0-9]{3}) [A-Za-z' -]*", line)
    if match is None:
        raise ValueError(f"no status line: {line!r}")
    headers: dict[str, str] = {}
    for each in fields:
        name, _, value = each.partition(": ")
        if name in headers:
            raise ValueError(f"{name} comes twice")
        headers[name] = value
    status = int(match[1])
    if to_head or status in (204, 304) or status < 200:
        return Answer(status, headers, b"", rest)
    if "content-length" in headers:
        length = int(headers["content-length"])
        if len(rest) < length:
            raise ValueError("the body is cut")
        return Answer(status, headers, rest[:length], rest[length:])
    if headers.get("transfer-encoding") != "chunked":
        return Answer(status, headers, rest)
    chunks: list[bytes] = []
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise ValueError("the body is cut")
        length = int(size, 16)
        if len(rest) < length + 2 or rest[length : length + 2] != b"\r\n":
            raise ValueError("the body is cut")
        if length == 0:
            return Answer(status, headers, b"".join(chunks), rest[2:], tuple(chunks))
        chunks.append(rest[:length])
        rest = rest[length + 2 :]


class HttpGateway:
    """Relay, router and server over agents in memory."""

    def __init__(
        self,
        clock: Any = None,
        *,
        agents: tuple[MemoryAgent, ...] | None = None,
        limits: RelayLimits | None = None,
        http: HttpLimits | None = None,
        resource: AdminResource | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.registry = MemoryRegistry(list((MemoryAgent(),) if agents is None else agents))
        self.lines = MemoryLines()
        self.log = AccessLog(self.lines, self.clock, wall_clock=lambda: WALL)
        self.metrics = Metrics(lambda: self.registry.agents)
        self.relay = Relay(
            self.registry,
            authenticate,
            lambda name: name in ("sales", "empty"),
            self.clock,
            limits or RelayLimits(),
        )
        self.router = Router(
            self.relay,
            authenticate,
            resource or _nothing,
            self.clock,
            self.metrics,
            public={"/healthz": _healthy},
            proxies=lambda peer: peer in ("192.0.2.7", "192.0.2.8"),
            access_log=self.log,
        )
        self.factory = Http1Factory(self.router, self.clock, http, lambda: WALL)

    @property
    def agent(self) -> MemoryAgent:
        """The first agent."""
        return self.registry.agents[0]

    @property
    def stream(self) -> MemoryStream:
        """The first agent's latest stream."""
        return self.agent.opened[-1]

    def connect(self) -> MemoryTransport:
        """A new connection."""
        transport = MemoryTransport()
        transport.protocol = self.factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def send(self, data: bytes) -> MemoryTransport:
        """A new connection with these bytes."""
        transport = self.connect()
        transport.protocol.dataReceived(data)
        return transport

    def call(
        self, method: bytes = b"GET", path: bytes = b"", headers: bytes = b"", body: bytes = b""
    ) -> MemoryTransport:
        """A new connection with a call to the profile ``crm``."""
        return self.send(request(method, CALL + path, headers, body))


async def _nothing(asked: AdminRequest) -> AdminResponse:
    raise Problem("not_found", f"there is no {asked.path}")


async def _healthy(_asked: AdminRequest) -> AdminResponse:
    return AdminResponse(200, {"status": "ok"})


async def echo(asked: AdminRequest) -> AdminResponse:
    """A resource that tells what it sees."""
    return AdminResponse(
        200,
        {
            "method": asked.method,
            "path": asked.path,
            "query": asked.query,
            "body": asked.body.decode("latin-1"),
            "owner": asked.caller.owner,
            "peer": asked.peer,
        },
    )


def request(
    method: bytes, target: bytes, headers: bytes = b"", body: bytes = b"", token: bytes = b"all"
) -> bytes:
    """A request's bytes."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer %b\r\n%b%b\r\n%b" % (
        method,
        target,
        token,
        headers,
        length,
        body,
    )
