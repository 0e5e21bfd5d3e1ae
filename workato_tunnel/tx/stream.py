"""A stream of a session, as its ends hold it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from workato_tunnel.errors import ErrorCode, StreamReset
from workato_tunnel.frames import Head, Trailers

if TYPE_CHECKING:
    from workato_tunnel.connection import TunnelConnection

    from .transport import StreamReceiver

_SMALL: Final = 1024
"""Chunks below this that wait together are joined: what waits is counted in bytes of body, and a
chunk of one byte takes forty."""


class StreamOwner(Protocol):
    """The session, as its streams need it."""

    connection: TunnelConnection

    def wake(self) -> None:
        """Something is to be sent."""

    def flush(self) -> None:
        """What is to be sent has been packed already: let it go."""

    def forget(self, stream_id: int) -> None:
        """The stream takes no further events."""

    def released(self) -> None:
        """A slot has become free."""


class _End:
    """Marks the end of the peer's DATA among what waits in a paused stream."""


_END: Final = _End()


@implementer(IPushProducer)
class TunnelStream:
    """See :class:`workato_tunnel.tx.transport.StreamTransport` for what each method promises.

    What a receiver or a producer raises ends this stream, with a line in the log, and nothing else.
    """

    __slots__ = (
        "_delivering",
        "_inbox",
        "_over",
        "_owner",
        "_paused",
        "_producer",
        "_producer_paused",
        "_receiver",
        "_reset_early",
        "_waiting",
        "closed",
        "request_ended",
        "stream_id",
    )

    _log = Logger()

    def __init__(
        self,
        owner: StreamOwner,
        stream_id: int,
        receiver: StreamReceiver | None = None,
        request_ended: bool = False,
    ) -> None:
        self.stream_id = stream_id
        self.closed = False
        self.request_ended = request_ended
        self._owner = owner
        self._receiver = receiver
        self._reset_early: StreamReset | None = None
        self._over = False  # the peer is done with the stream: what we send goes nowhere
        self._paused = False
        self._delivering = False
        self._inbox: deque[bytes | _End | Trailers] | None = None
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self._waiting: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<TunnelStream {self.stream_id}{' closed' if self.closed else ''}>"

    @property
    def complete(self) -> bool:
        """Everything has come, and waits to be taken."""
        return self._over and not self.closed

    # -- outgoing ------------------------------------------------------------------------------

    def _gone(self) -> bool:
        # The stream may have ended in the very message whose first frames are being told of.
        return self.closed or self.stream_id not in self._owner.connection.streams

    def send_head(self, head: Head) -> None:
        if not self._gone():
            self._owner.connection.send_head(self.stream_id, head)
            self._owner.wake()

    def write(self, data: bytes) -> None:
        if self._queue(data):
            self._owner.wake()

    def write_now(self, data: bytes) -> None:
        if self._queue(data):
            self._owner.flush()

    def _queue(self, data: bytes) -> bool:
        if not data or self._gone():
            return False
        connection = self._owner.connection
        queued = connection.send_data(self.stream_id, data)
        if queued >= connection.settings.high_water:
            self._pause_producer()
        return True

    def half_close(self) -> None:
        if not self._gone():
            self._owner.connection.send_end(self.stream_id)
            self._owner.wake()

    def finish(self, trailers: Trailers) -> None:
        if not self.closed:
            if not self._gone():
                self._owner.connection.send_trailers(self.stream_id, trailers)
                self._owner.wake()
            self._producer = None  # it was the one to say so
            self._close(None)

    def reset(self, code: str, message: str = "", detail: str = "") -> None:
        if not self.closed:
            self._owner.connection.reset_stream(self.stream_id, code, message, detail)
            self._owner.wake()
            self._close(StreamReset(code, message, detail, remote=False))

    def release(self) -> None:
        self._owner.connection.release(self.stream_id)
        self._owner.released()

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
            self._pause_producer()

    def unregisterProducer(self) -> None:
        self._producer = None

    def drained(self) -> None:
        """Less than the low-water mark is queued (called by the session)."""
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)
        producer = self._producer
        if producer is not None and self._producer_paused and not self._congested():
            self._producer_paused = False
            self._guard(producer.resumeProducing)

    def _congested(self) -> bool:
        stream = self._owner.connection.streams.get(self.stream_id)
        return stream is not None and stream.busy

    def _pause_producer(self) -> None:
        producer = self._producer
        if producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._guard(producer.pauseProducing)

    # -- incoming ------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        # A receiver may resume from inside data_received; its turn goes on once it has returned.
        if self._inbox and not self._delivering:
            self._delivering = True
            try:
                while self._inbox and not self._paused:
                    self._hand_over(self._inbox.popleft())
            finally:
                self._delivering = False

    def stopProducing(self) -> None:
        self.reset(ErrorCode.CANCELLED, "the consumer is gone")

    def begin(self, receiver: StreamReceiver) -> None:
        """From here on ``receiver`` is told (called by the session)."""
        self._receiver = receiver
        early = self._reset_early
        if early is not None:
            self._tell_reset(early)

    def incoming_head(self, head: Head) -> None:
        """HEAD came (called by the session, as the four below)."""
        receiver = self._receiver
        if receiver is not None:
            self._guard(receiver.head_received, head)

    def incoming_data(self, data: bytes) -> None:
        """DATA came."""
        if self._paused or self._inbox:
            self._hold(data)
        else:
            self._hand_over(data)

    def incoming_end(self) -> None:
        """The peer's DATA is complete."""
        if self._paused or self._inbox:
            self._hold(_END)
        else:
            self._hand_over(_END)

    def incoming_trailers(self, trailers: Trailers) -> None:
        """The response is complete."""
        self._over = True
        if self._paused or self._inbox:
            self._hold(trailers)
            # What is still written goes nowhere: no writer shall wait for room.
            self.drained()
        else:
            self._hand_over(trailers)

    def incoming_reset(self, reason: StreamReset) -> None:
        """The stream is gone: nothing that waited is delivered."""
        if not self.closed:
            self._close(reason)
            self._tell_reset(reason)

    def _hold(self, item: bytes | _End | Trailers) -> None:
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = deque()
        if inbox and type(item) is bytes and len(item) < _SMALL:
            last = inbox[-1]
            if type(last) is bytes and len(last) < _SMALL:
                inbox[-1] = last + item
                return
        inbox.append(item)

    def _hand_over(self, item: bytes | _End | Trailers) -> None:
        receiver = self._receiver
        if self.closed or receiver is None:
            return
        if type(item) is bytes:
            try:
                receiver.data_received(item)
            except Exception:  # noqa: BLE001 - one stream's fault must not end the session's others
                self._break()
                return
            if self._owner.connection.consumed(self.stream_id, len(item)):
                self._owner.wake()
        elif isinstance(item, Trailers):
            self._close(None)
            self._guard(receiver.finished, item)
        else:
            self._guard(receiver.end_received)

    # -- the end -------------------------------------------------------------------------------

    def _close(self, reason: StreamReset | None) -> None:
        """``reason``: None for a regular end."""
        self.closed = True
        self._inbox = None
        self._owner.forget(self.stream_id)
        waiting = self._waiting
        if waiting:
            self._waiting = []
            if reason is None:
                reason = StreamReset(ErrorCode.STREAM_CLOSED, "the stream has ended", remote=False)
            for deferred in waiting:
                deferred.errback(reason)
        producer = self._producer
        if producer is not None:
            self._producer = None
            self._guard(producer.stopProducing)

    def _tell_reset(self, reason: StreamReset) -> None:
        receiver = self._receiver
        if receiver is None:
            self._reset_early = reason
            return
        try:
            receiver.reset_received(reason)
        except Exception:  # noqa: BLE001 - as in _hand_over
            self._log.failure(
                "The end of stream {stream} was not taken",
                event="stream_end_broke",
                stream=self.stream_id,
            )
            self.release()

    def _guard(self, call: Callable[..., object], *args: Any) -> None:
        try:
            call(*args)
        except Exception:  # noqa: BLE001 - as in _hand_over
            self._break()

    def _break(self) -> None:
        """Called in an except clause: the code at this end has failed."""
        self._log.failure(
            "Stream {stream} failed at this end", event="stream_broke", stream=self.stream_id
        )
        if not self.closed:
            message = "the code behind the stream failed"
            self.reset(ErrorCode.INTERNAL_ERROR, message)
            self._tell_reset(StreamReset(ErrorCode.INTERNAL_ERROR, message, remote=False))
