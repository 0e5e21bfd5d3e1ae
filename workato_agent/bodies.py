"""The body of a request: chunks that a stream pushes, read at the pace of the service.

The stream pushes on the reactor; a service pulls. In between wait at most :data:`HIGH_WATER` bytes:
past that the stream is paused, its credit runs out, and the caller's own socket fills up.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamTransport

from .requests import BodyLost, Passage

HIGH_WATER: Final = 128 * 1024
LOW_WATER: Final = 64 * 1024
CHUNK: Final = 64 * 1024


class StreamBody:
    """A :class:`workato_agent.requests.Body` that is filled by a stream.

    One reader at a time. A body that has been lost raises BodyLost once what came before is read.

    :ivar received: bytes that have come in so far, read or not.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_discarding",
        "_ended",
        "_lost",
        "_passage",
        "_paused",
        "_stream",
        "_waiting",
        "received",
    )

    def __init__(self, stream: StreamTransport) -> None:
        self.received = 0
        self._stream = stream
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._waiting: Deferred[None] | None = None
        self._paused = False
        self._ended = stream.request_ended
        self._discarding = False
        self._lost: str | None = None
        self._passage: Passage | None = None

    # -- the stream's side ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self.received += len(data)
        if self._passage is not None:
            self._passage.data_received(data)
            return
        if self._discarding or not data:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= HIGH_WATER and not self._paused:
            self._paused = True
            self._stream.pauseProducing()
        self._wake()

    def end_received(self) -> None:
        """The body is complete."""
        self._ended = True
        if self._passage is not None:
            self._passage.end_received()
        self._wake()

    def lose(self, reason: str) -> None:
        """The rest will not come. What has come is dropped unless the body was complete."""
        if not self._ended and self._lost is None:
            self._lost = reason
            self._drop()
            if self._passage is not None:
                self._passage.lost()
            self._wake()

    def discard(self) -> None:
        """Nobody reads any more: let the rest come and go, so that it holds up nothing."""
        self._discarding = True
        self._passage = None
        self._drop()
        if self._paused:
            self._paused = False
            self._stream.resumeProducing()

    def hand_over(self, passage: Passage) -> None:
        """From here on each byte goes to ``passage`` as it comes, and nobody else reads."""
        chunks = list(self._chunks)
        self._drop()
        self._passage = passage
        for chunk in chunks:
            passage.data_received(chunk)
        if self._lost is not None:
            passage.lost()
        elif self._ended:
            passage.end_received()
        if self._paused:
            self._paused = False
            self._stream.resumeProducing()

    # -- the service's side --------------------------------------------------------------------

    def __aiter__(self) -> StreamBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._lost is not None:
                raise BodyLost(self._lost)
            if self._ended:
                raise StopAsyncIteration
            if self._discarding:
                raise BodyLost("the call has ended")
            if self._waiting is not None:
                raise RuntimeError("a request's body has one reader at a time")
            self._waiting = Deferred()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._take()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises Problem ``payload_too_large`` past ``limit`` bytes."""
        first = b""
        rest: bytearray | None = None
        async for chunk in self:
            if len(first if rest is None else rest) + len(chunk) > limit:
                raise Problem(
                    "payload_too_large",
                    f"The request's body is longer than {limit} bytes",
                    hint="send less at once; bulk data has calls of its own that stream",
                    extra={"limit": limit},
                )
            if rest is not None:
                rest += chunk
            elif first:
                rest = bytearray(first + chunk)
            else:
                first = chunk
        return first if rest is None else bytes(rest)

    # -- inside --------------------------------------------------------------------------------

    def _take(self) -> bytes:
        chunk = self._chunks.popleft()
        if len(chunk) > CHUNK:
            self._chunks.appendleft(chunk[CHUNK:])
            chunk = chunk[:CHUNK]
        self._buffered -= len(chunk)
        if self._paused and self._buffered <= LOW_WATER:
            self._paused = False
            self._stream.resumeProducing()
        return chunk

    def _drop(self) -> None:
        self._chunks.clear()
        self._buffered = 0

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.called:
            waiting.callback(None)
