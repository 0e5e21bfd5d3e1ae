"""What a database has, by the metadata that every JDBC driver brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..statements import TableName
from .jdbc_values import column_reading

if TYPE_CHECKING:
    from .jdbc_connection import JdbcConnection

Record = dict[str, str | None]

_SYSTEM: Final = frozenset(
    ("information_schema", "pg_catalog", "pg_toast", "sys", "mysql", "performance_schema",
     "system_lobs", "syscat", "sysibm", "sysfun", "sysproc", "sysstat", "syscs_diag", "syscs_util",
     "nullid", "sqlj", "ctxsys", "mdsys", "xdb", "wmsys", "system", "outln", "dbsnmp", "lbacsys")
)  # fmt: skip
_KINDS: Final = {
    "table": "table",
    "base table": "table",
    "view": "view",
    "materialized view": "materialized view",
    "foreign table": "foreign table",
    "partitioned table": "table",
    "global temporary": "table",
    "synonym": "synonym",
    "alias": "synonym",
}
_LENGTHS: Final = frozenset((1, 12, -15, -9, -2, -3))  # java.sql.Types with a length
_DECIMALS: Final = frozenset((2, 3))
_BLOCK: Final = 1000
_BLOCK_SIZE: Final = 1024 * 1024
_MOST: Final = 100_000
_CATALOGS: Final = frozenset(("mysql", "mariadb"))


def thd_records(connection: JdbcConnection, result: Any) -> list[Record]:
    """The rows of a metadata result, by the names of their columns in upper case."""
    data = result.getMetaData()
    names = [str(data.getColumnLabel(i)).upper() for i in range(1, int(data.getColumnCount()) + 1)]
    records: list[Record] = []
    try:
        while len(records) < _MOST:
            columns = connection.thd_text(result, len(names), _BLOCK, _BLOCK_SIZE)
            if not columns:
                break
            records += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    finally:
        result.close()
    return records


def thd_tables(connection: JdbcConnection) -> Sequence[Table]:
    """See :class:`~.driver.DriverConnection`."""
    raw = connection.raw
    records = thd_records(
        connection, raw.getMetaData().getTables(raw.getCatalog(), None, "%", None)
    )
    tables = [
        Table(
            _text(each, "TABLE_NAME"),
            _KINDS[_text(each, "TABLE_TYPE").lower()],
            _schema(connection, each),
            each.get("REMARKS") or None,
        )
        for each in records
        if _text(each, "TABLE_TYPE").lower() in _KINDS
        and (_schema(connection, each) or "").lower() not in _SYSTEM
    ]
    return sorted(tables, key=lambda table: (table.schema or "", table.name))


def thd_shape(connection: JdbcConnection, name: TableName) -> TableShape:
    """See :class:`~.driver.DriverConnection`."""
    data = connection.raw.getMetaData()
    catalog, schema = thd_place(connection, name.schema)
    where = (catalog, pattern(data, schema), pattern(data, name.name))
    found = [
        each
        for each in thd_records(connection, data.getTables(*where, None))
        if _text(each, "TABLE_TYPE").lower() in _KINDS
    ]
    if not found:
        raise Problem(
            "not_found",
            f"there is no table {name}",
            hint="names are as the database's catalogue has them: check case and schema",
        )
    exact = (catalog, schema, name.name)
    keys = thd_records(connection, data.getPrimaryKeys(*exact))
    keys.sort(key=lambda each: int(each["KEY_SEQ"] or 0))
    primary = tuple(_text(each, "COLUMN_NAME") for each in keys)
    return TableShape(
        schema=_schema(connection, found[0]),
        name=name.name,
        type=_KINDS[_text(found[0], "TABLE_TYPE").lower()],
        columns=[_column(each) for each in thd_records(connection, data.getColumns(*where, "%"))],
        primary_key=primary,
        unique_keys=_unique(
            thd_records(connection, data.getIndexInfo(*exact, True, True)),
            primary,
        ),
        foreign_keys=_foreign(connection, thd_records(connection, data.getImportedKeys(*exact))),
    )


def thd_place(connection: JdbcConnection, schema: str | None) -> tuple[str | None, str | None]:
    """Catalog and schema to look in: the database's own terms for what callers call a schema."""
    raw = connection.raw
    current = raw.getCatalog()
    catalog = None if current is None else str(current)
    if connection.product in _CATALOGS:
        return schema or catalog, None
    if schema is None:
        try:
            found = raw.getSchema()
        except connection.errors:
            found = None
        schema = None if found is None else str(found)
    return catalog, schema


