"""Everything that can be asked of PostgreSQL, on whatever connection a lease brings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from attrs import define, field

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Load
from ..statements import Batch, Dialect, Outline, Rendered, Statement, TableName, outline
from .base import Outcome, Output, Params, Returned, RowStream
from .postgresql_batch import BatchRun
from .postgresql_call import RoutineCall
from .postgresql_connection import ReactorConnection, ThreadConnection
from .postgresql_errors import several_problem
from .postgresql_fetch import FetchedRows
from .postgresql_lease import Conversation, Grounds, Lease
from .postgresql_load import LoadRun, load_columns
from .postgresql_schema import SchemaReader
from .postgresql_types import TypeCatalogue


@define(eq=False)
class PostgresqlWork:
    """See :class:`~.base.Work`. A subclass says where connections come from."""

    _grounds: Grounds
    types: TypeCatalogue = field(factory=TypeCatalogue, kw_only=True)

    async def lease(self, kind: str) -> Lease:
        """A connection for one piece of work; its ``kind`` may be a better one."""
        raise NotImplementedError

    async def query(self, statement: Statement, output: Output) -> RowStream:
        rendered, shape = self.single(statement)
        return await self.fetch(rendered, shape, output)

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        rendered, shape = self.single(statement)
        rows = await self.fetch(rendered, shape, output)
        try:
            parts = []
            while (block := await rows.next_block()) is not None:
                parts.append(block.data)
            count = await rows.count()
            await rows.finish()
        except BaseException:
            await rows.abort()
            raise
        return Outcome(count, rows.columns or None, b"".join(parts))

    async def batch(self, batch: Batch) -> int:
        if not batch.rows:
            return 0
        async with self._talk(ReactorConnection.kind) as talk:
            run = BatchRun(talk, self._grounds.policy, self._grounds.traits, batch)
            return await run.run()

    async def call(
        self, procedure: TableName, params: Params | None, outputs: Callable[[], Output]
    ) -> Returned:
        async with self._talk(ReactorConnection.kind) as talk:
            run = RoutineCall(talk, self._grounds.traits, self.types, outputs)
            return await run.run(procedure, params)

    async def load(self, load: Load) -> int:
        columns = await load_columns(load, self._grounds.policy)
        if not columns:
            return 0
        async with self._talk(ThreadConnection.kind) as talk:
            run = LoadRun(self._grounds.reactor, talk, self._grounds.policy, self.types, load)
            return await run.run(columns)

    async def tables(self) -> Sequence[Table]:
        async with self._talk(ReactorConnection.kind) as talk:
            return await SchemaReader(talk, self.types).tables()

    async def shape(self, table: TableName) -> TableShape:
        async with self._talk(ReactorConnection.kind) as talk:
            return await SchemaReader(talk, self.types).shape(table)

    def single(self, statement: Statement) -> tuple[Rendered, Outline]:
        """The statement as the server gets it. Raises Problem where there are several."""
        rendered = statement.render(self._grounds.traits.literal)
        dialect: Dialect = self._grounds.traits.dialect
        shape = outline(rendered.sql, dialect)
        # CREATE FUNCTION … BEGIN ATOMIC holds semicolons of its own.
        if shape.several and "atomic" not in shape.words:
            raise several_problem()
        return rendered, shape

    async def fetch(
        self, rendered: Rendered, shape: Outline, output: Output, start: str | None = None
    ) -> FetchedRows:
        """Begin a statement whose rows are fetched. ``start`` opens its portal."""
        lease = await self.lease(ReactorConnection.kind)
        rows = FetchedRows(Conversation(self._grounds, lease), self.types, output)
        try:
            await rows.begin(rendered, start or self._grounds.traits.opening(rendered.sql))
        except BaseException:
            await rows.abort()
            raise
        return rows

    @asynccontextmanager
    async def _talk(self, kind: str) -> AsyncIterator[Conversation]:
        """A conversation that is completed at the end, and undone when that isn't reached."""
        lease = await self.lease(kind)
        talk = Conversation(self._grounds, lease)
        try:
            yield talk
            await talk.complete()
        except BaseException as error:
            await lease.failed(usable=isinstance(error, Problem))
            raise
