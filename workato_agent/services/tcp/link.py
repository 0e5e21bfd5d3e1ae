"""The connection to the target: bytes in and out, held back by whoever is slow."""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

HIGH_WATER: Final = 256 * 1024
"""Bytes from the target that may wait for the caller; then reading stops."""


class ITargetTransport(ITCPTransport, IConsumer, IPushProducer):
    """What a link asks of its transport; every TCP connection has it."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class TargetLink(Protocol):
    """A TCP connection to the target.

    :ivar lost: why it ended before its time; None while it stands, or when it ended in order.
    :ivar ended: nothing more comes from the target.
    :ivar gone: neither way is open any more.
    """

    transport: ITargetTransport

    def __init__(self) -> None:
        self.lost: BaseException | None = None
        self.ended = False
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._reader: Deferred[None] | None = None
        self._writer: Deferred[None] | None = None
        self._reading = True
        self._writable = True
        self.gone = False

    def connectionMade(self) -> None:
        """Twisted: it stands."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes from the target."""
        self._chunks.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= HIGH_WATER and self._reading:
            self._reading = False
            self.transport.pauseProducing()
        self._wake_reader()

    def readConnectionLost(self) -> None:
        """Twisted: the target has said all."""
        self.ended = True
        self._wake_reader()

    def writeConnectionLost(self) -> None:
        """Twisted: our own end has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is gone."""
        if not reason.check(ConnectionDone):
            self.lost = reason.value
        self.ended = self.gone = True
        self._wake_reader()
        self._wake_writer()

    async def read(self) -> bytes:
        """What has come; empty at the end."""
        while not self._chunks:
            if self.ended:
                return b""
            self._reader = Deferred()
            try:
                await self._reader
            finally:
                self._reader = None
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._waiting_bytes = 0
        if not self._reading and not self.gone:
            self._reading = True
            self.transport.resumeProducing()
        return data

    async def write(self, data: bytes) -> None:
        """Send; returns when the target keeps up."""
        if not self.gone:
            self.transport.write(data)
        while not (self._writable or self.gone):
            self._writer = Deferred()
            try:
                await self._writer
            finally:
                self._writer = None

    def end(self) -> None:
        """Nothing more will be sent."""
        if not self.gone:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """Let go of it at once."""
        if not self.gone:
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Twisted: the target takes slowly."""
        self._writable = False

    def resumeProducing(self) -> None:
        """Twisted: the target takes again."""
        self._writable = True
        self._wake_writer()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; connectionLost tells the rest."""

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.called:
            self._reader.callback(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.called:
            self._writer.callback(None)
