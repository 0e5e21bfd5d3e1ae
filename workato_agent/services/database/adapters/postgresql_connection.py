"""PostgreSQL connections: through txpostgres on the reactor, and psycopg2's own in a thread.

The first kind serves statements whose rows the agent reads. The second serves ``COPY``, which
psycopg2 has in synchronous mode only, and sessions, which may need it. Both are cancelled by the
server's cancel request (:mod:`.postgresql_cancel`), sent from a thread because libpq blocks.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, Final

import psycopg2
from attrs import define, field
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txpostgres import txpostgres

from ....system import has_hung_up, is_readable
from ..work import Lane, Threads, fire, wait_for
from .postgresql_cancel import CancelRequest
from .postgresql_types import use_text

_ANSWER_SECONDS: Final = 3.0
_CANCEL_STEP: Final = 0.1
_CANCEL_SECONDS: Final = 5.0
RENEWAL: Final = "DISCARD ALL"


class _Cursor(txpostgres.Cursor):  # type: ignore[misc]  # txpostgres has no types
    """A cursor that keeps the server's own error when a statement is cancelled."""

    def _handleCancellation(self, failure: Failure) -> Failure:  # noqa: N802
        return failure


class Link(txpostgres.Connection):  # type: ignore[misc]
    """A connection that takes its end calmly: the next use of it notices."""

    cursorFactory = _Cursor  # noqa: N815 - txpostgres' name
    lost = False

    def doRead(self) -> None:  # noqa: N802
        """The socket is readable: an answer, a notification that nobody asked for, or the end."""
        self.reactor.removeReader(self)
        if self.lost or self.pollable().closed:
            return
        try:
            self.continuePolling()
        except psycopg2.Error:
            self.lost = True
            return
        self.pollable().notifies.clear()
        if self.fileno() >= 0:
            self.reactor.addReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found the socket broken."""
        self.lost = True
        super().connectionLost(reason)

    def _cancel(self, waiting: object) -> None:
        """Cancelling is done by :meth:`ReactorConnection.stop` alone."""


def _is_quiet(raw: Any) -> bool:
    """Whether nothing waits to be read, as is so on a connection that lives and is idle."""
    if raw.closed or raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
        return False
    return not is_readable(raw.fileno())


def _has_ended(raw: Any) -> bool:
    """Whether the server has closed the connection."""
    return bool(raw.closed) or has_hung_up(raw.fileno())


@define(eq=False)
class ReactorConnection:
    """A connection on the reactor.

    :ivar watches: the server ends a statement whose client has gone (PostgreSQL 14 and later).
    :ivar renewal: removes the traces of a use.
    :ivar spoilt: what may have been left behind can't be removed by that.
    """

    kind = "reactor"

    _reactor: Any
    _link: Link
    _threads: Threads
    watches: bool = False
    renewal: str = RENEWAL
    spoilt: bool = False
    _busy: bool = field(default=False, init=False)
    _settled: list[Deferred[None]] = field(factory=list, init=False)

    @property
    def raw(self) -> Any:
        """The psycopg2 connection."""
        return self._link.pollable()

    def start(self, sql: str, *, text_floats: bool = False) -> Deferred[Any]:
        """Send a statement; the Deferred fires with the psycopg2 cursor that holds its result.

        Cancelling the Deferred leaves the statement running: see :meth:`stop`.
        """
        outcome: Deferred[Any] = Deferred()
        if self._busy or self._link.lost:
            detail = "busy with another statement" if self._busy else "closed by the server"
            outcome.errback(psycopg2.OperationalError(f"the connection is {detail}"))
            return outcome
        cursor = self._link.cursor()
        if text_floats:
            raw = cursor._cursor  # noqa: SLF001 - txpostgres passes attributes on, but not this one
            raw.string_types = {}
            use_text(raw.string_types, floats=True)
        self._busy = True

        def ended(result: Any) -> None:
            self._busy = False
            settled, self._settled = self._settled, []
            if not outcome.called:
                outcome.callback(result if isinstance(result, Failure) else cursor)
            for waiting in settled:
                fire(waiting)

        cursor.execute(sql).addBoth(ended)
        return outcome

    async def run(self, sql: str, *, text_floats: bool = False) -> Any:
        """Run a statement; the cursor with its result. Raises psycopg2's errors."""
        return await self.start(sql, text_floats=text_floats)

    async def settled(self) -> None:
        """Wait until no statement runs."""
        while self._busy:
            waiting: Deferred[None] = Deferred()
            self._settled.append(waiting)
            await waiting

    async def stop(self) -> None:
        """End the statement that runs on the server, and the connection."""
        await cancel_until_settled(self._reactor, self._threads, self.raw, self)
        await self.close()

    def is_busy(self) -> bool:
        """Whether a statement runs."""
        return self._busy

    def seems_alive(self) -> bool:
        return not self._link.lost and _is_quiet(self.raw)

    async def answers(self) -> bool:
        return await self._within(_ANSWER_SECONDS, "SELECT 1")

    async def renew(self) -> bool:
        if self.spoilt or self._busy or self.raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
            return False
        return await self._within(_ANSWER_SECONDS, self.renewal)

    async def close(self) -> None:
        if not self.raw.closed:
            self._link.close()

    async def _within(self, seconds: float, sql: str) -> bool:
        answer = self.start(sql)
        timeout = self._reactor.callLater(seconds, answer.cancel)
        try:
            await answer
        except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
            return False
        finally:
            if timeout.active():
                timeout.cancel()
        return True


