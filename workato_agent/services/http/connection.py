"""One HTTP/1.1 connection to the target: one call at a time, kept alive between them (RFC 9112)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .. import greetings
from . import failures, switching
from .fields import Answer, MalformedFields, incoming
from .lastwords import LastWords
from .messages import Incoming, Outgoing
from .patience import Patience
from .sending import RequestSender, Unsent, Wire
from .streaming import IncomingBody
from .target import Origin

_AT_ONCE: Final = getattr(socket, "MSG_DONTWAIT", 0)
"""Windows has no such flag; the reactor's sockets don't wait anyway."""

FIELDS_LIMIT: Final = 56 * 1024
"""Bytes of a response's fields: what passes fits the tunnel. Trailers have as much again."""
HEAD_LIMIT: Final = 64 * 1024
"""Bytes that a target may send without completing a head, a trailer or a piece of a body."""
WHOLE_LIMIT: Final = 64 * 1024
"""A body that says it is no longer than this is handed over whole."""

_NO_BODY: Final = (204, 304)


class ConnectionOwner(Protocol):
    """Who keeps the connection when no call is on it."""

    def released(self, connection: HttpConnection) -> None:
        """The call is over and the connection fit for the next one."""

    def gone(self, connection: HttpConnection) -> None:
        """The connection is closed or will be in a moment; called once."""


class _Malformed(Exception):
    """Raised out of the parser's callbacks."""


