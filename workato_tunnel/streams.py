"""A stream's state: what may still be sent and received on it.

One table says what a frame needs and what it changes; ``docs/protocol.md`` draws it. The states are
plain integers, not an IntFlag, whose operators cost as much as the rest of a frame's way.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

from .errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from .frames import FrameType
from .windows import ReceiveWindow, SendWindow

HEAD: Final = 1
DATA: Final = 2
TRAILERS: Final = 4
CLOSED: Final = 0
"""What one direction of a stream still allows: a sum of the above."""

REQUEST: Final = DATA
"""The opener's direction after OPEN."""
RESPONSE: Final = HEAD
"""The acceptor's direction before HEAD."""

_NEEDS: Final[dict[int, tuple[int, int | None]]] = {
    FrameType.HEAD: (HEAD, DATA | TRAILERS),
    FrameType.DATA: (DATA, None),
    FrameType.TRAILERS: (TRAILERS, CLOSED),
}


def advance(half: int, kind: int, end: bool) -> int:
    """The direction's state after a frame of that kind. Raises KeyError where it is not allowed."""
    needs, after = _NEEDS[kind]
    if not half & needs:
        raise KeyError(kind)
    if after is None:
        return half & ~DATA if end else half
    return after


@define(eq=False)
class Stream:
    """One multiplexed call.

    :ivar outgoing: what we may still send; ``incoming``: what the peer may.
    :ivar queue: outgoing chunks not yet framed; ``queued`` is their size in bytes.
    :ivar tail: the TRAILERS frame that waits behind the queue.
    :ivar busy: more than the high-water mark is queued and the writer was told to wait.
    """

    stream_id: int
    ours: bool
    outgoing: int
    incoming: int
    send: SendWindow
    receive: ReceiveWindow
    queue: deque[bytes | memoryview] = field(factory=deque)
    queued: int = 0
    end_queued: bool = False
    tail: bytes | None = None
    scheduled: bool = False
    busy: bool = False
    closed: bool = False

    def sending(self, kind: int, end: bool = False) -> None:
        """Note that we send such a frame. Raises LocalProtocolError where the state forbids it."""
        try:
            self.outgoing = advance(self.outgoing, kind, end)
        except KeyError:
            raise LocalProtocolError(
                f"{FrameType(kind).name} can't be sent on stream {self.stream_id} now"
            ) from None

    def receiving(self, kind: int, end: bool = False) -> None:
        """Note that such a frame came. Raises RemoteProtocolError where the state forbids it."""
        try:
            self.incoming = advance(self.incoming, kind, end)
        except KeyError:
            raise RemoteProtocolError(
                f"{FrameType(kind).name} not expected", ErrorCode.STREAM_CLOSED
            ) from None

    def sendable(self) -> bool:
        """Whether a turn would send anything."""
        if self.queued:
            return self.send.limit > self.send.sent
        return self.end_queued or self.tail is not None

    def take(self, limit: int) -> bytes | memoryview:
        """Up to ``limit`` bytes of the queue: a part of the first chunk, or whole chunks."""
        queue = self.queue
        chunk = queue[0]
        size = len(chunk)
        if size > limit:
            view = chunk if isinstance(chunk, memoryview) else memoryview(chunk)
            queue[0] = view[limit:]
            self.queued -= limit
            return view[:limit]
        queue.popleft()
        if not queue or size + len(queue[0]) > limit:
            self.queued -= size
            return chunk
        gathered = [chunk]
        while queue and size + len(queue[0]) <= limit:
            size += len(queue[0])
            gathered.append(queue.popleft())
        self.queued -= size
        return b"".join(gathered)
