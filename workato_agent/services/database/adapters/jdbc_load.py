"""Rows written in batches of one INSERT, each value set by its column's type."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..parameters import Typed
from ..results import ColumnType, Row
from ..statements import TableName
from .jdbc_catalogue import thd_shape

if TYPE_CHECKING:
    from .jdbc_connection import JdbcConnection

_SENT_TYPED: Final = frozenset(("boolean", "bytes", "integer"))
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}")
_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def thd_load(
    connection: JdbcConnection,
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
    sql = _insert(connection, table, columns, on_conflict, list(keys or shape.primary_key))
    statement = connection.raw.prepareStatement(sql)
    connection.thd_adopt(statement)
    types = [kinds[name] for name in columns]
    if connection.product == "postgresql":  # text takes its column's type there
        types = [kind if kind in _SENT_TYPED else "string" for kind in types]
    written = number = 0
    try:
        for block in blocks:
            for row in block:
                values = [
                    _value(v, t, number, n) for v, t, n in zip(row, types, columns, strict=True)
                ]
                connection.setters.thd_set(statement, values, number)
                statement.addBatch()
                number += 1
            if block:
                done = connection.thd_batched(statement)
                written += done if on_conflict == "ignore" else len(block)
    finally:
        connection.thd_forget(statement)
    return written


def _insert(
    connection: JdbcConnection,
    table: TableName,
    columns: Sequence[str],
    on_conflict: Conflict,
    keys: Sequence[str],
) -> str:
    quoted = [connection.quoted(name) for name in columns]
    target = ".".join(connection.quoted(part) for part in (table.schema, table.name) if part)
    names, marks = ", ".join(quoted), ", ".join("?" for _ in columns)
    insert = f"INSERT INTO {target} ({names}) VALUES ({marks})"  # noqa: S608 - quoted names
    if on_conflict == "error":
        return insert
    if not keys:
        raise Problem(
            "bad_request",
            f"{table} has no primary key: on_conflict needs keys",
            hint="name the columns that make a row the same in keys",
            extra={"field": "keys"},
        )
    own = [connection.quoted(name) for name in keys]
    others = [name for name in quoted if name not in own]
    if connection.product in ("postgresql", "sqlite"):
        action = "NOTHING"
        if on_conflict == "update" and others:
            changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
            action = f"UPDATE SET {changes}"
        return f"{insert} ON CONFLICT ({', '.join(own)}) DO {action}"
    if connection.product in ("mysql", "mariadb"):
        changed = others if on_conflict == "update" and others else own[:1]
        changes = ", ".join(
            f"{name} = VALUES({name})" if name in others else f"{name} = {name}" for name in changed
        )
        return f"{insert} ON DUPLICATE KEY UPDATE {changes}"
    if connection.product == "h2":
        return _h2_merge(target, quoted, own, update=on_conflict == "update")
    raise Problem(
        "bad_request",
        f"on_conflict={on_conflict} is not known of this database",
        hint="load into a table of its own and merge it from there",
        extra={"field": "on_conflict"},
    )


def _h2_merge(target: str, columns: Sequence[str], keys: Sequence[str], *, update: bool) -> str:
    names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
    if update:
        return f"MERGE INTO {target} ({names}) KEY ({', '.join(keys)}) VALUES ({marks})"
    same = " AND ".join(f"t.{key} = s.{key}" for key in keys)
    values = ", ".join(f"s.{name}" for name in columns)
    return (
        f"MERGE INTO {target} t USING (VALUES ({marks})) s ({names}) ON {same}"  # noqa: S608
        f" WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )


def _value(value: object, kind: ColumnType, row: int, column: str) -> object:
    """A text of the body as its column's type; what has a type already is left as it is."""
    if not isinstance(value, str):
        return value
    if kind == "integer" and _INTEGER.fullmatch(value):
        return int(value)
    if kind == "boolean":
        known = _BOOLEANS.get(value.lower())
        return value if known is None else known
    if kind == "bytes":
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise Problem(
                "bad_request",
                f"row {row + 1}, {column}: expected base64",
                extra={"field": column, "row": row + 1},
            ) from None
    if kind in ("date", "time", "timestamp", "timestamptz", "uuid", "json", "interval"):
        return Typed(kind, value)
    return value
