"""A result that is read in threads: a block ahead of the reader, and no further."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..results import Column, Row
from ..statements import Statement
from .base import Block, Output
from .driver import DriverCursor
from .lease import Lease

BLOCK: Final = 64 * 1024
_FIRST_BLOCK: Final = 8 * 1024
_FIRST_ROWS: Final = 32
_MOST_ROWS: Final = 5000
_GROWTH: Final = 5

T = TypeVar("T")


@define(eq=False)
class ResultReader:
    """Reads a cursor in blocks of about 64 KiB, of which the first are smaller.

    :ivar count: rows read.
    :ivar ended: there is nothing more to be read, or none of it is wanted.
    """

    _lease: Lease
    _cursor: DriverCursor
    _output: Output
    count: int = 0
    ended: bool = False
    _begun: list[Row] = field(factory=list, init=False)
    _rows: int = _FIRST_ROWS
    _size: int = _FIRST_BLOCK
    _encoded: int = field(default=0, init=False)

    @property
    def finished(self) -> bool:
        """There is no further block."""
        return self.ended and not self._begun

    def thd_begin(self) -> bool:
        """Read the first rows, which :meth:`block` encodes. Whether that is little work."""
        size = 0
        while not self.ended and len(self._begun) < self._rows and size < self._size:
            read = self._thd_read(self._rows - len(self._begun), self._size - size)
            if not read:
                break
            self._begun += read
            size += sum(map(_size, read))
        return size < BLOCK

    def block(self) -> Block | None:
        """What was read first, encoded."""
        rows, self._begun = self._begun, []
        return self._encode(rows) if rows else None

    def thd_block(self) -> Block | None:
        """The next rows, encoded; None after the last."""
        if self._begun:
            return self.block()
        data: list[bytes] = []
        rows = size = 0
        while not self.ended and rows < self._rows and size < self._size:
            read = self._thd_read(self._rows - rows, self._size - size)
            if read:
                block = self._encode(read)
                rows += block.rows
                size += len(block.data)
                data.append(block.data)
        self._fit()
        return Block(data[0] if len(data) == 1 else b"".join(data), rows) if rows else None

    def thd_skip(self) -> None:
        """Count the rows that are left."""
        timed = self._lease.connection.allowance.thd_timed
        while rows := timed(self._cursor.thd_read, _MOST_ROWS, BLOCK):
            self.count += len(rows)
        self.ended = True

    def _thd_read(self, most: int, size: int) -> Sequence[Row]:
        room = self._output.room()
        wanted = most if room is None else min(most, room - len(self._begun))
        if wanted <= 0:
            return ()  # one more than there is room for has been read
        allowance = self._lease.connection.allowance
        read = allowance.thd_timed(self._cursor.thd_read, wanted, size)
        self.count += len(read)
        self.ended = not read
        return read

    def _encode(self, rows: Sequence[Row]) -> Block:
        block = self._output.encode(self._cursor.convert(rows, self._output.writer.form))
        self._encoded += len(block.data)
        self.ended = self.ended or self._output.truncated
        return block

    def _fit(self) -> None:
        """How many rows the next block shall have: more each time while they are small."""
        per_row = max(1, self._encoded // max(1, self._output.rows))
        self._rows = max(1, min(_MOST_ROWS, self._rows * _GROWTH, BLOCK // per_row))
        self._size = min(BLOCK, self._size * _GROWTH)


def _size(row: Row) -> int:
    """About how many bytes a row has."""
    return sum(len(value) for value in row if isinstance(value, str | bytes)) + 8 * len(row)


@define(eq=False)
class ThreadedRows:
    """A statement that is being read; see :class:`~.base.RowStream`."""

    _lease: Lease
    _output: Output
    _statement: Statement
    columns: Sequence[Column] = ()
    changed: int | None = None
    _cursor: DriverCursor | None = None
    _reader: ResultReader | None = None
    _little: bool = True
    _ahead: Deferred[Block | None] | None = None
    _refused: bool = False
    _released: bool = False

    async def begin(self) -> None:
        """Run the statement up to its first rows."""
        self._little = await self._lease.connection.run(self._thd_begin, self._statement)

    async def next_block(self) -> Block | None:
        reader = self._reader
        if reader is None:
            return None
        block = reader.block() if self._little else None
        self._little = False
        if block is None:
            if self._ahead is None and not reader.finished:
                self._read_ahead()
            ahead, self._ahead = self._ahead, None
            block = None if ahead is None else await ahead
        if block is not None and not reader.finished:
            self._read_ahead()
        return block

    async def finish(self) -> None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            await ahead
        await self._lease.connection.run(self._thd_finish, self._statement)
        self._released = True
        self._lease.done()

    async def abort(self) -> None:
        if self._released:
            return
        self._released = True
        if self._ahead is not None:
            self._ahead.addErrback(lambda _: None)  # nobody wants to know any more
        # What the database has refused leaves nothing that would have to be stopped.
        await self._lease.failed(usable=self._refused)

    def _read_ahead(self) -> None:
        self._ahead = Deferred.fromCoroutine(
            self._lease.connection.run(self._thd_next, self._statement)
        )

    def _thd_begin(self) -> bool:
        connection = self._lease.connection
        try:
            self._lease.thd_begin()
            cursor = connection.allowance.thd_timed(connection.raw.thd_run, self._statement)
        except Problem:
            self._refused = True
            raise
        except connection.raw.errors:
            self._refused = True
            raise
        self._cursor = cursor
        self.columns = cursor.columns
        if not cursor.columns:
            self.changed = cursor.changed
            return True
        reader = self._reader = ResultReader(self._lease, cursor, self._output)
        return self._thd_reading(cursor, reader.thd_begin)

    def _thd_next(self) -> Block | None:
        if self._reader is None or self._cursor is None:
            return None
        return self._thd_reading(self._cursor, self._reader.thd_block)

    def _thd_reading(self, cursor: DriverCursor, step: Callable[[], T]) -> T:
        """Read; what fails in the database leaves nothing to be read."""
        errors = self._lease.connection.raw.errors
        try:
            return step()
        except errors:
            with suppress(*errors):
                cursor.thd_close()
            self._refused = True
            raise

    def _thd_finish(self) -> None:
        if self._cursor is not None:
            self._lease.connection.allowance.thd_timed(self._cursor.thd_close)
        self._lease.thd_end()
