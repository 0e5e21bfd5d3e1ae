"""A transaction that goes over several calls, on one connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from attrs import define

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy
from .lease import Lease, OwnTransaction
from .threaded_connection import ThreadedConnection
from .threaded_work import ThreadedWork


@define(eq=False)
class ThreadedSession(ThreadedWork):
    """See :class:`~.base.Session`. ``forget`` is told once, at its end."""

    _own: OwnTransaction
    _policy: DatabasePolicy
    _forget: Callable[[ThreadedSession], None]
    ended: bool = False
    begun: bool = False
    busy: bool = False

    async def lease(self) -> Lease:
        if self.ended:
            raise Problem(
                "not_found",
                "the session has ended",
                hint="its work was cancelled, its connection was lost, or it was closed: "
                "begin a new one",
            )
        if self.busy:
            raise Problem(
                "conflict",
                "the session is busy with another call",
                hint="a session takes one call at a time; wait for the other's answer",
            )
        self.busy = True
        self._own.connection.begin(self._policy.statement_timeout or None)
        return _Part(self, self._own.connection)

    def thd_begin(self) -> None:
        """Begin the transaction."""
        self._own.thd_begin()
        self.begun = True

    async def commit(self) -> None:
        await self._conclude(self._thd_commit)

    async def rollback(self) -> None:
        await self._conclude(self._thd_rollback)

    async def close(self) -> None:
        await self.end(usable=not self.busy)

    async def end(self, *, usable: bool) -> None:
        """Give the connection back, rolled back; stopped first unless it is ``usable``."""
        if not self.ended:
            self.ended = True
            self._forget(self)
            await self._own.failed(usable=usable)

    async def _conclude(self, thd_step: Callable[[], None]) -> None:
        lease = await self.lease()
        try:
            await lease.connection.run(thd_step)
        except BaseException as error:
            await lease.failed(usable=isinstance(error, Problem))
            raise
        lease.done()

    def _thd_commit(self) -> None:
        if not self.begun:
            return
        connection = self._own.connection
        connection.allowance.thd_seal()
        self.begun = False
        try:
            connection.raw.thd_commit()
        except connection.raw.errors:
            with suppress(*connection.raw.errors):
                connection.raw.thd_rollback()
            raise

    def _thd_rollback(self) -> None:
        if self.begun:
            self.begun = False
            self._own.connection.raw.thd_rollback()


@define(eq=False)
class _Part:
    """One call's share of a session; see :class:`~.lease.Lease`."""

    _session: ThreadedSession
    connection: ThreadedConnection

    def thd_begin(self) -> None:
        if not self._session.begun:
            self._session.thd_begin()

    def thd_end(self) -> None:
        """The transaction goes on."""

    def done(self) -> None:
        self._session.busy = False

    async def failed(self, *, usable: bool) -> None:
        self._session.busy = False
        if not usable or self.connection.busy or not self.connection.seems_alive():
            await self._session.end(usable=False)
