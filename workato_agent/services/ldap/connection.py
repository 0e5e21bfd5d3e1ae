"""One connection to a directory server: a request at a time, its answers at the reader's pace."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ldaptor.protocols import pureldap
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .. import greetings
from .failures import Lost
from .replies import (
    DISCONNECTING,
    Malformed,
    Reply,
    Result,
    id_of,
    length_of,
    reply_of,
)
from .settings import Server

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one message, as of one entry."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of answers that may wait for their reader; then reading from the socket stops."""
GOODBYE: Final = 1.0
"""Seconds for the server to take what is left when a connection is closed."""

Controls = list[tuple[bytes, bool | None, bytes]]


class Exchange:
    """A request that was sent, and its answers in order.

    :ivar sent_at: in the clock's seconds. ``answered``: something has come.
    :ivar over: the last answer has been read.
    """

    def __init__(self, connection: LdapConnection, ident: int, now: float) -> None:
        self.sent_at = now
        self.answered = False
        self.over = False
        self.ident = ident
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._waiting: Deferred[None] | None = None

    async def reply(self) -> Reply:
        """The next answer. Raises Lost when the connection ends before."""
        while True:
            while not self._messages:
                if (error := self._connection.lost) is not None:
                    raise error
                self._waiting = Deferred()
                try:
                    await self._waiting
                finally:
                    self._waiting = None
            message = self._messages.popleft()
            self._size -= len(message)
            if self._size < HIGH_WATER:
                self._connection.resume()
            try:
                reply = reply_of(message)
            except Malformed as error:
                raise self._connection.fail("malformed", str(error)) from error
            if isinstance(reply, Result):
                self.over = True
                self._connection.ended(self)
            if reply is not None:
                return reply

    async def result(self) -> Result:
        """The answer to a request that has one only. Raises Lost."""
        reply = await self.reply()
        if not isinstance(reply, Result):
            raise self._connection.fail("malformed", "an answer that was not asked for")
        return reply

    def feed(self, message: bytes) -> bool:
        """A message came; whether more may come at once."""
        self.answered = True
        self._messages.append(message)
        self._size += len(message)
        self.wake()
        return self._size < HIGH_WATER

    def wake(self) -> None:
        """Look again."""
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)


