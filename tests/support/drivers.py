"""A database driver whose database does what a test wants, and which notes every misuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Condition, Event, Lock
from typing import Any, ClassVar

from attrs import define, field

from workato_agent.services.database.adapters.base import Params
from workato_agent.services.database.catalogue import Table, TableShape
from workato_agent.services.database.loading import Conflict
from workato_agent.services.database.results import Column, Row, ValueForm
from workato_agent.services.database.statements import (
    SQLITE,
    Batch,
    Dialect,
    Statement,
    TableName,
)
from workato_tunnel.problems import Problem


class Refusal(Exception):
    """An error of the driver."""


@define(eq=False)
class ScriptedDriver:
    """Opens :class:`ScriptedConnection`; ``opening`` runs first, in the thread."""

    type: ClassVar[str] = "scripted"
    dialect: ClassVar[Dialect] = SQLITE

    connect_timeout: float = 10.0
    opening: Callable[[], None] = lambda: None
    connections: list[ScriptedConnection] = field(factory=list)
    misuse: list[str] = field(factory=list)
    rows: int = 10
    alive: bool = True
    """Whether connections answer when they are asked."""

    def thd_open(self) -> ScriptedConnection:
        self.opening()
        connection = ScriptedConnection(self)
        self.connections.append(connection)
        return connection

    @property
    def journal(self) -> list[str]:
        """What was done on all connections."""
        return [entry for connection in self.connections for entry in connection.journal]


@define(eq=False)
class ScriptedConnection:
    """A statement's text says what it does.

    ``wait``: lasts until it is stopped, and is an error then. ``stubborn``: lasts until
    :attr:`release` is set, whatever stops it. ``deaf``: lasts until it is stopped, and is done then
    as if nothing had been. ``fail``: is refused. ``rows``: brings the driver's number of rows.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (Refusal,)

    driver: ScriptedDriver
    journal: list[str] = field(factory=list)
    release: Event = field(factory=Event)
    stops: int = 0
    closed: bool = False
    dead: bool = False
    """The server has ended it, which nobody knows before it is used."""
    lost: bool = False
    answering: Event = field(factory=Event)
    _stopped: Condition = field(factory=Condition)
    _busy: Lock = field(factory=Lock)
    _stopping: Lock = field(factory=Lock)
    _in_transaction: bool = False

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            self.driver.misuse.append(f"{what} while another call runs")
        if self.closed:
            self.driver.misuse.append(f"{what} after close")
        self.journal.append(what)
        try:
            yield
        finally:
            if self._busy.locked():
                self._busy.release()

    def thd_begin(self, *, writing: bool) -> None:
        with self._alone("begin"):
            if self._in_transaction:
                self.driver.misuse.append("begin within a transaction")
            self._in_transaction = True

    def thd_run(self, statement: Statement) -> ScriptedCursor:
        with self._alone(statement.sql):
            self._act(statement.sql)
            return ScriptedCursor(self, self.driver.rows if "rows" in statement.sql else 0)

    def thd_batch(self, batch: Batch) -> int:
        with self._alone("batch"):
            self._act(batch.statement.sql)
            return len(batch.rows)

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[ScriptedCursor | None, Mapping[str, object]]:
        with self._alone(f"call {procedure}"):
            self._act(procedure.name)
            out: dict[str, object] = {}
            return ScriptedCursor(self, 2, results=2, out=out), out

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        with self._alone("load"):
            count = 0
            for block in blocks:
                count += len(block)
                self._act(table.name)
            return count

    def thd_tables(self) -> Sequence[Table]:
        return []

    def thd_shape(self, table: TableName) -> TableShape:
        raise Problem("not_found", f"there is no table {table}")

    def thd_facts(self) -> Mapping[str, object]:
        with self._alone("facts"):
            return {"target": "Scripted 1.0"}

    def thd_commit(self) -> None:
        with self._alone("commit"):
            self._in_transaction = False

    def thd_rollback(self) -> None:
        with self._alone("rollback"):
            self._in_transaction = False

    def thd_renew(self) -> bool:
        with self._alone("renew"):
            if self.stops:
                self.driver.misuse.append("kept after it was stopped")
            self._in_transaction = False
            return not self.lost

    def thd_answers(self) -> bool:
        with self._alone("answers"):
            self.answering.set()
            if not self.driver.alive:
                self.release.wait(30)
            return self.driver.alive and not self.dead

    def seems_alive(self) -> bool:
        return not self.lost

    def thd_stop(self) -> None:
        if not self._stopping.acquire(blocking=False):
            self.driver.misuse.append("stopped twice at a time")
        if self.closed:
            self.driver.misuse.append("stopped after close")
        with self._stopped:
            self.stops += 1
            self._stopped.notify_all()
        self._stopping.release()

    def thd_close(self) -> None:
        if self._stopping.locked():
            self.driver.misuse.append("closed while being stopped")
        with self._alone("close"):
            self.closed = True

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        return Problem("query_failed", str(error))

    def _act(self, text: str) -> None:
        if self.dead:
            self.lost = True
            raise Refusal("the server has gone away")
        if "fail" in text:
            raise Refusal("no")
        if "stubborn" in text:
            self.release.wait(30)
        if "wait" in text or "deaf" in text:
            with self._stopped:
                self._stopped.wait_for(lambda: self.stops or self.lost, 30)
        if "wait" in text:
            raise Refusal("stopped")


@define(eq=False)
class ScriptedCursor:
    """Rows ``(0, text)``, ``(1, text)`` … of about a kilobyte."""

    connection: ScriptedConnection
    left: int
    results: int = 1
    out: dict[str, object] = field(factory=dict)
    columns: Sequence[Column] = ()
    changed: int | None = None
    read: int = 0

    def __attrs_post_init__(self) -> None:
        if self.left:
            self.columns = [Column("i", "integer"), Column("t", "string")]
        else:
            self.changed = 1

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        with self.connection._alone("read"):
            count = min(rows, self.left, max(1, size // 1000))
            self.left -= count
            read: list[Any] = [(self.read + index, "x" * 1000) for index in range(count)]
            self.read += count
            return read

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return rows

    def thd_next(self) -> bool:
        self.results -= 1
        self.left = 2
        if not self.results:
            self.out["result"] = 7
        return self.results > 0

    def thd_close(self) -> None:
        with self.connection._alone("close cursor"):
            self.left = 0
