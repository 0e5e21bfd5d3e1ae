"""Amazon Redshift: PostgreSQL's protocol without ``DO`` blocks, ``COPY`` over it and its catalogue.

A query is declared as a cursor and fetched in pieces; all else is run as it is. That a call holds
one statement and no transaction control is seen by the agent's own scanner here, so what it might
read otherwise than the server is refused: a backslash in a plain string, which only some servers
take for an escape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableColumn, TableShape
from ..loading import Load
from ..parameters import Typed
from ..settings import DatabasePolicy, PoolSettings, PostgresqlSettings
from ..statements import Batch, Kind, Outline, Rendered, Statement, TableName, tokens
from .base import Output, Params, ResultSet, Returned, read_only_problem
from .postgresql import PostgresqlAdapter
from .postgresql_connection import ReactorConnection, ThreadConnection
from .postgresql_errors import several_problem
from .postgresql_fetch import FetchedRows
from .postgresql_lease import Conversation
from .postgresql_literals import PORTAL, identifier, literal, quote
from .postgresql_load import load_columns
from .postgresql_session import PostgresqlSession
from .postgresql_traits import Traits
from .postgresql_types import KNOWN, converters, result_columns
from .postgresql_work import PostgresqlWork

_QUERIES: Final = frozenset(("select", "with", "values", "table"))
_HARMLESS: Final = frozenset(("show", "explain"))
_CONTROL: Final = frozenset(
    (
        "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare",
        "execute", "deallocate", "declare", "fetch", "move", "close", "discard", "unlisten", "do",
    )
)  # fmt: skip
_LOAD_ROWS: Final = 500
_TABLES: Final = (
    "SELECT table_schema::varchar(128), table_name::varchar(128), lower(table_type)::varchar(40)"
    " FROM information_schema.tables"
    " WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'pg_internal') ORDER BY 1, 2"
)
_COLUMNS: Final = (
    "SELECT column_name::varchar(128), data_type::varchar(128), is_nullable::varchar(3),"
    " column_default::varchar(1000), character_maximum_length::int, numeric_precision::int,"
    " numeric_scale::int FROM information_schema.columns c WHERE "
)
_KEY: Final = (
    "SELECT k.column_name::varchar(128) FROM information_schema.table_constraints c"
    " JOIN information_schema.key_column_usage k ON k.constraint_name = c.constraint_name"
    " AND k.table_schema = c.table_schema AND k.table_name = c.table_name"
    " WHERE c.constraint_type = 'PRIMARY KEY' AND "
)
_ARRAYS: Final = "send its elements one by one"


def redshift_literal(value: object) -> str:
    """A value as SQL that reads the same whether or not a backslash escapes in strings."""
    return f" {_literal(value)} "


def _literal(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    if isinstance(value, list):
        raise Problem("bad_request", "Redshift takes no arrays as parameters", hint=_ARRAYS)
    if isinstance(value, Typed):
        if value.type in ("string", "json", "uuid", "interval"):
            return _text(value.text)
        if value.type == "decimal" and value.text[-1:].isdigit():
            # A cast to numeric would have no fraction there.
            return f"({value.text})"
        if value.type == "decimal":
            return _text(value.text)
    return literal(value).strip()


def _text(text: str) -> str:
    if "\\" not in text:
        return quote(text)
    return "(" + "||chr(92)||".join(quote(part) for part in text.split("\\")) + ")"


def declaring(sql: str) -> str:
    """A statement that opens the portal for a query."""
    return f"DECLARE {PORTAL} CURSOR FOR {sql}\n"


TRAITS: Final = Traits(
    type="redshift",
    settings="SET LOCAL DateStyle='ISO';",
    set_local="SET LOCAL",
    plpgsql=False,
    copies=False,
    renewal="RESET ALL",
    literal=redshift_literal,
    opening=declaring,
    facts="SELECT current_database(), current_user, version(), false",
    product=lambda version: (
        f"Redshift {version.rpartition('Redshift ')[2].split()[0]}"
        if "Redshift " in version
        else " ".join(version.split()[:2])
    ),
)


class _RedshiftWork(PostgresqlWork):
    """What is asked for in another way."""

    __slots__ = ()

    def single(self, statement: Statement) -> tuple[Rendered, Outline]:
        check_strings(statement)
        rendered, shape = super().single(statement)
        if shape.several:
            raise several_problem()
        copies = shape.first == "copy" and shape.words & {"stdin", "stdout"}
        if shape.first in _CONTROL or copies:
            raise Problem(
                "query_failed",
                f"{shape.first.upper()} is not a statement that a call can hold",
                hint="transaction control and COPY from or to the client don't work here",
                extra={"sqlstate": "0A000"},
            )
        harmless = shape.first in _QUERIES or shape.first in _HARMLESS
        if self._grounds.policy.read_only and not harmless:
            raise read_only_problem(f"{shape.first.upper() or 'this'} is no query")
        if ";" in rendered.sql[shape.end :]:
            cut = rendered.sql[: shape.end]
            rendered = Rendered(cut, rendered.starts, rendered.origins)
        return rendered, shape

    async def fetch(
        self, rendered: Rendered, shape: Outline, output: Output, start: str | None = None
    ) -> FetchedRows:
        writes = shape.words & {"insert", "update", "delete", "merge", "into"}
        declared = shape.first in _QUERIES and not writes
        lease = await self.lease(ReactorConnection.kind)
        if not declared:
            lease.connection.spoilt = True
        rows = FetchedRows(Conversation(self._grounds, lease), self.types, output)
        try:
            await rows.begin(rendered, declaring(rendered.sql) if declared else None)
        except BaseException:
            await rows.abort()
            raise
        return rows

    async def batch(self, batch: Batch) -> int:
        self.single(batch.statement)
        return await super().batch(batch)

    async def call(
        self, procedure: TableName, params: Params | None, outputs: Callable[[], Output]
    ) -> Returned:
        if isinstance(params, Mapping) and params:
            raise Problem(
                "bad_request",
                "Redshift's procedures take no named parameters",
                hint="send a list",
                extra={"field": "params"},
            )
        if self._grounds.policy.read_only:
            raise read_only_problem("procedures can't be called")
        values = ", ".join(redshift_literal(value) for value in params or ())
        async with self._talk(ReactorConnection.kind) as talk:
            talk.lease.connection.spoilt = True
            prologue = talk.lease.prologue(timed=True)
            cursor = await talk.ask(f"{prologue}CALL {_name(procedure)}({values})")
            if not cursor.description:
                return Returned({})
            rows = cursor.fetchmany(2)
            kinds = self.types.find([column.type_code for column in cursor.description])
            if len(rows) == 1:
                found = converters(kinds, "json")(rows)[0]
                names = [column.name for column in cursor.description]
                return Returned(dict(zip(names, found, strict=True)))
            output = outputs()
            block = output.encode(converters(kinds, "json")(rows + cursor.fetchall()))
            columns = result_columns(cursor.description, kinds)
            return Returned({}, [ResultSet(columns, block.data, block.rows, output.truncated)])

    async def load(self, load: Load) -> int:
        """By statements of many rows: there is no other way in but by way of S3."""
        columns = await load_columns(load, self._grounds.policy)
        if load.on_conflict != "error":
            raise Problem(
                "bad_request",
                "Redshift enforces no keys: a load can't look for conflicts",
                hint="load into a table of its own, then MERGE",
                extra={"field": "on_conflict"},
            )
        if not columns:
            return 0
        count = 0
        async with self._talk(ReactorConnection.kind) as talk:
            prologue = talk.lease.prologue(timed=True)
            into = f"INSERT INTO {_name(load.table)} ({', '.join(map(identifier, columns))}) VALUES"
            async for rows in load.body.blocks():
                for first in range(0, len(rows), _LOAD_ROWS):
                    part = rows[first : first + _LOAD_ROWS]
                    values = ", ".join(f"({','.join(map(redshift_literal, row))})" for row in part)
                    try:
                        await talk.ask(f"{prologue}{into} {values}")
                    except Problem as problem:
                        raise _of_rows(problem, count + 1, count + len(part)) from None
                    prologue = ""
                    count += len(part)
        return count

    async def tables(self) -> Sequence[Table]:
        async with self._talk(ReactorConnection.kind) as talk:
            prologue = talk.lease.prologue(timed=True)
            cursor = await talk.ask(prologue + _TABLES)
            return [
                Table(name, "table" if kind == "base table" else kind, schema)
                for schema, name, kind in cursor.fetchall()
            ]

    async def shape(self, table: TableName) -> TableShape:
        schema = table.schema or "public"
        async with self._talk(ReactorConnection.kind) as talk:
            where = f"c.table_schema = {_text(schema)} AND c.table_name = {_text(table.name)}"
            prologue = talk.lease.prologue(timed=True)
            cursor = await talk.ask(f"{prologue}{_COLUMNS}{where} ORDER BY ordinal_position")
            rows = cursor.fetchall()
            if not rows:
                raise Problem(
                    "not_found",
                    f"there is no table {table}",
                    hint="check its name and its schema, public where none is given",
                )
            listed = ", ".join(identifier(row[0]) for row in rows)
            sample = await talk.ask(
                f"SELECT {listed} FROM {_name(table)} LIMIT 0"  # noqa: S608 - quoted names
            )
            oids = [column.type_code for column in sample.description]
            columns = [
                TableColumn(
                    name, KNOWN[oid].kind if oid in KNOWN else "unknown", written, null == "YES",
                    default, "identity" in (default or ""), length,
                    precision if written == "numeric" else None,
                    scale if written == "numeric" else None,
                )
                for (name, written, null, default, length, precision, scale), oid in zip(
                    rows, oids, strict=True
                )
            ]  # fmt: skip
            keys = await talk.ask(f"{_KEY}{where} ORDER BY k.ordinal_position")
            primary = [row[0] for row in keys.fetchall()]
            return TableShape(schema, table.name, "table", columns, primary)


def check_strings(statement: Statement) -> None:
    """Refuse strings that servers read differently."""
    dialect = TRAITS.dialect
    for token in tokens(statement.sql, dialect):
        text = statement.sql[token.start : token.end]
        if token.kind is Kind.LITERAL and text[0] == "'" and "\\" in text:
            raise Problem(
                "bad_request",
                "a string in the statement holds a backslash, which may be an escape or not",
                hint="send the string as a parameter",
                extra={"field": "sql"},
            )


def _name(table: TableName) -> str:
    parts = (table.name,) if table.schema is None else (table.schema, table.name)
    return ".".join(map(identifier, parts))


def _of_rows(problem: Problem, first: int, last: int) -> Problem:
    return Problem(
        problem.code,
        f"rows {first} to {last}: {problem.detail}",
        hint=problem.hint,
        extra={**problem.extra, "row": first},
    )


class RedshiftSession(_RedshiftWork, PostgresqlSession):
    """A session; its connection is not used again."""

    __slots__ = ()


class RedshiftAdapter(_RedshiftWork, PostgresqlAdapter):
    """The adapter of one database of a cluster, as one user."""

    __slots__ = ()
    traits: ClassVar[Traits] = TRAITS

    @classmethod
    def build(
        cls, reactor: Any, settings: PostgresqlSettings, pool: PoolSettings, policy: DatabasePolicy
    ) -> Self:
        adapter = super().build(reactor, settings, pool, policy)
        adapter.types.trust()
        return adapter

    async def session(self) -> RedshiftSession:
        connection = await self._grounds.pool.acquire(ThreadConnection.kind)
        connection.spoilt = True
        session = RedshiftSession(
            self._grounds, connection, self._sessions.discard, types=self.types
        )
        self._sessions.add(session)
        return session
