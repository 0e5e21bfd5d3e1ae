"""PostgreSQL, through txpostgres; large results and loads through ``COPY`` where it can be used.

A statement runs in a transaction of its own, behind a portal from which rows are fetched in pieces
that fit their size. The session's settings that shape text (DateStyle, IntervalStyle …) are set for
the transaction only, so connection poolers in between are no obstacle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from attrs import define, field

from ..connections import ConnectionPool
from ..settings import DatabasePolicy, PoolSettings, PostgresqlSettings
from ..statements import Dialect, Outline, Rendered, Statement
from ..work import Cleanups, Threads
from .base import Output, RowStream
from .postgresql_connection import ReactorConnection, ThreadConnection
from .postgresql_copy import CopyRows, NotCopyable, may_be_copied
from .postgresql_fetch import Large
from .postgresql_lease import Conversation, Grounds, Lease, OwnTransaction
from .postgresql_literals import LARGE_ROWS, opening
from .postgresql_login import Login
from .postgresql_session import PostgresqlSession
from .postgresql_traits import POSTGRESQL_TRAITS, Traits
from .postgresql_work import PostgresqlWork

_CANCEL_THREADS: Final = 4


@define(eq=False)
class PostgresqlAdapter(PostgresqlWork):
    """The adapter of one database on one server, as one user."""

    traits: ClassVar[Traits] = POSTGRESQL_TRAITS

    _threads: Threads
    _cancels: Threads
    _sessions: set[PostgresqlSession] = field(factory=set, init=False)

    @classmethod
    def build(
        cls, reactor: Any, settings: PostgresqlSettings, pool: PoolSettings, policy: DatabasePolicy
    ) -> Self:
        """An adapter with a pool and threads of its own; nothing is opened yet."""
        threads = Threads.of(reactor, pool.max, cls.traits.type)
        cancels = Threads.of(reactor, _CANCEL_THREADS, f"{cls.traits.type}-cancel")
        login = Login(reactor, settings, threads, cancels, cls.traits)
        connections = ConnectionPool[Any](reactor, pool, login.open)
        grounds = Grounds(reactor, policy, cls.traits, connections, Cleanups())
        return cls(grounds, threads, cancels)

    @property
    def type(self) -> str:
        return self.traits.type

    @property
    def dialect(self) -> Dialect:
        return self.traits.dialect

    async def lease(self, kind: str) -> Lease:
        return OwnTransaction(self._grounds, await self._grounds.pool.acquire(kind))

    async def test(self) -> Mapping[str, object]:
        lease = await self.lease(ReactorConnection.kind)
        talk = Conversation(self._grounds, lease)
        try:
            database, user, version, server_read_only = (
                await talk.ask(self.traits.facts)
            ).fetchone()
            info = lease.connection.raw.info
            tls = info.ssl_attribute("protocol") if info.ssl_in_use else None
        except BaseException:
            await lease.failed(usable=False)
            raise
        await lease.done()
        return {
            "target": self.traits.product(version),
            "database": database,
            "user": user,
            "tls": tls,
            "read_only": self._grounds.policy.read_only or server_read_only,
        }

    async def query(self, statement: Statement, output: Output) -> RowStream:
        rendered, shape = self.single(statement)
        copyable = self.traits.copies and may_be_copied(shape, output)
        if copyable and output.writer.format == "csv":
            copied = await self.copy(rendered, shape, output)
            return copied or await self.fetch(rendered, shape, output)
        few = output.max_rows is not None and output.max_rows <= LARGE_ROWS
        if not copyable or few:
            return await self.fetch(rendered, shape, output)
        try:
            start = opening(rendered.sql, unless_large=True)
            return await self.fetch(rendered, shape, output, start)
        except Large:
            copied = await self.copy(rendered, shape, output)
            return copied or await self.fetch(rendered, shape, output)

    async def session(self) -> PostgresqlSession:
        connection = await self._grounds.pool.acquire(ThreadConnection.kind)
        session = PostgresqlSession(
            self._grounds, connection, self._sessions.discard, types=self.types
        )
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        for session in list(self._sessions):
            await session.close()
        await self._grounds.pool.close()
        await self._grounds.cleanups.ended()
        await self._threads.stop()
        await self._cancels.stop()

    async def copy(self, rendered: Rendered, shape: Outline, output: Output) -> CopyRows | None:
        """Begin a query that is copied; None where that can't be done."""
        lease = await self.lease(ThreadConnection.kind)
        rows = CopyRows(self._grounds.reactor, lease, self._grounds.policy, self.types, output)
        try:
            await rows.begin(rendered, shape)
        except BaseException as error:
            await rows.abort()
            if isinstance(error, NotCopyable):
                return None
            raise
        return rows
