"""A transaction that goes over several calls, on one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from attrs import define, field
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from twisted.internet.defer import Deferred, succeed

from workato_tunnel.problems import Problem

from ..work import wait_for
from .postgresql_connection import ThreadConnection
from .postgresql_lease import (
    ABORT_SECONDS,
    Conversation,
    Lease,
    SessionShare,
    is_usable,
    rolled_back_problem,
)
from .postgresql_work import PostgresqlWork


@define(eq=False)
class PostgresqlSession(PostgresqlWork):
    """See :class:`~.base.Session`. ``forget`` is told once, at its end."""

    kind: ClassVar[str] = ThreadConnection.kind

    _connection: ThreadConnection
    _forget: Callable[[PostgresqlSession], None]
    _ended: bool = field(default=False, init=False)
    _busy: bool = field(default=False, init=False)

    @property
    def ended(self) -> bool:
        if not self._ended and not self._busy and self._connection.is_lost():
            self._end(usable=False)
        return self._ended

    async def lease(self, kind: str) -> Lease:
        if self.ended:
            raise Problem(
                "not_found",
                "the session has ended",
                hint="its work was cancelled, its connection was lost, or it was closed: "
                "begin a new one",
            )
        if self._busy:
            raise Problem(
                "conflict",
                "the session is busy with another call",
                hint="a session takes one call at a time; wait for the other's answer",
            )
        self._busy = True
        return SessionShare(self._grounds, self._connection, self._share_ended)

    async def commit(self) -> None:
        await self._conclude("COMMIT")

    async def rollback(self) -> None:
        await self._conclude("ROLLBACK")

    async def close(self) -> None:
        if not self._ended:
            ending = self._end(usable=not self._busy)
            await wait_for(self._grounds.reactor, ending, ABORT_SECONDS)

    async def _conclude(self, sql: str) -> None:
        lease = await self.lease(self.kind)
        if self._connection.raw.info.transaction_status == TRANSACTION_STATUS_IDLE:
            await lease.done()
            return
        try:
            cursor = await Conversation(self._grounds, lease).ask(sql)
        except BaseException as error:
            await lease.failed(usable=isinstance(error, Problem))
            raise
        await lease.done()
        if cursor.statusmessage != sql:
            raise rolled_back_problem()

    def _share_ended(self, usable: bool) -> Deferred[None]:
        self._busy = False
        if usable and is_usable(self._connection):
            return succeed(None)
        return self._end(usable=False)

    def _end(self, *, usable: bool) -> Deferred[None]:
        if self._ended:
            return succeed(None)
        self._ended = True
        self._forget(self)
        return self._grounds.give_back(self._connection, usable=usable)
