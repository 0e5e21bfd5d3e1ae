"""The database service: one profile, whatever its adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from attrs import define, field
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .adapters.base import Adapter, Output, RowStream
from .formats import negotiate
from .parameters import MAX_BODY, Call, decode_call
from .results import JsonWriter
from .settings import DatabasePolicy
from .statements import Statement, bind
from .work import Threads

OPERATIONS: Final = ("test", "query", "execute")
RETURNED_ROWS: Final = 10_000
RETURNED_BYTES: Final = 8 * 1024 * 1024
_LARGE_BODY: Final = 32 * 1024
_CHUNK: Final = 64 * 1024


@define(eq=False)
class DatabaseService:
    """Serves one profile of the ``database`` section."""

    _adapter: Adapter
    _policy: DatabasePolicy
    _threads: Threads
    operations: tuple[str, ...] = OPERATIONS
    _debug: bool = False
    _log: Logger = field(factory=Logger, init=False)

    @classmethod
    def build(
        cls,
        reactor: Any,
        adapter: Adapter,
        policy: DatabasePolicy,
        operations: tuple[str, ...] = OPERATIONS,
        *,
        debug: bool = False,
    ) -> DatabaseService:
        """A service around an adapter.

        ``operations``: those that the profile's policy leaves. ``debug``: statements go to the log,
        without the values of their parameters.
        """
        return cls(adapter, policy, Threads.of(reactor, 1, "database-requests"), operations, debug)

    @property
    def type(self) -> str:
        """The adapter's name, as in the configuration."""
        return self._adapter.type

    def operation(self, request: Request) -> str:
        """``test``, ``query`` or ``execute``."""
        path = unquote(request.path)
        if path == "" and request.method in ("GET", "HEAD"):
            return "test"
        if path in ("query", "execute"):
            if request.method == "POST":
                return path
            raise _no_operation(f"{path} is asked for with POST, not {request.method}")
        raise _no_operation(f"a database has no operation {request.method} {path!r}")

    async def handle(self, request: Request) -> Response:
        """Serve a call; see :class:`~workato_agent.services.base.ProfileService`."""
        operation = self.operation(request)
        if operation == "test":
            return await self._test(request)
        call, statement = await self._read(request, operation)
        if self._debug:
            self._log.info(
                "{operation} on {profile}: {sql}",
                operation=operation,
                profile=request.profile,
                sql=call.sql,
                request_id=request.request_id,
            )
        if operation == "query":
            return await self._query(request, call, statement)
        return await self._execute(request, statement)

    async def close(self) -> None:
        """Close the adapter's connections and threads."""
        await self._adapter.close()
        await self._threads.stop()

    async def _test(self, request: Request) -> Response:
        facts = await self._adapter.test()
        body = msgspec.json.encode({"ok": True, **facts})
        return Response(200, (("content-type", "application/json"),), body)

    async def _read(self, request: Request, operation: str) -> tuple[Call, Statement]:
        media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type.startswith(("application/vnd.", "application/msgpack", "multipart/")):
            raise Problem(
                "bad_request",
                f"the body's type {media_type} is not supported",
                hint="send application/json",
                extra={"field": "Content-Type"},
            )
        body = await request.body.read(MAX_BODY)

        def parse() -> tuple[Call, Statement]:
            call = decode_call(operation, body)
            return call, bind(call.sql, call.params, self._adapter.dialect)

        if len(body) < _LARGE_BODY:
            return parse()
        return await self._threads.run(parse)

    async def _query(self, request: Request, call: Call, statement: Statement) -> Response:
        writer = negotiate(_accept(request))
        limit = self._policy.max_rows
        own_limit = call.max_rows is not None and (limit is None or call.max_rows <= limit)
        output = Output(
            writer,
            max_rows=call.max_rows if own_limit else limit,
            max_bytes=self._policy.max_bytes,
            own_limit=own_limit,
        )
        request.usage.rows = 0
        stream = await self._adapter.query(statement, output)
        result = _Result(request, stream, output)
        chunks = result.chunks()
        first = await anext(chunks, b"")
        headers = (("content-type", _content_type(writer.media_type)),)
        if result.complete:
            await chunks.aclose()
            return Response(200, headers, first)
        return Response(200, headers, _Resumed(first, chunks))

    async def _execute(self, request: Request, statement: Statement) -> Response:
        output = Output(
            JsonWriter(),
            max_rows=min(RETURNED_ROWS, self._policy.max_rows or RETURNED_ROWS),
            max_bytes=min(RETURNED_BYTES, self._policy.max_bytes or RETURNED_BYTES),
        )
        outcome = await self._adapter.execute(statement, output)
        request.usage.rows = outcome.row_count
        if outcome.columns is None:
            body = msgspec.json.encode({"row_count": outcome.row_count})
        else:
            writer = output.writer
            head = writer.head(outcome.columns)
            tail = writer.tail(outcome.row_count, truncated=output.truncated)
            body = b"".join((head, outcome.rows, tail))
        return Response(200, (("content-type", "application/json"),), body)


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
        parts = [writer.head(self._stream.columns)]
        size = 0
        begun = False
        try:
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


def _accept(request: Request) -> str | None:
    fields = [value for name, value in request.headers if name == "accept"]
    return ", ".join(fields) if fields else None


def _content_type(media_type: str) -> str:
    return (
        f"{media_type}; charset=utf-8; header=present" if media_type == "text/csv" else media_type
    )


def _no_operation(detail: str) -> Problem:
    return Problem(
        "operation_not_found",
        detail,
        hint="there are GET (test), POST query and POST execute",
    )
