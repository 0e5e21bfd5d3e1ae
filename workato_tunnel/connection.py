"""One side of a tunnel, sans-IO: messages in, events out; calls in, messages out.

A connection lives as long as its session and does not care how many sockets that takes: ``suspend``
when one dies, ``resume`` when the next one is ready. HELLO is exchanged by the caller, one message
each way, before (see :mod:`workato_tunnel.handshake`); everything after it passes through here.

Nothing that the peer sends makes a method raise: a violation inside a stream resets the stream, any
other queues a GOAWAY and ends with :class:`~workato_tunnel.events.ConnectionFailed`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

import msgspec

from . import frames
from .errors import (
    ErrorCode,
    HeadTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    StreamRefused,
)
from .events import (
    CatalogueReceived,
    ConnectionFailed,
    DataEnded,
    DataReceived,
    Event,
    GoawayReceived,
    HeadReceived,
    StreamFinished,
    StreamOpened,
    StreamTerminated,
)
from .frames import (
    BLOCKED,
    END,
    HEADER,
    HEADER_SIZE,
    MAX_STREAM_ID,
    SKIPPABLE,
    Catalogue,
    FrameType,
    Goaway,
    Head,
    Limits,
    Open,
    Reset,
    Trailers,
)
from .pacing import ResetRate
from .resumption import ReceivedFrames, SentFrames
from .scheduling import RoundRobin
from .settings import DATA_SIZE, MAX_MESSAGE, PACK_SIZE, QUANTUM, Settings
from .streams import REQUEST, RESPONSE, Half, Stream
from .windows import CreditBudget, ReceiveWindow, SendWindow

_DATA: Final = int(FrameType.DATA)
_STREAM_FRAMES: Final = frozenset(
    {FrameType.OPEN, FrameType.HEAD, FrameType.DATA, FrameType.TRAILERS, FrameType.WINDOW}
    | {FrameType.RESET}
)


class Role(Enum):
    """Who we are. The gateway opens streams with odd ids, the agent with even ones."""

    AGENT = 2
    GATEWAY = 1


class TunnelConnection:
    """The state of one side.

    :param peer: the limits of the peer's HELLO.
    :param shared_budget: extra credit that several connections share; None for no further bound.
    """

    def __init__(
        self,
        role: Role,
        settings: Settings,
        peer: Limits,
        *,
        shared_budget: CreditBudget | None = None,
    ) -> None:
        self.role = role
        self.settings = settings
        self.peer = peer
        self.failed = False
        self.draining = False
        self.peer_draining = False
        self.streams: dict[int, Stream] = {}
        self._next_id = role.value
        self._last_peer_id = 0
        self._ours = 0
        self._slots: dict[int, bool] = {}
        self._control: deque[bytes] = deque()
        self._control_size = 0
        self._replay: deque[bytes] = deque()
        self._schedule = RoundRobin()
        self._sent = SentFrames()
        self._received = ReceivedFrames(settings.ack_frames, settings.ack_bytes)
        self._ack_due = False
        self._drained: list[int] = []
        self._resets = ResetRate(settings.resets_burst, settings.resets_per_second)
        extra = max(0, settings.budget - settings.streams * settings.window)
        self._budget = CreditBudget(extra)
        self._shared_budget = shared_budget

    # -- what the caller wants sent ------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """Streams that we opened and that have not ended."""
        return self._ours

    @property
    def busy_slots(self) -> int:
        """Streams that the peer opened and whose work has not ended."""
        return len(self._slots)

    def open_stream(self, head: Open, end: bool = False) -> int:
        """Open a stream; ``end``: without a body.

        Raises StreamRefused where none can be opened now, HeadTooLarge for a head past the peer's
        limit.
        """
        if self.failed or self.draining or self.peer_draining:
            raise StreamRefused("the session is draining", ErrorCode.DRAINING)
        if self._ours >= self.peer.streams:
            raise StreamRefused(f"all {self.peer.streams} streams are in use", ErrorCode.OVERLOADED)
        if self._next_id > MAX_STREAM_ID:
            raise StreamRefused("the session has used up its stream ids", ErrorCode.DRAINING)
        if self._control_size > self.settings.control_queue:
            raise StreamRefused("the peer does not read", ErrorCode.OVERLOADED)
        stream_id = self._next_id
        self._queue(self._map_frame(FrameType.OPEN, stream_id, head, END if end else 0))
        self._next_id += 2
        self._ours += 1
        self.streams[stream_id] = Stream(
            stream_id,
            True,
            Half.CLOSED if end else REQUEST,
            RESPONSE,
            SendWindow(self.peer.window),
            ReceiveWindow(self.settings.window, self.settings.window),
        )
        return stream_id

    def send_head(self, stream_id: int, head: Head) -> None:
        """Begin the answer on a stream that the peer opened."""
        stream = self._stream(stream_id)
        frame = self._map_frame(FrameType.HEAD, stream_id, head)
        stream.sending(FrameType.HEAD)
        self._queue(frame)

    def send_data(self, stream_id: int, data: bytes) -> int:
        """Queue body bytes. The bytes now queued on the stream are returned."""
        stream = self._stream(stream_id)
        stream.sending(FrameType.DATA)
        if data:
            stream.queue.append(data)
            stream.queued += len(data)
            if stream.send.limit > stream.send.sent:
                self._schedule.add(stream)
            if stream.queued >= self.settings.high_water:
                stream.busy = True
        return stream.queued

    def send_end(self, stream_id: int) -> None:
        """Our DATA ends here, behind what is queued."""
        stream = self._stream(stream_id)
        stream.sending(FrameType.DATA, end=True)
        stream.end_queued = True
        if stream.sendable():
            self._schedule.add(stream)

    def send_trailers(self, stream_id: int, trailers: Trailers) -> None:
        """The answer is complete, behind what is queued. ``bytes`` is filled in here."""
        stream = self._stream(stream_id)
        total = stream.send.sent + stream.queued
        filled = msgspec.structs.replace(trailers, bytes=total)
        frame = self._map_frame(FrameType.TRAILERS, stream_id, filled)
        stream.sending(FrameType.TRAILERS)
        stream.end_queued = False
        stream.tail = frame
        if stream.sendable():
            self._schedule.add(stream)

    def reset_stream(self, stream_id: int, code: str, message: str = "", detail: str = "") -> None:
        """End a stream at once. No-op when it is gone."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        self._close(stream)
        reset = Reset(str(code), message[:1024], detail[:8192])
        self._queue(frames.encode_map(FrameType.RESET, stream_id, reset))

    def release(self, stream_id: int) -> None:
        """The work behind a stream that the peer opened has ended: its slot is free again."""
        if stream_id in self._slots:
            if stream_id in self.streams:
                self._slots[stream_id] = True
            else:
                del self._slots[stream_id]

    def consumed(self, stream_id: int, size: int) -> bool:
        """The consumer has taken bytes of a stream. True when that gave the peer new credit."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return False
        window = stream.receive
        window.consume(size)
        if not stream.incoming & Half.DATA:
            return False
        if window.wants_widening():
            extra = min(window.size, self.settings.max_window - window.size)
            if extra > 0 and self._take_budget(extra):
                window.widen(extra)
        grant = window.next_grant()
        if grant is None:
            return False
        self._queue(frames.encode_number(FrameType.WINDOW, stream_id, grant))
        return True

    def announce(self, catalogue: Catalogue) -> None:
        """Send the catalogue. Raises HeadTooLarge beyond what a frame holds."""
        self._queue(self._map_frame(FrameType.CATALOGUE, 0, catalogue))

    def go_away(self, code: str, message: str = "") -> None:
        """Take and open no new stream from here on."""
        if not self.draining:
            self.draining = True
            self._queue(frames.encode_map(FrameType.GOAWAY, 0, Goaway(str(code), message[:1024])))

    def acknowledge(self) -> bool:
        """Let an ACK go out if the peer is owed one. To be called each second."""
        self._ack_due = self._ack_due or self._received.unreported
        return self._ack_due

    # -- resumption ----------------------------------------------------------------------------

    @property
    def received_count(self) -> int:
        """The number for our HELLO; it counts as told."""
        self._ack_due = False
        return self._received.report()

    def suspend(self) -> None:
        """The socket is gone. Calls go on being queued, within their bounds."""
        self._ack_due = False
        self._replay.clear()

    def resume(self, received: int) -> None:
        """A new socket is ready and the peer has ``received`` of our frames.

        Raises RemoteProtocolError where that number can't be: the session is lost.
        """
        self._sent.acknowledge(received)
        self._replay = self._sent.unacknowledged()

    # -- messages out --------------------------------------------------------------------------

    def next_message(self) -> bytes | None:
        """The next WebSocket message to send, at most PACK_SIZE and a frame long; None for none.

        Replayed frames first, then control frames, then DATA by turns.
        """
        parts: list[bytes] = []
        size = 0
        if self._ack_due:
            self._ack_due = False
            parts.append(frames.encode_number(FrameType.ACK, 0, self._received.report()))
        while self._replay and size < PACK_SIZE:
            frame = self._replay.popleft()
            parts.append(frame)
            size += len(frame)
        if not self._replay:
            while self._control and size < PACK_SIZE:
                frame = self._control.popleft()
                self._control_size -= len(frame)
                self._sent.add(frame)
                parts.append(frame)
                size += len(frame)
            while size < PACK_SIZE and self._sent.size < self.settings.retained:
                stream = self._schedule.next()
                if stream is None:
                    break
                size += self._turn(stream, PACK_SIZE - size, parts)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_drained(self) -> list[int]:
        """Streams whose writer was told to wait and may go on; each is reported once."""
        drained, self._drained = self._drained, []
        return drained

    def _turn(self, stream: Stream, room: int, parts: list[bytes]) -> int:
        quantum = DATA_SIZE if self._schedule.alone() else QUANTUM
        size = 0
        credit = stream.send.limit - stream.send.sent
        if stream.queued and credit:
            payload = _take(stream, min(quantum, credit, max(room, 1024)))
            length = len(payload)
            stream.send.sent += length
            flags = 0
            if stream.queued:
                flags = BLOCKED if length == credit else 0
            elif stream.end_queued:
                stream.end_queued = False
                flags = END
            frame = HEADER.pack(_DATA, flags, length, stream.stream_id) + payload
            self._sent.add(frame)
            parts.append(frame)
            size = len(frame)
        elif stream.end_queued and not stream.queued:
            stream.end_queued = False
            frame = frames.encode(FrameType.DATA, stream.stream_id, b"", END)
            self._sent.add(frame)
            parts.append(frame)
            size = len(frame)
        if stream.tail is not None and not stream.queued:
            self._sent.add(stream.tail)
            parts.append(stream.tail)
            size += len(stream.tail)
            stream.tail = None
            self._close(stream)
            return size
        if stream.sendable():
            self._schedule.add(stream)
        if stream.busy and stream.queued < self.settings.low_water:
            stream.busy = False
            self._drained.append(stream.stream_id)
        return size

    # -- messages in ---------------------------------------------------------------------------

    def receive_message(self, message: bytes, now: float) -> list[Event]:
        """Take a WebSocket message in. ``now``: any clock in seconds that only goes forward."""
        events: list[Event] = []
        if self.failed:
            return events
        try:
            self._receive(message, now, events)
            if self._control_size > 2 * self.settings.control_queue:
                raise RemoteProtocolError("more to answer than is read", ErrorCode.FLOOD)
        except RemoteProtocolError as error:
            self.failed = True
            self.go_away(error.code, str(error))
            events.append(ConnectionFailed(str(error.code), str(error)))
        return events

    def _receive(self, message: bytes, now: float, events: list[Event]) -> None:
        end = len(message)
        if not HEADER_SIZE <= end <= MAX_MESSAGE:
            raise RemoteProtocolError(f"a message of {end} bytes", ErrorCode.FRAME_TOO_LARGE)
        offset = 0
        unpack = HEADER.unpack_from
        while offset < end:
            if end - offset < HEADER_SIZE:
                raise RemoteProtocolError("a message ends inside a frame's header")
            kind, flags, length, stream_id = unpack(message, offset)
            offset += HEADER_SIZE
            stop = offset + length
            if stop > end:
                raise RemoteProtocolError("a message ends inside a frame")
            payload = message[offset:stop]
            offset = stop
            if kind in _STREAM_FRAMES:
                if self._received.add(length):
                    self._ack_due = True
                if kind == FrameType.OPEN:
                    self._on_open(stream_id, flags, payload, now, events)
                else:
                    self._on_stream_frame(kind, stream_id, flags, payload, now, events)
            else:
                self._on_connection_frame(kind, flags, stream_id, payload, events)

    def _on_connection_frame(
        self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]
    ) -> None:
        if kind not in {FrameType.ACK, FrameType.GOAWAY, FrameType.CATALOGUE}:
            if flags & SKIPPABLE and kind != FrameType.HELLO:
                return
            raise RemoteProtocolError(f"frame type 0x{kind:02x} is not expected here")
        if stream_id:
            raise RemoteProtocolError(f"frame type 0x{kind:02x} belongs on stream 0")
        if kind == FrameType.ACK:
            self._sent.acknowledge(frames.decode_number(payload))
            return
        if self._received.add(len(payload)):
            self._ack_due = True
        if kind == FrameType.GOAWAY:
            self.peer_draining = True
            events.append(GoawayReceived(frames.decode_map(Goaway, payload)))
        elif self.role is Role.AGENT:
            raise RemoteProtocolError("CATALOGUE comes from agents only")
        else:
            events.append(CatalogueReceived(frames.decode_map(Catalogue, payload)))

    def _on_open(
        self, stream_id: int, flags: int, payload: bytes, now: float, events: list[Event]
    ) -> None:
        if (
            stream_id % 2 == self._next_id % 2
            or not self._last_peer_id < stream_id <= MAX_STREAM_ID
        ):
            raise RemoteProtocolError(f"OPEN of stream {stream_id} out of order")
        self._last_peer_id = stream_id
        if self.draining:
            self._refuse(stream_id, ErrorCode.DRAINING, "draining")
        elif len(self._slots) >= self.settings.streams:
            self._refuse(stream_id, ErrorCode.REFUSED, f"{self.settings.streams} streams in use")
        elif not self._resets.allows(now):
            self._refuse(stream_id, ErrorCode.REFUSED, "too many streams opened and reset")
        elif len(payload) > self.settings.map_size:
            self._refuse(stream_id, ErrorCode.FRAME_TOO_LARGE, "the request's head is too large")
        else:
            try:
                head = frames.decode_map(Open, payload)
            except RemoteProtocolError as error:
                self._refuse(stream_id, error.code, str(error))
                return
            end = bool(flags & END)
            self.streams[stream_id] = Stream(
                stream_id,
                False,
                RESPONSE,
                Half.CLOSED if end else REQUEST,
                SendWindow(self.peer.window),
                ReceiveWindow(self.settings.window, self.settings.window),
            )
            self._slots[stream_id] = False
            events.append(StreamOpened(stream_id, head, end))

    def _on_stream_frame(
        self,
        kind: int,
        stream_id: int,
        flags: int,
        payload: bytes,
        now: float,
        events: list[Event],
    ) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            # Late frames of a stream that ended here are normal; of one that never was, not.
            ours = stream_id % 2 == self._next_id % 2
            if not 0 < stream_id <= (self._next_id - 2 if ours else self._last_peer_id):
                raise RemoteProtocolError(f"frame on stream {stream_id}, which was never opened")
            return
        try:
            if kind == _DATA:
                self._on_data(stream, flags, payload, events)
            elif kind == FrameType.WINDOW:
                if stream.send.raise_to(frames.decode_number(payload)) and stream.sendable():
                    self._schedule.add(stream)
            elif kind == FrameType.RESET:
                self._on_reset(stream, payload, now, events)
            elif kind == FrameType.HEAD:
                stream.receiving(FrameType.HEAD)
                if len(payload) > self.settings.map_size:
                    raise RemoteProtocolError("head too large", ErrorCode.FRAME_TOO_LARGE)
                events.append(HeadReceived(stream_id, frames.decode_map(Head, payload)))
            else:
                self._on_trailers(stream, payload, events)
        except RemoteProtocolError as error:
            self.reset_stream(stream_id, error.code, str(error))
            events.append(StreamTerminated(stream_id, str(error.code), str(error), "", False))

    def _on_data(self, stream: Stream, flags: int, payload: bytes, events: list[Event]) -> None:
        end = bool(flags & END)
        stream.receiving(FrameType.DATA, end)
        if payload:
            stream.receive.receive(len(payload), bool(flags & BLOCKED))
            events.append(DataReceived(stream.stream_id, payload))
        elif not end:
            raise RemoteProtocolError("empty DATA")
        if end:
            events.append(DataEnded(stream.stream_id))

    def _on_reset(self, stream: Stream, payload: bytes, now: float, events: list[Event]) -> None:
        try:
            reset = frames.decode_map(Reset, payload)
        except RemoteProtocolError as error:
            reset = Reset(str(error.code), str(error))
        if not stream.ours:
            self._resets.note(now)
        self._close(stream)
        events.append(
            StreamTerminated(stream.stream_id, reset.code, reset.message, reset.detail, True)
        )

    def _on_trailers(self, stream: Stream, payload: bytes, events: list[Event]) -> None:
        stream.receiving(FrameType.TRAILERS)
        trailers = frames.decode_map(Trailers, payload)
        if trailers.bytes != stream.receive.received:
            raise RemoteProtocolError(
                f"{stream.receive.received} bytes came where {trailers.bytes} were sent"
            )
        self._close(stream)
        events.append(StreamFinished(stream.stream_id, trailers))

    # -- inside --------------------------------------------------------------------------------

    def _stream(self, stream_id: int) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"stream {stream_id} is gone")
        return stream

    def _refuse(self, stream_id: int, code: ErrorCode, message: str) -> None:
        reset = Reset(str(code), message[:1024])
        self._queue(frames.encode_map(FrameType.RESET, stream_id, reset))

    def _map_frame(
        self, kind: FrameType, stream_id: int, payload: frames.PayloadMap, flags: int = 0
    ) -> bytes:
        try:
            frame = frames.encode_map(kind, stream_id, payload, flags)
        except ValueError as error:
            raise HeadTooLarge(str(error)) from None
        if len(frame) - HEADER_SIZE > self.peer.map_size:
            raise HeadTooLarge(f"{len(frame)} bytes; the peer takes {self.peer.map_size}")
        return frame

    def _queue(self, frame: bytes) -> None:
        self._control.append(frame)
        self._control_size += len(frame)

    def _take_budget(self, extra: int) -> bool:
        if not self._budget.take(extra):
            return False
        if self._shared_budget is not None and not self._shared_budget.take(extra):
            self._budget.give(extra)
            return False
        return True

    def _close(self, stream: Stream) -> None:
        if stream.closed:
            return
        stream.closed = True
        stream.queue.clear()
        stream.queued = 0
        del self.streams[stream.stream_id]
        if stream.receive.extra:
            self._budget.give(stream.receive.extra)
            if self._shared_budget is not None:
                self._shared_budget.give(stream.receive.extra)
        if stream.ours:
            self._ours -= 1
        elif self._slots.get(stream.stream_id):
            del self._slots[stream.stream_id]


def _take(stream: Stream, limit: int) -> bytes | memoryview:
    """The next ``limit`` bytes of the queue, or what there is."""
    queue = stream.queue
    chunk = queue[0]
    if len(chunk) > limit:
        view = chunk if isinstance(chunk, memoryview) else memoryview(chunk)
        queue[0] = view[limit:]
        stream.queued -= limit
        return view[:limit]
    queue.popleft()
    if not queue or len(chunk) + len(queue[0]) > limit:
        stream.queued -= len(chunk)
        return chunk
    gathered = [chunk]
    size = len(chunk)
    while queue and size + len(queue[0]) <= limit:
        size += len(queue[0])
        gathered.append(queue.popleft())
    stream.queued -= size
    return b"".join(gathered)
