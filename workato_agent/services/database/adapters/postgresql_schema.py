"""What a database has: tables and views, columns and keys, from the system catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ..catalogue import ForeignKey, Table, TableColumn, TableShape
from ..statements import TableName
from .postgresql_fetch import find_types
from .postgresql_lease import Conversation
from .postgresql_literals import quote
from .postgresql_types import TypeCatalogue, read_array

_KINDS: Final = (
    "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'"
    " WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' END"
)
_RELATIONS: Final = (
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')"
)
_TABLES: Final = (
    f"SELECT n.nspname, c.relname, {_KINDS}, pg_catalog.obj_description(c.oid, 'pg_class')"
    f"{_RELATIONS}"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    " AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%'"
    " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
    " AND (pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
    " OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE'))"
    ' ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"'
)
_TABLE: Final = (
    f"SELECT c.oid::pg_catalog.int8, n.nspname, c.relname, {_KINDS}{_RELATIONS} AND c.relname = "
)
_COLUMNS: Final = (
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,"
    " pg_catalog.pg_get_expr(d.adbin, d.adrelid),"
    " a.attidentity::pg_catalog.text, a.attgenerated::pg_catalog.text,"
    " CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END::pg_catalog.int8,"
    " CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END,"
    " pg_catalog.col_description(a.attrelid, a.attnum), a.attnum"
    " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = {oid} ORDER BY a.attnum"
)
_KEYS: Final = (
    "SELECT k.contype::pg_catalog.text, k.conkey, n.nspname, f.relname,"
    " ARRAY(SELECT a.attname::pg_catalog.text"
    " FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u(number, place)"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number"
    " ORDER BY u.place)"
    " FROM pg_catalog.pg_constraint k"
    " LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid"
    " LEFT JOIN pg_catalog.pg_namespace n ON n.oid = f.relnamespace"
    " WHERE k.contype IN ('p', 'u', 'f') AND k.conrelid = {oid} ORDER BY k.conname, k.oid"
)
_HEADER: Final = 4
_NUMERIC: Final = 1700
_WITH_LENGTH: Final = frozenset((1042, 1043))
_WITH_BITS: Final = frozenset((1560, 1562))


@frozen
class SchemaReader:
    """Reads the catalogue on a lent connection."""

    _talk: Conversation
    _types: TypeCatalogue

    async def tables(self) -> Sequence[Table]:
        """Sorted by schema and name; only what the user may use."""
        prologue = self._talk.lease.prologue(timed=True)
        rows = (await self._talk.ask(prologue + _TABLES)).fetchall()
        return [Table(name, kind, schema, comment) for schema, name, kind, comment in rows]

    async def shape(self, table: TableName) -> TableShape:
        """A table's columns and keys. Raises Problem ``not_found``."""
        oid, schema, name, kind = await self._find(table)
        rows = (await self._talk.ask(_COLUMNS.format(oid=oid))).fetchall()
        kinds = await find_types(self._talk, self._types, [row[6] for row in rows])
        columns = [_column(row, each.kind) for row, each in zip(rows, kinds, strict=True)]
        names = {row[9]: row[0] for row in rows}
        primary: Sequence[str] = ()
        unique = []
        foreign = []
        for contype, numbers, other_schema, other, references in (
            await self._talk.ask(_KEYS.format(oid=oid))
        ).fetchall():
            own = [names[number] for number in read_array(numbers, int)]
            if contype == "p":
                primary = own
            elif contype == "u":
                unique.append(own)
            else:
                foreign.append(ForeignKey(own, other, other_schema, read_array(references)))
        return TableShape(schema, name, kind, columns, primary, unique, foreign)

    async def _find(self, table: TableName) -> tuple[int, str, str, str]:
        where = (
            "pg_catalog.pg_table_is_visible(c.oid)"
            if table.schema is None
            else f"n.nspname = {quote(table.schema)}"
        )
        prologue = self._talk.lease.prologue(timed=True)
        cursor = await self._talk.ask(f"{prologue}{_TABLE}{quote(table.name)} AND {where}")
        found: tuple[int, str, str, str] | None = cursor.fetchone()
        if found is None:
            raise Problem(
                "not_found",
                f"there is no table {table}",
                hint="check its name, its schema and the search_path; names are taken as the "
                "catalogue has them, in their case",
            )
        return found


def _column(row: Sequence[Any], kind: Any) -> TableColumn:
    name, written, not_null, default, identity, generated, oid, typmod, comment, _number = row
    length = precision = scale = None
    if oid == _NUMERIC and typmod >= _HEADER:
        precision = ((typmod - _HEADER) >> 16) & 0xFFFF
        # Since PostgreSQL 15 the scale is a signed number of 11 bits.
        scale = (((typmod - _HEADER) & 0x7FF) ^ 0x400) - 0x400
    elif oid in _WITH_LENGTH and typmod >= _HEADER:
        length = typmod - _HEADER
    elif oid in _WITH_BITS and typmod >= 0:
        length = typmod
    own = bool(identity or generated) or (default or "").startswith("nextval(")
    return TableColumn(
        name, kind, written, not not_null, default, own, length, precision, scale, comment
    )
