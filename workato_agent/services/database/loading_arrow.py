"""An Arrow IPC stream on its way into a table.

pyarrow reads from something that blocks, so each body has a thread of its own, which asks the
reactor for the next bytes. What it reads is hostile until it has been validated; compressed
messages are refused, as nothing bounds what they grow to.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from .arrow_values import check_type, python_rows, rows_per_slice
from .loading import MAX_ROW, LoadFormat, check_names
from .results import Row
from .results_arrow import thd_load_pyarrow
from .work import Threads

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_BATCHES: Final = (2, 3)
"""Message types with a body: DictionaryBatch and RecordBatch (Message.fbs)."""


class _Closed(Exception):
    """Nobody wants the body any more."""


@define(eq=False)
class _Feed:
    """The body as a file for pyarrow's thread. It blocks there until the bytes are here."""

    _reactor: Any
    _source: AsyncIterator[bytes]
    _waiting: bytearray = field(factory=bytearray, init=False)
    _taking: Deferred[bytes] | None = field(default=None, init=False)
    _last: bytes = field(default=b"", init=False)
    failure: BaseException | None = field(default=None, init=False)
    closed: bool = field(default=False, init=False)

    @property
    def unread(self) -> bytes:
        """What has come and was not read."""
        return bytes(self._waiting)

    @property
    def at_end(self) -> bool:
        """Whether the mark of a stream's end was read last. pyarrow doesn't ask for it."""
        return not any(self._last.removeprefix(_CONTINUATION)) and len(self._last) >= 4

    # -- in the thread -------------------------------------------------------------------------

    def thd_read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer only at the body's end. Raises what the body raises."""
        if not 0 <= size <= MAX_ROW:
            raise self._fail(_too_large())
        answer: SimpleQueue[bytes | Failure] = SimpleQueue()
        self._reactor.callFromThread(self._begin, size, answer)
        data = answer.get()
        if isinstance(data, Failure):
            raise self._fail(data.value or _Closed())
        metadata = self._last == _CONTINUATION + size.to_bytes(4, "little")
        self._last = (self._last + data)[-8:] if size in (4, 8) else b""
        if metadata and _is_compressed(data):
            raise self._fail(
                Problem(
                    "bad_request",
                    "the Arrow stream is compressed",
                    hint="write it without compression",
                )
            )
        return data

    read = thd_read

    def readable(self) -> bool:
        """As files say it."""
        return True

    def writable(self) -> bool:
        """As files say it."""
        return False

    def seekable(self) -> bool:
        """As files say it."""
        return False

    def _fail(self, error: BaseException) -> BaseException:
        self.failure = self.failure or error
        return error

    # -- on the reactor ------------------------------------------------------------------------

    def _begin(self, size: int, answer: SimpleQueue[bytes | Failure]) -> None:
        if self.closed:
            answer.put(Failure(_Closed()))
            return
        taking = Deferred.fromCoroutine(self._take(size))

        def ended(result: bytes | Failure) -> None:
            self._taking = None
            answer.put(result)

        self._taking = taking
        taking.addBoth(ended)

    async def _take(self, size: int) -> bytes:
        waiting = self._waiting
        while len(waiting) < size:
            chunk = await anext(self._source, b"")
            if not chunk:
                break
            waiting += chunk
        data = bytes(waiting[:size])
        del waiting[:size]
        return data

    def close(self) -> None:
        """Let the thread go, wherever it is."""
        self.closed = True
        if self._taking is not None:
            self._taking.cancel()


