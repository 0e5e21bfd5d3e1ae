"""PostgreSQL through psqlODBC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..parameters import Number, Typed
from ..results import ColumnType
from ..settings import DatabasePolicy
from ..statements import POSTGRESQL, Dialect, TableName, outline
from .base import Params
from .odbc_columns import OdbcColumn
from .odbc_dbms import Calling, Dbms, Link
from .odbc_errors import LOST, READ_ONLY, Meaning
from .odbc_guard import check
from .odbc_keys import value_of
from .odbc_reach import Speaks
from .odbc_values import INT32, INT64, NULL, Placed, refused

_TEXTS: Final = frozenset({"text", "varchar", "char", "bpchar", "name"})
_CASTS: Final[dict[str, str]] = {
    "float": "float8",
    "decimal": "numeric",
    "string": "text",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "uuid": "uuid",
    "json": "jsonb",
}
# The driver writes times without their offset, and intervals as the session has them.
_SETTINGS: Final = "SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'; SET DateStyle = 'ISO'"
_FETCH: Final = 65541
"""psqlODBC's own attribute: rows that are fetched from the server's cursor at a time."""
_READ_ONLY: Final = (
    "DO $$BEGIN PERFORM pg_catalog.set_config('transaction_read_only', 'on', true); END$$"
)


class Postgresql(Dbms):
    """Parameters are text with a cast, prepared on the server; results come from its cursors."""

    names: ClassVar[str] = r"postgres|psqlodbc"
    dialect: ClassVar[Dialect] = POSTGRESQL
    speaks: ClassVar[Speaks] = "postgresql"
    port: ClassVar[int | None] = 5432
    own_keys: ClassVar[frozenset[str]] = frozenset({"pqopt"})
    meanings: ClassVar[Sequence[Meaning]] = (
        Meaning(READ_ONLY, "", states=("25006",)),
        Meaning("deadline_exceeded", "the server's own time limit", states=("57014",)),
        Meaning("target_unreachable", LOST, states=("57P0",)),
        Meaning("target_unreachable", LOST, pattern=r"^(could not|no connection|server closed)"),
        Meaning(
            "query_failed",
            "the transaction has failed before: roll it back",
            states=("25P02",),
        ),
        Meaning(
            "query_failed",
            "check the name and the types: a parameter may need a cast, as in ?::uuid",
            states=("42883", "42804"),
        ),
    )

    def keys(self, given: Mapping[str, str], timeout: float) -> dict[str, str]:
        options = value_of(given, "pqopt") or ""
        if "connect_timeout" not in options:
            options = f"{options} connect_timeout={max(2, round(timeout))}".strip()
        return {
            "UseDeclareFetch": "1",
            "Fetch": "1",
            "BoolsAsChar": "0",
            "UseServerSidePrepare": "1",
            "LFConversion": "0",
            "UpdatableCursors": "0",
            # The transaction of a failed statement stays failed, as it does everywhere else.
            "Protocol": "7.4-0",
            "pqopt": options,
        }

    def thd_prepare(self, link: Link) -> None:
        link.raw.autocommit = True
        link.thd_own(_SETTINGS)
        link.raw.autocommit = False

    def thd_begin(self, link: Link, *, writing: bool) -> None:
        if not writing:
            # It is a query as well: after one no statement can make the transaction writable.
            link.thd_own(_READ_ONLY)

    def thd_pace(self, link: Link, rows: int) -> None:
        if rows != link.pace:
            link.raw.set_attr(_FETCH, rows)
            link.pace = rows

    def armour(self, sql: str) -> str:
        # The driver puts a statement of its own around a query, and a comment would end that too.
        sql = super().armour(sql)
        return f"{sql}\n" if "--" in sql else sql

    def guard(self, sql: str, policy: DatabasePolicy) -> None:
        check(sql, self.dialect, read_only=False)
        shape = outline(sql, self.dialect)
        if shape.first == "copy" and shape.words & {"stdin", "stdout"}:
            raise Problem(
                "query_failed",
                "COPY from or to the client doesn't work here",
                hint="use query with Accept: text/csv, or load",
            )

    def spoils(self, sql: str) -> bool:
        return False

    def thd_renew(self, link: Link) -> bool:
        link.raw.rollback()
        link.raw.autocommit = True
        link.thd_own("DISCARD ALL")
        link.thd_own(_SETTINGS)
        link.raw.autocommit = False
        return True

    def place(self, value: object, where: str) -> Placed:
        if value is None:
            return NULL
        if isinstance(value, bytes):
            return Placed("?::bytea", value)
        if isinstance(value, list):
            return _array(value, where)
        return _scalar(value, where)

    def question_problem(self) -> Problem:
        return Problem(
            "bad_request",
            "psqlODBC takes every question mark for a parameter, also one that is an operator",
            hint="use jsonb_exists(), jsonb_exists_any() or jsonb_exists_all(), or adapter: "
            "postgresql",
            extra={"field": "sql"},
        )

    def kind(self, column: OdbcColumn) -> ColumnType:
        if column.type_name == "timestamptz":
            return "timestamptz"
        if column.sql_type in (-8, -9, -10, 1, 12, -1):
            if column.type_name in _TEXTS:
                return "string"
            # The one type that the driver has no name for.
            return "interval" if not column.type_name else "unknown"
        return super().kind(column)

    def thd_facts(self, link: Link) -> dict[str, object]:
        ((version, database, user, encrypted),) = link.thd_own(
            "select current_setting('server_version'), current_database(), current_user, "
            "(select version from pg_stat_ssl where pid = pg_backend_pid())"
        )
        return {
            "target": f"PostgreSQL {version.split()[0]}",
            "database": database,
            "user": user,
            "tls": encrypted or False,
        }

    def insert(
        self,
        link: Link,
        table: TableName,
        columns: Sequence[str],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> tuple[str, str]:
        before, _ = super().insert(link, table, columns, "error", keys)
        if on_conflict == "error":
            return before, ""
        names = ", ".join(map(self.quote, keys))
        if on_conflict == "ignore":
            return before, f" ON CONFLICT {f'({names})' if keys else ''} DO NOTHING"
        changed = [self.quote(each) for each in columns if each not in keys]
        if not changed:
            return before, f" ON CONFLICT ({names}) DO NOTHING"
        changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in changed)
        return before, f" ON CONFLICT ({names}) DO UPDATE SET {changes}"

    def thd_call(self, link: Link, procedure: TableName, params: Params | None) -> Calling:
        name = self.table(procedure)
        found = link.thd_own(
            "select p.prokind::text, p.proretset or p.prorettype = 'record'::regtype, "
            "array_to_string(p.proargmodes, '') from pg_catalog.pg_proc p "
            "where p.oid = to_regproc(?)::oid",
            name,
        )
        if not found:
            raise Problem(
                "not_found",
                f"there is no procedure or function {procedure}, or there are several",
                hint="check the name and its schema; one of several is called with query",
            )
        kind, brings_rows, modes = found[0]
        if isinstance(params, Mapping):
            marks = [f"{self.quote(each)} => ?" for each in params]
            values = list(params.values())
        else:
            values = list(params or ())
            marks = ["?"] * len(values)
            if kind == "p" and modes and len(values) < len(modes):
                # Those that only bring something back have to be named as well.
                left = iter(marks)
                marks = ["NULL" if mode == "o" else next(left, "NULL") for mode in modes]
        call = f"{name}({', '.join(marks)})"
        if kind == "p":
            return Calling(f"CALL {call}", values, is_out=True)
        if brings_rows:
            return Calling(f"SELECT * FROM {call}", values)  # noqa: S608 - quoted
        return Calling(f'SELECT {call} AS "return"', values, is_out=True)


def _scalar(value: object, where: str) -> Placed:
    """A value as text and, where the context mustn't choose it, with its type."""
    if isinstance(value, bool):
        return Placed("?::bool", "true" if value else "false")
    if isinstance(value, int):
        cast = "int4" if value in INT32 else "int8" if value in INT64 else "numeric"
        return Placed(f"?::{cast}", str(value))
    if isinstance(value, Number):
        return Placed("?::numeric", value.text)
    if isinstance(value, Typed):
        if value.type == "time":
            zoned = value.text[-1:] == "Z" or "+" in value.text or "-" in value.text
            return Placed(f"?::{'timetz' if zoned else 'time'}", value.text)
        return Placed(f"?::{_CASTS[value.type]}", _whole(value.text, where))
    return Placed("?", _whole(str(value), where))


def _whole(text: str, where: str) -> str:
    if "\0" in text:
        raise refused(
            where,
            "PostgreSQL's text can't hold the NUL character",
            "send it as bytes to a bytea column",
        )
    return text


def _array(values: list[object], where: str) -> Placed:
    """An array as its text, with the type of its first element."""
    kinds: list[str] = []
    text = _array_text(values, where, kinds)
    return Placed(f"?::{kinds[0]}[]" if kinds else "?", text)


def _array_text(values: list[object], where: str, kinds: list[str]) -> str:
    return "{" + ",".join(_element(each, where, kinds) for each in values) + "}"


def _element(value: object, where: str, kinds: list[str]) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array_text(value, where, kinds)
    if isinstance(value, bytes):
        kinds.append("bytea")
        text = f"\\x{value.hex()}"
    else:
        placed = _scalar(value, where)
        kinds.append(placed.marker.partition("::")[2] or "text")
        text = str(placed.value)
    if kinds[-1] == "int8" and kinds[0] == "int4":
        kinds[0] = "int8"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
