"""SQLite files, through the standard library's driver in threads.

A column's type is taken from its declaration, and from its values where it has none (an
expression). SQLite itself has types of values only, so a value is always sent as what it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from attrs import define, field

from workato_tunnel.problems import Problem

from ..connections import ConnectionPool
from ..results import Column, Row
from ..settings import DatabasePolicy, PoolSettings, SqliteSettings
from ..statements import SQLITE, Dialect, Statement, outline
from ..work import Cleanups, Lane, Threads
from .base import Block, Outcome, Output
from .sqlite_connection import SqliteConnection, file_problem, thd_open
from .sqlite_values import converters, declared_type, parameter, value_type

_BLOCK_BYTES: Final = 64 * 1024
_BLOCK_ROWS: Final = 500
T = TypeVar("T")


@define(eq=False)
class SqliteAdapter:
    """The adapter of one file."""

    type: ClassVar[str] = "sqlite"
    dialect: ClassVar[Dialect] = SQLITE

    _settings: SqliteSettings
    _policy: DatabasePolicy
    _threads: Threads
    _pool: ConnectionPool[SqliteConnection]
    _cleanups: Cleanups = field(factory=Cleanups)

    @property
    def statement_timeout(self) -> float | None:
        """Seconds that a statement may run."""
        return self._policy.statement_timeout or None

    @classmethod
    def build(
        cls, reactor: Any, settings: SqliteSettings, pool: PoolSettings, policy: DatabasePolicy
    ) -> SqliteAdapter:
        """An adapter with a pool and threads of its own; nothing is opened yet."""
        threads = Threads.of(reactor, pool.max, "sqlite")

        async def open_file(_kind: str) -> SqliteConnection:
            lane = Lane(threads)
            return await lane.run(thd_open, settings, policy, lane)

        return cls(settings, policy, threads, ConnectionPool(reactor, pool, open_file))

    async def test(self) -> Mapping[str, object]:
        connection = await self._pool.acquire("sqlite")
        try:
            version, tables = await connection.lane.run(_thd_look, connection)
        except sqlite3.Error as error:
            raise self.problem(error, connection) from None
        finally:
            await self.give_back(connection)
        return {
            "target": f"SQLite {version}",
            "database": self._settings.path.name,
            "tables": tables,
            "read_only": self._policy.read_only or not os.access(self._settings.path, os.W_OK),
        }

    async def query(self, statement: Statement, output: Output) -> SqliteRows:
        connection = await self._pool.acquire("sqlite")
        rows = SqliteRows(self, connection, output)
        try:
            await rows.begin(statement)
        except BaseException:
            await rows.abort()
            raise
        return rows

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        connection = await self._pool.acquire("sqlite")
        rows = SqliteRows(self, connection, output)
        try:
            await rows.begin(statement, writing=not self._policy.read_only)
            parts = []
            while (block := await rows.next_block()) is not None:
                parts.append(block.data)
            row_count = await rows.count()
            await rows.finish()
        except BaseException:
            await rows.abort()
            raise
        columns = rows.columns or None
        return Outcome(row_count, columns, b"".join(parts))

    async def close(self) -> None:
        await self._pool.close()
        await self._cleanups.ended()
        await self._threads.stop()

    def give_back(self, connection: SqliteConnection, *, reusable: bool = True) -> Any:
        return self._cleanups.run(self._pool.release(connection, reusable=reusable))

    def problem(self, error: Exception, connection: SqliteConnection) -> Problem:
        if connection.refused is not None:
            return Problem(
                "policy_denied",
                f"{connection.refused} is not allowed: {error}",
                hint="a profile is one file, and every call is one transaction of its own",
                extra={"rule": "sqlite"},
            )
        if connection.budget is not None and connection.budget <= 0:
            return Problem(
                "deadline_exceeded",
                "the statement ran longer than the profile's statement_timeout of "
                f"{self._policy.statement_timeout:g} s",
                hint="narrow the statement, or raise policy.statement_timeout",
            )
        return file_problem(error, self._settings, self._policy)


@define(eq=False)
class SqliteRows:
    """A statement that is being read, a block at a time, each in a thread."""

    _adapter: SqliteAdapter
    _connection: SqliteConnection
    _output: Output
    columns: Sequence[Column] = ()
    changed: int | None = None
    _cursor: sqlite3.Cursor | None = None
    _convert: Callable[[Sequence[Row]], Sequence[Row]] | None = None
    _pending: list[Row] = field(factory=list)
    _ended: bool = False
    _released: bool = False
    _seen: int = 0

    async def begin(self, statement: Statement, *, writing: bool = False) -> None:
        """Run the statement up to its first rows. ``writing`` takes the write lock at once."""
        self._connection.prepare(self._adapter.statement_timeout)
        values = [parameter(value, index) for index, value in enumerate(statement.values)]
        await self._run(self._thd_begin, statement, values, writing)

    async def next_block(self) -> Block | None:
        if self._ended and not self._pending:
            return None
        return await self._run(self._thd_next)

    async def count(self) -> int:
        """Rows changed, or read where nothing is changed; reads what is left of them."""
        return await self._run(self._thd_count)

    async def finish(self) -> None:
        await self._run(self._thd_commit)
        self._released = True
        await self._adapter.give_back(self._connection)

    async def abort(self) -> None:
        if not self._released:
            self._released = True
            self._connection.stop()
            await self._adapter.give_back(self._connection, reusable=False)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        try:
            return await self._connection.lane.run(
                self._connection.thd_timed, lambda: function(*args)
            )
        except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError) as error:
            raise self._adapter.problem(error, self._connection) from None

    def _thd_begin(self, statement: Statement, values: list[Any], writing: bool) -> None:
        connection = self._connection
        connection.thd_own("BEGIN IMMEDIATE" if writing else "BEGIN")
        declared = _thd_declared_types(connection, statement)
        sql = statement.render(lambda value: "?").sql
        sql = sql[: outline(sql, SQLITE).end]
        self._cursor = connection.thd_patient(lambda: connection.raw.execute(sql, values))
        if self._cursor.description is None:
            self._ended = True
            self.changed = max(0, self._cursor.rowcount)
            return
        self._pending = self._thd_fetch()
        names = [entry[0] for entry in self._cursor.description]
        if len(declared) != len(names):
            declared = [None] * len(names)
        types = [
            kind or value_type(row[index] for row in self._pending)
            for index, kind in enumerate(declared)
        ]
        self.columns = [Column(name, kind) for name, kind in zip(names, types, strict=True)]
        self._convert = converters(types, csv=self._output.writer.format == "csv")

    def _thd_fetch(self) -> list[Row]:
        assert self._cursor is not None  # noqa: S101 - only after _thd_begin
        limit = self._output.room()
        rows: list[Row] = []
        size = 0
        most = _BLOCK_ROWS if limit is None else min(_BLOCK_ROWS, limit)
        while len(rows) < most and size < _BLOCK_BYTES:
            row = self._cursor.fetchone()
            if row is None:
                self._ended = True
                break
            rows.append(row)
            size += 40 + sum(len(value) for value in row if value.__class__ in (str, bytes))
        self._seen += len(rows)
        return rows

    def _thd_next(self) -> Block | None:
        rows = self._pending or self._thd_fetch()
        self._pending = []
        if not rows or self._convert is None:
            return None
        block = self._output.encode(self._convert(rows))
        self._ended = self._ended or self._output.truncated
        return block

    def _thd_count(self) -> int:
        cursor = self._cursor
        if cursor is None:
            return 0
        for _row in cursor:
            self._seen += 1
        return cursor.rowcount if cursor.rowcount >= 0 else self._seen

    def _thd_commit(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
        self._connection.thd_own("COMMIT")


def _thd_look(connection: SqliteConnection) -> tuple[str, int]:
    count = connection.thd_own("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    return sqlite3.sqlite_version, count[0]


def _thd_declared_types(connection: SqliteConnection, statement: Statement) -> list[Any]:
    """The declared types of a result's columns, by way of a temporary view.

    The driver doesn't tell them. Nothing but a plain query can be a view; anything that goes wrong
    here leaves the types to the values, and the statement's own error to its own run.
    """
    bare = statement.render(lambda value: "NULL").sql
    shape = outline(bare, SQLITE)
    if shape.first not in ("select", "with", "values"):
        return []
    spoilt, refused = connection.spoilt, connection.refused
    try:
        connection.raw.execute(f"CREATE TEMP VIEW onprem_shape AS {bare[: shape.end]}")
        try:
            rows = connection.thd_own("PRAGMA temp.table_info(onprem_shape)").fetchall()
        finally:
            connection.raw.execute("DROP VIEW temp.onprem_shape")
    except sqlite3.Error:
        return []
    finally:
        connection.spoilt, connection.refused = spoilt, refused
    return [declared_type(row[2]) for row in rows]
