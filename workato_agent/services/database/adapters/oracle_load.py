"""Rows written into an Oracle table, some hundreds in a round trip."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..parameters import Number, Typed
from ..results import ColumnType, Row
from ..statements import TableName
from .oracle_catalogue import thd_shape
from .oracle_values import Bound, bound, uniform

if TYPE_CHECKING:
    from .oracle_connection import OracleConnection

_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def thd_load(
    connection: OracleConnection,
    table: TableName,
    columns: Sequence[str],
    blocks: Iterator[Sequence[Row]],
    on_conflict: Conflict,
    keys: Sequence[str],
) -> int:
    """See :class:`~.driver.DriverConnection`."""
    shape = thd_shape(connection, table)
    kinds = {each.name: each.type for each in shape.columns}
    for name in (*columns, *keys):
        if name not in kinds:
            raise Problem(
                "bad_request",
                f"{table} has no column {name}",
                hint=f"it has {', '.join(list(kinds)[:50])}",
                extra={"field": "columns"},
            )
    target = TableName(shape.schema, shape.name)
    key = list(keys or shape.primary_key)
    written = number = 0
    cursor = connection.thd_cursor()
    try:
        for block in blocks:
            rows = []
            for row in block:
                number += 1
                rows.append(
                    [
                        _value(connection, value, kinds[name], number, name)
                        for value, name in zip(row, columns, strict=True)
                    ]
                )
            for run in uniform(rows):
                sql = _sql(target, columns, run[0], on_conflict, key)
                written += connection.thd_many(cursor, sql, run)
    finally:
        connection.thd_forget(cursor)
    return written


def quoted(name: str) -> str:
    """An identifier in quotes. Raises Problem for what Oracle has no quotes for."""
    if '"' in name or "\0" in name:
        raise Problem("bad_request", f"{name!r} can't be a name in Oracle")
    return f'"{name}"'


def _sql(
    table: TableName,
    columns: Sequence[str],
    values: Sequence[Bound],
    on_conflict: Conflict,
    keys: Sequence[str],
) -> str:
    target = ".".join(quoted(part) for part in (table.schema, table.name) if part)
    names = [quoted(name) for name in columns]
    marks = [each.pattern.format(f":{number}") for number, each in enumerate(values, 1)]
    listed = ", ".join(names)
    if on_conflict == "error":
        return f"INSERT INTO {target} ({listed}) VALUES ({', '.join(marks)})"  # noqa: S608
    if not keys:
        raise Problem(
            "bad_request",
            f"{table} has no primary key: on_conflict needs keys",
            hint="name the columns that make a row the same in keys",
            extra={"field": "keys"},
        )
    own = [quoted(name) for name in keys]
    others = [name for name in names if name not in own]
    source = ", ".join(f"{mark} AS {name}" for mark, name in zip(marks, names, strict=True))
    same = " AND ".join(f"t.{name} = s.{name}" for name in own)
    given = ", ".join(f"s.{name}" for name in names)
    update = ""
    if on_conflict == "update" and others:
        changes = ", ".join(f"t.{name} = s.{name}" for name in others)
        update = f" WHEN MATCHED THEN UPDATE SET {changes}"
    return (
        f"MERGE INTO {target} t USING (SELECT {source} FROM DUAL) s ON ({same}){update}"  # noqa: S608
        f" WHEN NOT MATCHED THEN INSERT ({listed}) VALUES ({given})"
    )


def _value(
    connection: OracleConnection, value: object, kind: ColumnType, row: int, column: str
) -> Bound:
    """A value of the body as its column's type; what has a type already is left as it is."""
    where = f"row {row}, {column}"
    if isinstance(value, str):
        if kind in ("integer", "decimal"):
            value = Number(value)
        elif kind == "boolean":
            value = _BOOLEANS.get(value.lower(), value)
        elif kind == "bytes":
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise Problem(
                    "bad_request", f"{where}: expected base64", extra={"field": column, "row": row}
                ) from None
        elif kind in ("float", "timestamp", "timestamptz", "interval"):
            value = _typed(kind, value, where)
    return bound(value, where, booleans=connection.booleans)


def _typed(kind: ColumnType, text: str, where: str) -> Typed:
    if kind == "float":
        try:
            float(text)
        except ValueError:
            raise Problem("bad_request", f"{where}: {text[:100]!r} is no number") from None
    return Typed(kind, text)
