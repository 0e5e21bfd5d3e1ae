"""Rows fetched from a portal in batches that fit their size, the next one while one is encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg2
from attrs import define, field
from twisted.internet.defer import Deferred

from ..results import Column, Row
from ..statements import Rendered
from .base import Block, Output
from .postgresql_errors import undecodable_problem
from .postgresql_lease import Conversation, was_refused
from .postgresql_literals import COUNT_COLUMN, LARGE_COLUMN, PORTAL
from .postgresql_types import PgType, TypeCatalogue, converters, result_columns

_FIRST: Final = 2
_LARGEST: Final = 1000
_GROWTH: Final = 20
_BATCH_BYTES: Final = 256 * 1024
_SLICE: Final = 250
_SLICE_BYTES: Final = 64 * 1024
"""Rows, and about how many bytes, that are decoded in one turn of the reactor."""


class Large(Exception):
    """Many rows are to be expected: nothing has been run, and there is a faster way for them."""


@define(eq=False)
class FetchedRows:
    """A statement whose rows are fetched; see :class:`~.base.RowStream`."""

    _talk: Conversation
    _types: TypeCatalogue
    _output: Output
    _portal: str = PORTAL
    columns: Sequence[Column] = ()
    changed: int | None = None
    _rendered: Rendered | None = None
    _convert: Callable[[Sequence[Row]], Sequence[Row]] | None = None
    _cursor: Any = None
    _left: int = 0
    _fetched: int = 0
    _asked: int = 0
    _more: bool = False
    _next: Deferred[Any] | None = None
    _bytes: int = 0
    _encoded: int = 0
    _opened: bool = True
    _over: bool = field(default=False)

    async def begin(self, rendered: Rendered, start: str | None) -> None:
        """Run the statement up to its first rows; ``start`` opens the portal for it.

        Without ``start`` it is run as it is, and brings few rows.
        Raises Problem, and Large where ``start`` is told to look.
        """
        self._rendered = rendered
        self._talk.text_floats = self._output.writer.form == "csv"
        count = self._batch()
        self._asked = count
        prologue = self._talk.lease.prologue(timed=True)
        self._opened = start is not None
        if start is None:
            cursor = await self._run(f"{prologue}{rendered.sql}")
            if not cursor.description:
                self.changed = max(0, cursor.rowcount)
                return
        else:
            cursor = await self._run(f"{prologue}{start};FETCH FORWARD {count} FROM {self._portal}")
        description = cursor.description or ()
        if description and description[0].name == LARGE_COLUMN:
            raise Large
        if description and description[0].name == COUNT_COLUMN:
            self.changed = cursor.fetchone()[0]
            return
        kinds = await find_types(
            self._talk, self._types, [column.type_code for column in description]
        )
        self._convert = converters(kinds, self._output.writer.form)
        self.columns = result_columns(description, kinds)
        self._took(cursor)

    async def next_block(self) -> Block | None:
        if self._output.truncated or self._convert is None:
            return None
        if not self._left:
            if self._next is None:
                return None
            waiting, self._next = self._next, None
            self._took(await self._answered(waiting))
            if not self._left:
                return None
        try:
            rows = self._cursor.fetchmany(self._fitting(_SLICE_BYTES, _SLICE))
        except UnicodeError:
            raise undecodable_problem() from None
        self._left -= len(rows)
        block = self._output.encode(self._convert(rows))
        self._bytes += len(block.data)
        self._encoded += len(rows)
        self._ask()
        return block

    async def count(self) -> int:
        """Rows changed, or all there are where nothing is changed; the rest is skipped."""
        if self.changed is not None:
            return self.changed
        if self._next is not None:
            waiting, self._next = self._next, None
            self._took(await self._answered(waiting))
        if not self._opened:
            return self._fetched
        skipped = await self._run(f"MOVE FORWARD ALL FROM {self._portal}")
        return self._fetched + int(skipped.rowcount)

    async def finish(self) -> None:
        self._forget_next()
        await self._talk.lease.connection.settled()
        await self._talk.complete(opened=self._opened)
        self._over = True

    async def leave(self) -> None:
        """Read no further and close the portal; the work of which it is a part goes on."""
        self._forget_next()
        await self._talk.lease.connection.settled()
        await self._run(f"CLOSE {self._portal}")

    async def abort(self) -> None:
        if not self._over:
            self._over = True
            self._forget_next()
            lease = self._talk.lease
            await lease.failed(usable=was_refused(lease.connection))

    def _forget_next(self) -> None:
        """Nobody reads the batch that is on its way; COMMIT tells if it failed."""
        if self._next is not None:
            self._next.addErrback(lambda failure: failure.trap(psycopg2.Error))
            self._next = None

    def _took(self, cursor: Any) -> None:
        """A batch has come; it was the last when it holds less than was asked for."""
        self._cursor = cursor
        self._left = cursor.rowcount
        self._fetched += self._left
        self._more = self._opened and self._left == self._asked

    def _ask(self) -> None:
        """Ask for the next batch, once the size of rows is known from the first of this one."""
        if not self._more or self._output.truncated:
            return
        self._more = False
        self._asked = self._batch()
        if self._asked:
            self._next = self._talk.send(f"FETCH FORWARD {self._asked} FROM {self._portal}")

    def _batch(self) -> int:
        """How many rows to ask for next: more each time while they are small."""
        count = _FIRST
        if self._asked:
            count = min(self._asked * _GROWTH, self._fitting(_BATCH_BYTES, _LARGEST))
        limit = self._output.max_rows
        return count if limit is None else min(count, limit + 1 - self._fetched)

    def _fitting(self, size: int, most: int) -> int:
        """How many rows fit in so many bytes; one, as long as nothing is known of them."""
        return min(most, max(1, size * self._encoded // max(1, self._bytes)))

    async def _run(self, sql: str) -> Any:
        return await self._answered(self._talk.send(sql))

    async def _answered(self, waiting: Deferred[Any]) -> Any:
        return await self._talk.answer(waiting, self._rendered)


async def find_types(talk: Conversation, types: TypeCatalogue, oids: Sequence[int]) -> list[PgType]:
    """The types with these ids; the server is asked for what isn't known yet."""
    question = types.question(oids)
    if question is not None:
        types.learn((await talk.ask(question)).fetchall())
    return types.find(oids)
