"""The connection to the target: bytes in and out, held back by whoever is slow."""

from __future__ import annotations

from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer

from workato_tunnel.settings import DATA_SIZE
from workato_tunnel.tx.direct import DirectWriter, IConsumingTransport

READ_SIZE: Final = DATA_SIZE - 24
"""Bytes of one read: with the heads that come before it it fills one DATA frame, and leaves no
remainder that costs a frame of its own."""
LINGER: Final = 30.0
"""Seconds for a target to take what was sent to it before both sides ended."""


class ITargetTransport(IConsumingTransport, ITCPTransport, IPushProducer):
    """What a link asks of its transport; every TCP connection has it."""

    bufferSize = Attribute("Bytes of one read.")  # noqa: N815


class LinkOwner(Interface):
    """Who is told of what the target does."""

    def target_sent(self, data: bytes) -> None: ...

    def target_ended(self) -> None:
        """Nothing more comes from the target: :attr:`TargetLink.lost` tells why, if it was cut."""

    def target_full(self) -> None:
        """The target takes slowly: send no more for now."""

    def target_ready(self) -> None:
        """The target takes again."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class TargetLink(Protocol):
    """A TCP connection to the target. Nothing is read from it before ``begin``.

    :ivar lost: why it ended before its time; None while it stands, or when it ended in order.
    :ivar gone: neither way is open any more.
    """

    transport: ITargetTransport
    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.lost: BaseException | None = None
        self.gone = False
        self._reactor = reactor
        self._owner: LinkOwner | None = None
        self._ended = False
        self._writer: DirectWriter | None = None
        self._overdue: IDelayedCall | None = None

    def begin(self, owner: LinkOwner) -> None:
        """From here on ``owner`` is told."""
        self._owner = owner
        if self._ended:
            owner.target_ended()
        else:
            self.transport.resumeProducing()

    # -- what Twisted tells

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.bufferSize = READ_SIZE
        self.transport.pauseProducing()
        self._writer = DirectWriter(self.transport, self)

    def dataReceived(self, data: bytes) -> None:
        if self._owner is None:
            return
        try:
            self._owner.target_sent(data)
        except Exception:  # noqa: BLE001 - the connection ends, and the log says why
            self._log.failure("Forwarding a connection failed", event="tcp_forward_broke")
            self.close()

    def readConnectionLost(self) -> None:
        self._end_reading()

    def writeConnectionLost(self) -> None:
        """Our own end has been sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not reason.check(ConnectionDone):
            self.lost = reason.value
        self.gone = True
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        if self._ended and self.lost is not None and self._owner is not None:
            # It had said all it had to say, and now takes nothing any more either.
            self._owner.target_ended()
        self._end_reading()

    def _end_reading(self) -> None:
        if not self._ended:
            self._ended = True
            if self._owner is not None:
                self._owner.target_ended()

    # -- what its owner asks

    def write(self, data: bytes) -> None:
        """Send. No-op after ``end``, ``leave`` and ``close``."""
        if self._writer is not None and not self.gone:
            self._writer.write(data)

    def hold(self) -> None:
        """Read no more for now."""
        if not self._ended:
            self.transport.pauseProducing()

    def go_on(self) -> None:
        """Read again."""
        if not self._ended:
            self.transport.resumeProducing()

    def end(self) -> None:
        """Nothing more will be sent."""
        if self._stop_writing():
            self.transport.loseWriteConnection()

    def leave(self) -> None:
        """Close it in good order: what was written is sent first, if that takes no longer than
        :data:`LINGER`."""
        if not self.gone and self._overdue is None:
            self._stop_writing()
            self._overdue = self._reactor.callLater(LINGER, self._abort)
            self.transport.loseConnection()

    def close(self) -> None:
        """Let go of it at once, unless it is being left."""
        if not self.gone and self._overdue is None:
            self._stop_writing()
            self.transport.abortConnection()

    def _abort(self) -> None:
        self._overdue = None
        self.transport.abortConnection()

    def _stop_writing(self) -> bool:
        writer, self._writer = self._writer, None
        if writer is None or self.gone:
            return False
        writer.unregister()
        return True

    # -- the producer of what is written

    def pauseProducing(self) -> None:
        if self._owner is not None:
            self._owner.target_full()

    def resumeProducing(self) -> None:
        if self._owner is not None:
            self._owner.target_ready()

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost tells the rest."""
