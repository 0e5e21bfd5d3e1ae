"""Finds out what answers on a port that hangs up on HTTP."""

from __future__ import annotations

import struct
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from .. import greetings
from .failures import CONNECT_FAILURES

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
"""PostgreSQL's manual, "Message Formats"; answered with one byte."""
_GREETS_WITHIN: Final = 0.1
_ANSWERS_WITHIN: Final = 0.4


class _Listener(Protocol):
    """Waits for a greeting, then asks for TLS in PostgreSQL's way.

    ``heard`` fires with what comes first, b"" for nothing.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._patience: IDelayedCall | None = None
        self.heard: Deferred[bytes] = Deferred(lambda _heard: self._end(b""))

    def connectionMade(self) -> None:
        self._patience = self._clock.callLater(_GREETS_WITHIN, self._ask)

    def _ask(self) -> None:
        self._patience = self._clock.callLater(_ANSWERS_WITHIN, self._end, b"")
        if self.transport is not None:
            self.transport.write(_SSL_REQUEST)

    def dataReceived(self, data: bytes) -> None:
        self._end(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(b"")

    def _end(self, data: bytes) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if not self.heard.called:
            self.heard.callback(data)
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


async def identify(clock: IReactorTime, endpoint: IStreamClientEndpoint) -> str | None:
    """What answers there, when it is known and no HTTP; within half a second once connected."""
    factory = Factory.forProtocol(lambda: _Listener(clock))
    factory.noisy = False
    try:
        listener = cast("_Listener", await endpoint.connect(factory))
    except CONNECT_FAILURES:
        return None
    heard = await listener.heard
    if heard in (b"S", b"N"):
        return "a PostgreSQL server"
    name = greetings.describe(heard[: greetings.ENOUGH])
    return None if name == greetings.HTTP else name
