"""A connection of pyodbc as :mod:`.driver` wants it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Conflict
from ..results import Column, ColumnType, Row, ValueForm
from ..statements import Batch, Kind, Statement, TableName, bind, tokens
from .base import Params
from .odbc_catalogue import thd_primary_key, thd_shape, thd_tables
from .odbc_columns import thd_columns
from .odbc_dbms import Calling, Dbms, Link
from .odbc_errors import statement_problem
from .odbc_load import thd_load
from .odbc_values import Placed, converted

_CHUNK: Final = 2000
_BLOCK: Final = 64 * 1024
_VALUE: Final = 24


@define(eq=False)
class OdbcCursor:
    """See :class:`~.driver.DriverCursor`.

    :ivar out: what a procedure gave back is put there when it comes.
    """

    _link: Link
    _dbms: Dbms
    _raw: Any
    columns: Sequence[Column] = ()
    changed: int | None = None
    calling: Calling | None = None
    out: dict[str, object] = field(factory=dict)
    _kinds: Sequence[ColumnType] = ()
    _chunk: int = 1
    _ended: bool = False

    def thd_settle(self) -> None:
        """Go to the first result that has rows, past those that only count."""
        while True:
            self._describe()
            if self.columns:
                self.changed = None
                return
            count = self._raw.rowcount
            if count >= 0:
                self.changed = (self.changed or 0) + count
            if not self._raw.nextset():
                self._ended = True
                return

    def _describe(self) -> None:
        described = thd_columns(self._raw)
        self._kinds = [self._dbms.kind(each) for each in described]
        exact = self._dbms.exact_decimals
        self.columns = [
            Column(
                each.name,
                kind,
                precision=each.size if exact and kind == "decimal" else None,
                scale=each.scale if exact and kind == "decimal" else None,
            )
            for each, kind in zip(described, self._kinds, strict=True)
        ]
        self._chunk = 1
        self._ended = False

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        read: list[Row] = []
        taken = 0
        while len(read) < rows and taken < size and not self._ended:
            some = self._raw.fetchmany(min(self._chunk, rows - len(read)))
            if not some:
                self._ended = True
                break
            read += some
            taken += sum(
                _VALUE + (len(value) if value.__class__ in (str, bytes, bytearray) else 0)
                for row in some
                for value in row
            )
            self._fit(len(read), taken)
        return read

    def _fit(self, rows: int, size: int) -> None:
        """How many rows to ask for at once: as many as fit a block, by those just read."""
        self._chunk = max(1, min(_CHUNK, _BLOCK * rows // (size + 1), 8 * self._chunk))
        self._dbms.thd_pace(self._link, self._chunk)

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return converted(rows, self._kinds, form)

    def thd_next(self) -> bool:
        while self._raw.nextset():
            self._describe()
            last = self.calling.last if self.calling else ()
            if last and [each.name for each in self.columns] == list(last):
                self.thd_take_out()
                continue
            if self.columns:
                return True
        if self.calling is not None and self.calling.after is not None:
            after, self.calling = self.calling.after, None
            self._raw.execute(after)
            self._describe()
            self.thd_take_out()
        return False

    def thd_take_out(self) -> None:
        """Read the one row of a procedure's OUT values."""
        rows = self.convert(self._raw.fetchmany(1), "json")
        if rows:
            self.out.update(zip((column.name for column in self.columns), rows[0], strict=True))

    def thd_close(self) -> None:
        try:
            # An error of what comes later in a batch is only told when one gets there.
            while self._ended and self._raw.nextset():
                pass
        finally:
            self._link.thd_let_go(self._raw)
            self._raw.close()


