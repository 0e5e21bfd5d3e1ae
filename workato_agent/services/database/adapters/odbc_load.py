"""Writes a body's rows: many to a statement, as parameters."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..results import ColumnType, Row
from ..statements import TableName
from .odbc_columns import thd_columns
from .odbc_dbms import Dbms, Link
from .odbc_errors import NO_COLUMN, NO_TABLE, diagnosis
from .odbc_values import Placed

_MOST_VALUES: Final = 1000
_MOST_ROWS: Final = 200
_MOST_SIZE: Final = 1024 * 1024
_TRUTH: Final = {"true": True, "t": True, "false": False, "f": False}


def thd_load(
    link: Link,
    dbms: Dbms,
    cursor: Any,
    table: TableName,
    columns: Sequence[str],
    blocks: Iterator[Sequence[Row]],
    on_conflict: Conflict,
    keys: Sequence[str],
) -> int:
    """Insert rows; how many were written. Raises Problem."""
    if on_conflict == "update" and not keys:
        raise Problem(
            "bad_request",
            f"on_conflict=update needs keys: {table} has no primary key",
            hint="name them with keys=",
            extra={"field": "keys"},
        )
    before, after = dbms.insert(link, table, columns, on_conflict, keys)
    kinds = _thd_kinds(link, dbms, table, columns)
    most = max(1, min(_MOST_ROWS, _MOST_VALUES // max(1, len(columns))))
    total = 0
    for block in blocks:
        left = iter(block)
        while rows := list(islice(left, most)):
            placed = [
                [
                    dbms.place(_typed(value, kind), name)
                    for value, kind, name in zip(row, kinds, columns, strict=True)
                ]
                for row in rows
            ]
            for part in _parts(placed):
                values = ", ".join(f"({', '.join(each.marker for each in row)})" for row in part)
                bound = [each.value for row in part for each in row if each.bound]
                cursor.execute(f"{before}VALUES {values}{after}", *bound)
                # Of rows that are overwritten some databases count two.
                counted = on_conflict == "ignore" and cursor.rowcount >= 0
                total += cursor.rowcount if counted else len(part)
    return total


def _parts(rows: list[list[Placed]]) -> Iterator[list[list[Placed]]]:
    """Rows that fit a statement; large values go alone."""
    part: list[list[Placed]] = []
    size = 0
    for row in rows:
        large = sum(len(each.value) for each in row if isinstance(each.value, str | bytes))
        if part and size + large > _MOST_SIZE:
            yield part
            part, size = [], 0
        part.append(row)
        size += large
    if part:
        yield part


def _thd_kinds(
    link: Link, dbms: Dbms, table: TableName, columns: Sequence[str]
) -> Sequence[ColumnType]:
    names = ", ".join(map(dbms.quote, columns))
    cursor = link.raw.cursor()
    try:
        cursor.execute(f"SELECT {names} FROM {dbms.table(table)} WHERE 1 = 0")  # noqa: S608 - quoted
        return [dbms.kind(each) for each in thd_columns(cursor)]
    except Exception as error:
        what = diagnosis(error)
        if NO_TABLE.covers(what):
            raise Problem("not_found", what.text, hint=NO_TABLE.hint) from None
        if NO_COLUMN.covers(what):
            raise Problem(
                "bad_request", what.text, hint=NO_COLUMN.hint, extra={"field": "columns"}
            ) from None
        raise
    finally:
        cursor.close()


def _typed(value: object, kind: ColumnType) -> object:
    """Text of a body as its column's type has it, where the database doesn't see to that."""
    if not isinstance(value, str):
        return value
    if kind == "bytes":
        try:
            return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (ValueError, UnicodeEncodeError):
            raise Problem(
                "bad_request", f"{value[:50]!r} is no base64", hint="RFC 4648, with padding"
            ) from None
    if kind == "boolean":
        return _TRUTH.get(value.lower(), value)
    return value
