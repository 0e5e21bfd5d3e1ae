"""One side of a tunnel, sans-IO: messages in, events out; calls in, messages out.

A connection lives as long as its session and does not care how many sockets that takes: ``suspend``
when one dies, ``resume`` when the next one is ready. HELLO is exchanged by the caller, one message
each way, before (see :mod:`workato_tunnel.handshake`); everything after it passes through here.

Nothing that the peer sends makes a method raise: a violation inside a stream resets the stream, any
other queues a GOAWAY and ends with :class:`~workato_tunnel.events.ConnectionFailed`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

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
from .resumption import ReceivedFrames
from .sending import SendQueue
from .settings import LONG_STREAM, LONG_WINDOW, MAX_MESSAGE, PACK_SIZE, Settings
from .streams import CLOSED, DATA, REQUEST, RESPONSE, Stream
from .windows import CreditBudget, ExtraCredit, ReceiveWindow, SendWindow

# Members of an enum cost a slow look-up each; these are compared for every frame.
_ACK: Final = int(FrameType.ACK)
_GOAWAY: Final = int(FrameType.GOAWAY)
_CATALOGUE: Final = int(FrameType.CATALOGUE)
_OPEN: Final = int(FrameType.OPEN)
_HEAD: Final = int(FrameType.HEAD)
_DATA: Final = int(FrameType.DATA)
_TRAILERS: Final = int(FrameType.TRAILERS)
_WINDOW: Final = int(FrameType.WINDOW)
_RESET: Final = int(FrameType.RESET)


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
        self._next_id: int = role.value
        self._our_parity = self._next_id % 2
        self._last_peer_id = 0
        self._ours = 0
        self._slots: dict[int, bool] = {}
        self._received = ReceivedFrames(settings.ack_frames, settings.ack_bytes)
        self._out = SendQueue(settings, self._received, self._close)
        self._catalogue: bytes | None = None
        self._resets = ResetRate(settings.resets_burst, settings.resets_per_second)
        extra = max(0, settings.budget - settings.streams * settings.window)
        self._extra = ExtraCredit(CreditBudget(extra), shared_budget)

    # -- what the caller wants sent ------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """Streams that we opened and that have not ended."""
        return self._ours

    @property
    def busy_slots(self) -> int:
        """Streams that the peer opened and whose work has not ended."""
        return len(self._slots)

    @property
    def at_rest(self) -> bool:
        """Nothing is open in either direction, and the peer has the end of each stream."""
        return not self.streams and not self._slots and self._out.endings_acknowledged

    def open_stream(self, head: Open, end: bool = False) -> int:
        """Open a stream; ``end``: without a body.

        Raises StreamRefused where none can be opened now, HeadTooLarge for a head past the peer's
        limit.
        """
        if self.failed or self.draining or self.peer_draining:
            raise StreamRefused("the session is draining", ErrorCode.DRAINING)
        if self._ours >= self.peer.streams:
            raise StreamRefused(f"all {self.peer.streams} streams are in use", ErrorCode.OVERLOADED)
        stream_id = self._next_id
        if stream_id > MAX_STREAM_ID:
            raise StreamRefused("the session has used up its stream ids", ErrorCode.DRAINING)
        if self._out.control_size > self.settings.control_queue:
            raise StreamRefused("the peer does not read", ErrorCode.OVERLOADED)
        self._out.add(self._map_frame(_OPEN, stream_id, head, END if end else 0))
        self._next_id = stream_id + 2
        self._ours += 1
        window = self.settings.window
        self.streams[stream_id] = Stream(
            stream_id,
            True,
            CLOSED if end else REQUEST,
            RESPONSE,
            SendWindow(self.peer.window),
            ReceiveWindow(window, window),
        )
        return stream_id

    def send_head(self, stream_id: int, head: Head) -> None:
        """Begin the answer on a stream that the peer opened."""
        stream = self._stream(stream_id)
        frame = self._map_frame(_HEAD, stream_id, head)
        stream.sending(_HEAD)
        self._out.add(frame)

    def send_data(self, stream_id: int, data: bytes) -> int:
        """Queue body bytes. The bytes now queued on the stream are returned."""
        stream = self._stream(stream_id)
        stream.sending(_DATA)
        if data:
            stream.queue.append(data)
            stream.queued += len(data)
            self._out.schedule(stream)
            if stream.queued >= self.settings.high_water:
                stream.busy = True
        return stream.queued

    def send_end(self, stream_id: int) -> None:
        """Our DATA ends here, behind what is queued."""
        stream = self._stream(stream_id)
        stream.sending(_DATA, end=True)
        stream.end_queued = True
        self._out.schedule(stream)

    def send_trailers(self, stream_id: int, trailers: Trailers) -> None:
        """The answer ends behind what is queued. ``bytes`` is filled in here."""
        stream = self._stream(stream_id)
        total = stream.send.sent + stream.queued
        frame = frames.encode_trailers(stream_id, trailers, total, self.peer.map_size)
        stream.sending(_TRAILERS)
        stream.end_queued = False
        stream.tail = frame
        self._out.schedule(stream)

    def reset_stream(self, stream_id: int, code: str, message: str = "", detail: str = "") -> None:
        """End a stream at once, and what of it is not consumed. No-op when it is gone."""
        stream = self.streams.get(stream_id)
        if stream is None:
            self._extra.forget(stream_id)
            return
        self._close(stream)
        self._send_reset(stream_id, code, message, detail)

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
            self._extra.consumed(stream_id, size)
            return False
        window = stream.receive
        window.consume(size)
        if not stream.incoming & DATA:
            return False
        if window.wants_widening():
            self._extra.widen(window, self.settings.max_window)
        elif window.size < LONG_WINDOW and window.keeps_up(LONG_STREAM):
            self._extra.widen(window, min(LONG_WINDOW, self.settings.max_window))
        grant = window.next_grant()
        if grant is None:
            return False
        self._out.add(frames.encode_number(_WINDOW, stream_id, grant))
        return True

    def announce(self, catalogue: Catalogue) -> None:
        """Send the catalogue, instead of an older one that has not left yet.

        Raises HeadTooLarge beyond what a frame holds.
        """
        frame = self._map_frame(_CATALOGUE, 0, catalogue)
        self._out.replace(self._catalogue, frame)
        self._catalogue = frame

    def go_away(self, code: str, message: str = "") -> None:
        """Take and open no new stream from here on."""
        if not self.draining:
            self._send_goaway(code, message)

    def acknowledge(self) -> bool:
        """Let an ACK go out if the peer is owed one. To be called each second."""
        if self._received.unreported:
            self._out.ack_due = True
        return self._out.ack_due

    # -- resumption ----------------------------------------------------------------------------

    @property
    def received_count(self) -> int:
        """The number for our HELLO; it counts as told."""
        self._out.ack_due = False
        return self._received.report()

    def suspend(self) -> None:
        """The socket is gone. Calls go on being queued, within their bounds."""
        self._out.suspend()

    def resume(self, received: int) -> None:
        """A new socket is ready and the peer has ``received`` of our frames.

        Raises RemoteProtocolError where that number can't be: the session is lost.
        """
        self._out.resume(received)

    # -- messages out --------------------------------------------------------------------------

    def next_message(self) -> bytes | None:
        """The next WebSocket message to send, at most PACK_SIZE and a frame long; None for none."""
        return self._out.next_message()

    def take_drained(self) -> list[int]:
        """Streams whose writer was told to wait and may go on; each is reported once."""
        return self._out.take_drained()

    # -- messages in ---------------------------------------------------------------------------

    def receive_message(self, message: bytes, now: float) -> list[Event]:
        """Take a WebSocket message in. ``now``: any clock in seconds that only goes forward."""
        events: list[Event] = []
        if self.failed:
            return events
        try:
            self._receive(message, now, events)
            self._check_bounds()
        except RemoteProtocolError as error:
            self.failed = True
            self._send_goaway(error.code, str(error))
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
            if _OPEN <= kind <= _RESET:
                self._count(length)
                if kind == _OPEN:
                    self._on_open(stream_id, flags, payload, now, events)
                    continue
                stream = self.streams.get(stream_id)
                if stream is not None:
                    self._on_stream_frame(stream, kind, flags, payload, now, events)
                else:
                    self._check_ended(stream_id)
            else:
                self._on_connection_frame(kind, flags, stream_id, payload, events)

    def _count(self, length: int) -> None:
        # A side that drains waits for the peer to have everything: it is told at once.
        if self._received.add(length) or self.peer_draining:
            self._out.ack_due = True

    def _check_bounds(self) -> None:
        out, settings = self._out, self.settings
        bound = 2 * settings.control_queue
        if out.control_size > bound or out.retained > settings.retained + bound:
            # Beside the answers to a flood there may be a head for each stream.
            bound += 2 * PACK_SIZE + len(self.streams) * self.peer.map_size
            if out.control_size > bound:
                raise RemoteProtocolError("more to answer than is read", ErrorCode.FLOOD)
            if out.retained > settings.retained + bound:
                raise RemoteProtocolError("more is sent than is acknowledged", ErrorCode.FLOOD)

    def _on_connection_frame(
        self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]
    ) -> None:
        if kind not in (_ACK, _GOAWAY, _CATALOGUE):
            if flags & SKIPPABLE and kind != FrameType.HELLO:
                return
            raise RemoteProtocolError(f"frame type 0x{kind:02x} is not expected here")
        if stream_id:
            raise RemoteProtocolError(f"frame type 0x{kind:02x} belongs on stream 0")
        if kind == _ACK:
            self._out.acknowledge(frames.decode_number(payload))
            return
        self._count(len(payload))
        if kind == _GOAWAY:
            self.peer_draining = self._out.ack_due = True
            events.append(GoawayReceived(frames.decode_map(Goaway, payload)))
        elif self.role is Role.AGENT:
            raise RemoteProtocolError("CATALOGUE comes from agents only")
        else:
            events.append(CatalogueReceived(frames.decode_map(Catalogue, payload)))

    def _on_open(
        self, stream_id: int, flags: int, payload: bytes, now: float, events: list[Event]
    ) -> None:
        if stream_id % 2 == self._our_parity or not self._last_peer_id < stream_id <= MAX_STREAM_ID:
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
                CLOSED if end else REQUEST,
                SendWindow(self.peer.window),
                ReceiveWindow(self.settings.window, self.settings.window),
            )
            self._slots[stream_id] = False
            events.append(StreamOpened(stream_id, head, end))

    def _check_ended(self, stream_id: int) -> None:
        """Late frames of a stream that ended here are normal; of one that never was, not."""
        ours = stream_id % 2 == self._our_parity
        if not 0 < stream_id <= (self._next_id - 2 if ours else self._last_peer_id):
            raise RemoteProtocolError(f"frame on stream {stream_id}, which was never opened")

    def _on_stream_frame(
        self,
        stream: Stream,
        kind: int,
        flags: int,
        payload: bytes,
        now: float,
        events: list[Event],
    ) -> None:
        try:
            if kind == _DATA:
                self._on_data(stream, flags, payload, events)
            elif kind == _WINDOW:
                if stream.send.raise_to(frames.decode_number(payload)):
                    self._out.schedule(stream)
            elif kind == _RESET:
                self._on_reset(stream, payload, now, events)
            elif kind == _HEAD:
                stream.receiving(_HEAD)
                if len(payload) > self.settings.map_size:
                    raise RemoteProtocolError("head too large", ErrorCode.FRAME_TOO_LARGE)
                events.append(HeadReceived(stream.stream_id, frames.decode_map(Head, payload)))
            else:
                self._on_trailers(stream, payload, events)
        except RemoteProtocolError as error:
            stream_id = stream.stream_id
            if not stream.ours:
                # A stream that the peer makes us reset costs as much as one that it resets.
                self._resets.note(now)
            self.reset_stream(stream_id, error.code, str(error))
            events.append(StreamTerminated(stream_id, str(error.code), str(error), "", False))

    def _on_data(self, stream: Stream, flags: int, payload: bytes, events: list[Event]) -> None:
        end = bool(flags & END)
        stream.receiving(_DATA, end)
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
        stream.receiving(_TRAILERS)
        trailers = frames.decode_map(Trailers, payload)
        if trailers.bytes != stream.receive.received:
            raise RemoteProtocolError(
                f"{stream.receive.received} bytes came where {trailers.bytes} were sent"
            )
        self._close(stream, complete=True)
        events.append(StreamFinished(stream.stream_id, trailers))

    # -- inside --------------------------------------------------------------------------------

    def _stream(self, stream_id: int) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"stream {stream_id} is gone")
        return stream

    def _send_goaway(self, code: str, message: str) -> None:
        self.draining = True
        goaway = Goaway(str(code), frames.clean(message, 1024))
        self._out.add(frames.encode_map(_GOAWAY, 0, goaway))

    def _refuse(self, stream_id: int, code: ErrorCode, message: str) -> None:
        self._send_reset(stream_id, code, message, "")

    def _send_reset(self, stream_id: int, code: str, message: str, detail: str) -> None:
        frame = frames.encode_reset(stream_id, code, message, detail, self.peer.map_size)
        self._out.add(frame, ending=True)

    def _map_frame(
        self, kind: int, stream_id: int, payload: frames.PayloadMap, flags: int = 0
    ) -> bytes:
        try:
            frame = frames.encode_map(kind, stream_id, payload, flags)
        except (ValueError, OverflowError) as error:
            raise HeadTooLarge(str(error)) from None
        if len(frame) - HEADER_SIZE > self.peer.map_size:
            raise HeadTooLarge(f"{len(frame)} bytes; the peer takes {self.peer.map_size}")
        return frame

    def _close(self, stream: Stream, complete: bool = False) -> None:
        stream_id = stream.stream_id
        stream.closed = True
        stream.queue.clear()
        stream.queued = 0
        stream.tail = None
        del self.streams[stream_id]
        if stream.receive.extra:
            if complete:
                self._extra.keep(stream_id, stream.receive)
            else:
                self._extra.give(stream.receive)
        if stream.ours:
            self._ours -= 1
        elif self._slots.get(stream_id):
            del self._slots[stream_id]
