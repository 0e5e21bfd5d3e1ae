"""What a database adapter is to the service, and the bounds on what it brings back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import define, field, frozen

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Load
from ..results import Column, Row, Writer
from ..statements import Batch, Dialect, Statement, TableName


@frozen
class Block:
    """A piece of an encoded result: ``rows`` of them in ``data``."""

    data: bytes
    rows: int


@define
class Output:
    """Encodes a result's rows and keeps it within its bounds.

    :ivar max_rows: no more rows than this; ``None`` for no limit.
    :ivar max_bytes: no more bytes of rows than this.
    :ivar rows: rows so far.
    :ivar size: bytes of them.
    :ivar own_limit: whether ``max_rows`` is what the caller asked for. A format that can't say that
        rows were left out fails with ``policy_denied`` at a limit that the caller doesn't know of.
    """

    writer: Writer
    max_rows: int | None = None
    max_bytes: int | None = None
    own_limit: bool = False
    rows: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    truncated: bool = field(default=False, init=False)

    def room(self) -> int | None:
        """How many more rows to ask for: one above the limit tells that there are more."""
        return None if self.max_rows is None else self.max_rows - self.rows + 1

    def encode(self, rows: Sequence[Row]) -> Block:
        """Encode as many rows as there is room for; ``truncated`` is set when some are left out."""
        if self.max_rows is not None and self.rows + len(rows) > self.max_rows:
            rows = rows[: self.max_rows - self.rows]
            self.cut("max_rows", self.max_rows)
        data = self.writer.rows(rows, first=not self.rows)
        if self.max_bytes is not None and self.size + len(data) > self.max_bytes:
            return self._encode_within_bytes(rows, self.max_bytes)
        return self._counted(data, len(rows))

    def count(self, data: bytes, rows: int) -> Block:
        """Take rows that the database has encoded. The rows' limit has been kept already."""
        if self.max_bytes is not None and self.size + len(data) > self.max_bytes:
            self.cut("max_bytes", self.max_bytes)
            return Block(b"", 0)
        return self._counted(data, rows)

    def cut(self, rule: str, limit: int) -> None:
        """Rows have to be left out. Raises Problem where the caller could not see that."""
        self.truncated = True
        if not self.writer.says_truncated and not (rule == "max_rows" and self.own_limit):
            raise Problem(
                "policy_denied",
                f"the result is larger than the profile's policy allows ({rule}: {limit})",
                hint="narrow the query, ask for max_rows within the limit, or take JSON, "
                "which tells that rows were left out",
                extra={"rule": rule},
            )

    def _counted(self, data: bytes, rows: int) -> Block:
        self.rows += rows
        self.size += len(data)
        return Block(data, rows)

    def _encode_within_bytes(self, rows: Sequence[Row], limit: int) -> Block:
        self.cut("max_bytes", limit)
        fitting = 0
        size = self.size
        for row in rows:
            size += len(self.writer.rows([row], first=not (self.rows or fitting)))
            if size > limit:
                break
            fitting += 1
        return self._counted(self.writer.rows(rows[:fitting], first=not self.rows), fitting)


class RowStream(Protocol):
    """A result that is being read. It holds a connection until :meth:`finish` or :meth:`abort`.

    :ivar columns: none for a statement that brings no rows.
    :ivar changed: how many rows such a statement has changed.
    """

    columns: Sequence[Column]
    changed: int | None

    async def next_block(self) -> Block | None:
        """The next rows, encoded; ``None`` after the last. Raises Problem."""
        ...

    async def finish(self) -> None:
        """Commit and give the connection back. Raises Problem, and then nothing is committed."""
        ...

    async def abort(self) -> None:
        """Stop the work in the database and give everything back. Never raises; safe to repeat."""
        ...


@frozen
class Outcome:
    """What ``execute`` did.

    :ivar columns: of the rows that it brought back; ``None`` without any.
    :ivar rows: those rows, encoded by the writer.
    """

    row_count: int
    columns: Sequence[Column] | None = None
    rows: bytes = b""


@frozen
class ResultSet:
    """One of a procedure's results, within the bounds of its output."""

    columns: Sequence[Column]
    rows: bytes
    row_count: int
    truncated: bool


@frozen
class Returned:
    """What a procedure gave back.

    :ivar out: its OUT and INOUT parameters, wire-ready for JSON, by name (``"1"``, ``"2"`` … where
        the database knows no name); a function's value is under ``"return"``.
    """

    out: Mapping[str, object]
    result_sets: Sequence[ResultSet] = ()


Params = Sequence[object] | Mapping[str, object]


class Work(Protocol):
    """What can be asked of a database, in a transaction of its own or in a session's.

    Every method raises Problem for what has a code, and truly stops its work when it is cancelled.
    Without a session a method commits at its end and rolls back when it fails.
    """

    async def query(self, statement: Statement, output: Output) -> RowStream:
        """Begin a statement; its columns are known then."""
        ...

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        """Run a statement to its end."""
        ...

    async def batch(self, batch: Batch) -> int:
        """Run a statement once for each set of values, all or nothing; the rows changed."""
        ...

    async def call(
        self, procedure: TableName, params: Params | None, outputs: Callable[[], Output]
    ) -> Returned:
        """Call a procedure or function. ``outputs`` makes the output of each result set.

        Raises Problem ``operation_not_found`` where the database has none.
        """
        ...

    async def load(self, load: Load) -> int:
        """Write the rows of a body into a table, all or nothing; how many were written."""
        ...

    async def tables(self) -> Sequence[Table]:
        """The tables and views that the profile's user sees, sorted; not the system's own."""
        ...

    async def shape(self, table: TableName) -> TableShape:
        """A table's columns and keys. Raises Problem ``not_found``."""
        ...


class Session(Work, Protocol):
    """One connection whose transaction goes over several calls, of which one runs at a time.

    A transaction begins with the first work after the start, a commit or a rollback. A statement
    that the database refuses leaves the session as the database does (PostgreSQL's transaction can
    only be rolled back then). Work that is cancelled or aborted, and a connection that is lost, end
    the session: :attr:`ended` is true then and every method raises Problem ``not_found``.
    """

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked of it any more."""
        ...

    async def commit(self) -> None:
        """Commit; the next work begins a new transaction."""
        ...

    async def rollback(self) -> None:
        """Undo all since the last commit."""
        ...

    async def close(self) -> None:
        """Roll back and give the connection back. Safe to call again; never raises."""
        ...


class Adapter(Work, Protocol):
    """One kind of database, through one driver."""

    @property
    def type(self) -> str:
        """The adapter's name in the config."""
        ...

    @property
    def dialect(self) -> Dialect:
        """How its SQL is written."""
        ...

    async def test(self) -> Mapping[str, object]:
        """Log in and look: ``target`` (product and version) and what else an administrator asks."""
        ...

    async def session(self) -> Session:
        """Take a connection for a session."""
        ...

    async def close(self) -> None:
        """Close connections and threads. Sessions end."""
        ...


def read_only_problem(detail: str) -> Problem:
    """The database refused to write because the profile's policy made it so."""
    return Problem(
        "policy_denied",
        detail,
        hint="the profile's policy is read_only",
        extra={"rule": "read_only"},
    )
