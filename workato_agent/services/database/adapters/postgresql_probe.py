"""Finds out what answers on a port that was taken for PostgreSQL's."""

from __future__ import annotations

import struct
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    UserError,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from ...greetings import describe

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
_HTTP_REQUEST: Final = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"
_PATIENCE: Final = 0.4
_ENOUGH: Final = 64


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


async def identify(reactor: Any, host: str, port: int) -> str | None:
    """What listens at ``host:port``, when that is known not to be PostgreSQL.

    Takes little more than a second after connecting, and raises nothing of its own; cancelled, it
    doesn't know.
    """
    listener = _Listener(reactor)
    factory = Factory.forProtocol(lambda: listener)
    factory.noisy = False
    endpoint = HostnameEndpoint(reactor, host, port, timeout=2)
    try:
        await endpoint.connect(factory)
        return describe(await listener.heard)
    except (ConnectError, ConnectingCancelledError, DNSLookupError, UserError):
        return None
