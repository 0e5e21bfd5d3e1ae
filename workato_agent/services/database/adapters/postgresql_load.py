"""Bodies into tables by ``COPY … FROM STDIN``, in a thread."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import psycopg2
from attrs import frozen
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..catalogue import TableShape
from ..handover import Abandoned
from ..loading import Load
from ..results import Row
from ..settings import DatabasePolicy
from .base import read_only_problem
from .postgresql_connection import ThreadConnection
from .postgresql_copyin import EndMarks, Field, encode_rows, field_writer, takes_text
from .postgresql_errors import statement_problem, timeout_problem
from .postgresql_intake import Intake
from .postgresql_lease import Conversation
from .postgresql_literals import identifier
from .postgresql_schema import SchemaReader
from .postgresql_timelimit import TimeLimit
from .postgresql_types import PgType, TypeCatalogue

_STAGE: Final = "pg_temp.onprem_load"
_NO_END_MARKS: Final = 180000
_ROW_BYTES: Final = 200
_MALFORMED: Final = ("22P04", "22021")
"""Errors of COPY that are the body's own: its form, its UTF-8."""
# The server's words may be in any language.
_PLACE: Final = re.compile(
    r"^COPY [^\n]*?, [^\s,\"]+ (\d+)(?:, [^\s,\"]+ ([^:\n]+))?", re.MULTILINE
)


async def load_columns(load: Load, policy: DatabasePolicy) -> Sequence[str]:
    """Where the body's columns go. Raises Problem; nothing is asked of the database yet."""
    if policy.read_only:
        raise read_only_problem("rows can't be loaded")
    own = await load.body.columns()
    if load.columns is None:
        return own
    if own and len(load.columns) != len(own):
        raise Problem(
            "bad_request",
            f"columns names {len(load.columns)} columns, and the body has {len(own)}",
            hint="name a column of the table for each column of the body, in its order",
            extra={"field": "columns"},
        )
    return load.columns


@frozen
class _Target:
    """Where rows go: the table's name in SQL, and the columns'."""

    name: str
    columns: Sequence[str]
    kinds: Sequence[PgType]
    keys: Sequence[str]

    @property
    def listed(self) -> str:
        return ", ".join(map(identifier, self.columns))


@frozen
class LoadRun:
    """Loads a body on a lent connection."""

    _reactor: Any
    _talk: Conversation
    _policy: DatabasePolicy
    _types: TypeCatalogue
    _load: Load

    async def run(self, columns: Sequence[str]) -> int:
        """How many rows were written. Raises Problem."""
        target = await self._target(columns)
        as_it_came = self._load.body.format == "csv" and all(map(takes_text, target.kinds))
        connection = self._talk.lease.connection
        if not isinstance(connection, ThreadConnection):
            raise TypeError("COPY needs a connection in a thread")
        source = _Chunks(self._load) if as_it_came else _Blocks(self._load, target.kinds)
        intake: Intake[Any] = Intake(self._reactor)
        reader = source.reader(intake, connection.raw.server_version)
        limit = TimeLimit(
            self._reactor, connection, self._policy.statement_timeout, lambda: intake.waited
        )
        filling = Deferred.fromCoroutine(intake.fill(source.items()))
        filling.addErrback(lambda failure: None)  # it tells by way of the thread
        limit.start()
        try:
            return await connection.lane.run(self._thd_load, connection, target, reader, as_it_came)
        except psycopg2.Error as error:
            if limit.passed:
                raise timeout_problem("the load took too long", self._policy) from None
            raise self._problem(error, reader, as_it_came) from None
        except BaseException:
            intake.close(Abandoned())
            raise
        finally:
            limit.stop()
            intake.close(None)
            filling.cancel()

    async def _target(self, columns: Sequence[str]) -> _Target:
        shape = await SchemaReader(self._talk, self._types).shape(self._load.table)
        types = {column.name: column for column in shape.columns}
        unknown = [name for name in columns if name not in types]
        if unknown:
            raise Problem(
                "bad_request",
                f"the table {self._load.table} has no column {unknown[0][:100]!r}",
                hint=f"it has {', '.join(types)[:500]}; ?columns= names others for the body's",
                extra={"field": "columns"},
            )
        name = f"{identifier(shape.schema or '')}.{identifier(shape.name)}"
        listed = ", ".join(map(identifier, columns))
        cursor = await self._talk.ask(
            f"SELECT {listed} FROM {name} LIMIT 0"  # noqa: S608 - quoted names
        )
        kinds = self._types.find([column.type_code for column in cursor.description])
        return _Target(name, columns, kinds, self._keys(columns, shape))

    def _keys(self, columns: Sequence[str], shape: TableShape) -> Sequence[str]:
        if self._load.on_conflict == "error":
            return ()
        keys = self._load.keys or shape.primary_key
        missing = [name for name in keys if name not in columns]
        if not keys or missing:
            reason = (
                f"the key column {missing[0][:100]!r} is not among those that are loaded"
                if missing
                else f"the table {self._load.table} has no primary key"
            )
            raise Problem(
                "bad_request",
                reason,
                hint="name the columns that make a row the same with ?keys=",
                extra={"field": "keys"},
            )
        return keys

    def _thd_load(
        self, connection: ThreadConnection, target: _Target, reader: Any, as_it_came: bool
    ) -> int:
        options = (
            "FORMAT csv, HEADER true, ENCODING 'UTF8'"
            if as_it_came
            else "FORMAT text, ENCODING 'UTF8'"
        )
        if self._policy.statement_timeout:
            # The server's own timer would count the time in which the caller is slow.
            connection.thd_run("SET LOCAL statement_timeout TO DEFAULT")
        direct = self._load.on_conflict == "error"
        if not direct:
            rows = f"SELECT {target.listed} FROM {target.name}"  # noqa: S608 - quoted names
            connection.thd_run(
                f"CREATE TEMPORARY TABLE onprem_load ON COMMIT DROP AS {rows} WITH NO DATA"
            )
        cursor = connection.raw.cursor()
        into = target.name if direct else _STAGE
        try:
            cursor.copy_expert(f"COPY {into} ({target.listed}) FROM STDIN ({options})", reader)
        except psycopg2.Error:
            if reader.failure is not None:
                raise reader.failure from None
            raise
        if direct:
            return int(cursor.rowcount)
        written = connection.thd_run(_merge(target, update=self._load.on_conflict == "update"))
        count = int(written.rowcount)
        connection.thd_run(f"DROP TABLE {_STAGE}")
        return count

    def _problem(self, error: psycopg2.Error, reader: Any, as_it_came: bool) -> Problem:
        problem = statement_problem(error, None, self._policy)
        match = _PLACE.search(error.diag.context or "")
        if problem.code != "query_failed" or match is None:
            return problem
        unit = "line" if as_it_came else "row"
        column = f", column {match[2]}" if match[2] else ""
        malformed = as_it_came and error.pgcode in _MALFORMED
        return Problem(
            "bad_request" if malformed else problem.code,
            f"{unit} {match[1]}{column}: {problem.detail}",
            hint=problem.hint,
            extra={**problem.extra, unit: int(match[1])},
        )