def pattern(data: Any, name: str | None) -> str | None:
    """A name that is no pattern."""
    if name is None:
        return None
    escape = str(data.getSearchStringEscape() or "")
    if not escape:
        return name
    for character in (escape, "_", "%"):
        name = name.replace(character, escape + character)
    return name


def _text(record: Record, name: str) -> str:
    return record.get(name) or ""


def _schema(connection: JdbcConnection, record: Record) -> str | None:
    name = "TABLE_CAT" if connection.product in _CATALOGS else "TABLE_SCHEM"
    return record.get(name) or None


def _number(record: Record, name: str) -> int | None:
    value = record.get(name)
    return None if value is None else int(float(value))


def _column(record: Record) -> TableColumn:
    name = _text(record, "COLUMN_NAME")
    java_type = _number(record, "DATA_TYPE") or 0
    type_name = _text(record, "TYPE_NAME")
    size, scale = _number(record, "COLUMN_SIZE"), _number(record, "DECIMAL_DIGITS")
    column = column_reading(name, java_type, type_name, size or 0, scale or 0).column
    length = size if java_type in _LENGTHS and size and size < 2**31 - 1 else None
    return TableColumn(
        name=name,
        type=column.type,
        database_type=_database_type(type_name, java_type, length, column.precision, column.scale),
        nullable=record.get("NULLABLE") != "0",
        default=record.get("COLUMN_DEF"),
        generated="YES" in (record.get("IS_AUTOINCREMENT"), record.get("IS_GENERATEDCOLUMN")),
        length=length if column.type != "uuid" else None,
        precision=column.precision,
        scale=column.scale,
        comment=record.get("REMARKS") or None,
    )


def _database_type(
    name: str, java_type: int, length: int | None, precision: int | None, scale: int | None
) -> str:
    if "(" in name:
        return name
    if length is not None and name.lower() not in ("text", "bytea", "uuid"):
        return f"{name}({length})"
    if java_type in _DECIMALS and precision is not None:
        return f"{name}({precision},{scale or 0})"
    return name


def _unique(records: Sequence[Record], primary: Sequence[str]) -> list[Sequence[str]]:
    indexes: dict[str, list[tuple[int, str]]] = {}
    partial = set()
    for each in records:
        name = each.get("INDEX_NAME")
        if name is None or each.get("TYPE") == "0":
            continue
        if each.get("FILTER_CONDITION") or not each.get("COLUMN_NAME"):
            partial.add(name)
        place = int(each.get("ORDINAL_POSITION") or 0)
        indexes.setdefault(name, []).append((place, _text(each, "COLUMN_NAME")))
    keys = [
        tuple(column for _, column in sorted(columns))
        for name, columns in indexes.items()
        if name not in partial
    ]
    return [key for key in keys if key != tuple(primary)]


def _foreign(connection: JdbcConnection, records: Sequence[Record]) -> list[ForeignKey]:
    place = "PKTABLE_CAT" if connection.product in _CATALOGS else "PKTABLE_SCHEM"
    keys: dict[tuple[str | None, ...], list[Record]] = {}
    for each in records:
        name = (each.get("FK_NAME"), each.get(place), each.get("PKTABLE_NAME"))
        keys.setdefault(name, []).append(each)
    found = []
    for (_, schema, table), columns in keys.items():
        columns.sort(key=lambda each: int(each.get("KEY_SEQ") or 0))
        found.append(
            ForeignKey(
                columns=[_text(each, "FKCOLUMN_NAME") for each in columns],
                table=table or "",
                schema=schema or None,
                references=[_text(each, "PKCOLUMN_NAME") for each in columns],
            )
        )
    return found
