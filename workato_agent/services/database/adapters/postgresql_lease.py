"""A connection for one piece of work, and the transaction around it."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, Final, Protocol

import psycopg2
from attrs import define, field, frozen
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
)
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..connections import ConnectionPool
from ..settings import DatabasePolicy
from ..statements import Rendered
from ..work import Cleanups, wait_for
from .postgresql_connection import Connection
from .postgresql_errors import statement_problem, undecodable_problem
from .postgresql_literals import PORTAL
from .postgresql_traits import Traits

ABORT_SECONDS: Final = 2.0
"""Nobody waits longer until work has been stopped; it is gone on with."""
_ROLLBACK_SECONDS: Final = 3.0


class Lease(Protocol):
    """A connection, lent until :meth:`done` or :meth:`failed`, one of which is called once."""

    @property
    def connection(self) -> Connection:
        """Used by nobody else meanwhile."""
        ...

    def prologue(self, *, timed: bool) -> str:
        """SQL that has to come before the work's first statement, in the same round trip.

        It begins the transaction where there is none. ``timed``: with the policy's time-out, by the
        server's own timer.
        """
        ...

    @property
    def epilogue(self) -> str:
        """The statement that completes the work: a commit, where the transaction is its own."""
        ...

    async def done(self) -> None:
        """The work is complete."""
        ...

    async def failed(self, *, usable: bool) -> None:
        """The work has ended before its time: stop it, undo it. Never raises.

        ``usable``: the work was refused and has left nothing open.
        """
        ...


@frozen
class Grounds:
    """What all of a profile's work stands on."""

    reactor: Any
    policy: DatabasePolicy
    traits: Traits
    pool: ConnectionPool[Any]
    cleanups: Cleanups

    def prologue(self, connection: Connection, *, timed: bool) -> str:
        """See :meth:`Lease.prologue`."""
        parts = []
        if connection.raw.info.transaction_status == TRANSACTION_STATUS_IDLE:
            parts.append("BEGIN READ ONLY;" if self.policy.read_only else "BEGIN;")
        parts.append(self.traits.settings)
        if connection.watches:
            parts.append("SET LOCAL client_connection_check_interval='2s';")
        if timed and self.policy.statement_timeout:
            limit = ceil(self.policy.statement_timeout * 1000)
            parts.append(f"{self.traits.set_local} statement_timeout={limit};")
        return "".join(parts)

    def give_back(self, connection: Connection, *, usable: bool) -> Deferred[None]:
        """Return a connection to the pool; one that is not ``usable`` is stopped and closed."""
        return self.cleanups.run(self._returned(connection, usable=usable))

    async def _returned(self, connection: Connection, *, usable: bool) -> None:
        if usable and is_open(connection):
            # The work was refused, or is not wanted any more: nothing runs.
            usable = await _rolled_back(self.reactor, connection)
        try:
            if not usable:
                await connection.stop()
        finally:
            await self.pool.release(connection, reusable=usable)


def is_open(connection: Connection) -> bool:
    """Whether a transaction is open, in which nothing runs."""
    raw = connection.raw
    return (
        not raw.closed
        and not connection.is_busy()
        and raw.info.transaction_status in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR)
    )


def is_usable(connection: Connection) -> bool:
    """Whether nothing runs, and the connection has not been lost."""
    raw = connection.raw
    return (
        not raw.closed
        and not connection.is_busy()
        and (is_open(connection) or raw.info.transaction_status == TRANSACTION_STATUS_IDLE)
    )


def was_refused(connection: Connection) -> bool:
    """Whether the server has refused the last statement: nothing runs, and nothing is open."""
    status = connection.raw.info.transaction_status
    return is_usable(connection) and status != TRANSACTION_STATUS_INTRANS


async def _rolled_back(reactor: Any, connection: Connection) -> bool:
    undoing = connection.start("ROLLBACK")
    undoing.addErrback(lambda failure: failure.trap(psycopg2.Error) and None)
    in_time = await wait_for(reactor, undoing, _ROLLBACK_SECONDS)
    return in_time and connection.raw.info.transaction_status == TRANSACTION_STATUS_IDLE


@define(eq=False)
class OwnTransaction:
    """Work that is a transaction of its own, on a connection of the pool; see :class:`Lease`."""

    _grounds: Grounds
    connection: Connection
    _over: bool = field(default=False, init=False)

    @property
    def epilogue(self) -> str:
        return "COMMIT"

    def prologue(self, *, timed: bool) -> str:
        return self._grounds.prologue(self.connection, timed=timed)

    async def done(self) -> None:
        self._over = True
        self._grounds.give_back(self.connection, usable=True)

    async def failed(self, *, usable: bool) -> None:
        if not self._over:
            self._over = True
            returning = self._grounds.give_back(self.connection, usable=is_usable(self.connection))
            await wait_for(self._grounds.reactor, returning, ABORT_SECONDS)


@define(eq=False)
class SessionShare:
    """One call's share of a session; see :class:`Lease`. ``end`` is told how it ended."""

    _grounds: Grounds
    connection: Connection
    _end: Callable[[bool], Deferred[None]]
    _over: bool = field(default=False, init=False)

    @property
    def epilogue(self) -> str:
        return f"CLOSE {PORTAL}"

    def prologue(self, *, timed: bool) -> str:
        return self._grounds.prologue(self.connection, timed=timed)

    async def done(self) -> None:
        self._over = True
        self._end(True)

    async def failed(self, *, usable: bool) -> None:
        if not self._over:
            self._over = True
            usable = usable and is_usable(self.connection)
            await wait_for(self._grounds.reactor, self._end(usable), ABORT_SECONDS)


@define(eq=False)
class Conversation:
    """Statements on a lent connection whose errors are told as problems."""

    _grounds: Grounds
    lease: Lease
    text_floats: bool = False

    async def ask(self, sql: str, rendered: Rendered | None = None) -> Any:
        """Run a statement; the cursor with its result. Raises Problem."""
        return await self.answer(self.send(sql), rendered)

    def send(self, sql: str) -> Deferred[Any]:
        """Start a statement, for :meth:`answer`."""
        return self.lease.connection.start(sql, text_floats=self.text_floats)

    async def answer(self, waiting: Deferred[Any], rendered: Rendered | None = None) -> Any:
        """The cursor of a statement that was sent."""
        try:
            return await waiting
        except psycopg2.Error as error:
            raise statement_problem(error, rendered, self._grounds.policy) from None
        except UnicodeError:
            raise undecodable_problem() from None

    async def complete(self, *, opened: bool = False) -> None:
        """End the work: commit it where it is to be committed. Raises Problem."""
        epilogue = self.lease.epilogue
        if epilogue == "COMMIT" or opened:
            cursor = await self.ask(epilogue)
            if epilogue == "COMMIT" and cursor.statusmessage != "COMMIT":
                raise rolled_back_problem()
        await self.lease.done()


def rolled_back_problem() -> Problem:
    """A commit found a transaction that had failed."""
    return Problem(
        "query_failed",
        "the transaction was rolled back",
        hint="a statement within it had failed",
        extra={"sqlstate": "25P02"},
    )
