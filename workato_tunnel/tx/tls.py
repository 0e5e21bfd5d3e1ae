"""TLS as a tunnel wants it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import directlyProvides, implementer, providedBy

from .direct import DirectWriter


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
    """The TCP connection as TLS writes to it: at once, and in one piece what belongs together.

    Only the transport's half of a wrapper: what comes in goes to TLS directly.
    """

    transport: Any

    def __init__(self, transport: Any, tls: TLSMemoryBIOProtocol) -> None:
        factory: Any = tls.factory
        super().__init__(factory, tls)
        self.transport = transport
        directlyProvides(self, providedBy(transport))
        self._pace = _Pace()
        self._writer = DirectWriter(transport, self._pace)
        self._gathered: list[bytes] | None = None

    def gather(self) -> None:
        """Keep what is written until ``send``."""
        self._gathered = []

    def send(self) -> None:
        """Send what was kept."""
        gathered, self._gathered = self._gathered, None
        if gathered:
            self._writer.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def write(self, data: bytes) -> None:
        if self._gathered is not None:
            self._gathered.append(data)
        else:
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
            self.send()
            self._writer.unregister()
        super().loseConnection()  # type: ignore[no-untyped-call]


class PromptTLSProtocol(TLSMemoryBIOProtocol):
    """Each write is encrypted and sent at once."""

    transport: Any

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        super().makeConnection(_PromptTransport(transport, self))  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        prompt = self.transport
        prompt.gather()
        try:
            super().write(data)  # type: ignore[no-untyped-call]
        finally:
            prompt.send()


class PromptTLSFactory(TLSMemoryBIOFactory):
    """Encrypts and sends what is written at once.

    Twisted's usual transports gather small writes for a turn of the reactor, above TLS and below. A
    session does that itself, by packing, so a second wait would only add latency to each call.
    """

    protocol = PromptTLSProtocol
