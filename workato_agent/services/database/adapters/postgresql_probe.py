"""Finds out what answers on a port that was taken for PostgreSQL's."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, UserError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
_HTTP_REQUEST: Final = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"
_PATIENCE: Final = 0.4
_ENOUGH: Final = 64
_BANNERS: Final = (
    (rb"HTTP/", "an HTTP server"),
    (rb"SSH-", "an SSH server"),
    (rb"^...\x00[\x0a\xff]", "a MySQL or MariaDB server"),
    (rb"^-(ERR|NOAUTH|DENIED)", "a Redis server"),
    (rb"^\x15\x03", "a TLS server, HTTPS perhaps,"),
    (rb"^220[ -]", "a mail or FTP server"),
    (rb"^\x04\x01", "a SQL Server"),
)


class _Listener(Protocol):
    """Offers what PostgreSQL would answer, then what HTTP would, and keeps what comes back."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._data = b""
        self._timers: list[Any] = []
        self.heard: Deferred[bytes] = Deferred(lambda _waiting: self._finish())

    def connectionMade(self) -> None:
        self._write(_SSL_REQUEST)
        self._timers = [
            self._clock.callLater(_PATIENCE, self._write, _HTTP_REQUEST),
            self._clock.callLater(3 * _PATIENCE, self._finish),
        ]

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        is_postgresql = self._data in (b"S", b"N", b"G")
        if is_postgresql or len(self._data) >= _ENOUGH or describe(self._data) is not None:
            self._finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish()

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _finish(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        if self.transport is not None:
            self.transport.loseConnection()
        if not self.heard.called:
            self.heard.callback(self._data)


def describe(banner: bytes) -> str | None:
    """What a server that says this is; None when it may be PostgreSQL or nobody knows."""
    for pattern, name in _BANNERS:
        if re.search(pattern, banner, re.DOTALL):
            return name
    return None


async def identify(reactor: Any, host: str, port: int) -> str | None:
    """What listens at ``host:port``, when that is known not to be PostgreSQL.

    Takes little more than a second after connecting, and raises nothing of its own.
    """
    listener = _Listener(reactor)
    endpoint = HostnameEndpoint(reactor, host, port, timeout=2)
    try:
        await endpoint.connect(Factory.forProtocol(lambda: listener))
        return describe(await listener.heard)
    except (ConnectError, DNSLookupError, UserError):
        return None
