"""Large results at the database's own speed: ``COPY (query) TO STDOUT``, passed through.

The server writes the rows, in the wire's form by way of a projection around the caller's query; the
agent joins them and counts. A statement for which that can't be done, or might not be the same, is
left to the plain path: :class:`NotCopyable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg2
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..handover import Abandoned, Handover
from ..results import Column
from ..settings import DatabasePolicy
from ..statements import Outline, Rendered
from .base import Block, Output
from .postgresql_connection import ThreadConnection
from .postgresql_copyformat import CopyForm, thd_copy_form
from .postgresql_errors import statement_problem, timeout_problem, undecodable_problem
from .postgresql_lease import Lease
from .postgresql_literals import COUNT_COLUMN, PORTAL, checking, opening
from .postgresql_timelimit import TimeLimit
from .postgresql_types import TypeCatalogue, result_columns

_FIRST_BLOCK: Final = 16 * 1024
LIMIT: Final = 1024 * 1024
# Compiling the projection takes a large result's first row 0.2 s, and makes it no faster.
_AT_ONCE: Final = "SET LOCAL jit=off;"
_QUERIES: Final = frozenset(("select", "with", "values", "table"))
_NOT_QUERIES: Final = frozenset(("insert", "update", "delete", "merge", "into"))
_PLANNING_ERRORS: Final = ("42", "0A")


class NotCopyable(Exception):
    """The statement has to take the plain path; nothing of it has taken effect."""


def may_be_copied(shape: Outline, output: Output) -> bool:
    """Whether it is worth a try. The server has the last word."""
    if output.max_bytes is not None and output.writer.says_truncated:
        return False  # the plain path can cut after any row
    return shape.first in _QUERIES and not shape.words & _NOT_QUERIES


@frozen
class _Rows:
    data: bytes
    count: int
    more: bool


@frozen
class _End:
    failure: BaseException | None


_Item = Sequence[Column] | _Rows | _End


class _Sink:
    """What psycopg2 writes rows to, one at a time, in the thread."""

    def __init__(self, handover: Handover[_Item], form: CopyForm, limit: int | None) -> None:
        self._handover = handover
        self._transform = form.transform
        self._block = form.block
        self._limit = limit
        self._rows: list[bytes] = []
        self._size = 0
        self._enough = _FIRST_BLOCK
        self.count = 0

    def write(self, row: bytes) -> None:
        """One row, with a newline at its end."""
        self._rows.append(row)
        self._size += len(row)
        if self._size >= self._enough or self._handover.hungry:
            self.flush()

    def flush(self) -> None:
        """Hand over what has been gathered."""
        rows = self._rows
        if not rows:
            return
        more = self._limit is not None and self.count + len(rows) > self._limit
        if more and self._limit is not None:
            del rows[self._limit - self.count :]
        data = self._transform(rows, self.count == 0) if rows else b""
        self.count += len(rows)
        self._handover.thd_put(_Rows(data, len(rows), more), len(data))
        self._rows, self._size = [], 0
        self._enough = min(4 * self._enough, self._block)


@define(eq=False)
class CopyRows:
    """A query that is being copied; see :class:`~.base.RowStream`."""

    _reactor: Any
    _lease: Lease
    _policy: DatabasePolicy
    _types: TypeCatalogue
    _output: Output
    _handover: Handover[_Item] = field(init=False)
    _limit: TimeLimit = field(init=False)
    columns: Sequence[Column] = ()
    changed: int | None = None
    _first: _Item | None = None
    _over: bool = False

    def __attrs_post_init__(self) -> None:
        self._handover = Handover(self._reactor, LIMIT)
        self._limit = TimeLimit(
            self._reactor,
            self._connection,
            self._policy.statement_timeout,
            lambda: self._handover.waited,
        )

    @property
    def _connection(self) -> ThreadConnection:
        connection = self._lease.connection
        if not isinstance(connection, ThreadConnection):
            raise TypeError("COPY needs a connection in a thread")
        return connection

    async def begin(self, rendered: Rendered, shape: Outline) -> None:
        """Start copying, up to the first rows. Raises NotCopyable and Problem."""
        self._limit.start()
        prologue = self._lease.prologue(timed=False)
        job = Deferred.fromCoroutine(
            self._connection.lane.run(self._thd_copy, rendered, shape, prologue)
        )
        job.addErrback(lambda failure: None)  # it tells by way of the hand-over
        columns = await self._next_item()
        if not isinstance(columns, list):
            raise TypeError("the columns come first")
        self.columns = columns
        self._first = await self._next_item()

    async def next_block(self) -> Block | None:
        item = self._first if self._first is not None else await self._next_item()
        self._first = None
        if not isinstance(item, _Rows):
            self._first = item
            return None
        block = self._output.count(item.data, item.count)
        if item.more and self._output.max_rows is not None:
            self._output.cut("max_rows", self._output.max_rows)
        return block

    async def finish(self) -> None:
        """The thread has committed before it said that there is no more."""
        await self._connection.settled()
        self._over = True
        self._limit.stop()
        await self._lease.done()

    async def abort(self) -> None:
        if not self._over:
            self._over = True
            self._limit.stop()
            self._handover.abandon()
            await self._lease.failed(usable=False)

    async def _next_item(self) -> _Item:
        item = await self._handover.get()
        if not isinstance(item, _End) or item.failure is None:
            return item
        failure = item.failure
        await self._connection.settled()
        if self._limit.passed:
            raise timeout_problem("the statement ran too long", self._policy) from None
        raise failure

    def _thd_copy(self, rendered: Rendered, shape: Outline, prologue: str) -> None:
        failure: BaseException | None = None
        try:
            self._thd_run(rendered, shape, prologue)
        except psycopg2.Error as error:
            failure = statement_problem(error, rendered, self._policy)
        except UnicodeError:
            failure = undecodable_problem()
        except (Problem, NotCopyable, Abandoned) as error:
            failure = error
        except BaseException as error:  # noqa: BLE001 - it goes to the reader
            failure = error
        if not isinstance(failure, Abandoned):
            self._handover.thd_put(_End(failure), 0)

    def _thd_run(self, rendered: Rendered, shape: Outline, prologue: str) -> None:
        connection = self._connection
        if connection.raw.info.parameter_status("server_encoding") == "SQL_ASCII":
            raise NotCopyable
        cursor = connection.thd_run(f"{prologue}{opening(rendered.sql)};FETCH 0 FROM {PORTAL}")
        description = cursor.description
        if not description or description[0].name == COUNT_COLUMN:
            raise NotCopyable
        oids = [column.type_code for column in description]
        question = self._types.question(oids)
        if question is not None:
            self._types.learn(connection.thd_run(question).fetchall())
        kinds = self._types.find(oids)
        columns = result_columns(description, kinds)
        zone = connection.raw.info.parameter_status("TimeZone") or ""
        form = thd_copy_form(self._output.writer, columns, kinds, zone)
        if form is None:
            raise NotCopyable
        self._handover.thd_put(columns, 0)
        sink = _Sink(self._handover, form, self._output.max_rows)
        self._thd_read(sink, form, rendered.sql[: shape.end])
        sink.flush()
        connection.thd_run("COMMIT")

    def _thd_read(self, sink: _Sink, form: CopyForm, sql: str) -> None:
        wrapped = _wrapped(sql, form, self._output.room())
        try:
            self._connection.raw.cursor().copy_expert(
                f"CLOSE {PORTAL};{checking(wrapped)};{_AT_ONCE}"
                f"COPY ({wrapped}) TO STDOUT ({form.options})",
                sink,
            )
        except psycopg2.Error as error:
            if not sink.count and (error.pgcode or "").startswith(_PLANNING_ERRORS):
                raise NotCopyable from None
            raise


def _wrapped(sql: str, form: CopyForm, limit: int | None) -> str:
    """The caller's query as the source of one whose text is the wire's.

    It is put into a statement as it is, and may be, because the server has taken the result as one
    single query before (:func:`checking`): what is complete by itself can't reach out of brackets.
    """
    pairs = zip(form.values, form.names, strict=True)
    named = ", ".join(f"{value} AS {name}" for value, name in pairs)
    bound = "" if limit is None else f" LIMIT {limit}"
    source = f"(\n{sql}\n) AS t({', '.join(form.names)})"
    return f"SELECT {named} FROM {source}{bound}"  # noqa: S608 - see above
