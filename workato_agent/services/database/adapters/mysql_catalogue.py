"""What a MySQL server has, by its ``information_schema``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol

from pymysql import err

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..results import ColumnType
from ..statements import TableName
from .mysql_values import column_of
from .mysql_wire import Prepared, Wire

_TABLE_TYPES: Final = {
    "BASE TABLE": "table",
    "SYSTEM VERSIONED": "table",
    "VIEW": "view",
    "SYSTEM VIEW": "view",
    "SEQUENCE": "sequence",
    "TEMPORARY": "temporary table",
}
_TYPES: Final[Mapping[str, ColumnType]] = {
    **dict.fromkeys(
        ("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"), "integer"
    ),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(
        ("tinyblob", "blob", "mediumblob", "longblob", "binary", "varbinary", "geometry", "point"),
        "bytes",
    ),
    "decimal": "decimal",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "json": "json",
    "uuid": "uuid",
}


class Asked(Protocol):
    """The connection, as far as it is asked here."""

    wire: Wire

    def thd_texts(self, sql: str, values: Sequence[object] = ()) -> list[list[str | None]]:
        """A small result as text."""
        ...

    def thd_prepare(self, sql: str) -> Prepared:
        """Have a statement parsed."""
        ...


def quoted(name: str) -> str:
    """An identifier as SQL has it."""
    return "`" + name.replace("`", "``") + "`"


def qualified(table: TableName) -> str:
    """A name with its database, as SQL has it."""
    return (
        quoted(table.name)
        if table.schema is None
        else f"{quoted(table.schema)}.{quoted(table.name)}"
    )


def thd_tables(connection: Asked) -> Sequence[Table]:
    """The tables that the user sees in all databases but the system's."""
    rows = connection.thd_texts(
        "SELECT table_schema, table_name, table_type, table_comment FROM information_schema.tables"
        " WHERE table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"
        " ORDER BY table_schema, table_name"
    )
    return [
        Table(
            str(name),
            _TABLE_TYPES.get(str(kind), str(kind).lower()),
            schema=schema,
            comment=_comment(comment),
        )
        for schema, name, kind, comment in rows
    ]


def _comment(text: str | None) -> str | None:
    return text if text and text != "VIEW" else None


def thd_shape(connection: Asked, table: TableName) -> TableShape:
    """A table's columns and keys. Raises Problem ``not_found``."""
    found = connection.thd_texts(
        "SELECT table_schema, table_name, table_type FROM information_schema.tables"
        " WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
        (table.schema, table.name),
    )
    if not found:
        raise Problem(
            "not_found",
            f"there is no table {table}",
            hint="name its database, as in shop.orders; the profile's user may lack a privilege",
        )
    schema, name, kind = (str(each) for each in found[0])
    where = TableName(schema, name)
    unique = _thd_unique(connection, where)
    return TableShape(
        schema,
        name,
        _TABLE_TYPES.get(kind, kind.lower()),
        _thd_columns(connection, where),
        primary_key=unique.pop("PRIMARY", ()),
        unique_keys=list(unique.values()),
        foreign_keys=_thd_foreign(connection, where),
    )


def _thd_columns(connection: Asked, table: TableName) -> list[TableColumn]:
    types = _thd_types(connection, table)
    rows = connection.thd_texts(
        "SELECT column_name, data_type, column_type, is_nullable, column_default, extra,"
        " character_maximum_length, numeric_precision, numeric_scale, column_comment"
        " FROM information_schema.columns WHERE table_schema = ? AND table_name = ?"
        " ORDER BY ordinal_position",
        (table.schema, table.name),
    )
    return [_column(row, types) for row in rows]


def _column(row: Sequence[str | None], types: Mapping[str, ColumnType]) -> TableColumn:
    name, data_type, column_type, nullable, default, extra, length, precision, scale, comment = row
    kind = types.get(str(name)) or _by_name(str(data_type), str(column_type))
    extra = (extra or "").lower()
    numeric = kind in ("decimal", "integer")
    return TableColumn(
        str(name),
        kind,
        str(column_type),
        nullable == "YES",
        default=None if default == "NULL" else default,
        generated="auto_increment" in extra or "virtual" in extra or "stored" in extra,
        length=None if length is None else int(length),
        precision=int(precision) if numeric and precision is not None else None,
        scale=int(scale) if kind == "decimal" and scale is not None else None,
        comment=comment or None,
    )


def _by_name(data_type: str, column_type: str) -> ColumnType:
    if column_type.startswith("tinyint(1)") or column_type == "bit(1)":
        return "boolean"
    return _TYPES.get(data_type, "string")


def _thd_types(connection: Asked, table: TableName) -> Mapping[str, ColumnType]:
    """The types that a query of the table would have: the catalogue calls MariaDB's JSON text."""
    try:
        prepared = connection.thd_prepare(f"SELECT * FROM {qualified(table)}")  # noqa: S608 - quoted
    except err.Error:
        # A view that is broken, or columns that the user may not read.
        return {}
    connection.wire.thd_forget(prepared)
    return {field.name: column_of(field).type for field in prepared.fields}


def _thd_unique(connection: Asked, table: TableName) -> dict[str, Sequence[str]]:
    rows = connection.thd_texts(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics"
        " WHERE table_schema = ? AND table_name = ? AND non_unique = 0"
        " ORDER BY index_name, seq_in_index",
        (table.schema, table.name),
    )
    keys: dict[str, Sequence[str]] = {}
    for name, group in groupby(rows, lambda row: str(row[0])):
        parts = list(group)
        # Neither an expression nor a prefix makes its columns unique.
        if all(column is not None and part is None for _, column, part in parts):
            keys[name] = [str(column) for _, column, _ in parts]
    return keys


def _thd_foreign(connection: Asked, table: TableName) -> list[ForeignKey]:
    rows = connection.thd_texts(
        "SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name,"
        " referenced_column_name FROM information_schema.key_column_usage"
        " WHERE table_schema = ? AND table_name = ? AND referenced_table_name IS NOT NULL"
        " ORDER BY constraint_name, ordinal_position",
        (table.schema, table.name),
    )
    keys = []
    for _, group in groupby(rows, lambda row: row[0]):
        parts = list(group)
        keys.append(
            ForeignKey(
                [str(part[1]) for part in parts],
                str(parts[0][3]),
                parts[0][2],
                [str(part[4]) for part in parts],
            )
        )
    return keys
