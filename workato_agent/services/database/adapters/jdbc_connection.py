"""A JDBC connection and the statements that run on it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..guard_readonly import reason
from ..loading import Conflict
from ..results import Row
from ..settings import JdbcSettings
from ..statements import Batch, Dialect, Kind, Outline, Statement, TableName, outline, tokens
from .base import Params, read_only_problem
from .control import control_problem, several_problem
from .driver import DriverCursor
from .jdbc_calls import thd_call
from .jdbc_catalogue import thd_shape, thd_tables
from .jdbc_cursor import FIRST_ROWS, JdbcCursor
from .jdbc_errors import Fault, fault, statement_problem
from .jdbc_load import thd_load
from .jdbc_parameters import Setters
from .jdbc_reading import BlockReader, Reading

POSTGRESQL: Final = "postgresql"
ANSWER_SECONDS: Final = 3
BATCH: Final = 500
_TEXT: Reading = "text"
_FORWARD_ONLY: Final = 1003  # java.sql.ResultSet
_READ_ONLY: Final = 1007
_STREAMED: Final = -(2**31)  # how MySQL's own driver is told not to keep a result in memory
_UNITS: Final = frozenset(("procedure", "function", "trigger", "package", "event"))
# Statements that leave nothing behind on their connection.
_TRACELESS: Final = frozenset(
    ("select", "with", "values", "insert", "update", "delete", "merge", "show", "explain")
)
_TRACES: Final = ("@", "get_lock", "sp_set_session_context", "dbms_session", "pg_advisory")


@define(eq=False)
class JdbcConnection:
    """See :class:`~.driver.DriverConnection`.

    :ivar product: the database's name in lower case.
    """

    raw: Any
    product: str
    dialect: Dialect
    setters: Setters
    errors: tuple[type[Exception], ...]
    _settings: JdbcSettings
    _reader: BlockReader
    _mysql_driver: bool
    _writing: bool = True
    _read_only: bool | None = None
    _spoilt: bool = False
    _broken: bool = False
    _running: Any = None
    _open: list[Any] = field(factory=list)

    @property
    def fits(self) -> bool:
        """Whether the driver fetches as many rows at a time as it is told."""
        return not self._mysql_driver

    def thd_begin(self, *, writing: bool) -> None:
        self._writing = writing
        if self._read_only is not (not writing):
            with suppress(*self.errors):  # a hint to most drivers, and refused by some
                self.raw.setReadOnly(not writing)
            self._read_only = not writing

    def thd_run(self, statement: Statement) -> JdbcCursor:
        self._check(statement.sql)
        prepared = self.thd_prepared(statement)
        try:
            has_rows = bool(self.thd_running(prepared, "execute"))
            return self.cursor(prepared, has_rows=has_rows)
        except BaseException:
            self.thd_forget(prepared)
            raise

    def thd_batch(self, batch: Batch) -> int:
        self._check(batch.statement.sql)
        prepared = self.thd_prepared(batch.statement.given(batch.rows[0]) if batch.rows else None)
        return 0 if prepared is None else self._thd_batches(prepared, batch.rows)

    def _thd_batches(self, prepared: Any, rows: Sequence[Sequence[object]]) -> int:
        changed = 0
        try:
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                for number, row in enumerate(some, start):
                    self.setters.thd_set(prepared, row, number)
                    prepared.addBatch()
                changed += self.thd_batched(prepared)
        finally:
            self.thd_forget(prepared)
        return changed

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[DriverCursor | None, Mapping[str, object]]:
        self._must_write("a procedure")
        self._spoilt = True
        return thd_call(self, procedure, params)

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        self._must_write("load")
        return thd_load(self, table, columns, blocks, on_conflict, keys)

    def thd_tables(self) -> Sequence[Table]:
        return thd_tables(self)

    def thd_shape(self, table: TableName) -> TableShape:
        return thd_shape(self, table)

    def thd_facts(self) -> Mapping[str, object]:
        data = self.raw.getMetaData()
        version = str(data.getDatabaseProductVersion()).split(" ")[0]
        facts: dict[str, object] = {
            "target": f"{data.getDatabaseProductName()} {version}",
            "driver": f"{data.getDriverName()} {data.getDriverVersion()}",
        }
        for name, value in (
            ("user", data.getUserName()),
            ("database", self.raw.getCatalog()),
        ):
            if value is not None:
                facts[name] = str(value)
        return facts

    def thd_commit(self) -> None:
        """Commit; what may not write is undone, whatever it was."""
        if self._writing:
            self.raw.commit()
        else:
            self.raw.rollback()

    def thd_rollback(self) -> None:
        self.raw.rollback()

    def thd_renew(self) -> bool:
        if self._broken:
            return False
        try:
            while self._open:
                self.thd_forget(self._open[-1])
            self.raw.rollback()
            self.raw.clearWarnings()
            if self._spoilt and self.product == POSTGRESQL:
                self.raw.setAutoCommit(True)
                self.thd_own("DISCARD ALL")
                self.raw.setAutoCommit(False)
                self._spoilt = False
        except self.errors:
            return False
        return not self._spoilt

    def thd_answers(self) -> bool:
        try:
            answers = bool(self.raw.isValid(ANSWER_SECONDS))
            self.raw.rollback()
        except self.errors:
            return False
        return answers

    def seems_alive(self) -> bool:
        return not self._broken

    def thd_stop(self) -> None:
        running = self._running
        if running is None:
            return
        with suppress(*self.errors):
            if self.product == POSTGRESQL and hasattr(self.raw, "cancelQuery"):
                # Its statements ask the server only once, and that may come too early.
                self.raw.cancelQuery()
            else:
                running.cancel()

    def thd_close(self) -> None:
        self._broken = True
        with suppress(*self.errors):
            self.raw.close()

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        found = fault(error)
        problem = statement_problem(found, self.product, statement)
        if problem.code == "target_unreachable":
            self._broken = True
        if not self._writing and self._was_read_only(found):
            return read_only_problem(problem.detail)
        return problem

    def _was_read_only(self, found: Fault) -> bool:
        return found.state == "25006" or found.code == 1792 or "read-only" in found.text.lower()

    def _check(self, sql: str) -> None:
        """Refuse what would end the agent's own transaction, and what read_only doesn't allow."""
        shape = outline(sql, self.dialect)
        if shape.several and not self._is_unit(shape):
            raise several_problem()
        if (problem := control_problem(shape)) is not None:
            raise problem
        if not self._writing and (why := reason(sql, self.dialect, "jdbc")) is not None:
            raise read_only_problem(why)
        if shape.first not in _TRACELESS or any(trace in sql.lower() for trace in _TRACES):
            self._spoilt = True
        elif self.product == POSTGRESQL:
            # Any function may leave settings or locks behind; to discard them is cheap there.
            self._spoilt = self._spoilt or "(" in sql

    def _is_unit(self, shape: Outline) -> bool:
        """Whether semicolons are those of a routine's body."""
        if self.product == POSTGRESQL:
            return False
        block = self.product == "oracle" and shape.first in ("begin", "declare")
        return block or (shape.first in ("create", "alter") and bool(shape.words & _UNITS))

    def _must_write(self, what: str) -> None:
        if not self._writing:
            raise read_only_problem(f"{what} may write")

    def thd_prepared(self, statement: Statement | None) -> Any:
        """A statement with its values, streaming its result."""
        if statement is None:
            return None
        if statement.values:
            prepared = self.raw.prepareStatement(self._sql(statement), _FORWARD_ONLY, _READ_ONLY)
            self._open.append(prepared)
            self.setters.thd_set(prepared, statement.values)
        else:
            sql = self.escaped(statement.sql)
            prepared = self.raw.prepareStatement(sql, _FORWARD_ONLY, _READ_ONLY)
            self._open.append(prepared)
        with suppress(*self.errors):
            prepared.setFetchSize(_STREAMED if self._mysql_driver else FIRST_ROWS)
        return prepared

    def escaped(self, sql: str) -> str:
        """SQL without parameters as ``prepareStatement`` takes it."""
        return self._sql(Statement(sql, ())) if self.product == POSTGRESQL else sql

    def _sql(self, statement: Statement) -> str:
        """The SQL with ``?`` for its parameters; pgjdbc wants other question marks doubled."""
        if not statement.pieces:
            sql, slots = statement.sql, frozenset[int]()
        else:
            rendered = statement.render(lambda _: "?")
            sql = rendered.sql
            slots = frozenset(
                start
                for start, (_, own) in zip(rendered.starts, rendered.origins, strict=True)
                if not own
            )
        if self.product != POSTGRESQL or sql.count("?") == len(slots):
            return sql
        parts = []
        at = 0
        for token in tokens(sql, self.dialect):
            if token.kind in (Kind.QUESTION, Kind.ESCAPED_QUESTION):
                parts.append(sql[at : token.start])
                parts += ["?" if i in slots else "??" for i in range(token.start, token.end)]
                at = token.end
        return "".join((*parts, sql[at:]))

    def thd_running(self, statement: Any, method: str) -> Any:
        """Run a method of a statement so that :meth:`thd_stop` can stop it."""
        self._running = statement
        try:
            return getattr(statement, method)()
        finally:
            self._running = None

    def thd_reading(self, statement: Any, read: Any) -> Any:
        """Read from a statement's result so that :meth:`thd_stop` can stop it."""
        self._running = statement
        try:
            return read()
        finally:
            self._running = None

    def thd_forget(self, statement: Any) -> None:
        """Close a statement."""
        if statement in self._open:
            self._open.remove(statement)
        with suppress(*self.errors):
            statement.close()

    def thd_adopt(self, statement: Any) -> None:
        """Take a statement into the list of those to be closed."""
        self._open.append(statement)

    def thd_batched(self, statement: Any) -> int:
        """Run a statement's batch; the rows changed."""
        return counted(self.thd_running(statement, "executeBatch"))

    def thd_text(self, result: Any, width: int, rows: int, size: int) -> list[list[Any]]:
        """The next rows of a result of ``width`` columns as text, by columns."""
        return self._reader.thd_read(result, (_TEXT,) * width, rows, size)[0]

    def cursor(self, statement: Any, *, has_rows: bool) -> JdbcCursor:
        """What a statement that has been run brings."""
        return JdbcCursor(self, statement, self._reader, has_rows=has_rows)

    def thd_own(self, sql: str) -> None:
        """Run a statement of the agent's own."""
        statement = self.raw.createStatement()
        try:
            statement.execute(sql)
        finally:
            statement.close()

    def quoted(self, name: str) -> str:
        """An identifier in the database's quotes. Raises Problem where it has none."""
        quote = str(self.raw.getMetaData().getIdentifierQuoteString()).strip()
        if not quote or "\0" in name:
            raise Problem("bad_request", f"{name!r} can't be a name in this database")
        return quote + name.replace(quote, quote * 2) + quote


def counted(counts: Any) -> int:
    """The rows that a batch has changed; a driver that says no more than "done" means one."""
    return sum(count if count >= 0 else 1 for count in array("i", memoryview(counts).tobytes()))