@implementer(IHandshakeListener)
class LdapConnection(Protocol):
    """A connection to a server.

    :ivar lost: why it can't be used any more; None while it can.
    :ivar secured: fires after the TLS handshake, fails when the connection ends before.
    :ivar is_secured: the handshake is over.
    :ivar gone: fires when the socket is closed.
    :ivar greeting: what came first, for a server that turns out to be no directory.
    :ivar served: requests that were answered.
    :ivar kept: it has been in the pool since. ``idle_since``: in the clock's seconds.
    """

    transport: Any

    def __init__(self, server: Server, clock: IReactorTime) -> None:
        self.server = server
        self.lost: Lost | None = None
        self.secured: Deferred[None] = Deferred()
        self.is_secured = False
        self.gone: Deferred[None] = Deferred()
        self.greeting = b""
        self.served = 0
        self.kept = False
        self.idle_since = 0.0
        self._clock = clock
        self._buffer = bytearray()
        self._last_id = 0
        self._exchange: Exchange | None = None
        self._paused = False
        self._closing: IDelayedCall | None = None

    # -- what Twisted tells --------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Twisted: it stands."""
        self.transport.setTcpNoDelay(True)

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """Twisted: TLS is on."""
        self.is_secured = True
        if not self.secured.called:
            self.secured.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes from the server."""
        if len(self.greeting) < greetings.ENOUGH:
            self.greeting += data[: greetings.ENOUGH]
        self._buffer += data
        try:
            while self.lost is None:
                length = length_of(self._buffer)
                if length is not None and length > MAX_MESSAGE:
                    self.fail("too_large", f"one entry or answer has more than {MAX_MESSAGE} bytes")
                if length is None or len(self._buffer) < length:
                    break
                message = bytes(memoryview(self._buffer)[:length])
                del self._buffer[:length]
                self._received(message)
        except Malformed as error:
            self.fail("malformed" if self.served else "wrong_type", str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is gone."""
        if self.lost is None:
            self.lost = Lost("closed", "the directory closed the connection")
        if not self.secured.called:
            self.secured.errback(reason)
            self.secured.addErrback(lambda _failure: None)
        if self._exchange is not None:
            self._exchange.wake()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.gone.callback(None)

    # -- for its user --------------------------------------------------------------------------

    def send(self, operation: Any, controls: Controls | None = None) -> Exchange:
        """Send a request of ldaptor's. Raises Lost. The exchange before has to be over."""
        if self.lost is not None:
            raise self.lost
        self._exchange = Exchange(self, self._next_id(), self._clock.seconds())
        self._write(operation, self._exchange.ident, controls)
        return self._exchange

    def abandon(self) -> None:
        """Tell the server that nobody wants the answer, and close."""
        if self._exchange is not None and self.lost is None:
            operation = pureldap.LDAPAbandonRequest(id=self._exchange.ident)
            self._write(operation, self._next_id(), None)
        self.close()

    def close(self) -> None:
        """Say goodbye and close; what was asked is answered no more."""
        if self.lost is None:
            self._write(pureldap.LDAPUnbindRequest(), self._next_id(), None)
            self.lost = Lost("closed", "the agent closed the connection")
            # A peer that does not take what is left, or hangs in TLS, must not keep it open.
            self._closing = self._clock.callLater(GOODBYE, self.transport.abortConnection)
            self.transport.loseConnection()

    def fail(self, reason: str, detail: str) -> Lost:
        """Close it as unusable; the error to raise."""
        if self.lost is None:
            self.lost = Lost(reason, detail)
            self.transport.abortConnection()
            if self._exchange is not None:
                self._exchange.wake()
        return self.lost

    def start_tls(self, creator: IOpenSSLClientConnectionCreator) -> None:
        """Go on with TLS. What the server sent in the clear behind its consent is not taken."""
        if self._buffer:
            raise self.fail("malformed", "something followed the answer to StartTLS in the clear")
        self.transport.startTLS(creator)

    def tls_version(self) -> str | None:
        """``TLSv1.3``; None without TLS."""
        if not self.is_secured:
            return None
        version: str = self.transport.getHandle().get_protocol_version_name()
        return version

    def silence(self) -> float:
        """Seconds for which nothing at all has come to what was asked last, while it might."""
        exchange = self._exchange
        if exchange is None or exchange.answered or self.lost is not None:
            return 0.0
        return self._clock.seconds() - exchange.sent_at

    def resume(self) -> None:
        """The reader has room."""
        if self._paused and self.lost is None:
            self._paused = False
            self.transport.resumeProducing()

    def ended(self, exchange: Exchange) -> None:
        """An exchange is over."""
        if self._exchange is exchange:
            self._exchange = None
            self.served += 1

    # -- inside --------------------------------------------------------------------------------

    def _next_id(self) -> int:
        self._last_id = self._last_id % (2**31 - 1) + 1
        return self._last_id

    def _write(self, operation: Any, ident: int, controls: Controls | None) -> None:
        message = pureldap.LDAPMessage(operation, controls=controls, id=ident)
        self.transport.write(message.toWire())

    def _received(self, message: bytes) -> None:
        ident = id_of(message)
        exchange = self._exchange
        if ident == 0:
            self._told(message)
        elif (
            exchange is not None
            and exchange.ident == ident
            and not exchange.feed(message)
            and not self._paused
        ):
            self._paused = True
            self.transport.pauseProducing()

    def _told(self, message: bytes) -> None:
        """An unsolicited notification."""
        reply = reply_of(message)
        if isinstance(reply, Result) and reply.name == DISCONNECTING:
            self.fail("notice", f"the directory ends the connection: {reply.message}")
