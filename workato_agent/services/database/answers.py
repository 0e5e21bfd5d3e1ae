"""What calls give back: results that are streamed, and small documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final

import msgspec
from attrs import define

from workato_tunnel.problems import Problem

from ...requests import Headers, Request, Response
from .adapters.base import Outcome, Output, Returned, RowStream
from .bodies import MSGPACK
from .formats import document
from .results import Column, JsonWriter
from .results_msgpack import MsgpackWriter, array_of

RETURNED_ROWS: Final = 10_000
RETURNED_BYTES: Final = 8 * 1024 * 1024
_CHUNK: Final = 64 * 1024


def accepted(request: Request) -> str | None:
    """The call's ``Accept`` fields as one."""
    fields = [value for name, value in request.headers if name == "accept"]
    return ", ".join(fields) if fields else None


@define(eq=False)
class Document:
    """An answer in one piece, as JSON or MessagePack."""

    media_type: str

    @classmethod
    def of(cls, request: Request) -> Document:
        """In the form that the caller prefers."""
        return cls(document(accepted(request)))

    def response(self, value: object, status: int = 200, headers: Headers = ()) -> Response:
        """An answer with this value."""
        return self._response(self._encode(value), status, headers)

    def output(self, max_rows: int | None, max_bytes: int | None) -> Output:
        """The output of rows that are to stand in such an answer, and its bounds."""
        return Output(
            MsgpackWriter() if self.media_type == MSGPACK else JsonWriter(),
            max_rows=min(RETURNED_ROWS, max_rows or RETURNED_ROWS),
            max_bytes=min(RETURNED_BYTES, max_bytes or RETURNED_BYTES),
        )

    def outcome(self, outcome: Outcome, output: Output) -> Response:
        """What ``execute`` did."""
        if outcome.columns is None:
            return self.response({"row_count": outcome.row_count})
        return self._response(
            self._rows(
                outcome.columns,
                outcome.rows,
                output.rows,
                outcome.row_count,
                truncated=output.truncated,
            )
        )

    def returned(self, returned: Returned) -> Response:
        """What a procedure gave back."""
        sets = [
            self._rows(
                each.columns, each.rows, each.row_count, each.row_count, truncated=each.truncated
            )
            for each in returned.result_sets
        ]
        out = msgspec.json.encode(returned.out)
        if self.media_type != MSGPACK:
            return self._response(b'{"out":%b,"result_sets":[%b]}' % (out, b",".join(sets)))
        values = [self._encode("out"), self._encode(msgspec.json.decode(out))]
        values += [self._encode("result_sets"), array_of(b"".join(sets), len(sets))]
        return self._response(_map_of(values))

    def _rows(
        self, columns: Sequence[Column], rows: bytes, shown: int, count: int, *, truncated: bool
    ) -> bytes:
        if self.media_type != MSGPACK:
            writer = JsonWriter()
            return b"".join((writer.head(columns), rows, writer.tail(count, truncated=truncated)))
        return _map_of(
            [
                *map(self._encode, ("columns", columns, "rows")),
                array_of(rows, shown),
                *map(self._encode, ("row_count", count, "truncated", truncated)),
            ]
        )

    def _encode(self, value: object) -> bytes:
        if self.media_type == MSGPACK:
            return msgspec.msgpack.encode(value)
        return msgspec.json.encode(value)

    def _response(self, body: bytes, status: int = 200, headers: Headers = ()) -> Response:
        return Response(status, (("content-type", self.media_type), *headers), body)


def _map_of(values: Sequence[bytes]) -> bytes:
    """A MessagePack map of at most 15 encoded names and values."""
    return bytes((0x80 | len(values) // 2,)) + b"".join(values)


async def result_response(request: Request, stream: RowStream, output: Output) -> Response:
    """A result: whole where it is small, else as it is read."""
    request.usage.rows = 0
    result = _Result(request, stream, output)
    chunks = result.chunks()
    first = await anext(chunks, b"")
    headers = (("content-type", _content_type(output.writer.media_type)),)
    if result.complete:
        await chunks.aclose()
        return Response(200, headers, first)
    return Response(200, headers, _Resumed(first, chunks))


@define(eq=False)
class _Result:
    """A result on its way to the caller.

    :ivar complete: all rows have been read and the transaction is committed.
    """

    _request: Request
    _stream: RowStream
    _output: Output
    complete: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, in chunks of about 64 KiB. The last comes only after the commit."""
        writer = self._output.writer
        parts = []
        size = 0
        begun = False
        try:
            parts.append(writer.head(self._stream.columns))
            while (block := await self._stream.next_block()) is not None:
                self._request.usage.rows = self._output.rows
                parts.append(block.data)
                size += len(block.data)
                if size >= _CHUNK:
                    begun = True
                    yield b"".join(parts)
                    parts, size = [], 0
            await self._stream.finish()
            self.complete = True
        except Problem as problem:
            await self._stream.abort()
            last = writer.failure(problem, self._request.request_id)
            if begun and last:
                yield b"".join((*parts, last))
            raise
        finally:
            if not self.complete:
                await self._stream.abort()
        count = self._output.rows if self._stream.changed is None else self._stream.changed
        self._request.usage.rows = count
        parts.append(writer.tail(count, truncated=self._output.truncated))
        yield b"".join(parts)


@define(eq=False)
class _Resumed:
    """An iterator whose first chunk has been taken already."""

    _first: bytes
    _rest: AsyncGenerator[bytes, None]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        """Stop reading; the statement is stopped in the database."""
        await self._rest.aclose()


@define(eq=False)
class Held:
    """A body during which something is held that is let go at its end."""

    _body: AsyncIterator[bytes]
    _release: Callable[[], None]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._body)

    async def aclose(self) -> None:
        """Close the body, then let go."""
        try:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._release()


def _content_type(media_type: str) -> str:
    return (
        f"{media_type}; charset=utf-8; header=present" if media_type == "text/csv" else media_type
    )
