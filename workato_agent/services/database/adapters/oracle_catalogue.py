"""What an Oracle database has, by its data dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..results import ColumnType
from ..statements import TableName
from .oracle_values import INTEGER_DIGITS

if TYPE_CHECKING:
    from .oracle_connection import OracleConnection

_TABLES: Final = """
SELECT owner, table_name, table_type, comments FROM all_tab_comments
WHERE owner NOT IN (SELECT username FROM all_users WHERE oracle_maintained = 'Y')
AND table_name NOT LIKE 'BIN$%' ORDER BY owner, table_name"""
_TABLE: Final = """
SELECT owner, table_type FROM all_tab_comments WHERE table_name = :name
AND owner = NVL(:owner, SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA'))"""
_COLUMNS: Final = """
SELECT c.column_name, c.data_type, c.char_length, c.data_precision, c.data_scale, c.nullable,
c.identity_column, c.virtual_column, c.data_default, m.comments, c.data_length
FROM all_tab_cols c LEFT JOIN all_col_comments m
ON m.owner = c.owner AND m.table_name = c.table_name AND m.column_name = c.column_name
WHERE c.owner = :owner AND c.table_name = :name AND c.hidden_column = 'NO' ORDER BY c.column_id"""
_KEYS: Final = """
SELECT k.constraint_name, k.constraint_type, c.column_name, r.owner, r.table_name, rc.column_name
FROM all_constraints k JOIN all_cons_columns c
ON c.owner = k.owner AND c.constraint_name = k.constraint_name
LEFT JOIN all_constraints r ON r.owner = k.r_owner AND r.constraint_name = k.r_constraint_name
LEFT JOIN all_cons_columns rc ON rc.owner = r.owner
AND rc.constraint_name = r.constraint_name AND rc.position = c.position
WHERE k.owner = :owner AND k.table_name = :name AND k.constraint_type IN ('P', 'U', 'R')
AND k.status = 'ENABLED' ORDER BY k.constraint_name, c.position"""

_TYPES: Final[dict[str, ColumnType]] = {
    "FLOAT": "decimal",
    "BINARY_FLOAT": "float",
    "BINARY_DOUBLE": "float",
    "DATE": "timestamp",
    "JSON": "json",
    "BOOLEAN": "boolean",
    "RAW": "bytes",
    "LONG RAW": "bytes",
    "BLOB": "bytes",
    "BFILE": "bytes",
    "VECTOR": "array",
    **dict.fromkeys(
        ("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "LONG", "CLOB", "NCLOB", "ROWID", "UROWID",
         "XMLTYPE"),
        "string",
    ),
}  # fmt: skip
_WITH_LENGTH: Final = frozenset(("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR"))


def thd_tables(connection: OracleConnection) -> Sequence[Table]:
    """See :class:`~.driver.DriverConnection`."""
    return [
        Table(str(name), "view" if kind == "VIEW" else "table", str(owner), _text(comment))
        for owner, name, kind, comment in connection.thd_own(_TABLES)
    ]


def thd_shape(connection: OracleConnection, name: TableName) -> TableShape:
    """See :class:`~.driver.DriverConnection`."""
    found = connection.thd_own(_TABLE, name=name.name, owner=name.schema)
    if not found:
        raise Problem(
            "not_found",
            f"there is no table {name}",
            hint="names are as the data dictionary has them, most often in upper case",
        )
    owner, kind = found[0]
    where = {"owner": owner, "name": name.name}
    keys: dict[str, list[Sequence[Any]]] = {}
    for row in connection.thd_own(_KEYS, **where):
        keys.setdefault(str(row[0]), []).append(row)
    named = {key: [str(row[2]) for row in rows] for key, rows in keys.items()}
    return TableShape(
        schema=str(owner),
        name=name.name,
        type="view" if kind == "VIEW" else "table",
        columns=[_column(row) for row in connection.thd_own(_COLUMNS, **where)],
        primary_key=next((named[key] for key, rows in keys.items() if rows[0][1] == "P"), ()),
        unique_keys=[named[key] for key, rows in keys.items() if rows[0][1] == "U"],
        foreign_keys=[
            ForeignKey(
                columns=named[key],
                table=str(rows[0][4]),
                schema=_text(rows[0][3]),
                references=[str(row[5]) for row in rows],
            )
            for key, rows in keys.items()
            if rows[0][1] == "R"
        ],
    )


def column_type(data_type: str, precision: int | None, scale: int | None) -> ColumnType:
    """The wire's type of a column, by the data dictionary."""
    if data_type == "NUMBER":
        return "integer" if scale == 0 and precision and precision <= INTEGER_DIGITS else "decimal"
    if data_type.startswith("TIMESTAMP"):
        return "timestamptz" if "TIME ZONE" in data_type else "timestamp"
    if data_type.startswith("INTERVAL"):
        return "interval"
    return _TYPES.get(data_type, "unknown")


def _column(row: Sequence[Any]) -> TableColumn:
    name, data_type, length, precision, scale, nullable, identity, virtual, default, comment, _ = (
        row
    )
    precision, scale = _integer(precision), _integer(scale)
    kind = column_type(str(data_type), precision, scale)
    has_length = data_type in _WITH_LENGTH
    written = str(data_type)
    if has_length:
        written = f"{data_type}({_integer(length)})"
    elif data_type == "RAW":
        written = f"RAW({_integer(row[10])})"
    elif data_type == "NUMBER" and precision:
        written = f"NUMBER({precision},{scale})" if scale else f"NUMBER({precision})"
    is_decimal = kind == "decimal" and data_type == "NUMBER"
    return TableColumn(
        name=str(name),
        type=kind,
        database_type=written,
        nullable=nullable != "N",
        default=None if default is None else str(default).strip(),
        generated="YES" in (identity, virtual),
        length=_integer(length) if has_length else None,
        precision=precision if is_decimal else None,
        scale=scale if is_decimal and precision else None,
        comment=_text(comment),
    )


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
