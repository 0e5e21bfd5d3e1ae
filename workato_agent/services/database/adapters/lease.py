"""A connection for one piece of work, and the transaction around it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from attrs import define
from twisted.internet.defer import Deferred

from ..connections import ConnectionPool
from ..settings import DatabasePolicy
from ..work import Cleanups, wait_for
from .threaded_connection import ThreadedConnection

ABORT_SECONDS: Final = 2.0
"""Nobody waits longer until work has been stopped; it is gone on with."""


class Lease(Protocol):
    """A connection, lent until :meth:`done` or :meth:`failed`, one of which is called once."""

    @property
    def connection(self) -> ThreadedConnection:
        """Used by nobody else meanwhile."""
        ...

    def thd_begin(self) -> None:
        """See to it that there is a transaction."""
        ...

    def thd_end(self) -> None:
        """The work is done: commit it, where it is a transaction of its own."""
        ...

    def done(self) -> None:
        """Give the connection back."""
        ...

    async def failed(self, *, usable: bool) -> None:
        """Give the connection back, nothing is to be committed; never raises.

        ``usable``: the database has refused the work, so nothing runs and nothing waits to be read.
        """
        ...


@define(eq=False)
class OwnTransaction:
    """Work that is a transaction of its own, on a connection of the pool."""

    connection: ThreadedConnection
    _reactor: Any
    _pool: ConnectionPool[ThreadedConnection]
    _cleanups: Cleanups
    _policy: DatabasePolicy

    def thd_begin(self) -> None:
        self.connection.allowance.thd_timed(
            self.connection.raw.thd_begin, writing=not self._policy.read_only
        )

    def thd_end(self) -> None:
        self.connection.allowance.thd_seal()
        self.connection.raw.thd_commit()

    def done(self) -> None:
        self._give_back(reusable=True)

    async def failed(self, *, usable: bool) -> None:
        if not self.connection.raw.seems_alive():
            self._pool.doubt()
        usable = usable and not self.connection.busy
        if not usable:
            self.connection.stop()
        await wait_for(self._reactor, self._give_back(reusable=usable), ABORT_SECONDS)

    def _give_back(self, *, reusable: bool) -> Deferred[None]:
        return self._cleanups.run(self._pool.release(self.connection, reusable=reusable))
