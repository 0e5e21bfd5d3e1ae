"""What a blocking driver is to the adapter that runs it in threads (:mod:`.threaded`).

A driver knows how to connect, run, read, stop and translate; pool, threads, transactions, sessions,
deadlines and streaming are the adapter's. What is named ``thd_…`` blocks and runs in the one thread
that has the connection at that time; a driver's own errors (:attr:`DriverConnection.errors`) leave
it as they are and are translated by :meth:`DriverConnection.problem`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Conflict
from ..results import Column, Row, ValueForm
from ..statements import Batch, Dialect, Statement, TableName
from .base import Params


class DriverCursor(Protocol):
    """A statement that has been run."""

    @property
    def columns(self) -> Sequence[Column]:
        """Of its rows; empty when it brings none."""
        ...

    @property
    def changed(self) -> int | None:
        """The rows it has changed, None when the driver can't tell (yet)."""
        ...

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        """The next rows as the driver has them, at most ``rows`` and about ``size`` bytes.

        Empty after the last. What is not asked for stays on the server (bounded memory).
        """
        ...

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        """Rows made wire-ready in a form of :data:`~..results.ValueForm`."""
        ...

    def thd_next(self) -> bool:
        """Go to the next result of a procedure; False when there is none."""
        ...

    def thd_close(self) -> None:
        """Skip what is left and free the cursor."""
        ...


class DriverConnection(Protocol):
    """A connection, logged in."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The driver's exceptions."""
        ...

    def thd_begin(self, *, writing: bool) -> None:
        """Begin a transaction, read-only by the database's own means unless ``writing``.

        ``writing`` is false when the profile's policy is read_only. Where the database has no
        read-only transactions, the driver refuses what is not plainly a query (``thd_run``).
        """
        ...

    def thd_run(self, statement: Statement) -> DriverCursor:
        """Run a statement with its values, as parameters of the driver, never in its text.

        Results are read from a server-side cursor. Raises Problem ``bad_request`` for a value that
        the database can't take.
        """
        ...

    def thd_batch(self, batch: Batch) -> int:
        """Run a statement for every set of values, as fast as the driver can; rows changed."""
        ...

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[DriverCursor | None, Mapping[str, object]]:
        """Call a procedure. Gives the cursor of its first result, and OUT parameters.

        The mapping's values are wire-ready for JSON; it may be filled only when the cursor's
        results have been read (``thd_next``).
        """
        ...

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        """Write rows into a table at the database's bulk speed; how many were written.

        ``blocks`` waits for the caller's next rows and raises what ended the call.
        """
        ...

    def thd_tables(self) -> Sequence[Table]: ...

    def thd_shape(self, table: TableName) -> TableShape: ...

    def thd_facts(self) -> Mapping[str, object]:
        """For the profile's test: ``target``, ``database``, ``user``, ``tls``, ``read_only`` …."""
        ...

    def thd_commit(self) -> None: ...

    def thd_rollback(self) -> None: ...

    def thd_renew(self) -> bool:
        """Roll back and remove every trace of use (settings, temporary tables, locks).

        False when that can't be done: the connection is closed then.
        """
        ...

    def thd_answers(self) -> bool:
        """Whether the server still answers; costs a round trip and has a short time-out."""
        ...

    def seems_alive(self) -> bool:
        """Whether nothing is known to have happened to it; doesn't block."""
        ...

    def thd_stop(self) -> None:
        """Ask the server to stop what runs here. Called in another thread than the one that waits.

        May be called when nothing runs, and again; raises nothing. The connection is closed
        afterwards, never used again, and not closed while this is being called.
        """
        ...

    def thd_close(self) -> None:
        """Close it; never raises."""
        ...

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        """What one of ``errors`` means to the caller: code, ``sqlstate``, ``position``, hint."""
        ...


class Driver(Protocol):
    """Opens the connections of one profile."""

    @property
    def type(self) -> str:
        """The adapter's name in the config."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def connect_timeout(self) -> float:
        """Seconds for :meth:`thd_open`; a little later nobody waits for it any more."""
        ...

    def thd_open(self) -> DriverConnection:
        """Connect and log in, within the profile's connect time-out.

        Raises Problem that tells apart name, refused, timeout, TLS, wrong protocol, credentials,
        unknown database and missing permission; and for a driver that is not installed names the
        extra or Debian package to install.
        """
        ...
