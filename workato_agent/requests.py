"""What a service sees of a call: no frames, no sockets, HTTP semantics (RFC 9110)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

Headers = tuple[tuple[str, str], ...]
"""Header fields in order; names in lower case, values as latin-1 text."""


class Body(Protocol):
    """A request's body, read at the pace of the reader: what is not read is not sent for.

    Iterating gives non-empty chunks of at most 64 KiB and ends with the body. Raises
    :class:`BodyLost` when the caller goes away before the end, so a cut body never looks whole.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises Problem ``payload_too_large`` past ``limit`` bytes."""
        ...


class BodyLost(Exception):
    """The body will not come to its end: the caller left or the tunnel broke."""


@define
class Usage:
    """What a call used, for the audit and the response's trailers. The service counts, nobody else.

    ``rows``: rows sent or changed, where the service has rows.
    """

    rows: int | None = None


BeginInner = Callable[[StreamTransport, str], StreamReceiver]
"""Begins a call within a call, on this stream and with this method."""


def _no_inner(_stream: StreamTransport, _method: str) -> StreamReceiver:
    raise RuntimeError("no dispatcher has begun this call")


@frozen
class Request:
    """One call, as the dispatcher hands it to a service.

    :ivar path: what follows the profile in the URL, percent-encoded as it came, no leading slash.
        ``""`` with GET is the profile's test.
    :ivar query: the raw query string, without ``?``; ``timeout`` has been taken out.
    :ivar caller: the owner of the caller's token.
    :ivar deadline: absolute, in the reactor's seconds (``IReactorTime.seconds()``).
    :ivar trace: W3C ``traceparent``.
    :ivar begin_inner: begins a call by the same caller to the same profile. Policy, audit, reload
        and drain treat it as any other; it ends with its stream.
    """

    service: str
    profile: str
    method: str
    path: str
    query: str
    headers: Headers
    body: Body
    caller: str
    deadline: float
    trace: str
    request_id: str
    usage: Usage = field(factory=Usage)
    begin_inner: BeginInner = field(default=_no_inner, repr=False)

    def header(self, name: str) -> str | None:
        """The first field of that (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class CallerLine(Protocol):
    """The caller's end of a passage (the stream)."""

    def write(self, data: bytes) -> None:
        """Send; the passage is paused while much waits."""

    def write_now(self, data: bytes) -> None:
        """Send what has been gathered already."""

    def half_close(self) -> None:
        """Nothing more will be sent; the caller may go on sending."""

    def pauseProducing(self) -> None:
        """Let the caller send no more for now."""

    def resumeProducing(self) -> None:
        """Let the caller send on."""


@implementer(IPushProducer)
class Passage(ABC):
    """Bytes both ways until either side ends: what follows a 101.

    It pushes, where bodies are pulled: at thousands of small messages a second, a coroutine woken
    for each would cost more than their whole way. It is the producer of what the caller gets.

    :ivar sent: bytes written to the caller so far.
    """

    def __init__(self) -> None:
        self.sent = 0
        self._caller: CallerLine | None = None
        self._done: Deferred[None] | None = None

    def begin(self, caller: CallerLine) -> Deferred[None]:
        """Move bytes from here on. Fires when both sides have ended; cancelling it ends them."""
        self._caller = caller
        done: Deferred[None] = Deferred(lambda _cancelled: self.close())
        self._done = done
        return done

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, begun or not. Idempotent."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""

    @abstractmethod
    def end_received(self) -> None:
        """Nothing more comes from the caller."""

    def lost(self) -> None:
        """The caller is gone."""
        self._finish()

    @abstractmethod
    def pauseProducing(self) -> None:
        """The caller takes slowly: write no more for now."""

    @abstractmethod
    def resumeProducing(self) -> None:
        """The caller takes again."""

    def stopProducing(self) -> None:  # noqa: B027 - nothing is left to do
        """The stream has ended, and whoever began this knows."""

    def _finish(self) -> None:
        """Both sides have ended."""
        done, self._done = self._done, None
        if done is not None:
            done.callback(None)


@frozen
class Response:
    """A service's answer.

    :ivar body: whole, or an async iterator of chunks (any size, the dispatcher cuts them). The
        dispatcher takes the next chunk only when there is credit for it, and closes the iterator
        (``aclose``) when the call ends early. An exception raised by it after the head has gone out
        ends the stream with RESET, so a cut body never looks complete.
    :ivar passage: with a 101, in place of a body; the request's own body is the passage's then.
    """

    status: int
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] = b""
    passage: Passage | None = None


Handler = Callable[[Request], Awaitable[Response]]