@implementer(IHandshakeListener)
class HttpConnection(TwistedProtocol):
    """The client's end of a connection.

    :ivar secured: fires when the TLS handshake is over, fails when the connection ends before.
    :ivar is_secured: the handshake is over.
    :ivar ended: fires when the transport is closed.
    :ivar served: calls answered so far.
    :ivar greeting: what the target said before it was asked anything, which HTTP servers don't.
    :ivar logged_in: the target knows who speaks on it (NTLM).
    :ivar kept: how long the target says it keeps an idle connection, in seconds.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, origin: Origin, owner: ConnectionOwner, patience: float = 0.0
    ) -> None:
        """
        :param patience: seconds without a byte after which a target that owes an answer is given
            up; 0: never.
        """
        self._clock = clock
        self._patience = Patience(clock, patience, self._owed, self._on_silence)
        self._origin = origin
        self._owner = owner
        self.secured: Deferred[None] = Deferred()
        self.is_secured = False
        self.ended: Deferred[None] = Deferred()
        self.served = 0
        self.greeting = b""
        self.logged_in = False
        self.kept: int | None = None
        self.idle_since = 0.0
        self._socket: socket.socket | None = None
        self._last_words = LastWords()
        self._closed = False
        self._held = False
        self._secure = False
        self._parser = HttpResponseParser(self)
        self._wire: Wire
        self._sender: RequestSender
        self._reset()

    def _reset(self) -> None:
        """Ready for a call."""
        self._busy = self._hold = False
        self._head_only = False
        self._passage: AsyncIterator[bytes] | None = None
        self._accepted: list[tuple[str, str]] | None = None
        self._switched = False
        self._waiting: Deferred[Incoming] | None = None
        self._body: IncomingBody | None = None
        self._raw: list[tuple[bytes, bytes]] = []
        self._answer: Answer | None = None
        self._status = 0
        self._interim = 0
        self._complete = False
        self._reusable = False
        self._until_close = False
        self._begun = False
        self._pieces: list[bytes] = []
        self._received = 0
        self._fields_size = 0
        self._quiet = 0

    # -- the transport's side

    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._secure = ISSLTransport.providedBy(transport)
        if not self._secure:
            handle = getattr(transport, "getHandle", lambda: None)()
            self._socket = handle if isinstance(handle, socket.socket) else None
        self._wire = cast("Wire", transport)
        self._sender = RequestSender(self._wire, self._socket, self._clock, self._not_sent)

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        self.is_secured = True
        if not self.secured.called:
            self.secured.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if not self._busy or self._closed:
            if not self.served:
                self.greeting = self.greeting or data[: greetings.ENOUGH]
            self.abort()
            return
        if self._switched and self._body is not None:
            self._received += len(data)
            self._body.push([data])
            return
        self._patience.heard()
        first = b"" if self._begun else data
        self._begun = True
        before = self._received
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._reusable = False
            if self._accepted is not None and isinstance(error, HttpParserUpgrade):
                self._switch(self._accepted, data[error.args[0] :])
                return
            if not self._complete:
                self._refuse(error, first)
                return
        if self._complete:
            if self._head_only:
                self._parser = HttpResponseParser(self)
                self._reusable = self._reusable and data.endswith(b"\n\r\n")
            self._finish()
            return
        if self._received == before:
            self._quiet += len(data)
            if self._quiet > HEAD_LIMIT:
                self._fail(failures.not_http(self._origin, "a head or trailer above 56 KiB"))
                return
        if self._sender.sending:
            self._steer_upload()
        if self._answer is not None:
            self._hand_over(self._answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._socket = None
        self._read_rest()
        # A WebSocket says itself whether it ended in order, and servers often close it without
        # TLS's goodbye: to cut the caller off for that would cost it the application's last words.
        clean = self._switched or reason.check(ConnectionDone) is not None
        whole = self._until_close and clean
        self._close()
        if self._secure and not self.secured.called:
            self.secured.errback(reason)
        if self._busy:
            if whole:
                self._finish()
            else:
                self._fail(self._lost(reason))
        self.ended.callback(None)

    def _lost(self, reason: Failure) -> Exception:
        if not self._begun:
            return failures.ConnectionDied(reason)
        if self._answer is None:
            return failures.not_http(
                self._origin, "the connection closed within the response's head"
            )
        return failures.cut(self._origin, self._received, self._answer.length)

    # -- one call

    def usable(self) -> bool:
        """Whether the target still holds its end open, as far as the kernel knows by now."""
        if self._closed:
            return False
        if self._socket is None:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK | _AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # closed, or bytes that nobody asked for

    def exchange(self, outgoing: Outgoing) -> Deferred[Incoming]:
        """Send a request; fires with the response once its head is there (its whole, when short).

        Fails with ConnectionDied when no byte of a response came, with Problem, or with what the
        request's body raised. Cancelling closes the connection.
        """
        waiting: Deferred[Incoming] = Deferred(self._cancelled)
        self._busy = True
        self._held = False
        self._hold = outgoing.hold
        self._waiting = waiting
        self._head_only = outgoing.method == "HEAD"
        self._passage = outgoing.passage
        try:
            self._sender.send(outgoing.head, outgoing.upload)
        except Unsent as error:
            self._not_sent(error)
        under_way = self._sender.sending or not self._sender.flushed
        if under_way and self._socket is not None and not self._closed:
            self._last_words.listen(self._socket)
        if self._busy:
            self._patience.begin()
        return waiting

    def let_go(self) -> None:
        """The caller who held the connection doesn't go on with it."""
        self._hold = False
        if self._held:
            self._held = False
            if not self._closed:
                self._owner.released(self)

    def _owed(self) -> bool:
        """Whether it is the target's turn, and not ours to send or to take what is there."""
        return not (self._sender.sending or (self._body is not None and self._body.paused))

    def _on_silence(self) -> None:
        self._fail(failures.silent(self._origin, self._patience.limit))

    def _read_rest(self) -> None:
        """Read what the target had answered before it cut an upload off."""
        for data in self._last_words.read(HEAD_LIMIT):
            if not self._busy or self._closed:
                return
            self.dataReceived(data)

    def abort(self) -> None:
        """Close the connection at once, whatever is on it."""
        if not self._closed:
            self._close()
            self._wire.abortConnection()

    def retire(self) -> None:
        """Close a connection that has no call, in good order where that can be done at once."""
        if self._secure or not self._sender.flushed or self._sender.sending:
            self.abort()  # which still says goodbye in TLS, but waits for no answer
        elif not self._closed:
            self._close()
            self._wire.loseConnection()

    def _close(self) -> None:
        """No call comes here any more."""
        if not self._closed:
            self._closed = True
            self._last_words.drop()
            self._patience.end()
            self._sender.close()
            self._owner.gone(self)

    def _cancelled(self, _waiting: Deferred[Incoming]) -> None:
        self._waiting = None
        self.abort()

    def _not_sent(self, error: BaseException) -> None:
        """The request can't be sent to its end."""
        self._fail(
            failures.ConnectionDied(None, unsent=True) if isinstance(error, Unsent) else error
        )

    def _fail(self, error: BaseException) -> None:
        """End the call with an error, and the connection with it."""
        waiting, body, pieces = self._waiting, self._body, self._pieces
        self._reset()
        self.abort()
        if body is not None:
            body.end(pieces, error)
        elif waiting is not None:
            waiting.errback(error)

    def _refuse(self, error: Exception, first: bytes) -> None:
        """What came is no response; ``first`` are its first bytes, unless those were good."""
        cause = error.__context__
        if cause is not None and not isinstance(cause, _Malformed | MalformedFields):
            self._log.failure(
                "The HTTP connection failed", Failure(cause), event="http_connection_broke"
            )
        name = greetings.describe(first[: greetings.ENOUGH])
        self._fail(
            failures.not_http(self._origin, str(cause or error))
            if name is None or name == greetings.HTTP
            else failures.another(self._origin, name)
        )

    def _finish(self) -> None:
        """The response is complete: hand it over, and the connection back."""
        waiting, body, answer, pieces = self._waiting, self._body, self._answer, self._pieces
        status, hold = self._status, self._hold
        self._last_words.drop()
        self._patience.end()
        reusable = self._reusable and not self._sender.sending and not self._closed
        self.served += 1
        self._reset()
        if reusable and hold:
            self._held = True
        elif reusable:
            self._owner.released(self)
        else:
            self.retire()
        if body is not None:
            body.end(pieces)
        elif waiting is not None and answer is not None:
            whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            waiting.callback(Incoming(status, answer.fields, answer.length, whole))

    def _hand_over(self, answer: Answer) -> None:
        """The head is there, the body not yet: begin to hand it over, or go on with it."""
        if self._body is not None:
            pieces, self._pieces = self._pieces, []
            self._body.push(pieces)
        elif answer.length is None or answer.length > WHOLE_LIMIT:
            waiting, self._waiting = self._waiting, None
            pieces, self._pieces = self._pieces, []
            self._body = body = self._incoming_body()
            body.push(pieces)
            if waiting is not None:
                waiting.callback(Incoming(self._status, answer.fields, answer.length, body))

    def _switch(self, fields: list[tuple[str, str]], early: bytes) -> None:
        """The target has agreed to a WebSocket: from now on bytes, both ways, until either ends."""
        waiting, self._waiting = self._waiting, None
        passage, self._passage = self._passage, None
        self._switched = self._until_close = True
        self._last_words.drop()
        self._patience.end()
        switching.watch(self.transport)
        self._body = body = self._incoming_body()
        if early:
            self._received = len(early)
            body.push([early])
        if passage is not None:
            self._sender.relay(passage)
        if waiting is not None:
            waiting.callback(Incoming(101, fields, None, body))

    def _incoming_body(self) -> IncomingBody:
        return IncomingBody(self._wire.pauseProducing, self._wire.resumeProducing, self.abort)

    def _steer_upload(self) -> None:
        """Send the body after ``100 Continue``; stop where a final response makes it pointless."""
        if self._answer is None:
            if self._interim == 100:
                self._sender.permit()
        elif self._status >= 400 or self._answer.close or self._sender.awaits_permission:
            self._reusable = False
            self._sender.close()

    # -- what the parser finds

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Malformed("bytes after the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields_size += len(name) + len(value) + 8
        if self._fields_size > FIELDS_LIMIT:
            raise _Malformed("a head or trailer above 56 KiB")
        if self._answer is None:
            self._raw.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _Malformed(f"HTTP version {version}")
        if status < 200:
            if status == 101 and self._passage is not None and version == "1.1":
                self._accepted = switching.accepted(self._raw)
                return
            if status < 100 or status == 101:
                raise _Malformed(f"status {status}")
            self._interim = status
            self._raw.clear()
            return
        answer = incoming(self._raw)
        self._interim = 0
        self._fields_size = self._quiet = 0
        self._status = status
        self._answer = answer
        self.kept = answer.kept
        bodiless = self._head_only or status in _NO_BODY
        self._until_close = not (bodiless or answer.chunked or answer.length is not None)
        persistent = not answer.close if version == "1.1" else answer.persist and not answer.chunked
        self._reusable = persistent and not self._until_close
        if self._head_only:
            self._complete = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            raise _Malformed("a body after HEAD")
        self._received += len(data)
        self._quiet = 0
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._complete = True
