"""Whose turn it is to send DATA.

Round robin over the streams that have bytes and credit. Bytes can be cut anywhere, so a turn of at
most a quantum is fair without the carried deficits of packet schedulers. A stream's first bytes
are interactive: a short answer passes a bulk download, which still gets one turn in nine.
"""

from __future__ import annotations

from collections import deque

from .settings import INTERACTIVE_SIZE, INTERACTIVE_TURNS
from .streams import Stream


class RoundRobin:
    """The streams that can send, in two rings."""

    def __init__(self) -> None:
        self._interactive: deque[Stream] = deque()
        self._bulk: deque[Stream] = deque()
        self._turns = 0

    def add(self, stream: Stream) -> None:
        """Queue a stream behind the others of its ring, unless it is queued."""
        if not stream.scheduled:
            stream.scheduled = True
            ring = self._interactive if stream.send.sent < INTERACTIVE_SIZE else self._bulk
            ring.append(stream)

    def next(self) -> Stream | None:
        """Take out the stream whose turn it is. Streams closed meanwhile are passed over."""
        while True:
            if self._interactive and (not self._bulk or self._turns < INTERACTIVE_TURNS):
                self._turns += 1
                stream = self._interactive.popleft()
            elif self._bulk:
                self._turns = 0
                stream = self._bulk.popleft()
            else:
                return None
            stream.scheduled = False
            if not stream.closed:
                return stream

    def __bool__(self) -> bool:
        """Whether anybody waits for a turn (it may have been closed since)."""
        return bool(self._interactive or self._bulk)
