"""One statement for many sets of values: many of them in a round trip, all or nothing.

``INSERT … VALUES (…)`` becomes one statement with many rows. All else is run set by set within the
server, by a block that takes the statements as text. When a piece of the first kind fails, it is
undone and tried the second way, which tells whose fault it was (and may succeed: a row that an
``ON CONFLICT`` clause would have touched twice in one statement).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psycopg2
from attrs import frozen

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy
from ..statements import (
    POSTGRESQL,
    Batch,
    Kind,
    Rendered,
    Slot,
    Statement,
    Text,
    Token,
    outline,
    tokens,
)
from .postgresql_errors import several_problem, statement_problem
from .postgresql_lease import Conversation
from .postgresql_literals import COUNT_COLUMN, PORTAL, dollar_quoted, quote
from .postgresql_traits import Traits

_PIECE_ROWS: Final = 1000
_PIECE_BYTES: Final = 512 * 1024
_SAVE: Final = "SAVEPOINT onprem_batch"
_UNDO: Final = "ROLLBACK TO SAVEPOINT onprem_batch"
_RELEASE: Final = "RELEASE SAVEPOINT onprem_batch"
_MARK: Final = re.compile(r"/\*onprem:(\d+)\*/")

Literal = Callable[[object], str]


@frozen
class Values:
    """An ``INSERT`` taken apart around its row of values."""

    before: Statement
    row: Statement
    after: Statement

    def render(self, rows: Sequence[Sequence[object]], literal: Literal) -> str:
        """One statement that inserts all the rows."""
        lists = ", ".join([self.row.given(row).render(literal).sql for row in rows])
        return f"{self.before.sql}{lists}{self.after.sql}"


def find_values(statement: Statement) -> Values | None:
    """The row of values of a plain ``INSERT``; None unless all parameters stand in it."""
    sql = statement.sql
    found = [each for each in tokens(sql, POSTGRESQL) if each.kind is not Kind.COMMENT]
    if not found or sql[found[0].start : found[0].end].lower() != "insert":
        return None
    span = _row_of_values(sql, found)
    if span is None:
        return None
    start, end = span
    slots = [piece for piece in statement.pieces if isinstance(piece, Slot)]
    if not all(start < slot.offset < end for slot in slots):
        return None
    before, rest = _split(statement.pieces, start)
    row, after = _split(rest, end)
    return Values(_of(before), _of(row), _of(after))


def _row_of_values(sql: str, found: Sequence[Token]) -> tuple[int, int] | None:
    """Where the one bracket after the outermost VALUES begins and ends."""
    depth = 0
    start: int | None = None
    end: int | None = None
    words = [sql[each.start : each.end].lower() for each in found]
    for index, word in enumerate(words):
        if word == "(":
            if not depth and index and words[index - 1] == "values":
                if start is not None:
                    return None
                start = found[index].start
            depth += 1
        elif word == ")":
            depth -= 1
            if not depth and start is not None and end is None:
                end = found[index].end
                if index + 1 < len(words) and words[index + 1] not in ("on", "returning", ";"):
                    return None
        elif word in ("select", "with", "union") and not depth:
            return None
    return None if start is None or end is None else (start, end)


def _split(pieces: Sequence[Text | Slot], at: int) -> tuple[list[Text | Slot], list[Text | Slot]]:
    """Pieces before and after a place in the caller's text."""
    before: list[Text | Slot] = []
    after: list[Text | Slot] = []
    for piece in pieces:
        if isinstance(piece, Slot) or not piece.offset < at < piece.offset + len(piece.text):
            (before if piece.offset < at else after).append(piece)
            continue
        cut = at - piece.offset
        before.append(Text(piece.offset, piece.text[:cut]))
        after.append(Text(at, piece.text[cut:]))
    return before, after


def _of(pieces: Sequence[Text | Slot]) -> Statement:
    text = "".join([piece.text for piece in pieces if isinstance(piece, Text)])
    return Statement(text, tuple(pieces))


def counting(statements: Sequence[str]) -> str:
    """Statements given as text, run one after the other; the portal tells the rows changed."""
    array = ", ".join([quote(each) for each in statements])
    body = (
        f"DECLARE s pg_catalog.text; c pg_catalog.refcursor := '{PORTAL}';"
        " n pg_catalog.int8; t pg_catalog.int8 := 0; BEGIN"
        f" FOREACH s IN ARRAY ARRAY[{array}]::pg_catalog.text[] LOOP"
        " EXECUTE s; GET DIAGNOSTICS n = ROW_COUNT; t := t + n; END LOOP;"
        f' OPEN c FOR SELECT t AS "{COUNT_COLUMN}"; END'
    )
    return f"DO {dollar_quoted(body)};FETCH 1 FROM {PORTAL}"


