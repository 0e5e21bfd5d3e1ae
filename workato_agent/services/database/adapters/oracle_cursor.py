"""A query's rows, with its large objects read one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..results import Column, Row, ValueForm
from .oracle_values import column_of, converter

ARRAY_SIZE: Final = 200
LARGEST_LOB: Final = 256 * 1024 * 1024
_LOB_PIECE: Final = 8 * 1024 * 1024


@define(eq=False)
class OracleCursor:
    """See :class:`~.driver.DriverCursor`."""

    _cursor: Any
    _close: Callable[[Any], None]
    columns: Sequence[Column] = field(init=False, default=())
    changed: int | None = field(init=False, default=None)
    _pending: list[Row] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if self._cursor.description is None:
            self.changed = max(0, int(self._cursor.rowcount))
        else:
            self.columns = [column_of(info) for info in self._cursor.description]

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        """LOBs are read row by row, so that no more of them is held than is asked for."""
        if not self.columns:
            return []
        if not self._pending:
            try:
                self._pending = list(self._cursor.fetchmany(min(rows, ARRAY_SIZE)))
            except (ValueError, OverflowError) as error:
                raise Problem(
                    "query_failed",
                    f"a value has no place in the driver: {error}",
                    hint="dates before the year 1: TO_CHAR(…, 'SYYYY-MM-DD') reads them as text",
                ) from None
        read: list[Row] = []
        held = 0
        while self._pending and len(read) < rows and held < size:
            row = [_thd_value(value) for value in self._pending.pop(0)]
            held += sum(len(value) for value in row if isinstance(value, str | bytes))
            read.append(row)
        return read

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return converter(self.columns, form)(rows)

    def thd_next(self) -> bool:
        return False

    def thd_close(self) -> None:
        self._pending = []
        self._close(self._cursor)


def _thd_value(value: Any) -> object:
    """A value; that of a large object in pieces, up to the largest size."""
    if not hasattr(value, "read") or not hasattr(value, "size"):
        return value
    pieces = []
    at = 1
    while piece := value.read(at, _LOB_PIECE):
        pieces.append(piece)
        at += len(piece)
        if at > LARGEST_LOB:
            raise Problem(
                "payload_too_large",
                f"a large object is larger than {LARGEST_LOB // 1024 // 1024} MiB",
                hint="read it in parts with DBMS_LOB.SUBSTR",
            )
        if len(piece) < _LOB_PIECE:
            break
    if not pieces:
        return b"" if getattr(value.type, "name", "").endswith(("BLOB", "BFILE")) else ""
    return pieces[0][:0].join(pieces)
