"""What a database has, by ODBC's catalogue functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..statements import TableName
from .odbc_columns import OdbcColumn
from .odbc_dbms import Dbms, Link

_SYSTEM = frozenset({"information_schema", "pg_catalog", "sys", "mysql", "performance_schema"})
_NULLABLE = 1
_ROWS = 100


def thd_tables(link: Link, dbms: Dbms) -> Sequence[Table]:
    """Tables and views, sorted; not the system's own."""
    tables = []
    for row in _thd_rows(link, dbms, "tables"):
        catalog, schema, name, kind = row[0], row[1], row[2], row[3] or "TABLE"
        where = schema or catalog
        if "SYSTEM" in kind or (where or "").lower() in _SYSTEM or not name:
            continue
        if name.startswith("sqlite_"):
            continue
        remarks = row[4] if len(row) > 4 else None
        tables.append(Table(name, kind.lower(), where or None, remarks or None))
    return sorted(tables, key=lambda table: (table.schema or "", table.name))


def thd_shape(link: Link, dbms: Dbms, table: TableName) -> TableShape:
    """A table's columns and keys. Raises Problem ``not_found``."""
    found, catalog = _thd_find(link, dbms, table)
    schema = found[1] or None
    name = found[2]
    place = _place(catalog, schema, name)
    columns = [
        _column(row, dbms) for row in _thd_rows(link, dbms, "columns", **place) if row[2] == name
    ]
    return TableShape(
        schema or catalog,
        name,
        (found[3] or "table").lower(),
        columns,
        _ordered(_thd_rows(link, dbms, "primaryKeys", **place), 3, 4),
        _unique_keys(link, dbms, place),
        _foreign_keys(link, dbms, place),
    )


def thd_primary_key(link: Link, dbms: Dbms, table: TableName) -> Sequence[str]:
    """The columns of a table's primary key. Raises Problem ``not_found``."""
    found, catalog = _thd_find(link, dbms, table)
    place = _place(catalog, found[1] or None, found[2])
    return _ordered(_thd_rows(link, dbms, "primaryKeys", **place), 3, 4)


def _place(catalog: str | None, schema: str | None, name: str) -> dict[str, str]:
    place = {"table": name}
    if schema:
        place["schema"] = schema
    elif catalog:
        place["catalog"] = catalog
    return place


def _thd_find(link: Link, dbms: Dbms, table: TableName) -> tuple[Any, str | None]:
    """The table's row, and its catalogue where that is what the database calls a schema."""
    rows = [
        row
        for row in _thd_rows(link, dbms, "tables")
        if row[2] == table.name
        and (table.schema is None or table.schema in (row[1] or row[0], row[0]))
        and (table.schema is not None or (row[1] or "").lower() not in _SYSTEM)
    ]
    if not rows and table.schema is not None:
        rows = [
            row
            for row in _thd_rows(link, dbms, "tables", catalog=table.schema)
            if row[2] == table.name and not row[1]
        ]
    if not rows:
        raise Problem(
            "not_found",
            f"there is no table {table}",
            hint="GET schema lists the tables that the profile's user sees",
        )
    own = next((row for row in rows if (row[1] or "") in ("public", "dbo")), rows[0])
    return own, (own[0] or None) if not own[1] else None


def _column(row: Any, dbms: Dbms) -> TableColumn:
    name, sql_type, type_name = row[3], row[4], str(row[5] or "")
    size, digits, nullable = row[6], row[8], row[10]
    remarks = row[11] if len(row) > 11 else None
    default = row[12] if len(row) > 12 else None
    kind = dbms.kind(
        OdbcColumn(name, sql_type, type_name.lower(), size or 0, digits or 0, bool(nullable))
    )
    written, length, precision, scale = type_name, None, None, None
    declared = re.fullmatch(r"[^()]+\((\d+)(?:\s*,\s*(\d+))?\)", type_name)
    if declared and kind == "decimal":
        precision, scale = int(declared[1]), int(declared[2] or 0)
    elif declared:
        length = int(declared[1])
    if kind == "decimal" and size and size < 1000 and "(" not in type_name:
        precision, scale = size, digits or 0
        written = f"{type_name}({precision},{scale})"
    elif kind in ("string", "bytes") and size and 0 < size < 2**24 and "(" not in type_name:
        length = size
        if any(each in type_name.lower() for each in ("char", "binary")):
            written = f"{type_name}({size})"
    return TableColumn(
        name,
        kind,
        written,
        nullable == _NULLABLE,
        None if default is None else str(default),
        "identity" in type_name.lower() or "nextval(" in str(default or ""),
        length,
        precision,
        scale,
        remarks or None,
    )


def _ordered(rows: Sequence[Any], name: int, position: int) -> Sequence[str]:
    return [row[name] for row in sorted(rows, key=lambda row: row[position] or 0)]


def _unique_keys(link: Link, dbms: Dbms, place: dict[str, str]) -> Sequence[Sequence[str]]:
    keys: dict[str, list[tuple[int, str]]] = {}
    for row in _thd_rows(link, dbms, "statistics", unique=True, **place):
        unique, index, position, column = row[3] == 0, row[5], row[7], row[8]
        if unique and index and column:
            keys.setdefault(index, []).append((position or 0, column))
    primary = list(_ordered(_thd_rows(link, dbms, "primaryKeys", **place), 3, 4))
    columns = [[name for _, name in sorted(each)] for _, each in sorted(keys.items())]
    return [each for each in columns if each != primary]


def _foreign_keys(link: Link, dbms: Dbms, place: dict[str, str]) -> Sequence[ForeignKey]:
    foreign = {f"foreign{key.capitalize()}": value for key, value in place.items()}
    keys: dict[tuple[Any, ...], list[Any]] = {}
    for row in _thd_rows(link, dbms, "foreignKeys", **foreign):
        keys.setdefault((row[11], row[1] or row[0], row[2]), []).append(row)
    return [
        ForeignKey(_ordered(rows, 7, 8), target, schema or None, _ordered(rows, 3, 8))
        for (_, schema, target), rows in sorted(keys.items(), key=lambda item: str(item[0]))
    ]


def _thd_rows(link: Link, dbms: Dbms, function: str, **arguments: Any) -> list[Any]:
    """The rows of a catalogue function."""
    dbms.thd_pace(link, _ROWS)
    cursor = link.raw.cursor()
    try:
        return list(getattr(cursor, function)(**arguments).fetchall())
    finally:
        cursor.close()
