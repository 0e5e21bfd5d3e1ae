"""The gateway's HTTP/1.1 server: connections, framing, timeouts, order.

One connection serves one exchange at a time; what a caller pipelines waits, first here and then in
the caller's own socket. Bodies are handed on as they come, in both directions, each slowed down by
who takes it: nothing is kept but one read and one write of at most 64 KiB each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import (
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from workato_tunnel.problems import Problem
from workato_tunnel.tx.direct import DirectWriter, IConsumingTransport

from .bodies import ChunkedBody, RequestBody, SizedBody, SwitchedBody
from .exchange import MUCH, Exchange, body_too_large
from .heads import (
    MAX_REQUEST_LINE,
    HeadParser,
    RequestHead,
    head_too_large,
    malformed,
    target_too_long,
)
from .problems import refusal
from .sockets import keep_little_unsent, peer_has_ended

if TYPE_CHECKING:
    from .connections import Http1Factory

PIPELINED: Final = 64 * 1024
"""Bytes taken in beyond the request that is being served; then reading stops."""
DISCARDED: Final = 64 * 1024
"""Bytes of an unwanted body that are read away to keep a connection."""
LINGERED: Final = 64 * 1024 * 1024
"""Bytes read away before a close, so that the caller gets to see the answer and not a reset."""
QUIET: Final = 5.0
"""Seconds without a byte after which nothing more is waited for before a close."""
NEVER: Final = float("inf")

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_METHOD_START: Final = re.compile(rb"[A-Za-z]")


class ICallerTransport(IConsumingTransport, ITCPTransport, IPushProducer, ISystemHandle):
    """What a channel asks of its transport; TCP and TLS over it both have it."""


@implementer(IPushProducer)
class Http1Channel(Protocol):
    """One connection. As its transport's producer it stands for the response being written."""

    transport: ICallerTransport
    factory: Http1Factory

    def __init__(self, factory: Http1Factory) -> None:
        self.factory = factory
        self.site = factory.site
        self.expires = NEVER
        self._heads = HeadParser()
        self._buffer = b""
        self._scanned = 0
        self._exchange: Exchange | None = None
        self._body: RequestBody | None = None
        self._discarding: int | None = None
        self._body_paused = False
        self._reading = True
        self._full = False
        self._closing = False
        self._advancing = False
        self._feeding = False
        self._lingering_close = False
        self._lingered = 0
        self._last_moment = NEVER
        self._peer = ""
        self._switched: Exchange | None = None
        self._writer: DirectWriter | None = None

    # Connection

    def connectionMade(self) -> None:
        """Twisted: the connection stands."""
        transport = self.transport
        transport.setTcpNoDelay(True)
        keep_little_unsent(transport)
        self._peer = getattr(transport.getPeer(), "host", "")
        self._writer = DirectWriter(transport, self)
        self.expires = self.factory.clock.seconds() + self.factory.limits.header_timeout
        if not self.factory.connected(self):
            self._refuse(
                Problem(
                    "overloaded",
                    f"the gateway serves {self.factory.limits.connections} connections at most",
                    hint="Keep connections and use them again.",
                    retry_after=5,
                )
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: the connection is gone."""
        self.expires = NEVER
        self._closing = True
        self._buffer = b""
        exchange, self._exchange = self._exchange, None
        self._switched = None
        if exchange is not None:
            exchange.lost()
        self.factory.disconnected(self)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes from the caller."""
        switched = self._switched
        if switched is not None and not (self._body_paused or self._buffer or self._closing):
            switched.pass_on(data)
            return
        if self._closing:
            self._lingered += len(data)
            if self._lingered > LINGERED:
                self.transport.abortConnection()
            else:
                self.expires = min(self._last_moment, self.factory.clock.seconds() + QUIET)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._exchange is None:
            self._advance()
        elif self._body is not None and self._exchange.body_wanted:
            self.feed_body()
        elif len(self._buffer) >= PIPELINED:
            self._set_reading()

    # Requests

    def _advance(self) -> None:
        """Serve what is in the buffer, one request after the other."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._exchange is None and not self._closing and not self._full:
                if self._discarding is not None and not self._discard():
                    break
                if not self._buffer or not self._next_request():
                    break
        finally:
            self._advancing = False
        self._set_reading()

    def _next_request(self) -> bool:
        """Begin the request in the buffer; False when its head is not complete."""
        buffer = self._buffer
        if buffer.startswith((b"\r", b"\n")):
            # RFC 9112, 2.2: an empty line before a request line may be there, and is no request.
            if buffer == b"\r":
                return False
            if not buffer.startswith(b"\r\n"):
                self._refuse(malformed("lines end with CR LF"))
                return False
            self._buffer = buffer[2:]
            return bool(self._buffer)
        end = buffer.find(b"\r\n\r\n", self._scanned)
        try:
            if end < 0 or end + 4 > self.factory.limits.header_bytes:
                self._check_partial(buffer)
                return False
            if buffer.find(b"\r\n", 0, MAX_REQUEST_LINE) < 0:
                raise target_too_long()
            data = buffer[: end + 4] if len(buffer) > end + 4 else buffer
            head = self._heads.parse(data)
        except Problem as problem:
            self._refuse(problem)
            return False
        self._buffer = buffer[end + 4 :]
        self._scanned = 0
        self._begin(head)
        return True

    def _begin(self, head: RequestHead) -> None:
        if head.chunked:
            self._body = ChunkedBody()
        elif head.length:
            self._body = SizedBody(head.length)
        elif head.upgrade:
            self._body = SwitchedBody()
        now = self.factory.clock.seconds()
        exchange = self._exchange = Exchange(self, head, self._peer, now)
        self.expires = NEVER
        self.site.request_received(exchange)

    def _check_partial(self, buffer: bytes) -> None:
        """Raises Problem where the incomplete head in the buffer can't become a good one."""
        limit = self.factory.limits.header_bytes
        if len(buffer) >= limit:
            raise head_too_large(f"the head is limited to {limit} bytes")
        if not _METHOD_START.match(buffer):
            raise malformed("this is not HTTP; does the caller speak TLS to a plain-text port?")
        if _BARE_LF.search(buffer, max(0, self._scanned - 1)):
            raise malformed("lines end with CR LF")
        if len(buffer) >= MAX_REQUEST_LINE and buffer.find(b"\r\n", 0, MAX_REQUEST_LINE) < 0:
            raise target_too_long()
        now = self.factory.clock.seconds()
        if not self._scanned:
            self.expires = now + self.factory.limits.header_timeout
        self._scanned = max(1, len(buffer) - 3)

    def _refuse(self, problem: Problem) -> None:
        """Answer what is no request, and trust nothing that follows."""
        head = RequestHead("GET", "*", True, [], {})
        head.keep_alive = False
        self._buffer = b""
        self._lingering_close = True
        exchange = self._exchange = Exchange(self, head, self._peer, self.factory.clock.seconds())
        self.site.refused(exchange, problem)

    # Request bodies

    @property
    def body_outstanding(self) -> bool:
        """The body is not there yet, not even in part."""
        return self._body is not None and not self._buffer

    def feed_body(self) -> None:
        """Hand on what is there of the body."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while (
                (body := self._body) is not None
                and self._buffer
                and not self._body_paused
                and (exchange := self._exchange) is not None
                and exchange.body_wanted
            ):
                try:
                    content, self._buffer = body.take(self._buffer)
                except Problem as problem:
                    self._body_broken(exchange, problem)
                    return
                if body.ended:
                    self._body = None
                listener = exchange.listener
                if content:
                    exchange.bytes_in += len(content)
                    limit = exchange.body_limit
                    if limit is not None and exchange.bytes_in > limit:
                        exchange.break_off(body_too_large(limit))
                        return
                    if listener is not None:
                        listener.body_received(content)
                if body.ended:
                    listener = exchange.listener
                    if listener is not None:
                        listener.body_ended()
                elif not content:
                    break
        finally:
            self._feeding = False
        self._set_reading()

    def _body_broken(self, exchange: Exchange, problem: Problem) -> None:
        self._buffer = b""
        self._lingering_close = True
        exchange.head.keep_alive = False
        exchange.break_off(problem)

    def pause_body(self) -> None:
        """Hand on nothing more of the body."""
        self._body_paused = True
        self._set_reading()

    def resume_body(self) -> None:
        """Hand on more of the body."""
        if self._body_paused:
            self._body_paused = False
            self.feed_body()

    def _set_reading(self) -> None:
        """Read from the socket, or not."""
        if self._closing:
            return
        if self._body is not None and self._exchange is not None:
            # What came of a body nobody has asked for yet waits, one read of it.
            wanted = not self._body_paused and (self._exchange.body_wanted or not self._buffer)
        else:
            wanted = len(self._buffer) < PIPELINED
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _discard(self) -> bool:
        """Read away an unwanted body; True when that is done and the next request may come."""
        body = self._body
        if body is not None:
            try:
                content, self._buffer = body.take(self._buffer)
            except Problem:
                self._close(linger=True)
                return False
            self._discarding = (self._discarding or 0) - len(content)
            if not body.ended:
                if self._discarding < 0:
                    self._close(linger=True)
                return False
            self._body = None
        self._discarding = None
        return True

    # Responses

    def write(self, data: bytes) -> None:
        """Send bytes of a response: at once, or with what else this turn brings if they are few."""
        writer = self._writer
        if writer is None:
            self.transport.write(data)
        elif self._switched is not None or len(data) >= MUCH:
            writer.write(data)
        else:
            writer.gather(data)

    def write_pieces(self, pieces: Sequence[bytes]) -> None:
        """Send many bytes of a response."""
        if self._writer is None:
            self.transport.write(b"".join(pieces))
        else:
            self._writer.write_pieces(pieces)

    def switch(self, exchange: Exchange) -> None:
        """From here on bytes go both ways as they are, each as soon as it is there."""
        self._switched = exchange

    def may_persist(self, exchange: Exchange) -> bool:
        """Whether the connection can serve another request after this one, as it looks now."""
        if self.factory.draining or self._lingering_close:
            return False
        body = self._body
        if body is None or exchange.body_wanted:
            return True
        return not exchange.awaits_continue and (body.remaining or DISCARDED + 1) <= DISCARDED

    def response_finished(self, exchange: Exchange) -> None:
        """The exchange is answered whole: go on with the next one, or close."""
        self._exchange = None
        self._body_paused = False
        self.site.exchange_ended(exchange)
        response = exchange.response
        if response is None or not response.persistent or self.factory.draining:
            self._close(linger=self._lingering_close or self._body is not None)
            return
        if self._body is not None:
            self._discarding = DISCARDED
        limits = self.factory.limits
        self.expires = self.factory.clock.seconds() + limits.idle_timeout
        if self._buffer or not self._reading:
            self._advance()

    def response_cut(self, exchange: Exchange, *, flush: bool) -> None:
        """The exchange can't be answered whole: the caller has to see that.

        :param flush: after what was written, by an end without the body's own.
        """
        self._exchange = None
        if flush:
            self._close(linger=False)
        else:
            self._closing = True
            self._buffer = b""
            self._unregister()
            self.transport.abortConnection()
        self.site.exchange_ended(exchange)

    def _close(self, *, linger: bool) -> None:
        self._closing = True
        self._buffer = b""
        transport = self.transport
        self._unregister()
        now = self.factory.clock.seconds()
        self.expires = self._last_moment = now + self.factory.limits.linger
        if not linger:
            transport.loseConnection()
            return
        self.expires = min(self._last_moment, now + QUIET)
        # Closing a socket with unread input resets it, and a reset may overtake the answer.
        if not self._reading:
            self._reading = True
            transport.resumeProducing()
        if not ISSLTransport.providedBy(transport):
            transport.loseWriteConnection()

    def _unregister(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.unregister()

    # The transport's producer: the response

    def pauseProducing(self) -> None:
        """Twisted: the caller reads slowly."""
        self._full = True
        if self._exchange is not None and self._exchange.listener is not None:
            self._exchange.listener.pause_response()

    def resumeProducing(self) -> None:
        """Twisted: the caller has taken what was written."""
        self._full = False
        if self._exchange is None:
            if not self._closing:
                self._advance()
        elif self._exchange.listener is not None:
            self._exchange.listener.resume_response()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; connectionLost tells the rest."""

    # Time

    def check(self, now: float) -> None:
        """Called by the factory's sweep."""
        exchange = self._exchange
        if now >= self.expires:
            self.expires = NEVER
            if self._closing:
                self.transport.abortConnection()
            elif exchange is not None:
                if exchange.listener is not None:
                    exchange.listener.expired()
            elif self._buffer:
                self._refuse(
                    refusal(408, "Request timeout", "the request's head did not come in time")
                )
            else:
                self._close(linger=False)
        elif not self._reading and exchange is not None and peer_has_ended(self.transport):
            self.transport.abortConnection()

    def shut(self) -> None:
        """The gateway is draining: leave when idle, else after the response."""
        if self._exchange is None and not self._closing:
            self._close(linger=False)
