"""A stream of a session, as its ends hold it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from workato_tunnel.errors import ErrorCode, StreamReset
from workato_tunnel.frames import Head, Trailers

if TYPE_CHECKING:
    from workato_tunnel.connection import TunnelConnection

    from .transport import StreamReceiver


class StreamOwner(Protocol):
    """The session, as its streams need it."""

    connection: TunnelConnection

    def wake(self) -> None:
        """Something is to be sent."""

    def forget(self, stream_id: int) -> None:
        """The stream takes no further events."""


class _End:
    """Marks the end of the peer's DATA among what waits in a paused stream."""


_END: Final = _End()


@implementer(IPushProducer)
class TunnelStream:
    """See :class:`workato_tunnel.tx.transport.StreamTransport` for what each method promises."""

    receiver: StreamReceiver

    def __init__(self, owner: StreamOwner, stream_id: int) -> None:
        self.stream_id = stream_id
        self.closed = False
        self.request_ended = False
        self._owner = owner
        self._receiving_paused = False
        self._inbox: deque[bytes | _End | Trailers] = deque()
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self._waiting: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<TunnelStream {self.stream_id}{' closed' if self.closed else ''}>"

    # -- outgoing ------------------------------------------------------------------------------

    def send_head(self, head: Head) -> None:
        if not self.closed:
            self._owner.connection.send_head(self.stream_id, head)
            self._owner.wake()

    def write(self, data: bytes) -> None:
        if self.closed or not data:
            return
        connection = self._owner.connection
        queued = connection.send_data(self.stream_id, data)
        self._owner.wake()
        if (
            queued >= connection.settings.high_water
            and self._producer is not None
            and not self._producer_paused
        ):
            self._producer_paused = True
            self._producer.pauseProducing()

    def half_close(self) -> None:
        if not self.closed:
            self._owner.connection.send_end(self.stream_id)
            self._owner.wake()

    def finish(self, trailers: Trailers) -> None:
        if not self.closed:
            self._owner.connection.send_trailers(self.stream_id, trailers)
            self._owner.wake()
            self._close(StreamReset(ErrorCode.STREAM_CLOSED, "the answer is complete"))

    def reset(self, code: str, message: str = "", detail: str = "") -> None:
        if not self.closed:
            self._owner.connection.reset_stream(self.stream_id, code, message, detail)
            self._owner.wake()
            self._close(StreamReset(code, message, detail, remote=False))

    def release(self) -> None:
        self._owner.connection.release(self.stream_id)

    def writable(self) -> Deferred[None]:
        if self.closed:
            return fail(StreamReset(ErrorCode.STREAM_CLOSED, "the stream has ended", remote=False))
        if not self._congested():
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        if not streaming:
            raise ValueError("only push producers can be registered with a stream")
        if self._producer is not None:
            raise RuntimeError("the stream has a producer already")
        if self.closed:
            producer.stopProducing()
            return
        self._producer = producer
        self._producer_paused = False
        if self._congested():
            self._producer_paused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def drained(self) -> None:
        """Less than the low-water mark is queued (called by the session)."""
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)
        producer = self._producer
        if producer is not None and self._producer_paused:
            self._producer_paused = False
            producer.resumeProducing()

    def _congested(self) -> bool:
        stream = self._owner.connection.streams.get(self.stream_id)
        return stream is not None and stream.busy

    # -- incoming ------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._receiving_paused = True

    def resumeProducing(self) -> None:
        self._receiving_paused = False
        while self._inbox and not self._receiving_paused:
            self._hand_over(self._inbox.popleft())

    def stopProducing(self) -> None:
        self.reset(ErrorCode.CANCELLED, "the consumer is gone")

    def incoming_head(self, head: Head) -> None:
        """HEAD came (called by the session, as the three below)."""
        self.receiver.head_received(head)

    def incoming_data(self, data: bytes) -> None:
        """DATA came."""
        if self._receiving_paused or self._inbox:
            self._inbox.append(data)
        else:
            self.receiver.data_received(data)
            if self._owner.connection.consumed(self.stream_id, len(data)):
                self._owner.wake()

    def incoming_end(self) -> None:
        """The peer's DATA is complete."""
        if self._receiving_paused or self._inbox:
            self._inbox.append(_END)
        else:
            self.receiver.end_received()

    def incoming_trailers(self, trailers: Trailers) -> None:
        """The response is complete."""
        if self._receiving_paused or self._inbox:
            self._inbox.append(trailers)
        else:
            self._hand_over(trailers)

    def incoming_reset(self, reason: StreamReset) -> None:
        """The stream is gone: nothing that waited is delivered."""
        if not self.closed:
            self._close(reason)
            self.receiver.reset_received(reason)

    def _hand_over(self, item: bytes | _End | Trailers) -> None:
        if self.closed:
            return
        if isinstance(item, bytes):
            self.receiver.data_received(item)
            if self._owner.connection.consumed(self.stream_id, len(item)):
                self._owner.wake()
        elif isinstance(item, Trailers):
            self._close(StreamReset(ErrorCode.STREAM_CLOSED, "the answer is complete"))
            self.receiver.finished(item)
        else:
            self.receiver.end_received()

    def _close(self, reason: StreamReset) -> None:
        self.closed = True
        self._inbox.clear()
        self._owner.forget(self.stream_id)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.errback(reason)
        producer, self._producer = self._producer, None
        if producer is not None and reason.reason != ErrorCode.STREAM_CLOSED:
            producer.stopProducing()
