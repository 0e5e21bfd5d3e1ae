"""An open SQLite file and what is forbidden on it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakSet

from attrs import define, field

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Conflict
from ..results import ColumnType, Row
from ..settings import DatabasePolicy, SqliteSettings
from ..statements import SQLITE, Batch, Outline, Statement, TableName, outline
from .base import Params
from .sqlite_cursor import SqliteCursor
from .sqlite_errors import file_problem
from .sqlite_load import conversions, insertion
from .sqlite_schema import thd_shape, thd_tables
from .sqlite_values import declared_type, parameter

BUSY_STEP: Final = 0.05
_PROGRESS_STEPS: Final = 20_000
_ALLOWED: Final = sqlite3.SQLITE_OK
_DENIED: Final = sqlite3.SQLITE_DENY
# Other files are out of reach, and the transaction is the agent's own.
_FORBIDDEN: Final = {
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_TRANSACTION: "transaction control",
    sqlite3.SQLITE_SAVEPOINT: "transaction control",
}
_TEMPORARY: Final = (
    sqlite3.SQLITE_CREATE_TEMP_TABLE,
    sqlite3.SQLITE_CREATE_TEMP_VIEW,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    sqlite3.SQLITE_CREATE_TEMP_INDEX,
)
_QUERIES: Final = ("select", "with", "values", "explain", "pragma", "")
_WRITING: Final = frozenset(("insert", "update", "delete", "replace"))

T = TypeVar("T")


@define(eq=False)
class SqliteConnection:
    """See :class:`~.driver.DriverConnection`."""

    errors: ClassVar[tuple[type[Exception], ...]] = (
        sqlite3.Error,
        sqlite3.Warning,
        OverflowError,
        UnicodeError,
    )

    raw: sqlite3.Connection
    _settings: SqliteSettings
    _policy: DatabasePolicy
    _stopped: Event = field(factory=Event)
    _spoilt: bool = False
    _refused: str | None = None
    _cursors: WeakSet[sqlite3.Cursor] = field(factory=WeakSet)
    _own: bool = False
    _identity: tuple[int, int] | None = None

    def __attrs_post_init__(self) -> None:
        self.raw.set_authorizer(self._authorize)
        self.raw.set_progress_handler(self._progress, _PROGRESS_STEPS)
        self._identity = self._file_identity()

    def thd_begin(self, *, writing: bool) -> None:
        """The first statement begins: only it tells whether the write lock is needed at once."""

    def thd_run(self, statement: Statement) -> SqliteCursor:
        values = [
            parameter(value, f"params[{index}]") for index, value in enumerate(statement.values)
        ]
        sql, shape = _plain(statement)
        self._begin(shape)
        declared = self._declared_types(statement)
        raw = self._patient(lambda: self.raw.execute(sql, values))
        self._cursors.add(raw)
        return SqliteCursor(raw, declared)

    def thd_batch(self, batch: Batch) -> int:
        sql, shape = _plain(batch.statement)
        self._begin(shape)
        return self._many(sql, _batch_rows(batch))

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[SqliteCursor | None, Mapping[str, object]]:
        raise Problem(
            "operation_not_found",
            f"SQLite has no procedures, and so no {procedure}",
            hint="send a statement to query or execute",
        )

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        self._begin_immediate()
        shape = self.thd_shape(table)
        sql = insertion(shape, columns, on_conflict, keys)
        convert = conversions(shape, columns)
        written = first = 0
        for block in blocks:
            written += self._many(sql, convert(block, first))
            first += len(block)
        return written

    def thd_tables(self) -> Sequence[Table]:
        return self._owning(thd_tables)

    def thd_shape(self, table: TableName) -> TableShape:
        return self._owning(lambda raw: thd_shape(raw, table))

    def thd_facts(self) -> Mapping[str, object]:
        path = self._settings.path
        return {
            "target": f"SQLite {sqlite3.sqlite_version}",
            "database": path.name,
            "tables": sum(table.type == "table" for table in self.thd_tables()),
            "read_only": self._policy.read_only or not os.access(path, os.W_OK),
        }

    def thd_commit(self) -> None:
        if self.raw.in_transaction:
            self._owning(lambda raw: raw.execute("COMMIT"))

    def thd_rollback(self) -> None:
        if self.raw.in_transaction:
            self._owning(lambda raw: raw.execute("ROLLBACK"))

    def thd_renew(self) -> bool:
        if self._spoilt or self._stopped.is_set():
            return False
        try:
            self.thd_rollback()
        except sqlite3.Error:
            return False
        return True

    def thd_answers(self) -> bool:
        """Whether the file that is open is still the one that has the name."""
        return self._file_identity() == self._identity

    def seems_alive(self) -> bool:
        return not self._stopped.is_set()

    def thd_stop(self) -> None:
        self._stopped.set()
        self.raw.interrupt()

    def thd_close(self) -> None:
        # A closed connection lives on, with its locks, as long as one of its statements does; and
        # while one does, an interrupted connection can't even roll back.
        for cursor in list(self._cursors):
            with suppress(sqlite3.Error):
                cursor.close()
        with suppress(sqlite3.Error):
            self.raw.close()

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        if self._refused is not None:
            return Problem(
                "policy_denied",
                f"{self._refused} is not allowed: {error}",
                hint="a profile is one file, and transactions are begun and ended by the agent",
                extra={"rule": "sqlite"},
            )
        return file_problem(error, self._settings, self._policy)

    def _begin(self, shape: Outline) -> None:
        self._refused = None
        reading = shape.first in _QUERIES and not shape.words & _WRITING
        if reading or self._policy.read_only:
            if not self.raw.in_transaction:
                self._owning(lambda raw: raw.execute("BEGIN"))
        else:
            self._begin_immediate()

    def _begin_immediate(self) -> None:
        """Take the write lock now, not when there is something to lose by it."""
        self._refused = None
        if not self.raw.in_transaction:
            self._owning(
                lambda raw: raw.execute("BEGIN" if self._policy.read_only else "BEGIN IMMEDIATE")
            )

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        return max(0, self.raw.executemany(sql, rows).rowcount)

    def _owning(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """Run statements of the agent's own, which nothing is forbidden."""
        self._own = True
        try:
            return self._patient(lambda: step(self.raw))
        finally:
            self._own = False

    def _patient(self, step: Callable[[], T]) -> T:
        """Repeat a step while another process holds the file, in slices that can be stopped."""
        until = time.monotonic() + self._settings.busy_timeout
        while True:
            try:
                return step()
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode != sqlite3.SQLITE_BUSY
                    or time.monotonic() > until
                    or self._stopped.wait(BUSY_STEP)
                ):
                    raise

    def _declared_types(self, statement: Statement) -> list[ColumnType | None]:
        """The declared types of a result's columns, by way of a temporary view.

        The driver doesn't tell them. Nothing but a plain query can be a view; anything that goes
        wrong here leaves the types to the values, and the statement's own error to its own run.
        """
        bare = statement.render(lambda value: "NULL").sql
        shape = outline(bare, SQLITE)
        if shape.first not in ("select", "with", "values"):
            return []
        spoilt, refused = self._spoilt, self._refused
        try:
            # Looks whether another connection has changed the tables, which a view doesn't.
            self._owning(lambda raw: raw.execute("SELECT 1 FROM main.sqlite_master LIMIT 1"))
            self.raw.execute(f"CREATE TEMP VIEW onprem_shape AS {bare[: shape.end]}")
            try:
                rows = self._owning(_thd_view_columns)
            finally:
                self.raw.execute("DROP VIEW temp.onprem_shape")
        except sqlite3.Error:
            return []
        finally:
            self._spoilt, self._refused = spoilt, refused
        return [declared_type(row[2]) for row in rows]

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = self._settings.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _authorize(self, action: int, first: str | None, second: str | None, *_rest: Any) -> int:
        if self._own:
            return _ALLOWED
        if action in _FORBIDDEN:
            self._refused = _FORBIDDEN[action]
            return _DENIED
        if action == sqlite3.SQLITE_PRAGMA:
            if (first or "").lower() in ("temp_store_directory", "data_store_directory"):
                self._refused = f"PRAGMA {first}"
                return _DENIED
            self._spoilt = True
        elif action in _TEMPORARY:
            self._spoilt = True
        return _ALLOWED

    def _progress(self) -> int:
        return int(self._stopped.is_set())


def _thd_view_columns(raw: sqlite3.Connection) -> list[Any]:
    return raw.execute("PRAGMA temp.table_info(onprem_shape)").fetchall()


def _plain(statement: Statement) -> tuple[str, Outline]:
    sql = statement.render(lambda value: "?").sql
    shape = outline(sql, SQLITE)
    return sql[: shape.end], shape


def _batch_rows(batch: Batch) -> Iterator[Sequence[Any]]:
    for number, row in enumerate(batch.rows):
        yield [parameter(value, f"params[{number}][{index}]") for index, value in enumerate(row)]
