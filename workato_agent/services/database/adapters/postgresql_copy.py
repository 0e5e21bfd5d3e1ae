"""Large results at the database's own speed: ``COPY (query) TO STDOUT``, passed through.

The server writes the rows, in the wire's form by way of a projection around the caller's query; the
agent joins them and counts. A statement for which that can't be done, or might not be the same, is
left to the plain path: :class:`NotCopyable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from .postgresql_copyformat import Transform, options, projections, transform
from .postgresql_errors import statement_problem, timeout_problem, undecodable_problem
from .postgresql_literals import COUNT_COLUMN, PORTAL, checking, opening
from .postgresql_types import TypeCatalogue

_BLOCK: Final = 64 * 1024
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

    def __init__(self, handover: Handover[_Item], change: Transform, limit: int | None) -> None:
        self._handover = handover
        self._transform = change
        self._limit = limit
        self._rows: list[bytes] = []
        self._size = 0
        self.count = 0

    def write(self, row: bytes) -> None:
        """One row, with a newline at its end."""
        self._rows.append(row)
        self._size += len(row)
        if self._size >= _BLOCK or self._handover.hungry:
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


@define(eq=False)
class CopyRows:
    """A query that is being copied; see :class:`~.base.RowStream`.

    ``release`` gives the connection back to its pool.
    """

    _reactor: Any
    _connection: ThreadConnection
    _policy: DatabasePolicy
    _types: TypeCatalogue
    _output: Output
    _release: Callable[[ThreadConnection, bool], Deferred[None]]
    _handover: Handover[_Item] = field(init=False)
    columns: Sequence[Column] = ()
    changed: int | None = None
    _first: _Item | None = None
    _timer: Any = None
    _began: float = 0.0
    _timed_out: bool = False
    _released: bool = False

    def __attrs_post_init__(self) -> None:
        self._handover = Handover(self._reactor)

    async def begin(self, rendered: Rendered, shape: Outline, prologue: str) -> None:
        """Start copying, up to the first rows. Raises NotCopyable and Problem."""
        self._began = self._reactor.seconds()
        self._watch_time()
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
        self._released = True
        self._stop_watching()
        self._release(self._connection, True)

    async def abort(self) -> None:
        if not self._released:
            self._released = True
            self._stop_watching()
            self._handover.abandon()
            await self._release(self._connection, False)

    async def _next_item(self) -> _Item:
        item = await self._handover.get()
        if not isinstance(item, _End) or item.failure is None:
            return item
        failure = item.failure
        if self._timed_out:
            raise timeout_problem("the statement ran too long", self._policy) from None
        raise failure

    def _watch_time(self) -> None:
        """Stop a statement that the server has worked on for too long.

        The server's own timer can't be used: it would count the time in which the caller is slow.
        """
        limit = self._policy.statement_timeout
        if not limit:
            return
        worked = self._reactor.seconds() - self._began - self._handover.waited
        if worked >= limit:
            self._timed_out = True
            Deferred.fromCoroutine(self._connection.stop())
        else:
            self._timer = self._reactor.callLater(max(0.05, limit - worked), self._watch_time)

    def _stop_watching(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

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
        if isinstance(failure, NotCopyable):
            self._connection.thd_run("ROLLBACK")
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
        form = self._output.writer.format
        names = [f"c{index}" for index in range(len(kinds))]
        values = projections(kinds, names, form)
        if values is None:
            raise NotCopyable
        wrapped = _wrapped(rendered.sql[: shape.end], names, values, self._output.room())
        columns = [
            Column(column.name, kind.kind) for column, kind in zip(description, kinds, strict=True)
        ]
        self._handover.thd_put(columns, 0)
        sink = _Sink(self._handover, transform(columns, form), self._output.max_rows)
        try:
            connection.raw.cursor().copy_expert(
                f"CLOSE {PORTAL};{checking(wrapped)};"
                f"COPY ({wrapped}) TO STDOUT ({options(kinds, names, form)})",
                sink,
            )
        except psycopg2.Error as error:
            if not sink.count and (error.pgcode or "").startswith(_PLANNING_ERRORS):
                raise NotCopyable from None
            raise
        sink.flush()
        connection.thd_run("COMMIT")


def _wrapped(sql: str, names: Sequence[str], values: Sequence[str], limit: int | None) -> str:
    """The caller's query as the source of one whose text is the wire's.

    It is put into a statement as it is, and may be, because the server has taken the result as one
    single query before (:func:`checking`): what is complete by itself can't reach out of brackets.
    """
    named = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    bound = "" if limit is None else f" LIMIT {limit}"
    source = f"(\n{sql}\n) AS t({', '.join(names)})"
    return f"SELECT {named} FROM {source}{bound}"  # noqa: S608 - see above
