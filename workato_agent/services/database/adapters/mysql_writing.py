"""Many rows into MySQL: batches and loads, as prepared INSERTs of many rows each.

The client's own ``LOAD DATA LOCAL`` stays off: with it a server may ask for any file of the client.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from attrs import define, field, frozen
from pymysql import err
from pymysql.constants import FIELD_TYPE

from workato_tunnel.problems import Problem

from ..catalogue import TableColumn, TableShape
from ..loading import Conflict
from ..parameters import Typed, json_value
from ..results import Row
from ..statements import MYSQL, Batch, Kind, TableName, tokens
from .mysql_calling import Caller
from .mysql_catalogue import qualified, quoted, thd_shape
from .mysql_parameters import Bound, bound
from .mysql_wire import Answer, Prepared, lenenc_encoded

_MOST_ROWS: Final = 512
_MOST_PARAMETERS: Final = 65_535
_BLOCK_BYTES: Final = 1024 * 1024
_OFFSET: Final = re.compile(r"\d{4,}-\d+-\d+[T ].*(?:Z|[+-]\d{2}(?::?\d{2})?)")
_FITTED: Final = frozenset(("bytes", "boolean", "timestamptz", "json"))
Bounds = Sequence[Bound | None]


class Writer(Caller, Protocol):
    """The connection, as far as it is used here."""

    def thd_own(self, sql: str) -> Answer:
        """Run a statement as it is."""
        ...

    def thd_executed(self, prepared: Prepared, values: Bounds) -> Answer:
        """Run a prepared statement."""
        ...


@frozen
class _Insert:
    """An INSERT whose group of values may be repeated.

    :ivar width: parameters in a group.
    """

    head: str
    group: str
    tail: str
    width: int

    def sql(self, rows: int) -> str:
        return f"{self.head}{', '.join([self.group] * rows)}{self.tail}"


@define
class _Inserter:
    """Collects rows and sends them in statements of 512, 256 … 1 of them."""

    _connection: Writer
    _insert: _Insert
    _prepared: dict[int, Prepared] = field(factory=dict)
    _rows: list[Bounds] = field(factory=list)
    _size: int = 0
    changed: int = 0

    def thd_add(self, row: Bounds) -> None:
        """One more row."""
        self._rows.append(row)
        self._size += sum([len(value[1]) for value in row if value is not None])
        if len(self._rows) >= _MOST_ROWS or self._size >= _BLOCK_BYTES:
            self.thd_flush()

    def thd_flush(self) -> None:
        """Send what has been collected."""
        most = min(_MOST_ROWS, _MOST_PARAMETERS // max(1, self._insert.width))
        while self._rows:
            count = 1 << (min(len(self._rows), most).bit_length() - 1)
            values = [value for row in self._rows[:count] for value in row]
            prepared = self._prepared.get(count)
            if prepared is None:
                prepared = self._connection.thd_prepare(self._insert.sql(count))
                self._prepared[count] = prepared
            self.changed += self._connection.thd_executed(prepared, values).changed
            del self._rows[:count]
        self._size = 0

    def thd_close(self) -> None:
        """Free the statements."""
        if self._connection.wire.open:
            for prepared in self._prepared.values():
                self._connection.wire.thd_forget(prepared)


def _thd_all_or_nothing(connection: Writer, work: Callable[[], int]) -> int:
    """Within a transaction that may hold other work, too."""
    connection.thd_own("SAVEPOINT onprem")
    try:
        count = work()
    except BaseException:
        if connection.wire.open:
            # A deadlock has rolled all of it back; a lost connection likewise.
            with suppress(err.MySQLError):
                connection.thd_own("ROLLBACK TO SAVEPOINT onprem")
        raise
    connection.thd_own("RELEASE SAVEPOINT onprem")
    return count


def thd_batch(connection: Writer, batch: Batch) -> int:
    """Run a statement for every set of values; rows changed."""
    sql = batch.statement.render(lambda _value: "?").sql
    rows = (_bound_row(values, number) for number, values in enumerate(batch.rows))
    insert = _repeatable(sql, len(batch.statement.values))
    if insert is None:
        return _thd_all_or_nothing(connection, lambda: _thd_one_by_one(connection, sql, rows))
    inserter = _Inserter(connection, insert)
    return _thd_all_or_nothing(connection, lambda: _thd_insert(inserter, rows))


def _bound_row(values: Sequence[object], number: int) -> Bounds:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(bound(value, index))
        except Problem as problem:
            place = f"params[{number}][{index}]"
            raise Problem(
                problem.code,
                problem.detail.replace(f"params[{index}]", place),
                hint=problem.hint,
                extra={"field": place},
            ) from None
    return found


def _thd_one_by_one(connection: Writer, sql: str, rows: Iterable[Bounds]) -> int:
    changed = 0
    prepared = connection.thd_prepare(sql)
    try:
        for values in rows:
            if len(values) != prepared.parameters:
                raise Problem(
                    "bad_request",
                    f"the server sees {prepared.parameters} parameters in the statement",
                    extra={"field": "sql"},
                )
            answer = connection.thd_executed(prepared, values)
            if answer.fields:
                changed += connection.wire.thd_skipped()
            changed += answer.changed
    finally:
        if connection.wire.open:
            connection.wire.thd_forget(prepared)
    return changed


def _thd_insert(inserter: _Inserter, rows: Iterable[Bounds]) -> int:
    try:
        for row in rows:
            inserter.thd_add(row)
        inserter.thd_flush()
    finally:
        inserter.thd_close()
    return inserter.changed


def _repeatable(sql: str, parameters: int) -> _Insert | None:
    """The parts of ``INSERT … VALUES (…)`` whose parameters are all in the one group of values."""
    depth = 0
    opened = closed = -1
    values = False
    inside = 0
    words: list[str] = []
    for token in tokens(sql, MYSQL):
        text = sql[token.start : token.end]
        if token.kind is Kind.COMMENT:
            return None
        if closed >= 0 and not depth and text in (",", ";"):
            return None
        if token.kind is Kind.WORD:
            words.append(text.lower())
            values = values or (not depth and closed < 0 and text.lower() in ("values", "value"))
        elif token.kind is Kind.QUESTION:
            inside += int(opened >= 0 > closed)
        elif text == "(":
            if values and not depth and opened < 0:
                opened = token.start
            depth += 1
        elif text == ")":
            depth -= 1
            if opened >= 0 > closed and not depth:
                closed = token.end
    if words[:1] not in (["insert"], ["replace"]) or "returning" in words or closed < 0:
        return None
    if inside != parameters or not parameters:
        return None
    return _Insert(sql[:opened], sql[opened:closed], sql[closed:], parameters)


def thd_load(
    connection: Writer,
    table: TableName,
    columns: Sequence[str],
    blocks: Iterator[Sequence[Row]],
    on_conflict: Conflict,
    keys: Sequence[str],
) -> int:
    """Write rows into a table; how many were written."""
    shape = thd_shape(connection, table)
    by_name = {each.name.lower(): each for each in shape.columns}
    for name in columns:
        if name.lower() not in by_name:
            raise Problem(
                "bad_request",
                f"table {table} has no column {name!r}",
                hint=f"its columns are {', '.join(each.name for each in shape.columns)[:500]}",
                extra={"field": "columns"},
            )
    targets = [by_name[name.lower()] for name in columns]
    names = ", ".join(quoted(each.name) for each in targets)
    where = qualified(TableName(shape.schema, shape.name))
    insert = _Insert(
        f"INSERT INTO {where} ({names}) VALUES ",  # noqa: S608 - quoted names
        f"({', '.join('?' for _ in targets)})",
        _conflict(shape, targets, on_conflict, keys),
        len(targets),
    )

    def work() -> int:
        written = 0
        inserter = _Inserter(connection, insert)
        connection.thd_own("SET @onprem_kept = 0")
        try:
            for block in blocks:
                for row in _taken(block, targets, written):
                    inserter.thd_add(row)
                written += len(block)
            inserter.thd_flush()
        finally:
            inserter.thd_close()
        if on_conflict == "ignore":
            kept = connection.thd_texts("SELECT @onprem_kept")[0][0]
            written -= int(kept or 0)
        return written

    # What does not fit is an error, whatever the server would make of it otherwise.
    mode = connection.thd_texts("SELECT @@sql_mode")[0][0] or ""
    connection.thd_own(f"SET sql_mode = '{mode},STRICT_ALL_TABLES'")
    try:
        return _thd_all_or_nothing(connection, work)
    finally:
        if connection.wire.open:
            connection.thd_own(f"SET sql_mode = '{mode}'")


def _conflict(
    shape: TableShape, targets: Sequence[TableColumn], on_conflict: Conflict, keys: Sequence[str]
) -> str:
    if on_conflict == "error":
        return ""
    unique = [list(key) for key in (shape.primary_key, *shape.unique_keys) if key]
    wanted = [key.lower() for key in keys]
    matching = [
        key for key in unique if not wanted or sorted(map(str.lower, key)) == sorted(wanted)
    ]
    if not matching:
        raise Problem(
            "bad_request",
            f"{', '.join(keys) or 'nothing'} is no primary or unique key of {shape.name}",
            hint=f"it has {'; '.join(', '.join(key) for key in unique) or 'none'}",
            extra={"field": "keys"},
        )
    key = matching[0]
    others = [each.name for each in targets if each.name not in key]
    if on_conflict == "update" and others:
        pairs = ", ".join(f"{quoted(name)} = VALUES({quoted(name)})" for name in others)
        return f" ON DUPLICATE KEY UPDATE {pairs}"
    own = quoted(key[0])
    # INSERT IGNORE would also ignore values that don't fit. The row stays as it is, and is counted.
    return (
        f" ON DUPLICATE KEY UPDATE {own} = IF((@onprem_kept := @onprem_kept + 1) > 0, {own}, {own})"
    )


def _taken(block: Sequence[Row], targets: Sequence[TableColumn], before: int) -> Sequence[Bounds]:
    """The rows of a block, bound. Raises Problem ``bad_request`` that tells row and column."""
    if not block:
        return ()
    columns: list[Bounds] = []
    for column, values in zip(targets, zip(*block, strict=True), strict=True):
        plain = column.type not in _FITTED and not column.database_type.startswith("bit")
        try:
            if plain:
                columns.append([_plain(value) for value in values])
            else:
                columns.append([bound(_fitting(value, column), 0) for value in values])
        except (Problem, ValueError):
            raise _unfit(values, column, before) from None
    return list(zip(*columns, strict=True))


def _plain(value: object) -> Bound | None:
    if value.__class__ is str:
        # Most values of most loads.
        return FIELD_TYPE.VAR_STRING, lenenc_encoded(value.encode())
    return bound(value, 0)


def _unfit(values: Sequence[object], column: TableColumn, before: int) -> Problem:
    """Which of a column's values it is."""
    for number, value in enumerate(values, before + 1):
        try:
            bound(_fitting(value, column), 0)
        except (Problem, ValueError) as error:
            detail = error.detail if isinstance(error, Problem) else str(error)
            return Problem(
                "bad_request",
                f"row {number}, column {column.name}: {detail.removeprefix('params[0]: ')}",
                hint=error.hint if isinstance(error, Problem) else None,
                extra={"row": number, "column": column.name},
            )
    raise AssertionError("all of the values fit")


def _fitting(value: object, column: TableColumn) -> object:
    """A body's value as its column takes it: as results show it."""
    if isinstance(value, list) and column.type == "json":
        return json_value(value, column.name)
    if not isinstance(value, str):
        return value
    if column.type == "bytes":
        return base64.b64decode(value, validate=True)
    if column.type == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if column.type == "timestamptz" and _OFFSET.fullmatch(value):
        return Typed("timestamptz", value)
    if column.database_type.startswith("bit"):
        return int(value)
    return value
