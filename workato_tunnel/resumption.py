"""What lets a session outlive its socket: counts, and the frames the peer may not have.

Sequenced frames are numbered implicitly, in order, in each direction. The sender keeps a frame
until an ACK covers it; after a cut both sides say how many they have and replay the rest.
"""

from __future__ import annotations

from collections import deque

from .errors import ErrorCode, RemoteProtocolError
from .frames import FrameType

SEQUENCED = frozenset(
    {
        FrameType.OPEN,
        FrameType.HEAD,
        FrameType.DATA,
        FrameType.TRAILERS,
        FrameType.WINDOW,
        FrameType.RESET,
        FrameType.CATALOGUE,
        FrameType.GOAWAY,
    }
)

FRAME_COST = 64
"""Bytes that keeping a frame costs besides its own."""


class SentFrames:
    """The frames that were handed to a socket and are not acknowledged, oldest first.

    :param keep: they may have to be sent again; else they are only counted.
    :ivar count: sequenced frames sent since the session began.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._frames: deque[bytes] = deque()
        self._keep = keep
        self.count = 0
        self.acknowledged = 0
        self.size = 0

    def add(self, frame: bytes) -> None:
        """Keep a frame that is being sent."""
        self.count += 1
        if self._keep:
            self._frames.append(frame)
            self.size += len(frame) + FRAME_COST

    def acknowledge(self, received: int) -> None:
        """Forget what the peer has. Raises RemoteProtocolError for a number that can't be."""
        if not self.acknowledged <= received <= self.count:
            raise RemoteProtocolError(
                f"{received} frames acknowledged; {self.acknowledged} were, {self.count} are sent",
                ErrorCode.PROTOCOL_ERROR,
            )
        if self._keep:
            for _ in range(received - self.acknowledged):
                self.size -= len(self._frames.popleft()) + FRAME_COST
        self.acknowledged = received

    def unacknowledged(self) -> deque[bytes]:
        """A copy of what is to be replayed, in order."""
        return self._frames.copy()


class ReceivedFrames:
    """How many sequenced frames came in, and when the peer is told."""

    def __init__(self, ack_frames: int, ack_bytes: int) -> None:
        self.count = 0
        self._ack_frames = ack_frames
        self._ack_bytes = ack_bytes
        self._told = 0
        self._bytes = 0

    def add(self, size: int) -> bool:
        """Count a frame of ``size`` bytes; True when an ACK is due."""
        self.count += 1
        self._bytes += size
        return self.count - self._told >= self._ack_frames or self._bytes >= self._ack_bytes

    @property
    def unreported(self) -> bool:
        """Whether frames have come that the peer was not told of."""
        return self.count != self._told

    def report(self) -> int:
        """The number to put into an ACK or HELLO; from here on it counts as told."""
        self._told = self.count
        self._bytes = 0
        return self.count
