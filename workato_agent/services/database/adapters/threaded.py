"""A database through a blocking driver (:mod:`.driver`), in threads of its own.

One connection is never on two threads at once, but for being stopped. Every piece of work runs in
a transaction; only one that has been read to its end, and that nobody has stopped, is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from workato_tunnel.problems import Problem

from ..connections import ConnectionPool
from ..settings import DatabasePolicy, PoolSettings
from ..statements import Dialect
from ..work import Cleanups, Lane, Threads, wait_for
from .base import Session
from .driver import Driver, DriverConnection
from .lease import OwnTransaction
from .threaded_connection import ThreadedConnection
from .threaded_session import ThreadedSession
from .threaded_work import ThreadedWork

_KIND: Final = "threaded"
_CLOSE_SECONDS: Final = 2.0
_PATIENCE: Final = 2.0
"""Seconds beyond the driver's own time-out, whose error says more than ours."""


@define(eq=False)
class ThreadedAdapter(ThreadedWork):
    """See :class:`~.base.Adapter`."""

    _driver: Driver
    _policy: DatabasePolicy
    _threads: Threads
    _cancels: Threads
    _cleanups: Cleanups = field(factory=Cleanups, init=False)
    _pool: ConnectionPool[ThreadedConnection] = field(init=False)
    _sessions: set[ThreadedSession] = field(factory=set, init=False)

    @classmethod
    def build(
        cls, reactor: Any, driver: Driver, pool: PoolSettings, policy: DatabasePolicy
    ) -> ThreadedAdapter:
        """An adapter with a pool and threads of its own; nothing is opened yet."""
        threads = Threads.of(reactor, pool.max, driver.type)
        cancels = Threads.of(reactor, pool.max, f"{driver.type}-cancel")
        adapter = cls(reactor, driver, policy, threads, cancels)
        patience = driver.connect_timeout + _PATIENCE
        adapter._pool = ConnectionPool(reactor, pool, adapter._open, patience)
        return adapter

    @property
    def type(self) -> str:
        return self._driver.type

    @property
    def dialect(self) -> Dialect:
        return self._driver.dialect

    async def lease(self) -> OwnTransaction:
        connection = await self._pool.acquire(_KIND)
        connection.begin(self._policy.statement_timeout or None)
        return OwnTransaction(connection, self._reactor, self._pool, self._cleanups, self._policy)

    async def test(self) -> Mapping[str, object]:
        lease = await self.lease()
        try:
            facts = await lease.connection.run(lease.connection.raw.thd_facts)
        except BaseException as error:
            await lease.failed(usable=isinstance(error, Problem))
            raise
        lease.done()
        return facts

    async def session(self) -> Session:
        session = ThreadedSession(
            self._reactor, await self.lease(), self._policy, self._sessions.discard
        )
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        for session in list(self._sessions):
            self._cleanups.run(session.close())
        self._cleanups.run(self._pool.close())
        ended = Deferred.fromCoroutine(self._cleanups.ended())
        await wait_for(self._reactor, ended, _CLOSE_SECONDS)
        stopping = [Deferred.fromCoroutine(each.stop()) for each in (self._threads, self._cancels)]
        for each in stopping:
            await each

    async def _open(self, _kind: str) -> ThreadedConnection:
        """Connect. Goes on when it is cancelled, so its thread is counted until it is back."""
        lane = Lane(self._threads)
        outcome: list[DriverConnection | Exception] = []

        def thd_open() -> None:
            try:
                outcome.append(self._driver.thd_open())
            except Exception as error:  # noqa: BLE001 - it is raised in the reactor's thread
                outcome.append(error)

        try:
            await lane.run(thd_open)
        except CancelledError:
            await _uncancelled(lane)
        (opened,) = outcome
        if isinstance(opened, Exception):
            raise opened
        return ThreadedConnection(
            opened, self._reactor, self._threads, self._cancels, self._cleanups, _KIND
        )


async def _uncancelled(lane: Lane) -> None:
    while lane.busy:
        try:
            await lane.settled()
        except CancelledError:
            continue