@define(eq=False)
class ThreadConnection:
    """A connection that is used in threads, one at a time.

    Its attributes are those of :class:`ReactorConnection`.
    """

    kind = "thread"

    _reactor: Any
    raw: Any
    lane: Lane
    _cancels: Threads
    watches: bool = False
    renewal: str = RENEWAL
    spoilt: bool = False

    def thd_run(self, sql: str, *, text_floats: bool = False) -> Any:
        """Run a statement; the cursor with its result. Raises psycopg2's errors."""
        cursor = self.raw.cursor()
        if text_floats:
            cursor.string_types = {}
            use_text(cursor.string_types, floats=True)
        cursor.execute(sql)
        return cursor

    def start(self, sql: str, *, text_floats: bool = False) -> Deferred[Any]:
        """As :meth:`ReactorConnection.start`."""
        if self.lane.busy:
            busy: Deferred[Any] = Deferred()
            busy.errback(psycopg2.OperationalError("the connection is busy"))
            return busy
        return Deferred.fromCoroutine(self.lane.run(self.thd_run, sql, text_floats=text_floats))

    async def run(self, sql: str, *, text_floats: bool = False) -> Any:
        """Run a statement; the cursor with its result. Raises psycopg2's errors."""
        return await self.start(sql, text_floats=text_floats)

    async def settled(self) -> None:
        """Wait until nothing runs in a thread."""
        await self.lane.settled()

    def is_busy(self) -> bool:
        """Whether something runs in a thread."""
        return self.lane.busy

    async def stop(self) -> None:
        """End the statement that runs on the server, and the connection."""
        await cancel_until_settled(self._reactor, self._cancels, self.raw, self)
        await self.close()

    def is_lost(self) -> bool:
        """Whether the server has closed the connection, which no statement uses now."""
        return _has_ended(self.raw)

    def seems_alive(self) -> bool:
        return _is_quiet(self.raw)

    async def answers(self) -> bool:
        return await self._try("SELECT 1")

    async def renew(self) -> bool:
        if self.spoilt or self.lane.busy or self.raw.closed:
            return False
        if self.raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
            return False
        return await self._try(self.renewal)

    async def close(self) -> None:
        """Close it; a thread that still waits for the server is let go."""
        if self.lane.busy:
            _cut(self.raw)
            await self.lane.settled()
        await self.lane.run(self.raw.close)

    async def _try(self, sql: str) -> bool:
        answer = self.start(sql)
        failed = False

        def note(_failure: Failure) -> None:
            nonlocal failed
            failed = True

        answer.addErrback(note)
        return await wait_for(self._reactor, answer, _ANSWER_SECONDS) and not failed


Connection = ReactorConnection | ThreadConnection


def _cut(raw: Any) -> None:
    """Shut a connection's socket down, so that a read from a server that is silent ends."""
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(raw.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


async def cancel_until_settled(reactor: Any, threads: Threads, raw: Any, work: Connection) -> None:
    """Send cancel requests until the statement has ended, for some seconds at most.

    One is not enough: a request that reaches the server ahead of its statement does nothing.
    """
    give_up = reactor.seconds() + _CANCEL_SECONDS
    while work.is_busy() and reactor.seconds() < give_up:
        request = threads.run(CancelRequest(raw).thd_send)
        await wait_for(reactor, request, _CANCEL_SECONDS)
        if work.is_busy():
            await wait_for(reactor, Deferred.fromCoroutine(work.settled()), _CANCEL_STEP)