@define(eq=False)
class ArrowBody:
    """A :class:`~.loading.LoadBody` of Arrow. :meth:`close` it."""

    _reactor: Any
    _source: AsyncIterator[bytes]
    _threads: Threads
    format: LoadFormat = field(default="arrow", init=False)
    _feed: _Feed | None = field(default=None, init=False)
    _reader: Any = field(default=None, init=False)

    @classmethod
    def of(cls, reactor: Any, source: AsyncIterator[bytes]) -> ArrowBody:
        """Nothing is read yet."""
        return cls(reactor, source, Threads.of(reactor, 1, "database-arrow"))

    async def columns(self) -> Sequence[str]:
        """The schema's names. Raises Problem where pyarrow is not installed."""
        if self._reader is None:
            feed = self._feed = _Feed(self._reactor, self._source)
            self._reader = await self._run(_thd_open, feed)
        return check_names(self._reader.schema.names)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it came, where nothing else of it has been asked for but the columns.

        The schema is written anew: what pyarrow has read of it is gone.
        """
        await self.columns()
        yield self._reader.schema.serialize().to_pybytes()
        if self._feed is not None:
            yield self._feed.unread
        async for chunk in self._source:
            yield chunk

    async def blocks(self) -> AsyncIterator[Sequence[Row]]:
        """The rows."""
        await self.columns()
        done = 0
        while (read := await self._run(_thd_next, self._feed, self._reader, done)) is not None:
            batch, per_slice = read
            for start in range(0, batch.num_rows, per_slice):
                part = batch.slice(start, per_slice)
                yield await self._run(python_rows, part, done + start)
            done += batch.num_rows

    async def close(self) -> None:
        """End the thread."""
        if self._feed is not None:
            self._feed.close()
        await self._threads.stop()

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return await self._threads.run(function, *arguments)


def _thd_open(feed: _Feed) -> Any:
    pyarrow = thd_load_pyarrow("Content-Type")
    import_module("pyarrow.ipc")
    try:
        reader = pyarrow.ipc.open_stream(feed)
    except (pyarrow.ArrowException, ValueError, MemoryError, OSError, EOFError) as error:
        raise _malformed(feed, error) from error
    for each in reader.schema:
        check_type(each.type, each.name)
    return reader


def _thd_next(feed: _Feed, reader: Any, done: int) -> Any:
    pyarrow = thd_load_pyarrow()
    try:
        batch = reader.read_next_batch()
        batch.validate(full=True)
    except StopIteration:
        if feed.at_end:
            return None
        raise _malformed(feed, EOFError("its end is missing"), done) from None
    except (pyarrow.ArrowException, ValueError, MemoryError, OSError, EOFError) as error:
        raise _malformed(feed, error, done) from error
    return batch, rows_per_slice(batch, done)


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's flatbuffer has a RecordBatch with ``compression`` (Message.fbs)."""
    try:
        message = struct.unpack_from("<I", metadata)[0]
        kind_at = _field(metadata, message, 1)
        header_at = _field(metadata, message, 2)
        kind = metadata[kind_at] if kind_at else 0
        if kind not in _BATCHES or not header_at:
            return False
        batch = header_at + struct.unpack_from("<I", metadata, header_at)[0]
        if kind == _BATCHES[0]:
            data_at = _field(metadata, batch, 1)
            batch = data_at + struct.unpack_from("<I", metadata, data_at)[0]
        return bool(_field(metadata, batch, 3))
    except (struct.error, IndexError):
        return False  # pyarrow says what is wrong with it


def _field(data: bytes, table: int, index: int) -> int:
    """Where a table's field is; 0 where it has none (FlatBuffers internals, "Tables")."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    if 4 + 2 * index >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = int(struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0])
    return table + offset if offset else 0


def _malformed(feed: _Feed, error: BaseException, row: int = 0) -> BaseException:
    if feed.failure is not None:
        return feed.failure
    where = f" after row {row}" if row else ""
    return Problem(
        "bad_request",
        f"the Arrow stream is malformed{where}: {str(error)[:300]}",
        hint="send an Arrow IPC stream (not a file), to its end",
    )


def _too_large() -> Problem:
    return Problem(
        "payload_too_large",
        f"a message of the Arrow stream is longer than {MAX_ROW} bytes, or this is no Arrow stream",
        hint="write smaller record batches",
    )
