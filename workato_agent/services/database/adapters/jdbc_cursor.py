"""A statement's results on JDBC, fetched in pieces that fit the size of rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ..results import Column, Row, ValueForm
from .jdbc_reading import APART, BlockReader
from .jdbc_values import ColumnReading, column_reading, converter

if TYPE_CHECKING:
    from .jdbc_connection import JdbcConnection

MYSQL_FAMILY: Final = frozenset(("mysql", "mariadb"))
FIRST_ROWS: Final = 2
"""Nothing is known of their size; the next fetches are fitted to it."""
_MOST_ROWS: Final = 5000
_BUFFER: Final = 512 * 1024
_MOST_APART: Final = 200


@define(eq=False)
class JdbcCursor:
    """See :class:`~.driver.DriverCursor`."""

    _connection: JdbcConnection
    _statement: Any
    _reader: BlockReader
    has_rows: bool
    columns: Sequence[Column] = field(init=False, default=())
    changed: int | None = field(init=False, default=None)
    _result: Any = field(init=False, default=None)
    _readings: Sequence[ColumnReading] = field(init=False, default=())
    _ended: bool = field(init=False, default=True)
    _fetched: int = field(init=False, default=FIRST_ROWS)
    _apart: int = field(init=False, default=FIRST_ROWS)

    def __attrs_post_init__(self) -> None:
        self._thd_take(has_rows=self.has_rows)

    def _thd_take(self, *, has_rows: bool) -> None:
        if not has_rows:
            self.columns, self._result, self._ended = (), None, True
            count = int(self._statement.getUpdateCount())
            self.changed = max(0, count)
            return
        self.changed = None
        self._result = self._statement.getResultSet()
        self._readings = described(self._result.getMetaData())
        self.columns = [each.column for each in self._readings]
        self._ended = False

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        if self._ended:
            return []
        readings = tuple(each.reading for each in self._readings)
        if not APART.isdisjoint(readings):
            rows = min(rows, self._apart)
        columns, length = self._connection.thd_reading(
            self._statement, lambda: self._reader.thd_read(self._result, readings, rows, size)
        )
        if not columns:
            self._ended = True
            return []
        length += sum(
            len(value)
            for column, reading in zip(columns, readings, strict=True)
            if reading == "bytes"
            for value in column
            if isinstance(value, bytes)
        )
        per_row = length // len(columns[0])
        self._apart = max(1, min(_MOST_APART, size // max(1, per_row)))
        self._thd_fit(per_row)
        return list(zip(*columns, strict=True))

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return converter(self._readings, form)(rows)

    def thd_next(self) -> bool:
        if self._result is None and not self.columns and self.changed is None:
            return False
        if self._statement.getMoreResults():
            self._thd_take(has_rows=True)
            return True
        if int(self._statement.getUpdateCount()) == -1:
            return False
        self._thd_take(has_rows=False)
        return True

    def thd_close(self) -> None:
        if not self._ended and self._connection.product in MYSQL_FAMILY:
            # To close it would read all rows that are left.
            with suppress(*self._connection.errors):
                self._statement.cancel()
        self._ended = True
        self._connection.thd_forget(self._statement)

    def _thd_fit(self, length: int) -> None:
        """Have the driver fetch as many rows of such a length at a time as fit a buffer."""
        fitting = max(1, min(_MOST_ROWS, _BUFFER // max(1, length)))
        if self._connection.fits and not fitting // 2 <= self._fetched <= fitting * 2:
            self._fetched = fitting
            with suppress(*self._connection.errors):
                self._result.setFetchSize(fitting)


def described(data: Any) -> list[ColumnReading]:
    """A result's columns, by its metadata."""
    return [
        column_reading(
            str(data.getColumnLabel(index)),
            int(data.getColumnType(index)),
            str(data.getColumnTypeName(index)),
            int(data.getPrecision(index)),
            int(data.getScale(index)),
        )
        for index in range(1, int(data.getColumnCount()) + 1)
    ]
