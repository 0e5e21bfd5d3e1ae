"""Bodies in pieces: the caller's on its way to the target, the target's on its way back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ...requests import Body, BodyLost

BUFFERED: Final = 64 * 1024
"""Bytes of a response's body that may wait for the reader before the target is held back."""

_REPLAYED: Final = 64 * 1024


class Upload:
    """A request's body as bytes for the wire.

    A short body is kept until its end, so that it can be sent again where a kept connection turns
    out to be dead.

    :param first: chunks already taken from ``body``.
    :param length: the body's length where the caller named it; otherwise it goes out in chunks.
    :param expect: wait for the target's ``100 Continue`` first.
    """

    def __init__(
        self, body: AsyncIterator[bytes], *, first: bytes = b"", length: int | None, expect: bool
    ) -> None:
        self._body = body
        self._kept: list[bytes] | None = [first] if first else []
        self._kept_size = len(first)
        self._ended = False
        self.length = length
        self.expect = expect
        self.begun = False

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent again from its start."""
        return not self.begun or (self._ended and self._kept is not None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, framed. Raises BodyLost, and Problem where it isn't as long as it said."""
        self.begun = True
        total = 0
        for chunk in list(self._kept or ()):
            total += len(chunk)
            yield self._framed(chunk, total)
        if not self._ended:
            async for chunk in self._body:
                total += len(chunk)
                self._keep(chunk)
                yield self._framed(chunk, total)
            self._ended = True
        if self.length is None:
            yield b"0\r\n\r\n"
        elif total != self.length:
            raise self._wrong_length(f"ended after {total}")

    def _framed(self, chunk: bytes, total: int) -> bytes:
        if self.length is None:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if total > self.length:
            raise self._wrong_length("went on after")
        return chunk

    def _keep(self, chunk: bytes) -> None:
        if self._kept is not None:
            self._kept_size += len(chunk)
            if self._kept_size > _REPLAYED:
                self._kept = None
            else:
                self._kept.append(chunk)

    def _wrong_length(self, what: str) -> Problem:
        return Problem(
            "bad_request",
            f"The body {what} of {self.length} bytes",
            extra={"field": "content-length"},
        )


async def first_chunk(body: Body) -> tuple[AsyncIterator[bytes], bytes]:
    """The body's iterator and its first chunk, which is empty where there is no body."""
    iterator = aiter(body)
    return iterator, await anext(iterator, b"")


class IncomingBody:
    """The body of a response that is still coming in, for one reader.

    The connection pushes; the reader iterates. Between them wait at most :data:`BUFFERED` bytes and
    one read of the socket: past that the connection is told to pause.

    :param pause: holds the target back; ``resume`` lets it go on; ``abort`` closes the connection.
    """

    def __init__(
        self,
        pause: Callable[[], object],
        resume: Callable[[], object],
        abort: Callable[[], object],
    ) -> None:
        self._pause = pause
        self._resume = resume
        self._abort = abort
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._failure: BaseException | None = None
        self._reader: Deferred[None] | None = None

    @property
    def paused(self) -> bool:
        """Whether the target is held back."""
        return self._paused

    def push(self, pieces: list[bytes]) -> None:
        """More of the body has come."""
        if self._ended:
            return
        self._pieces.extend(pieces)
        self._size += sum(map(len, pieces))
        self._wake()
        if self._size > BUFFERED and not self._paused and not self._ended:
            self._paused = True
            self._pause()

    def end(self, pieces: list[bytes], failure: BaseException | None = None) -> None:
        """The body is complete with these pieces, or will never be."""
        if self._ended:
            return
        self._ended = True
        self._pieces.extend(pieces)
        self._failure = failure
        if self._paused:
            self._paused = False
            self._resume()  # the connection is for the next call now, read or not
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def __aiter__(self) -> IncomingBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._ended:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._reader = Deferred(self._left)
            await self._reader
        pieces, self._pieces = self._pieces, []
        self._size = 0
        if self._paused:
            self._paused = False
            self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _left(self, _cancelled: Deferred[None]) -> None:
        self._reader = None
        self._stop()

    def _stop(self) -> None:
        if not self._ended:
            self.end([], BodyLost("the reader gave the response up"))
            self._abort()

    async def skip(self, limit: int) -> bool:
        """Read it away. False, and the connection closed, where it is longer than ``limit``."""
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                await self.aclose()
                return False
        return True

    async def aclose(self) -> None:
        """The reader has had enough: the connection is closed unless the body has wholly come."""
        self._pieces.clear()
        self._stop()
