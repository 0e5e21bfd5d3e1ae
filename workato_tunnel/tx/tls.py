"""TLS as a tunnel wants it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import directlyProvides, implementer, providedBy

from .direct import DirectWriter

RECORD: Final = 16 * 1024
"""Bytes of the largest record (RFC 8446, section 5.1)."""
_OVERHEAD: Final = 1024
"""Bytes that encryption adds to a message, and some."""


@implementer(IPushProducer)
class _Pace:
    """Passes on to the producer of the moment, if there is one.

    :ivar gone: so is the connection.
    """

    def __init__(self) -> None:
        self.producer: IPushProducer | None = None
        self.gone = False

    def pauseProducing(self) -> None:
        if self.producer is not None:
            self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self.producer is not None:
            self.producer.resumeProducing()

    def stopProducing(self) -> None:
        self.gone = True
        if self.producer is not None:
            self.producer.stopProducing()


class _PromptTransport(ProtocolWrapper):
    """The TCP connection as TLS writes to it: at once.

    Only the transport's half of a wrapper: what comes in goes to TLS directly.
    """

    transport: Any

    def __init__(self, transport: Any, tls: PromptTLSProtocol) -> None:
        self._tls = tls
        factory: Any = tls.factory
        super().__init__(factory, tls)
        self.transport = transport
        directlyProvides(self, providedBy(transport))
        self._pace = _Pace()
        self._writer = DirectWriter(transport, self._pace)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._pace.producer is not None:
            raise RuntimeError("the transport has a producer already")
        if self._pace.gone:
            producer.stopProducing()
        else:
            self._pace.producer = producer

    def unregisterProducer(self) -> None:
        self._pace.producer = None

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self._tls.send_encrypted()
            self._writer.unregister()
        super().loseConnection()  # type: ignore[no-untyped-call]


class PromptTLSProtocol(TLSMemoryBIOProtocol):
    """Each write is encrypted and sent at once, in one piece."""

    transport: Any
    _writing = False

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        super().makeConnection(_PromptTransport(transport, self))  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        self._writing = True
        try:
            # A view, because Twisted cuts it into records.
            super().write(memoryview(data) if len(data) > RECORD else data)  # type: ignore[no-untyped-call]
        finally:
            self._writing = False
            self.send_encrypted(len(data))

    def _flushSendBIO(self) -> None:  # noqa: N802
        # Twisted asks after each record.
        if not self._writing:
            super()._flushSendBIO()  # type: ignore[no-untyped-call]

    def send_encrypted(self, size: int = 0) -> None:
        """Send what TLS has encrypted, which should be about ``size`` bytes."""
        size += _OVERHEAD
        connection = self.getHandle()  # type: ignore[no-untyped-call]
        pieces = []
        while connection is not None:
            try:
                piece = connection.bio_read(size)
            except SSL.WantReadError:
                break
            pieces.append(piece)
            if len(piece) < size:
                break
        if pieces:
            self.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


class PromptTLSFactory(TLSMemoryBIOFactory):
    """Encrypts and sends what is written at once.

    Twisted's usual transports gather small writes for a turn of the reactor, above TLS and below. A
    session does that itself, by packing, so a second wait would only add latency to each call.
    """

    protocol = PromptTLSProtocol
