"""Everything that can be asked of a database, on a connection whose driver blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..catalogue import Table, TableShape
from ..loading import Load
from ..statements import Batch, Statement, TableName
from .base import Outcome, Output, Params, ResultSet, Returned, RowStream
from .driver import DriverConnection, DriverCursor
from .lease import Lease
from .threaded_load import RowFeed, target_columns
from .threaded_rows import ResultReader, ThreadedRows

T = TypeVar("T")


@define(eq=False)
class ThreadedWork:
    """See :class:`~.base.Work`."""

    _reactor: Any

    async def lease(self) -> Lease:
        """A connection for one piece of work. Raises Problem."""
        raise NotImplementedError

    async def query(self, statement: Statement, output: Output) -> RowStream:
        rows = ThreadedRows(await self.lease(), output, statement)
        try:
            await rows.begin()
        except BaseException:
            await rows.abort()
            raise
        return rows

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        lease = await self.lease()

        def thd_execute(connection: DriverConnection) -> Outcome:
            cursor = lease.connection.allowance.thd_timed(connection.thd_run, statement)
            return _thd_closing(lease, cursor, lambda: _thd_outcome(lease, cursor, output))

        return await self._do(lease, thd_execute, statement)

    async def batch(self, batch: Batch) -> int:
        return await self._do(
            await self.lease(), lambda connection: connection.thd_batch(batch), batch.statement
        )

    async def call(
        self, procedure: TableName, params: Params | None, outputs: Callable[[], Output]
    ) -> Returned:
        lease = await self.lease()

        def thd_call(connection: DriverConnection) -> Returned:
            timed = lease.connection.allowance.thd_timed
            cursor, out = timed(connection.thd_call, procedure, params)
            if cursor is None:
                return Returned(out)
            results: list[ResultSet] = []

            def thd_read() -> None:
                while True:
                    if cursor.columns:
                        results.append(_thd_result_set(lease, cursor, outputs()))
                    if not timed(cursor.thd_next):
                        return

            _thd_closing(lease, cursor, thd_read)
            return Returned(out, results)

        return await self._do(lease, thd_call)

    async def load(self, load: Load) -> int:
        columns = await target_columns(load)
        lease = await self.lease()
        feed = RowFeed(self._reactor, lease.connection.allowance)
        filling = Deferred.fromCoroutine(feed.fill(load.body))
        try:
            return await self._do(
                lease,
                lambda connection: connection.thd_load(
                    load.table, columns, feed, load.on_conflict, load.keys
                ),
            )
        finally:
            filling.addErrback(lambda _: None)  # the thread has told what there is to tell
            filling.cancel()

    async def tables(self) -> Sequence[Table]:
        return await self._do(await self.lease(), lambda connection: connection.thd_tables())

    async def shape(self, table: TableName) -> TableShape:
        return await self._do(await self.lease(), lambda connection: connection.thd_shape(table))

    async def _do(
        self,
        lease: Lease,
        work: Callable[[DriverConnection], T],
        statement: Statement | None = None,
    ) -> T:
        """Work that ends in one go, with the transaction around it."""
        connection = lease.connection

        def thd_all() -> T:
            lease.thd_begin()
            result = connection.allowance.thd_timed(work, connection.raw)
            lease.thd_end()
            return result

        try:
            result = await connection.run(thd_all, statement)
        except BaseException as error:
            await lease.failed(usable=isinstance(error, Problem))
            raise
        lease.done()
        return result


def _thd_outcome(lease: Lease, cursor: DriverCursor, output: Output) -> Outcome:
    if not cursor.columns:
        return Outcome(max(0, cursor.changed or 0))
    reader = ResultReader(lease, cursor, output)
    rows = _thd_all_rows(reader)
    reader.thd_skip()
    count = reader.count if cursor.changed is None else cursor.changed
    return Outcome(count, cursor.columns, rows)


def _thd_result_set(lease: Lease, cursor: DriverCursor, output: Output) -> ResultSet:
    rows = _thd_all_rows(ResultReader(lease, cursor, output))
    return ResultSet(cursor.columns, rows, output.rows, output.truncated)


def _thd_all_rows(reader: ResultReader) -> bytes:
    blocks = []
    while (block := reader.thd_block()) is not None:
        blocks.append(block.data)
    return b"".join(blocks)


def _thd_closing(lease: Lease, cursor: DriverCursor, read: Callable[[], T]) -> T:
    try:
        result = read()
    except BaseException:
        with suppress(*lease.connection.raw.errors):
            cursor.thd_close()
        raise
    cursor.thd_close()
    return result
