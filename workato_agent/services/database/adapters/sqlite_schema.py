"""What a SQLite file has, from its PRAGMAs (sqlite.org, "PRAGMA Statements")."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..statements import TableName
from .sqlite_values import declared_type

_TABLES: Final = (
    "SELECT name, type FROM main.sqlite_master WHERE type IN ('table', 'view')"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)
_SIZES: Final = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


def thd_tables(raw: sqlite3.Connection) -> Sequence[Table]:
    """Tables and views."""
    return [Table(name, kind) for name, kind in raw.execute(_TABLES)]


def thd_shape(raw: sqlite3.Connection, table: TableName) -> TableShape:
    """A table's columns and keys. Raises Problem ``not_found``."""
    found = raw.execute(
        "SELECT name, type FROM main.sqlite_master"
        " WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
        (table.name,),
    ).fetchone()
    if found is None or (table.schema or "main").lower() != "main":
        raise Problem(
            "not_found",
            f"there is no table {table}",
            hint="GET schema lists the tables and views",
        )
    name, kind = found
    rows = raw.execute(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main')",
        (name,),
    ).fetchall()
    keys = [row for row in rows if row[4]]
    rowid = _row_number_column(raw, name, keys)
    columns = [_column(row, rowid) for row in rows if row[5] != 1]
    return TableShape(
        None,
        name,
        kind,
        columns,
        [row[0] for row in sorted(keys, key=lambda row: int(row[4]))],
        _thd_unique_keys(raw, name),
        _thd_foreign_keys(raw, name),
    )


def _row_number_column(raw: sqlite3.Connection, name: str, keys: Sequence[Any]) -> str | None:
    """The column that is the row's own number: SQLite gives it a value."""
    if len(keys) != 1 or keys[0][1].upper() != "INTEGER":
        return None
    without = raw.execute(
        "SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (name,)
    ).fetchone()
    return None if without is None or without[0] else str(keys[0][0])


def _column(row: Any, row_number: str | None) -> TableColumn:
    name, declaration, not_null, default, _key, hidden = row
    kind = declared_type(declaration) or "unknown"
    sizes = _SIZES.search(declaration)
    first, second = (sizes[1], sizes[2]) if sizes else (None, None)
    exact = kind == "decimal"
    return TableColumn(
        name,
        kind,
        declaration,
        nullable=not not_null and name != row_number,
        default=default,
        generated=hidden in (2, 3) or name == row_number,
        length=int(first) if first and kind in ("string", "bytes") else None,
        precision=int(first) if first and exact else None,
        scale=int(second or 0) if first and exact else None,
    )


def _thd_unique_keys(raw: sqlite3.Connection, table: str) -> Sequence[Sequence[str]]:
    indexes = raw.execute(
        "SELECT name FROM pragma_index_list(?, 'main')"
        " WHERE \"unique\" AND origin <> 'pk' AND NOT partial ORDER BY seq DESC",
        (table,),
    ).fetchall()
    found = []
    for (index,) in indexes:
        names = [
            row[0]
            for row in raw.execute(
                "SELECT name FROM pragma_index_info(?, 'main') ORDER BY seqno", (index,)
            )
        ]
        if None not in names:  # an expression is no column
            found.append(names)
    return found


def _thd_foreign_keys(raw: sqlite3.Connection, table: str) -> Sequence[ForeignKey]:
    rows = raw.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\')'
        " ORDER BY id DESC, seq",
        (table,),
    ).fetchall()
    found: dict[int, ForeignKey] = {}
    for number, target, column, referenced in rows:
        before = found.get(number, ForeignKey((), target, None, ()))
        references = [*before.references, *([] if referenced is None else [referenced])]
        found[number] = ForeignKey([*before.columns, column], target, None, references)
    return [_complete(raw, key) for key in found.values()]


def _complete(raw: sqlite3.Connection, key: ForeignKey) -> ForeignKey:
    """A key that names no columns of the other table means its primary key."""
    if key.references:
        return key
    names = raw.execute(
        "SELECT name FROM pragma_table_info(?, 'main') WHERE pk ORDER BY pk", (key.table,)
    ).fetchall()
    return ForeignKey(key.columns, key.table, None, [row[0] for row in names])
