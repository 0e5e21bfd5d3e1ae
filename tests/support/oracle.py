"""What python-oracledb shows of itself, over scripted answers: there is no Oracle to test with.

Types, errors and ``FetchInfo``-like descriptions are the real module's; connections and cursors are
these. A test scripts what a statement brings by a pattern that its text matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import oracledb
from attrs import Factory, define, field
from oracledb.errors import _Error


@define
class Info:
    """A column of a result, as a cursor describes it."""

    name: str
    type_code: Any
    precision: int | None = None
    scale: int | None = None
    null_ok: bool = True
    is_json: bool = False


@define
class Result:
    """What a statement brings: rows, or a number of rows changed, or an error."""

    columns: Sequence[Info] = ()
    rows: Sequence[Sequence[Any]] = ()
    changed: int = 0
    error: Exception | None = None


def refusal(code: str, text: str, *, offset: int = 0, cls: type[Exception] | None = None) -> Any:
    """An exception as the driver raises it."""
    number = int(code.partition("-")[2]) if code.startswith("ORA") else 0
    error = _Error(f"{code}: {text}", code=number, offset=offset)
    return (cls or error.exc_type)(error)


@define
class LargeObject:
    """A LOB; its text or bytes are read in pieces."""

    data: Any
    type: Any = oracledb.DB_TYPE_CLOB
    reads: int = 0

    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int = 1, amount: int | None = None) -> Any:
        self.reads += 1
        end = None if amount is None else offset - 1 + amount
        return self.data[offset - 1 : end]


@define
class Variable:
    """A place for a value that comes back."""

    type: Any
    size: int = 0
    arraysize: int = 1
    value: Any = None

    def setvalue(self, _index: int, value: Any) -> None:
        self.value = value

    def getvalue(self) -> Any:
        return self.value


@define(eq=False)
class Cursor:
    connection: FakeConnection
    arraysize: int = 100
    rowcount: int = 0
    description: Sequence[Info] | None = None
    closed: bool = False
    sizes: tuple[Any, ...] | None = None
    _left: list[Any] = Factory(list)

    def execute(self, sql: str, binds: Any = None) -> None:
        self._take(self.connection.run(sql, binds, self))

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        self._take(self.connection.run(sql, rows, self))

    def setinputsizes(self, *sizes: Any) -> None:
        self.sizes = sizes

    def var(self, kind: Any, size: int = 0, arraysize: int = 1) -> Variable:
        return Variable(kind, size, arraysize)

    def fetchmany(self, size: int) -> list[Any]:
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def getimplicitresults(self) -> list[Any]:
        return self.connection.implicit

    def close(self) -> None:
        self.closed = True

    def _take(self, result: Result) -> None:
        if result.error is not None:
            raise result.error
        self.rowcount = result.changed
        self.description = list(result.columns) or None
        self._left = list(result.rows)


@define(eq=False)
class FakeConnection:
    """Statements and what is asked of the connection are kept in ``log``."""

    script: list[tuple[str, Result | Callable[[str, Any], Result]]] = Factory(list)
    log: list[tuple[str, Any]] = Factory(list)
    cursors: list[Cursor] = Factory(list)
    implicit: list[Any] = Factory(list)
    version: str = "19.3.0.0.0"
    service_name: str = "ORCLPDB1"
    db_name: str = "ORCL"
    username: str = "APP"
    call_timeout: int = 0
    healthy: bool = True
    closed: bool = False
    outputtypehandler: Any = None
    failing: Exception | None = None

    def on(self, pattern: str, result: Result | Callable[[str, Any], Result]) -> None:
        """Script a statement; the latest that matches counts."""
        self.script.insert(0, (pattern, result))

    def run(self, sql: str, binds: Any, cursor: Cursor) -> Result:
        self.log.append((sql, binds))
        for pattern, result in self.script:
            if re.search(pattern, sql):
                return result(sql, binds) if callable(result) else result
        return Result()

    def opened(self, *columns: Info, rows: Sequence[Sequence[Any]]) -> Cursor:
        """A cursor that a procedure has opened."""
        cursor = Cursor(self)
        cursor._take(Result(columns, rows))
        return cursor

    def cursor(self) -> Cursor:
        cursor = Cursor(self)
        self.cursors.append(cursor)
        return cursor

    def commit(self) -> None:
        self._do("commit")

    def rollback(self) -> None:
        self._do("rollback")

    def ping(self) -> None:
        self._do("ping")

    def cancel(self) -> None:
        self._do("cancel")

    def is_healthy(self) -> bool:
        return self.healthy

    def close(self) -> None:
        self.closed = True
        self._do("close")

    def _do(self, what: str) -> None:
        self.log.append((what, None))
        if self.failing is not None:
            raise self.failing

    @property
    def statements(self) -> list[str]:
        """What was run, without the agent's own first statement."""
        return [sql for sql, _ in self.log if not sql.startswith("ALTER SESSION")]


@define
class FakeModule:
    """The module ``oracledb`` as far as the adapter uses it."""

    connection: FakeConnection = Factory(FakeConnection)
    error: Exception | None = None
    options: list[dict[str, Any]] = field(factory=list)

    def connect(self, **options: Any) -> FakeConnection:
        self.options.append(options)
        if self.error is not None:
            raise self.error
        return self.connection

    def __getattr__(self, name: str) -> Any:
        return getattr(oracledb, name)


def number(name: str, precision: int | None = None, scale: int | None = None) -> Info:
    """A NUMBER column."""
    return Info(name, oracledb.DB_TYPE_NUMBER, precision, scale)
