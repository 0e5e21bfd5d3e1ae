"""The way of a request to the wire: in one piece where it is short, else at the target's pace."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from .streaming import Upload

CONTINUE_WAIT: Final = 1.0
"""Seconds for which ``100 Continue`` is waited for before the body is sent without it."""

_CORKED: Final = 64 * 1024


class Wire(Protocol):
    """What is used of a TCP or TLS transport."""

    def write(self, data: bytes) -> object: ...

    def loseConnection(self) -> object: ...

    def abortConnection(self) -> object: ...

    def pauseProducing(self) -> object: ...

    def resumeProducing(self) -> object: ...

    def registerProducer(self, producer: object, streaming: bool) -> object: ...

    def unregisterProducer(self) -> object: ...


class Unsent(Exception):
    """The socket refused the first byte of a request: the target saw nothing of it."""


@implementer(IPushProducer)
class RequestSender:
    """Sends the requests of one connection, one after the other.

    :param handle: the socket below a plain transport; None where TLS stands between. A request on
        an idle connection is written to it directly, which saves the reactor's round.
    :param failed: told when the body can't be sent to its end.
    :ivar flushed: the transport has never been given bytes that it might still hold.
    """

    def __init__(
        self,
        wire: Wire,
        handle: socket.socket | None,
        clock: IReactorTime,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._wire = wire
        self._socket = handle
        self._clock = clock
        self._failed = failed
        self._pump: Deferred[None] | None = None
        self._permission: Deferred[None] | None = None
        self._resumed: Deferred[None] | None = None
        self._cork: list[bytes] | None = None
        self._cork_size = 0
        self._registered = False
        self._closed = False
        self.flushed = handle is not None

    @property
    def sending(self) -> bool:
        """Whether a body is still under way."""
        return self._pump is not None

    @property
    def awaits_permission(self) -> bool:
        """Whether the body waits for ``100 Continue``."""
        return self._permission is not None

    def send(self, head: bytes, upload: Upload | None) -> None:
        """Send a request. Raises Unsent where the socket takes nothing of it."""
        if upload is None:
            self._write(head)
            return
        if upload.expect:
            self._write(head)
        else:
            self._cork, self._cork_size = [head], len(head)
        pump = Deferred.fromCoroutine(self._send_body(upload))
        if not pump.called:
            self._pump = pump
        elif isinstance(pump.result, Failure):
            self._cork = None  # nothing of a request whose body is lost already
        try:
            self._uncork()
        except Unsent:
            self.close()
            pump.addErrback(lambda _failure: None)
            raise
        pump.addCallbacks(self._sent, self._body_failed)

    def relay(self, body: AsyncIterator[bytes]) -> None:
        """Send what comes, as it is, and close the connection in good order after it."""
        pump = Deferred.fromCoroutine(self._relay(body))
        self._pump = pump
        pump.addCallbacks(self._relayed, self._body_failed)

    def permit(self) -> None:
        """``100 Continue`` has come."""
        permission, self._permission = self._permission, None
        if permission is not None:
            permission.callback(None)

    def close(self) -> None:
        """Nothing more is sent: neither of this request nor of another."""
        self._closed = True
        self._cork = None
        pump, self._pump = self._pump, None
        self._unregister()
        if pump is not None:
            pump.cancel()

    async def _send_body(self, upload: Upload) -> None:
        if upload.expect:
            permission: Deferred[None] = Deferred()
            self._permission = permission
            permission.addTimeout(CONTINUE_WAIT, self._clock, onTimeoutCancel=lambda *_: None)
            await permission
            self._permission = None
        async for piece in upload.pieces():
            if self._closed:
                return
            if self._cork is not None and self._cork_size < _CORKED:
                self._cork.append(piece)
                self._cork_size += len(piece)
                continue
            if self._cork is not None:
                self._uncork()
            self._register()
            self._wire.write(piece)
            self.flushed = False
            if self._resumed is not None:
                await self._resumed

    async def _relay(self, body: AsyncIterator[bytes]) -> None:
        async for piece in body:
            if self._closed:
                return
            self._register()
            self._wire.write(piece)
            self.flushed = False
            if self._resumed is not None:
                await self._resumed

    def _relayed(self, _none: None) -> None:
        if not self._closed:
            self._sent(None)
            self._wire.loseConnection()

    def _uncork(self) -> None:
        cork, self._cork = self._cork, None
        if cork is not None:
            self._write(b"".join(cork))

    def _write(self, data: bytes) -> None:
        if self.flushed and self._socket is not None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise Unsent(str(error)) from error
            if sent == len(data):
                return
            data = data[sent:]
            self.flushed = False
        self._wire.write(data)

    def _sent(self, _none: None) -> None:
        self._pump = None
        self._unregister()

    def _body_failed(self, failure: Failure) -> None:
        self._unregister()
        if not self._closed:
            self._pump = None
            self._failed(cast("BaseException", failure.value))

    # -- what the transport asks of its producer

    def _register(self) -> None:
        if not self._registered:
            self._registered = True
            self._wire.registerProducer(self, True)

    def _unregister(self) -> None:
        self._resumed = None
        if self._registered:
            self._registered = False
            self._wire.unregisterProducer()

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """The transport is gone; the connection hears of it in its own way."""
