"""What goes out, in which order: ACK, replayed frames, control frames, then DATA by turns.

What comes next is decided when the socket has room for it, so a control frame or a short answer
never waits behind more than the socket's own buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from . import frames
from .frames import BLOCKED, END, HEADER, HEADER_SIZE, FrameType
from .resumption import ReceivedFrames, SentFrames
from .scheduling import RoundRobin
from .settings import DATA_SIZE, PACK_SIZE, QUANTUM, Settings
from .streams import Stream

_ACK: Final = int(FrameType.ACK)
_DATA: Final = int(FrameType.DATA)
_SMALLEST_DATA: Final = 1024
"""Neither a message's last DATA frame nor what it leaves of a chunk is cut smaller than this only
to end the message exactly."""


class SendQueue:
    """Everything that waits to be sent, and what was sent and is not acknowledged.

    :param answered: called for a stream when its TRAILERS are on their way: it has ended.
    :ivar control_size: bytes of control frames that wait.
    """

    def __init__(
        self, settings: Settings, received: ReceivedFrames, answered: Callable[[Stream], None]
    ) -> None:
        self.control_size = 0
        self.ack_due = False
        self._settings = settings
        self._received = received
        self._answered = answered
        self._control: deque[bytes] = deque()
        self._replay: deque[bytes] = deque()
        self._schedule = RoundRobin()
        self._sent = SentFrames(keep=settings.resumable)
        self._drained: list[int] = []
        self._last_ending = 0

    @property
    def retained(self) -> int:
        """Bytes kept because the peer has not acknowledged them."""
        return self._sent.size

    @property
    def endings_acknowledged(self) -> bool:
        """Whether the peer has each frame that ended a stream (TRAILERS, RESET) so far."""
        return self._sent.acknowledged >= self._last_ending

    def add(self, frame: bytes, *, ending: bool = False) -> None:
        """Queue a control frame; ``ending``: it ends a stream."""
        self._control.append(frame)
        self.control_size += len(frame)
        if ending:
            # Control frames are numbered when they leave: in order, and before any DATA.
            self._last_ending = self._sent.count + len(self._control)

    def replace(self, old: bytes | None, new: bytes) -> None:
        """Queue ``new``, in the place of ``old`` if that very frame still waits."""
        for place, frame in enumerate(self._control):
            if frame is old:
                self._control[place] = new
                self.control_size += len(new) - len(frame)
                return
        self.add(new)

    def schedule(self, stream: Stream) -> None:
        """Give the stream a turn, if it has something that may go."""
        if not stream.scheduled and stream.sendable():
            self._schedule.add(stream)

    def acknowledge(self, received: int) -> None:
        """The peer has that many frames. Raises RemoteProtocolError where that can't be."""
        self._sent.acknowledge(received)

    def suspend(self) -> None:
        """The socket is gone."""
        self.ack_due = False
        self._replay.clear()

    def resume(self, received: int) -> None:
        """Replay what the peer lacks. Raises RemoteProtocolError for a count that can't be."""
        self._sent.acknowledge(received)
        self._replay = self._sent.unacknowledged()

    def take_drained(self) -> list[int]:
        """Streams whose writer was told to wait and may go on; each is reported once."""
        drained, self._drained = self._drained, []
        return drained

    def next_message(self) -> bytes | None:
        """The next WebSocket message, at most PACK_SIZE and a frame long; None for none."""
        if not (self._control or self.ack_due or self._replay or self._schedule):
            return None
        parts: list[bytes] = []
        size = 0
        if self.ack_due:
            self.ack_due = False
            ack = frames.encode_number(_ACK, 0, self._received.report())
            parts.append(ack)
            size = len(ack)
        while self._replay and size < PACK_SIZE:
            frame = self._replay.popleft()
            parts.append(frame)
            size += len(frame)
        if not self._replay:
            control, sent = self._control, self._sent
            while control and size < PACK_SIZE:
                frame = control.popleft()
                self.control_size -= len(frame)
                sent.add(frame)
                parts.append(frame)
                size += len(frame)
            while self._schedule and size < PACK_SIZE and sent.size < self._settings.retained:
                stream = self._schedule.next()
                if stream is None:
                    break
                size += self._turn(stream, PACK_SIZE - size, parts)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _turn(self, stream: Stream, room: int, parts: list[bytes]) -> int:
        size = 0
        credit = stream.send.limit - stream.send.sent
        if stream.queued:
            if credit:
                quantum = QUANTUM if self._schedule else DATA_SIZE
                size = self._send_data(
                    stream, min(quantum, credit, max(room - HEADER_SIZE, _SMALLEST_DATA)), parts
                )
                credit = stream.send.limit - stream.send.sent
                if 0 < stream.queued <= min(_SMALLEST_DATA, credit):
                    size += self._send_data(stream, stream.queued, parts)
        elif stream.end_queued:
            size = self._send(_frame(stream, b"", False), parts)
        if stream.tail is not None and not stream.queued:
            size += self._send(stream.tail, parts)
            self._last_ending = self._sent.count
            self._answered(stream)
            return size
        if stream.sendable():
            self._schedule.add(stream)
        if stream.busy and stream.queued < self._settings.low_water:
            stream.busy = False
            self._drained.append(stream.stream_id)
        return size

    def _send_data(self, stream: Stream, limit: int, parts: list[bytes]) -> int:
        payload = stream.take(limit)
        window = stream.send
        window.sent += len(payload)
        return self._send(_frame(stream, payload, window.sent == window.limit), parts)

    def _send(self, frame: bytes, parts: list[bytes]) -> int:
        self._sent.add(frame)
        parts.append(frame)
        return len(frame)


def _frame(stream: Stream, payload: bytes | memoryview, dry: bool) -> bytes:
    """DATA; ``dry``: it used up the credit.

    The receiver is told so even where nothing waits at this moment: a writer that is let go on by
    this very frame would otherwise never be seen waiting.
    """
    flags = 0
    if stream.end_queued and not stream.queued:
        stream.end_queued = False
        flags = END
    elif dry and (stream.queued or stream.tail is None):
        flags = BLOCKED
    return HEADER.pack(_DATA, flags, len(payload), stream.stream_id) + payload