def _merge(target: _Target, *, update: bool) -> str:
    """From the stage into the table; of rows with the same keys the last counts for an update."""
    keys = ", ".join(map(identifier, target.keys))
    others = [identifier(name) for name in target.columns if name not in target.keys]
    into = f"INSERT INTO {target.name} ({target.listed}) OVERRIDING SYSTEM VALUE"
    if not update or not others:
        rows = f"SELECT {target.listed} FROM {_STAGE}"  # noqa: S608 - quoted names
        return f"{into} {rows} ON CONFLICT ({keys}) DO NOTHING"
    no_key = " OR ".join(f"{identifier(name)} IS NULL" for name in target.keys)
    changes = ", ".join(f"{name} = excluded.{name}" for name in others)
    places = (
        f"SELECT *, pg_catalog.row_number() OVER"  # noqa: S608 - quoted names
        f" (PARTITION BY {keys} ORDER BY ctid DESC)"
        f' AS "onprem.place" FROM {_STAGE}'
    )
    rows = f"SELECT {target.listed} FROM ({places}) AS s"  # noqa: S608 - quoted names
    return (
        f"{into} {rows}"
        f' WHERE "onprem.place" OPERATOR(pg_catalog.=) 1 OR {no_key}'
        f" ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    )


@frozen
class _Chunks:
    """A CSV body as it came."""

    _load: Load

    async def items(self) -> AsyncGenerator[tuple[bytes, int], None]:
        async for chunk in self._load.body.chunks():
            yield chunk, len(chunk)

    def reader(self, intake: Intake[bytes], server_version: int) -> _ChunkReader:
        return _ChunkReader(intake, None if server_version >= _NO_END_MARKS else EndMarks())


@frozen
class _Blocks:
    """A body's rows."""

    _load: Load
    _kinds: Sequence[PgType]

    async def items(self) -> AsyncGenerator[tuple[Sequence[Row], int], None]:
        async for rows in self._load.body.blocks():
            yield rows, _ROW_BYTES * len(rows)

    def reader(self, intake: Intake[Sequence[Row]], server_version: int) -> _BlockReader:
        return _BlockReader(intake, [field_writer(kind) for kind in self._kinds])


class _Reader:
    """What psycopg2 reads from, in the thread.

    :ivar failure: what has ended the body; psycopg2 only says that there was something.
    """

    failure: BaseException | None = None

    def read(self, _size: int) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self._thd_read()
        except BaseException as error:
            self.failure = error
            raise

    def _thd_read(self) -> bytes:
        raise NotImplementedError


class _ChunkReader(_Reader):
    def __init__(self, intake: Intake[bytes], marks: EndMarks | None) -> None:
        self._intake = intake
        self._marks = marks

    def _thd_read(self) -> bytes:
        while (chunk := self._intake.thd_take()) is not None:
            data = chunk if self._marks is None else self._marks.feed(chunk)
            if data:
                return data
        if self._marks is None:
            return b""
        marks, self._marks = self._marks, None
        return marks.end()


class _BlockReader(_Reader):
    def __init__(self, intake: Intake[Sequence[Row]], fields: Sequence[Field]) -> None:
        self._intake = intake
        self._fields = fields
        self._count = 0

    def _thd_read(self) -> bytes:
        while (rows := self._intake.thd_take()) is not None:
            if rows:
                data = encode_rows(rows, self._fields, self._count + 1)
                self._count += len(rows)
                return data
        return b""
