"""What is the same for every database behind ODBC, and careful where nothing is known of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, ClassVar, Final

from attrs import define, field, frozen

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..results import ColumnType
from ..settings import DatabasePolicy
from ..statements import GENERIC, Dialect, Kind, TableName, tokens
from .base import Params
from .odbc_columns import OdbcColumn
from .odbc_errors import Meaning
from .odbc_guard import check, leaves_traces
from .odbc_keys import Braces
from .odbc_reach import Speaks
from .odbc_values import KINDS, Placed, generic

_ACCESS_MODE: Final = 101
_READ_ONLY: Final = 1
_TROUBLE: Final = re.compile(r"[?{}'\"\[\]`]")


@define(eq=False)
class Link:
    """A connection of pyodbc and what the drivers' differences need to remember of it.

    :ivar open: opens another one like it, to stop what runs on this one.
    :ivar spoilt: something of the last call may be left on it.
    :ivar number: the server's own number of it.
    :ivar pace: rows that the driver fetches at a time.
    """

    raw: Any
    open: Callable[[], Any]
    policy: DatabasePolicy
    spoilt: bool = False
    lost: bool = False
    number: int = 0
    in_transaction: bool = False
    pace: int = 1
    _cursor: Any = None
    _cancelling: Lock = field(factory=Lock)

    def thd_hold(self, cursor: Any) -> None:
        """Let :meth:`thd_cancel` stop what this cursor runs."""
        with self._cancelling:
            self._cursor = cursor

    def thd_let_go(self, cursor: Any = None) -> None:
        """Before a cursor, or with None the connection, is closed.

        It waits for a cancellation that is under way: a driver manager that frees a statement
        while SQLCancel is in it ends the process.
        """
        with self._cancelling:
            if cursor is None or self._cursor is cursor:
                self._cursor = None

    def thd_cancel(self) -> None:
        """Stop what runs, from another thread."""
        with self._cancelling:
            if self._cursor is not None:
                self._cursor.cancel()

    def thd_own(self, sql: str, *values: object) -> list[Any]:
        """Run a statement of the agent's own; its rows."""
        cursor = self.raw.cursor()
        try:
            cursor.execute(sql, *values)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()


@frozen
class Calling:
    """A statement that calls a procedure.

    :ivar values: of its parameters.
    :ivar is_out: its one row holds what the procedure gives back.
    :ivar last: a result of just these columns, the last one, does.
    :ivar after: a query that brings it when the results have been read.
    """

    sql: str
    values: Sequence[object]
    is_out: bool = False
    last: Sequence[str] = ()
    after: str | None = None


