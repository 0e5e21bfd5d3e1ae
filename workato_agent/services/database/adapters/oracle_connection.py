"""A connection to Oracle and the statements that run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..guard_readonly import reason
from ..loading import Conflict
from ..results import Row
from ..statements import ORACLE, Batch, Outline, Rendered, Statement, TableName, outline
from .base import Params, read_only_problem
from .control import control_problem, several_problem
from .oracle_calls import thd_call
from .oracle_catalogue import thd_shape, thd_tables
from .oracle_cursor import ARRAY_SIZE, OracleCursor
from .oracle_errors import is_lost, statement_problem
from .oracle_load import thd_load
from .oracle_values import Bound, bound, uniform

ANSWER_MILLISECONDS: Final = 3000
BATCH: Final = 500
_MOST_OWN: Final = 100_000
_WITH_BOOLEANS: Final = 23
_PLSQL_UNITS: Final = frozenset(("procedure", "function", "package", "trigger", "type", "library"))
# Statements that leave nothing behind on their connection but rows of temporary tables.
_TRACELESS: Final = frozenset(("select", "with", "insert", "update", "delete", "merge"))
_PACKAGES: Final = ("dbms_", "utl_", "context")


@define(eq=False)
class OracleConnection:
    """See :class:`~.driver.DriverConnection`."""

    raw: Any
    oracledb: Any
    errors: tuple[type[Exception], ...]
    _writing: bool = True
    _spoilt: bool = False
    _broken: bool = False
    _cursors: list[Any] = field(factory=list)
    _rendered: Rendered | None = None

    @property
    def booleans(self) -> bool:
        """Whether the database has a type for them."""
        return int(str(self.raw.version).split(".")[0]) >= _WITH_BOOLEANS

    def thd_begin(self, *, writing: bool) -> None:
        self._writing = writing
        if not writing:
            self.thd_own("SET TRANSACTION READ ONLY")

    def thd_run(self, statement: Statement) -> OracleCursor:
        shape = self._check(statement.sql)
        values = [
            bound(value, f"params[{index}]", booleans=self.booleans)
            for index, value in enumerate(statement.values)
        ]
        cursor = self.thd_cursor()
        try:
            self.thd_execute(cursor, self.render(statement, values, shape), values)
            return OracleCursor(cursor, self.thd_forget)
        except BaseException:
            self.thd_forget(cursor)
            raise

    def thd_batch(self, batch: Batch) -> int:
        shape = self._check(batch.statement.sql)
        rows = [
            [
                bound(value, f"params[{number}][{index}]", booleans=self.booleans)
                for index, value in enumerate(row)
            ]
            for number, row in enumerate(batch.rows)
        ]
        changed = 0
        self._rendered = None
        cursor = self.thd_cursor()
        try:
            for values in uniform(rows):
                sql = self.render(batch.statement, values[0], shape).sql
                changed += self.thd_many(cursor, sql, values)
        finally:
            self.thd_forget(cursor)
        return changed

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[Any, Mapping[str, object]]:
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
        raw = self.raw
        return {
            "target": f"Oracle Database {raw.version}",
            "database": str(raw.service_name or raw.db_name or ""),
            "user": str(raw.username or ""),
            "driver": f"python-oracledb {self.oracledb.__version__} (thin)",
        }

    def thd_commit(self) -> None:
        self.raw.commit()

    def thd_rollback(self) -> None:
        self.raw.rollback()

    def thd_renew(self) -> bool:
        if self._broken or self._spoilt:
            return False
        try:
            while self._cursors:
                self.thd_forget(self._cursors[-1])
            self.raw.rollback()
        except self.errors:
            return False
        return True

    def thd_answers(self) -> bool:
        try:
            self.raw.call_timeout = ANSWER_MILLISECONDS
            self.raw.ping()
            self.raw.call_timeout = 0
        except self.errors:
            return False
        return True

    def seems_alive(self) -> bool:
        return not self._broken and bool(self.raw.is_healthy())

    def thd_stop(self) -> None:
        with suppress(*self.errors):
            self.raw.cancel()

    def thd_close(self) -> None:
        self._broken = True
        with suppress(*self.errors):
            self.raw.close()

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        self._broken = self._broken or is_lost(error)
        rendered = self._rendered if statement is not None else None
        return statement_problem(error, rendered, read_only=not self._writing)

    def _check(self, sql: str) -> Outline:
        """Refuse what would end the agent's own transaction, and what read_only doesn't allow."""
        shape = outline(sql, ORACLE)
        if shape.several and not _is_plsql(shape):
            raise several_problem()
        if (problem := control_problem(shape)) is not None:
            raise problem
        if not self._writing and (why := reason(sql, ORACLE, "oracle")) is not None:
            raise read_only_problem(why)  # its own definitions commit, and so do blocks
        lower = sql.lower()
        if shape.first not in _TRACELESS or any(each in lower for each in _PACKAGES):
            self._spoilt = True
        return shape

    def _must_write(self, what: str) -> None:
        if not self._writing:
            raise read_only_problem(f"{what} may write")

    def render(self, statement: Statement, values: Sequence[Bound], shape: Outline) -> Rendered:
        """The SQL with a placeholder for each parameter; a query without its semicolon."""
        numbered = iter(enumerate(values, 1))

        def placeholder(_value: object) -> str:
            number, each = next(numbered)
            return each.pattern.format(f":p{number} ")

        rendered = statement.render(placeholder)
        if not _is_plsql(shape):
            end = outline(rendered.sql, ORACLE).end
            rendered = Rendered(rendered.sql[:end], rendered.starts, rendered.origins)
        return rendered

    def thd_cursor(self) -> Any:
        """A cursor that is closed at the end of the work at the latest."""
        cursor = self.raw.cursor()
        cursor.arraysize = ARRAY_SIZE
        self._cursors.append(cursor)
        return cursor

    def thd_execute(self, cursor: Any, rendered: Rendered, values: Sequence[Bound]) -> None:
        """Run a statement once."""
        self._rendered = rendered
        if values:
            self.sizes(cursor, values)
            cursor.execute(rendered.sql, [each.value for each in values])
        else:
            cursor.execute(rendered.sql)

    def thd_many(self, cursor: Any, sql: str, rows: Sequence[Sequence[Bound]]) -> int:
        """Run a statement for every row; the rows changed."""
        changed = 0
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            if not some[0]:
                for _row in some:
                    cursor.execute(sql)
                    changed += max(0, cursor.rowcount)
                continue
            self.sizes(cursor, some[0])
            cursor.executemany(sql, [[each.value for each in row] for row in some])
            changed += max(0, cursor.rowcount)
        return changed

    def sizes(self, cursor: Any, values: Sequence[Bound]) -> None:
        """Tell the driver the types that values alone don't say."""
        if any(each.type_name for each in values):
            cursor.setinputsizes(
                *(
                    None if each.type_name is None else getattr(self.oracledb, each.type_name)
                    for each in values
                )
            )

    def thd_forget(self, cursor: Any) -> None:
        """Close a cursor."""
        if cursor in self._cursors:
            self._cursors.remove(cursor)
        with suppress(*self.errors):
            cursor.close()

    def thd_own(self, sql: str, **values: object) -> list[Row]:
        """Run a statement of the agent's own; its rows, of which there are not too many."""
        cursor = self.raw.cursor()
        try:
            cursor.arraysize = 1000
            cursor.execute(sql, values)
            return list(cursor.fetchmany(_MOST_OWN)) if cursor.description else []
        finally:
            cursor.close()


def _is_plsql(shape: Outline) -> bool:
    """Whether semicolons belong to the statement itself."""
    if shape.first in ("begin", "declare"):
        return True
    return shape.first in ("create", "with", "alter") and bool(shape.words & _PLSQL_UNITS)