def _marked(rendered: Rendered, number: int) -> Rendered:
    """The statement with its number before it, by which an error tells whose it is."""
    mark = f"/*onprem:{number}*/"
    starts = (0, *(start + len(mark) for start in rendered.starts))
    return Rendered(mark + rendered.sql, starts, ((0, True), *rendered.origins))


def _guilty(error: psycopg2.Error) -> int | None:
    for text in (error.diag.internal_query, error.diag.context):
        match = _MARK.search(text or "")
        if match is not None:
            return int(match[1])
    return None


def of_set(problem: Problem, index: int) -> Problem:
    """The same, with the number of the set of values whose it is."""
    return Problem(
        problem.code,
        f"params[{index}]: {problem.detail}",
        hint=problem.hint,
        retry_after=problem.retry_after,
        extra={**problem.extra, "field": f"params[{index}]"},
    )


def _pieces(
    rows: Sequence[Sequence[object]],
) -> Iterator[tuple[int, Sequence[Sequence[object]]]]:
    """The sets in pieces of a bounded size, each with the number of its first."""
    first = 0
    size = 0
    for index, row in enumerate(rows):
        size += sum(len(value) if isinstance(value, str | bytes) else 16 for value in row)
        if index + 1 - first >= _PIECE_ROWS or size >= _PIECE_BYTES:
            yield first, rows[first : index + 1]
            first, size = index + 1, 0
    if first < len(rows):
        yield first, rows[first:]


@frozen
class BatchRun:
    """Runs a batch on a lent connection."""

    _talk: Conversation
    _policy: DatabasePolicy
    _traits: Traits
    _batch: Batch

    async def run(self) -> int:
        """The rows changed. Raises Problem, with the number of the set where it is known."""
        statement = self._batch.statement
        if outline(statement.sql, POSTGRESQL).several:
            raise several_problem()
        await self._talk.ask(self._talk.lease.prologue(timed=True))
        values = find_values(statement)
        total = 0
        for first, rows in _pieces(self._batch.rows):
            total += await self._run_piece(first, rows, values)
        return total

    async def _run_piece(
        self, first: int, rows: Sequence[Sequence[object]], values: Values | None
    ) -> int:
        if values is None or len(rows) == 1:
            return await self._one_by_one(first, rows)
        try:
            whole = values.render(rows, self._traits.literal)
        except Problem:
            return await self._one_by_one(first, rows)
        if not self._traits.plpgsql:
            return max(0, int((await self._talk.ask(whole)).rowcount))
        await self._talk.ask(_SAVE)
        try:
            cursor = await self._talk.ask(counting([whole]))
        except Problem as problem:
            if problem.code != "query_failed":
                raise
            await self._talk.ask(_UNDO)
            return await self._one_by_one(first, rows)
        changed = int(cursor.fetchone()[0])
        await self._talk.ask(f"CLOSE {PORTAL};{_RELEASE}")
        return changed

    async def _one_by_one(self, first: int, rows: Sequence[Sequence[object]]) -> int:
        statements = []
        for index, row in enumerate(rows):
            try:
                rendered = self._batch.statement.given(row).render(self._traits.literal)
            except Problem as problem:
                raise of_set(problem, first + index) from None
            statements.append(rendered)
        if not self._traits.plpgsql:
            return await self._singly(first, statements)
        marked = [_marked(each, index) for index, each in enumerate(statements)]
        try:
            cursor = await self._talk.send(counting([each.sql for each in marked]))
        except psycopg2.Error as error:
            guilty = _guilty(error)
            if guilty is None:
                raise statement_problem(error, None, self._policy) from None
            refused = statement_problem(error, marked[guilty], self._policy)
            raise of_set(refused, first + guilty) from None
        changed = int(cursor.fetchone()[0])
        await self._talk.ask(f"CLOSE {PORTAL}")
        return changed

    async def _singly(self, first: int, statements: Sequence[Rendered]) -> int:
        changed = 0
        for index, each in enumerate(statements):
            try:
                cursor = await self._talk.ask(each.sql, each)
            except Problem as problem:
                raise of_set(problem, first + index) from None
            changed += max(0, cursor.rowcount)
        return changed
