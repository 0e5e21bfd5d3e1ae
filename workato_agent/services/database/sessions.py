"""Sessions: connections whose transaction goes over several calls of one caller."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from .adapters.base import Adapter, Outcome, Output, Params, Returned, RowStream, Session
from .catalogue import Table, TableShape
from .loading import Load
from .settings import SessionSettings
from .statements import Batch, Statement, TableName
from .work import Cleanups

_RANDOM_BYTES: Final = 24


@define(eq=False)
class OpenSession:
    """A session and whose it is.

    :ivar broken: a batch or load has failed, of which a part may be done: not every database can
        undo that part alone.
    """

    id: str
    owner: str
    session: Session
    busy: bool = False
    broken: bool = False
    idle: IDelayedCall | None = None


@define(eq=False)
class Lease:
    """The right of one call to work in a session. :meth:`release` when the call is over."""

    _sessions: Sessions
    _entry: OpenSession | None

    @property
    def session(self) -> Session:
        """The session."""
        if self._entry is None:
            raise RuntimeError("the session has been given back")
        return self._entry.session

    async def query(self, statement: Statement, output: Output) -> RowStream:
        """As of :class:`~.adapters.base.Work`, as are the next ones."""
        return await self.session.query(statement, output)

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        return await self.session.execute(statement, output)

    async def call(
        self, procedure: TableName, params: Params | None, outputs: Callable[[], Output]
    ) -> Returned:
        return await self.session.call(procedure, params, outputs)

    async def tables(self) -> Sequence[Table]:
        return await self.session.tables()

    async def shape(self, table: TableName) -> TableShape:
        return await self.session.shape(table)

    async def batch(self, batch: Batch) -> int:
        """All or nothing: where it fails, the session can only be rolled back."""
        return await self._whole(self.session.batch(batch))

    async def load(self, load: Load) -> int:
        """All or nothing, as a batch."""
        return await self._whole(self.session.load(load))

    async def _whole(self, work: Awaitable[int]) -> int:
        try:
            return await work
        except BaseException:
            if self._entry is not None:
                self._entry.broken = True
            raise

    async def commit(self) -> None:
        """Commit. Raises Problem."""
        await self.session.commit()

    async def rollback(self) -> None:
        """Roll back. Raises Problem."""
        await self.session.rollback()
        if self._entry is not None:
            self._entry.broken = False

    def release(self) -> None:
        """The call is over; safe to repeat."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._sessions.released(entry)


@define(eq=False)
class Sessions:
    """The sessions of one profile.

    An id is ``AGENT~RANDOM``: by its first part the gateway finds this agent, the second part can't
    be guessed. Even so a session is only there for the caller who opened it.
    """

    _clock: IReactorTime
    _adapter: Adapter
    _settings: SessionSettings
    _cleanups: Cleanups
    _open: dict[str, OpenSession] = field(factory=dict, init=False)
    _opening: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=Logger, init=False)

    @classmethod
    def of(cls, reactor: Any, adapter: Adapter, settings: SessionSettings) -> Sessions:
        """None is open yet."""
        return cls(reactor, adapter, settings, Cleanups())

    @property
    def timeout(self) -> float:
        """Seconds that a session lives without a call, an integer where they are whole."""
        seconds = self._settings.timeout
        return int(seconds) if seconds == int(seconds) else seconds

    def __len__(self) -> int:
        return len(self._open)

    async def open(self, owner: str) -> str:
        """Begin a session; its id. Raises Problem, ``overloaded`` where there are enough."""
        if self._full():
            raise Problem(
                "overloaded",
                f"the profile has {self._settings.max} sessions open, its limit",
                hint="end sessions that are not needed (DELETE sessions/{id}), or raise pool.max "
                "in the agent's configuration",
                retry_after=max(1, round(self._settings.timeout)),
            )
        self._opening += 1
        try:
            session = await self._adapter.session()
        finally:
            self._opening -= 1
        identifier = f"{self._settings.agent}~{secrets.token_urlsafe(_RANDOM_BYTES)}"
        entry = OpenSession(identifier, owner, session)
        if self._closed:
            await session.close()
            raise _absent(self._settings.timeout)
        self._open[identifier] = entry
        self._wait(entry)
        return identifier

    def use(self, identifier: str, owner: str, *, to_undo: bool = False) -> Lease:
        """Take a session for a call. Raises Problem ``not_found``, ``conflict``.

        :param to_undo: the call rolls back, or ends the session.
        """
        entry = self._open.get(identifier)
        if entry is None or entry.owner != owner:
            raise _absent(self._settings.timeout)
        if entry.busy:
            raise Problem(
                "conflict",
                "another call is using this session",
                hint="a session does one call at a time: read each answer to its end first",
                retry_after=1,
            )
        if entry.session.ended:
            self._forget(entry)
            raise _absent(self._settings.timeout)
        if entry.broken and not to_undo:
            raise Problem(
                "conflict",
                "a batch or load of this session has failed, and a part of it may be done",
                hint="roll the session back: POST rollback",
            )
        entry.busy = True
        if entry.idle is not None:
            entry.idle.cancel()
            entry.idle = None
        return Lease(self, entry)

    def released(self, entry: OpenSession) -> None:
        """A call that used the session is over."""
        entry.busy = False
        if self._open.get(entry.id) is not entry:
            return
        if entry.session.ended:
            self._forget(entry)
        else:
            self._wait(entry)

    async def end(self, identifier: str, owner: str) -> None:
        """Roll a session back and end it. Raises Problem as :meth:`use`."""
        lease = self.use(identifier, owner, to_undo=True)
        entry = self._open.pop(identifier)
        try:
            await self._cleanups.run(entry.session.close())
        finally:
            lease.release()

    async def close(self) -> None:
        """Roll back and end them all."""
        self._closed = True
        for entry in list(self._open.values()):
            self._forget(entry)
        await self._cleanups.ended()

    def _full(self) -> bool:
        return self._closed or len(self._open) + self._opening >= self._settings.max

    def _wait(self, entry: OpenSession) -> None:
        entry.idle = self._clock.callLater(self._settings.timeout, self._expire, entry)

    def _expire(self, entry: OpenSession) -> None:
        entry.idle = None
        self._log.info(
            "A session of {owner} was not used for {seconds:g} s and is rolled back",
            event="database_session_expired",
            owner=entry.owner,
            seconds=self._settings.timeout,
        )
        self._forget(entry)

    def _forget(self, entry: OpenSession) -> None:
        self._open.pop(entry.id, None)
        if entry.idle is not None:
            entry.idle.cancel()
            entry.idle = None
        self._cleanups.run(entry.session.close())


def _absent(timeout: float) -> Problem:
    return Problem(
        "not_found",
        "there is no such session",
        hint="it was closed, lost its connection, had a call that was cancelled, or was not used "
        f"for {timeout:g} s; what it had not committed is rolled back. Open a new one with "
        "POST sessions",
    )
