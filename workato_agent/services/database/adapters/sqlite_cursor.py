"""A statement that SQLite has begun to run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from ..results import Column, ColumnType, Row, ValueForm
from .sqlite_values import converters, value_type

_SAMPLE_ROWS: Final = 100
_SAMPLE_BYTES: Final = 16 * 1024
"""Of what is read ahead of the reader, to see the types of columns without a declaration."""
_ROW_BYTES: Final = 40


class SqliteCursor:
    """See :class:`~.driver.DriverCursor`."""

    def __init__(self, raw: sqlite3.Cursor, declared: Sequence[ColumnType | None]) -> None:
        self._raw = raw
        self._sample: list[Row] = []
        self._convert: tuple[ValueForm, Callable[[Sequence[Row]], Sequence[Row]]] | None = None
        names = [entry[0] for entry in raw.description or ()]
        if len(declared) != len(names):
            declared = [None] * len(names)
        if None in declared:
            self._sample = self._thd_fetch(_SAMPLE_ROWS, _SAMPLE_BYTES)
        self._types = [
            kind or value_type(row[index] for row in self._sample)
            for index, kind in enumerate(declared)
        ]
        self.columns: Sequence[Column] = [
            Column(name, kind) for name, kind in zip(names, self._types, strict=True)
        ]

    @property
    def changed(self) -> int | None:
        """Of RETURNING, known when its rows have been read."""
        if self.columns:
            return self._raw.rowcount if self._raw.rowcount >= 0 else None
        return max(0, self._raw.rowcount)

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        if self._sample:
            read, self._sample = self._sample[:rows], self._sample[rows:]
            return read
        return self._thd_fetch(rows, size)

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        if self._convert is None or self._convert[0] != form:
            self._convert = form, converters(self._types, form)
        return self._convert[1](rows)

    def thd_next(self) -> bool:
        return False

    def thd_close(self) -> None:
        self._raw.close()

    def _thd_fetch(self, rows: int, size: int) -> list[Row]:
        read: list[Row] = []
        taken = 0
        row: Any
        for row in islice(self._raw, rows):
            read.append(row)
            taken += _ROW_BYTES
            for value in row:
                if value.__class__ is str or value.__class__ is bytes:
                    taken += len(value)
            if taken >= size:
                break
        return read
