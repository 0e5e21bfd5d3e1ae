"""PostgreSQL, through txpostgres; CSV through ``COPY`` where the statement allows it.

A statement runs in a transaction of its own, behind a portal from which rows are fetched in pieces
that fit their size. The session's settings that shape text (DateStyle, IntervalStyle …) are set for
the transaction only, so connection poolers in between are no obstacle.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar, Final

import psycopg2
from attrs import define, field
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..connections import ConnectionPool
from ..settings import DatabasePolicy, PoolSettings, PostgresqlSettings
from ..statements import POSTGRESQL, Dialect, Outline, Rendered, Statement, outline
from ..work import Cleanups, Threads
from .base import Outcome, Output, RowStream
from .postgresql_connection import ReactorConnection, ThreadConnection
from .postgresql_copy import CopyRows, NotCopyable, may_be_copied
from .postgresql_errors import statement_problem
from .postgresql_fetch import FetchedRows, Large
from .postgresql_literals import LARGE_ROWS, literal
from .postgresql_login import Login
from .postgresql_types import TypeCatalogue

_CANCEL_THREADS: Final = 4
_SETTINGS: Final = (
    "SET LOCAL standard_conforming_strings=on;SET LOCAL DateStyle='ISO';"
    "SET LOCAL IntervalStyle='iso_8601';SET LOCAL extra_float_digits=3;"
    "SET LOCAL bytea_output='hex';"
)
_WATCH: Final = "SET LOCAL client_connection_check_interval='2s';"
_FACTS: Final = (
    "SELECT current_database(), current_user, version(),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"
)


@define(eq=False)
class PostgresqlAdapter:
    """The adapter of one database on one server, as one user."""

    type: ClassVar[str] = "postgresql"
    dialect: ClassVar[Dialect] = POSTGRESQL

    _reactor: Any
    _settings: PostgresqlSettings
    _policy: DatabasePolicy
    _threads: Threads
    _cancels: Threads
    _pool: ConnectionPool[Any]
    _cleanups: Cleanups = field(factory=Cleanups)
    _types: TypeCatalogue = field(factory=TypeCatalogue)

    @classmethod
    def build(
        cls, reactor: Any, settings: PostgresqlSettings, pool: PoolSettings, policy: DatabasePolicy
    ) -> PostgresqlAdapter:
        """An adapter with a pool and threads of its own; nothing is opened yet."""
        threads = Threads.of(reactor, pool.max, "postgresql")
        cancels = Threads.of(reactor, _CANCEL_THREADS, "postgresql-cancel")
        login = Login(reactor, settings, threads, cancels)
        connections = ConnectionPool[Any](reactor, pool, login.open)
        return cls(reactor, settings, policy, threads, cancels, connections)

    async def test(self) -> Mapping[str, object]:
        connection: ReactorConnection = await self._pool.acquire(ReactorConnection.kind)
        try:
            cursor = await connection.run(_FACTS)
            database, user, version, server_read_only = cursor.fetchone()
        except psycopg2.Error as error:
            await self._give_back(connection, False)
            raise statement_problem(error, None, self._policy) from None
        except BaseException:
            await self._give_back(connection, False)
            raise
        info = connection.raw.info
        tls = info.ssl_attribute("protocol") if info.ssl_in_use else None
        self._give_back(connection, True)
        return {
            "target": " ".join(version.split()[:2]),
            "database": database,
            "user": user,
            "tls": tls,
            "read_only": self._policy.read_only or server_read_only,
        }

    async def query(self, statement: Statement, output: Output) -> RowStream:
        rendered, shape = _single(statement)
        copyable = may_be_copied(shape, output)
        if copyable and output.writer.format == "csv":
            copied = await self._copy(rendered, shape, output)
            if copied is not None:
                return copied
            copyable = False
        few = output.max_rows is not None and output.max_rows <= LARGE_ROWS
        try:
            return await self._fetch(rendered, output, unless_large=copyable and not few)
        except Large:
            copied = await self._copy(rendered, shape, output)
            return copied or await self._fetch(rendered, output)

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        rendered, _shape = _single(statement)
        rows = await self._fetch(rendered, output)
        try:
            parts = []
            while (block := await rows.next_block()) is not None:
                parts.append(block.data)
            count = await rows.count()
            await rows.finish()
        except BaseException:
            await rows.abort()
            raise
        return Outcome(count, rows.columns or None, b"".join(parts))

    async def close(self) -> None:
        await self._pool.close()
        await self._cleanups.ended()
        await self._threads.stop()
        await self._cancels.stop()

    async def _copy(self, rendered: Rendered, shape: Outline, output: Output) -> CopyRows | None:
        connection: ThreadConnection = await self._pool.acquire(ThreadConnection.kind)
        rows = CopyRows(
            self._reactor, connection, self._policy, self._types, output, self._give_back
        )
        try:
            await rows.begin(
                rendered, shape, self._prologue(watches=connection.watches, timed=False)
            )
        except NotCopyable:
            await rows.finish()
            return None
        except BaseException:
            await rows.abort()
            raise
        return rows

    async def _fetch(
        self, rendered: Rendered, output: Output, *, unless_large: bool = False
    ) -> FetchedRows:
        connection: ReactorConnection = await self._pool.acquire(ReactorConnection.kind)
        rows = FetchedRows(connection, self._policy, self._types, output, self._give_back)
        try:
            prologue = self._prologue(watches=connection.watches, timed=True)
            await rows.begin(rendered, prologue, unless_large=unless_large)
        except Large:
            await rows.finish()
            raise
        except BaseException:
            await rows.abort()
            raise
        return rows

    def _prologue(self, *, watches: bool, timed: bool) -> str:
        parts = ["BEGIN READ ONLY;" if self._policy.read_only else "BEGIN;", _SETTINGS]
        if watches:
            parts.append(_WATCH)
        if timed and self._policy.statement_timeout:
            parts.append(
                f"SET LOCAL statement_timeout={ceil(self._policy.statement_timeout * 1000)};"
            )
        return "".join(parts)

    def _give_back(
        self, connection: ReactorConnection | ThreadConnection, reusable: bool
    ) -> Deferred[None]:
        return self._cleanups.run(self._returned(connection, reusable))

    async def _returned(
        self, connection: ReactorConnection | ThreadConnection, reusable: bool
    ) -> None:
        try:
            if not reusable:
                await connection.stop()
        finally:
            await self._pool.release(connection, reusable=reusable)


def _single(statement: Statement) -> tuple[Rendered, Outline]:
    rendered = statement.render(literal)
    shape = outline(rendered.sql, POSTGRESQL)
    # CREATE FUNCTION … BEGIN ATOMIC holds semicolons of its own.
    if shape.several and "atomic" not in shape.words:
        raise Problem(
            "query_failed",
            "there is more than one statement",
            hint="send one statement a call",
            extra={"sqlstate": "42601"},
        )
    return rendered, shape
