"""Messages that come as a stream of lines, each answered by a line once it is written."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from ...requests import Request
from . import bodies
from .producing import Result, Written

UNDER_WAY: Final = 16
"""Pieces of the body, of at most 64 KiB or one line, that may wait for brokers; then no more of it
is read."""
UNDER_WAY_BYTES: Final = 8 * 1024 * 1024
"""As many bytes may, or one piece that is larger."""

Write = Callable[[list[bodies.Message]], Awaitable[list[Result]]]


def document(result: Result) -> dict[str, object]:
    """What became of a message, as the caller is told."""
    if isinstance(result, Written):
        return {"partition": result.partition, "offset": result.offset}
    return {"code": result.code, "detail": result.detail}


@define(eq=False)
class WrittenLines:
    """The body of the answer: lines in the order of the messages, while more of them come in.

    At the first message that is not written it ends with the problem as its last line, cut off.
    """

    _request: Request
    _write: Write
    _limit: int | None
    _pieces: deque[Deferred[list[Result]]] = field(factory=deque, init=False)
    _sizes: deque[int] = field(factory=deque, init=False)
    _feeding: Deferred[None] | None = field(default=None, init=False)
    _fault: BaseException | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)
    _changed: Deferred[None] | None = field(default=None, init=False)
    _first: bytes = field(default=b"", init=False)
    _body: AsyncGenerator[bytes, None] | None = field(default=None, init=False)

    async def begin(self) -> None:
        """Wait for the first answer. Raises Problem where nothing is written at all."""
        self._request.usage.rows = 0
        self._feeding = Deferred.fromCoroutine(self._feed())
        self._feeding.addErrback(self._broken)
        self._body = self._lines()
        try:
            self._first = await anext(self._body, b"")
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._body is None:
            raise StopAsyncIteration
        return await anext(self._body)

    async def aclose(self) -> None:
        """Stop reading, and give up what is not written yet."""
        body, self._body = self._body, None
        if body is not None:
            await body.aclose()
        if self._feeding is not None:
            self._feeding.cancel()
        while self._pieces:
            piece = self._pieces.popleft()
            piece.addErrback(lambda _: None)  # nobody is there to be told
            piece.cancel()

    async def _feed(self) -> None:
        """Read the body, as far as what was read before is written."""
        size = 0
        async for messages in bodies.message_lines(self._request.body):
            piece = sum(message.size for message in messages)
            size += piece
            if self._limit is not None and size > self._limit:
                raise bodies.beyond(self._limit)
            while self._pieces and (
                len(self._pieces) >= UNDER_WAY or sum(self._sizes) + piece > UNDER_WAY_BYTES
            ):
                await self._change()
            self._pieces.append(Deferred.fromCoroutine(_awaited(self._write(messages))))
            self._sizes.append(piece)
            self._tell()
        self._ended = True
        self._tell()

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        begun = False
        try:
            while self._pieces or not self._ended:
                if not self._pieces:
                    await self._change()
                    continue
                results = await self._pieces[0]
                self._pieces.popleft()
                self._sizes.popleft()
                self._tell()
                lines, failed = self._answered(results)
                if lines:
                    begun = True
                    yield lines
                if failed is not None:
                    raise failed
            if self._fault is not None:
                raise self._fault
        except Problem as problem:
            if begun:
                yield problem.body(self._request.request_id) + b"\n"
            raise

    def _answered(self, results: list[Result]) -> tuple[bytes, Problem | None]:
        parts: list[bytes] = []
        for result in results:
            if isinstance(result, Problem):
                return b"".join(parts), result
            parts.append(msgspec.json.encode(document(result)) + b"\n")
            self._request.usage.rows = (self._request.usage.rows or 0) + 1
        return b"".join(parts), None

    def _broken(self, failure: Failure) -> None:
        """The body does not go on. What came before is answered first."""
        self._ended = True
        self._fault = failure.value
        self._tell()

    async def _change(self) -> None:
        """Wait until a piece is added or taken. Both sides wait, never at the same time."""
        changed = self._changed
        if changed is None or changed.called:
            changed = self._changed = Deferred()
        waiting: Deferred[None] = Deferred()
        changed.addBoth(lambda _: None if waiting.called else waiting.callback(None))
        await waiting

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.callback(None)


async def _awaited(writing: Awaitable[list[Result]]) -> list[Result]:
    return await writing
