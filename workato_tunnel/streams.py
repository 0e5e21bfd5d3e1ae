"""A stream's state: what may still be sent and received on it.

One table says what a frame needs and what it changes; ``docs/protocol.md`` draws it.
"""

from __future__ import annotations

from collections import deque
from enum import IntFlag
from typing import Final

from attrs import define, field

from .errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from .frames import FrameType
from .windows import ReceiveWindow, SendWindow


class Half(IntFlag):
    """What one direction of a stream still allows."""

    HEAD = 1
    DATA = 2
    TRAILERS = 4
    CLOSED = 0


REQUEST: Final = Half.DATA
"""The opener's direction after OPEN."""
RESPONSE: Final = Half.HEAD
"""The acceptor's direction before HEAD."""

_NEEDS: Final = {
    FrameType.HEAD: (Half.HEAD, Half.DATA | Half.TRAILERS),
    FrameType.DATA: (Half.DATA, None),
    FrameType.TRAILERS: (Half.TRAILERS, Half.CLOSED),
}


def advance(half: Half, kind: FrameType, end: bool) -> Half:
    """The direction's state after a frame of that kind. Raises KeyError where it is not allowed."""
    needs, after = _NEEDS[kind]
    if not half & needs:
        raise KeyError(kind)
    if after is None:
        return half & ~Half.DATA if end else half
    return after


@define(eq=False)
class Stream:
    """One multiplexed call.

    :ivar queue: outgoing chunks not yet framed; ``queued`` is their size in bytes.
    :ivar tail: the TRAILERS frame that waits behind the queue.
    :ivar busy: more than the high-water mark is queued and the writer was told to wait.
    """

    stream_id: int
    ours: bool
    outgoing: Half
    incoming: Half
    send: SendWindow
    receive: ReceiveWindow
    queue: deque[bytes | memoryview] = field(factory=deque)
    queued: int = 0
    end_queued: bool = False
    tail: bytes | None = None
    scheduled: bool = False
    busy: bool = False
    closed: bool = False

    def sending(self, kind: FrameType, end: bool = False) -> None:
        """Note that we send such a frame. Raises LocalProtocolError where the state forbids it."""
        try:
            self.outgoing = advance(self.outgoing, kind, end)
        except KeyError:
            raise LocalProtocolError(
                f"{kind.name} can't be sent on stream {self.stream_id} now"
            ) from None

    def receiving(self, kind: FrameType, end: bool = False) -> None:
        """Note that such a frame came. Raises RemoteProtocolError where the state forbids it."""
        try:
            self.incoming = advance(self.incoming, kind, end)
        except KeyError:
            raise RemoteProtocolError(
                f"{kind.name} not expected", ErrorCode.STREAM_CLOSED
            ) from None

    def sendable(self) -> bool:
        """Whether a turn would send anything."""
        if self.queued:
            return self.send.limit > self.send.sent
        return self.end_queued or self.tail is not None