class Dbms:
    """A database that nobody has described: ODBC's own ways, and refusals where they end."""

    names: ClassVar[str] = ""
    """A pattern of SQL_DBMS_NAME and of drivers' names."""
    dialect: ClassVar[Dialect] = GENERIC
    speaks: ClassVar[Speaks] = "anything"
    port: ClassVar[int | None] = None
    meanings: ClassVar[Sequence[Meaning]] = ()
    words_end: ClassVar[bool] = False
    bodies: ClassVar[bool] = False
    """Whether the semicolons of a procedure's body are no end of the statement that makes it."""
    own_keys: ClassVar[frozenset[str]] = frozenset()
    """Names of :meth:`keys` that win over those given."""
    exact_decimals: ClassVar[bool] = False
    """Whether the precision that the driver tells is the column's own."""

    def keys(self, given: Mapping[str, str], timeout: float) -> dict[str, str]:
        """Keys that the driver should have besides those given."""
        return {}

    def braces(self, keys: Mapping[str, str]) -> Braces:
        """How the driver reads values in braces."""
        return "doubled"

    def thd_prepare(self, link: Link) -> None:
        """Make a new connection ready."""
        if link.policy.read_only:
            # A wish, which drivers may ignore or refuse: statements are checked in any case.
            with suppress(Exception):
                link.raw.set_attr(_ACCESS_MODE, _READ_ONLY)

    def thd_begin(self, link: Link, *, writing: bool) -> None:
        """Begin a transaction; most drivers do so with the first statement."""

    def thd_pace(self, link: Link, rows: int) -> None:
        """How many rows the driver may have in memory at a time, where that can be told."""

    def guard(self, sql: str, policy: DatabasePolicy) -> None:
        """Refuse what leaves the transaction or the policy. Raises Problem."""
        check(
            sql,
            self.dialect,
            read_only=policy.read_only,
            words_end=self.words_end,
            bodies=self.bodies,
        )

    def spoils(self, sql: str) -> bool:
        """Whether the connection can't be given to another call after this statement."""
        return leaves_traces(sql, self.dialect)

    def place(self, value: object, where: str) -> Placed:
        """A parameter. Raises Problem for what the database can't take."""
        return generic(value, where)

    def armour(self, sql: str) -> str:
        """The same statement for drivers that don't know all of the database's quotes.

        Drivers look for parameters themselves, and some take a question mark in a comment for one.
        """
        if not _TROUBLE.search(sql):
            return sql
        pieces: list[str] = []
        at = 0
        for token in tokens(sql, self.dialect):
            text = sql[token.start : token.end]
            if token.kind is Kind.COMMENT and _TROUBLE.search(text):
                text = self._comment(text)
            elif token.kind is Kind.LITERAL and "?" in text and text[0] in "[`":
                text = self._quoted(text)
            else:
                continue
            pieces += (sql[at : token.start], text)
            at = token.end
        pieces.append(sql[at:])
        return "".join(pieces)

    def _comment(self, text: str) -> str:
        return re.sub(r"[^\n\r]", " ", text)

    def _quoted(self, text: str) -> str:
        return text

    def question_problem(self) -> Problem:
        """Of a question mark that is no parameter: drivers know no other way to pass it on."""
        return Problem(
            "bad_request",
            "a question mark that is no parameter can't be sent through ODBC",
            hint="quote it, or use a function in place of the operator",
            extra={"field": "sql"},
        )

    def kind(self, column: OdbcColumn) -> ColumnType:
        """What a column's type is on the wire."""
        return KINDS.get(column.sql_type, "unknown")

    def converters(self) -> Mapping[int, Callable[[bytes], object]]:
        """How values of some ODBC types are read, from the driver's bytes."""
        return {}

    def thd_stop(self, link: Link) -> None:
        """Stop what runs. Called in another thread."""
        link.thd_cancel()

    def thd_commit(self, link: Link) -> None:
        """Commit; what may not write is undone, whatever it was."""
        if link.policy.read_only:
            self.thd_rollback(link)
        else:
            link.raw.commit()

    def thd_rollback(self, link: Link) -> None:
        """Undo everything since the last commit."""
        link.raw.rollback()

    def thd_renew(self, link: Link) -> bool:
        """Remove the traces of the last call; False where they can't be."""
        self.thd_rollback(link)
        return not link.spoilt

    def thd_answers(self, link: Link) -> bool:
        """Whether the server is there."""
        link.thd_own("select 1")
        self.thd_rollback(link)
        return True

    def thd_facts(self, link: Link) -> dict[str, object]:
        """For the profile's test."""
        return {}

    def quote(self, name: str) -> str:
        """A name as an identifier of its own."""
        return '"' + name.replace('"', '""') + '"'

    def table(self, table: TableName) -> str:
        """A table's or procedure's name in a statement."""
        name = self.quote(table.name)
        return name if table.schema is None else f"{self.quote(table.schema)}.{name}"

    def insert(
        self,
        link: Link,
        table: TableName,
        columns: Sequence[str],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> tuple[str, str]:
        """The statement that writes rows: what comes before ``VALUES (…)`` and after it.

        Raises Problem where the database knows no such statement.
        """
        if on_conflict != "error":
            raise Problem(
                "bad_request",
                f"on_conflict={on_conflict} is not known for this database",
                hint="load into a table of its own and merge with a statement",
                extra={"field": "on_conflict"},
            )
        names = ", ".join(map(self.quote, columns))
        return f"INSERT INTO {self.table(table)} ({names}) ", ""

    def thd_call(self, link: Link, procedure: TableName, params: Params | None) -> Calling:
        """What calls a procedure. Raises Problem."""
        if isinstance(params, Mapping):
            raise Problem(
                "bad_request",
                "this database's procedures take parameters by position",
                hint="send params as a list",
                extra={"field": "params"},
            )
        marks = ", ".join("?" * len(params or ()))
        return Calling(f"{{call {self.table(procedure)}({marks})}}", list(params or ()))
