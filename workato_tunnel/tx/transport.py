"""A stream as seen by the code at its ends."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer

from ..errors import StreamReset
from ..frames import Head, Trailers


class StreamReceiver(Protocol):
    """The one who is told what comes in on a stream. Called on the reactor, never re-entrantly
    from within ``open_stream``. After ``finished`` or ``reset_received`` nothing more is called."""

    def head_received(self, head: Head) -> None:
        """The response's head (on the side that opened the stream)."""

    def data_received(self, data: bytes) -> None:
        """Body bytes. Credit for them goes back to the peer when this returns, unless the stream
        is paused: then they wait in the stream, bounded by its window."""

    def end_received(self) -> None:
        """The peer's DATA has ended (a request's body; either side of CONNECT)."""

    def finished(self, trailers: Trailers) -> None:
        """The response has ended (on the side that opened the stream): it is complete, unless
        ``trailers.code`` says otherwise."""

    def reset_received(self, reason: StreamReset) -> None:
        """The stream ended before its time: reset by the peer, or its session is lost."""


class StreamTransport(Protocol):
    """One end of a stream: IConsumer for what goes out, IPushProducer for what comes in."""

    stream_id: int
    closed: bool
    request_ended: bool
    """The peer opened this stream without a body; ``end_received`` is called all the same."""

    def send_head(self, head: Head) -> None: ...

    def write(self, data: bytes) -> None:
        """Queue body bytes of any size; they leave as credit allows. No-op when closed."""

    def write_now(self, data: bytes) -> None:
        """As ``write``, for what need not wait for more of the same turn of the reactor."""

    def half_close(self) -> None:
        """No more body from this side (a request's end; either side of CONNECT)."""

    def finish(self, trailers: Trailers) -> None:
        """End a response (the accepting side). ``trailers.bytes`` is filled in by the stream."""

    def reset(self, code: str, message: str = "", detail: str = "") -> None:
        """End the stream at once in both directions. No-op when closed."""

    def release(self) -> None:
        """The accepting side's work has really ended: gives back the stream's slot."""

    def writable(self) -> Deferred[None]:
        """Fires when less than the high-water mark is queued; at once when that is so now.
        Fails with StreamReset when the stream ends. Cancellable."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """A push producer is paused above 128 KiB queued and resumed below 64 KiB."""

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None:
        """Stop what comes in: the peer's credit runs out, other streams are not touched."""

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None:
        """The consumer is gone: reset with ``cancelled``."""