@define(eq=False)
class OdbcConnection:
    """See :class:`~.driver.DriverConnection`."""

    _link: Link
    _dbms: Dbms
    _facts: Mapping[str, object]
    errors: tuple[type[Exception], ...]

    def thd_begin(self, *, writing: bool) -> None:
        self._dbms.thd_begin(self._link, writing=writing)

    def thd_run(self, statement: Statement) -> OdbcCursor:
        self._guard(statement.sql)
        sql, values = self._prepare(statement)
        return self._thd_execute(sql, values)

    def thd_batch(self, batch: Batch) -> int:
        self._guard(batch.statement.sql)
        cursor = self._thd_cursor()
        total = 0
        try:
            for row in batch.rows:
                # The driver keeps the statement prepared as long as its text is the same.
                sql, values = self._prepare(batch.statement.given(row))
                cursor.execute(sql, *values)
                total += self._thd_count(cursor)
        finally:
            self._drop(cursor)
        return total

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[OdbcCursor | None, Mapping[str, object]]:
        if self._link.policy.read_only:
            raise Problem(
                "policy_denied",
                "a procedure may write",
                hint="the profile's policy is read_only",
                extra={"rule": "read_only"},
            )
        calling = self._dbms.thd_call(self._link, procedure, params)
        self._link.spoilt = True
        sql, values = self._prepare(bind(calling.sql, list(calling.values), self._dbms.dialect))
        cursor = self._thd_execute(sql, values)
        cursor.calling = calling
        if calling.is_out:
            if cursor.columns:
                cursor.thd_take_out()
            cursor.thd_close()
            return None, cursor.out
        return cursor, cursor.out

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        if self._link.policy.read_only:
            raise Problem(
                "policy_denied",
                "load writes",
                hint="the profile's policy is read_only",
                extra={"rule": "read_only"},
            )
        if on_conflict != "error" and not keys:
            keys = thd_primary_key(self._link, self._dbms, table)
        cursor = self._thd_cursor()
        try:
            return thd_load(
                self._link, self._dbms, cursor, table, columns, blocks, on_conflict, keys
            )
        finally:
            self._drop(cursor)

    def thd_tables(self) -> Sequence[Table]:
        return thd_tables(self._link, self._dbms)

    def thd_shape(self, table: TableName) -> TableShape:
        return thd_shape(self._link, self._dbms, table)

    def thd_facts(self) -> Mapping[str, object]:
        facts = {**self._facts, **self._dbms.thd_facts(self._link)}
        self._dbms.thd_rollback(self._link)
        return {**facts, "read_only": self._link.policy.read_only}

    def thd_commit(self) -> None:
        self._dbms.thd_commit(self._link)

    def thd_rollback(self) -> None:
        self._dbms.thd_rollback(self._link)

    def thd_renew(self) -> bool:
        return not self._link.lost and self._dbms.thd_renew(self._link)

    def thd_answers(self) -> bool:
        try:
            return self._dbms.thd_answers(self._link)
        except self.errors:
            return False

    def seems_alive(self) -> bool:
        return not self._link.lost

    def thd_stop(self) -> None:
        with suppress(*self.errors):
            self._dbms.thd_stop(self._link)

    def thd_close(self) -> None:
        self._link.thd_let_go()
        with suppress(*self.errors):
            self._dbms.thd_rollback(self._link)
        with suppress(*self.errors):
            self._link.raw.close()

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        if not hasattr(error, "args") or isinstance(error, ValueError | OverflowError):
            return Problem(
                "query_failed",
                f"a value can't be read: {error}",
                hint="cast the column to text in the statement",
            )
        problem = statement_problem(error, self._dbms.meanings, self._link.policy)
        if problem.code == "target_unreachable":
            self._link.lost = True
        return problem

    def _guard(self, sql: str) -> None:
        self._dbms.guard(sql, self._link.policy)
        self._link.spoilt = self._link.spoilt or self._dbms.spoils(sql)

    def _prepare(self, statement: Statement) -> tuple[str, list[object]]:
        placed: list[Placed] = []

        def marker(value: object) -> str:
            placed.append(self._dbms.place(value, f"params[{len(placed)}]"))
            return placed[-1].marker

        sql = self._dbms.armour(statement.render(marker).sql)
        values = [each.value for each in placed if each.bound]
        if sql.count("?") != len(values):
            self._check_questions(sql, len(values))
        return sql, values

    def _check_questions(self, sql: str, values: int) -> None:
        """A question mark of the statement's own, outside of quotes, would take a value."""
        marks = sum(
            token.end - token.start
            for token in tokens(sql, self._dbms.dialect)
            if token.kind in (Kind.QUESTION, Kind.ESCAPED_QUESTION)
        )
        if marks != values:
            raise self._dbms.question_problem()

    def _thd_cursor(self) -> Any:
        cursor = self._link.raw.cursor()
        self._link.thd_hold(cursor)
        return cursor

    def _drop(self, cursor: Any) -> None:
        self._link.thd_let_go(cursor)
        with suppress(*self.errors):
            cursor.close()

    def _thd_execute(self, sql: str, values: Sequence[object]) -> OdbcCursor:
        self._dbms.thd_pace(self._link, 1)
        raw = self._thd_cursor()
        try:
            raw.execute(sql, *values)
            cursor = OdbcCursor(self._link, self._dbms, raw)
            cursor.thd_settle()
        except BaseException:
            self._drop(raw)
            raise
        return cursor

    def _thd_count(self, cursor: Any) -> int:
        total: int = max(0, cursor.rowcount)
        while cursor.nextset():
            total += max(0, cursor.rowcount)
        return total
