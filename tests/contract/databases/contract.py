"""What the groups of tests have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, ClassVar

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.database import Caller
from workato_agent.services.database.adapters.base import Adapter, Output, Work
from workato_agent.services.database.loading import Conflict, Load, LoadFormat
from workato_agent.services.database.results import (
    Column,
    CsvWriter,
    NdjsonWriter,
    Row,
    ValueForm,
)
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_agent.services.database.statements import TableName, bind
from workato_tunnel.problems import Problem

from .subject import Subject

CSV, NDJSON = "text/csv", "application/x-ndjson"


class NativeWriter:
    """Keeps rows as they are, in the form of binary formats."""

    media_type: ClassVar[str] = "application/x-rows"
    format: ClassVar[str] = "native"
    form: ClassVar[ValueForm] = "native"
    says_truncated: ClassVar[bool] = True

    def __init__(self) -> None:
        self.kept: list[Row] = []

    def head(self, columns: Sequence[Column]) -> bytes:
        return b""

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        self.kept += rows
        return b"row" * len(rows)

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return b""

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return b""


@define
class RowsBody:
    """A body of ``load``, of rows that are there already; ``failure`` comes after them.

    :ivar taken: how many blocks have been asked for.
    """

    names: Sequence[str]
    rows: Sequence[Row]
    failure: Exception | None = None
    block: int = 100
    format: LoadFormat = "ndjson"
    taken: int = field(default=0, init=False)

    async def columns(self) -> Sequence[str]:
        return self.names

    async def chunks(self) -> AsyncIterator[bytes]:
        writer = CsvWriter() if self.format == "csv" else NdjsonWriter()
        yield writer.head([Column(name, "string") for name in self.names])
        async for rows in self.blocks():
            yield writer.rows(rows, first=False)

    async def blocks(self) -> AsyncIterator[Sequence[Row]]:
        for start in range(0, len(self.rows), self.block):
            self.taken += 1
            await pause(0)
            yield self.rows[start : start + self.block]
        if self.failure is not None:
            raise self.failure


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor turn for a while."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


class DatabaseContract(TestCase):
    """A group of tests; :func:`.cases.contract` makes it one adapter's."""

    timeout = 60
    subject_type: ClassVar[type[Subject]]

    def setUp(self) -> None:
        self.subject = self.subject_type()
        self.addCleanup(self.subject.close)

    def adapter(self, policy: DatabasePolicy | None = None, **pool: Any) -> Adapter:
        """The adapter alone; closed after the test."""
        adapter = self.subject.adapter(policy or DatabasePolicy(), PoolSettings(**pool))
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        return adapter

    def caller(self, policy: DatabasePolicy | None = None, **pool: Any) -> Caller:
        """Calls to a service around the adapter; closed after the test."""
        policy = policy or DatabasePolicy()
        return self.serving(self.subject.adapter(policy, PoolSettings(**pool)), policy)

    def serving(self, adapter: Adapter, policy: DatabasePolicy | None = None) -> Caller:
        """Calls to a service around an adapter; both are closed after the test."""
        service = DatabaseService.build(reactor, adapter, policy or DatabasePolicy())
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        """The problem, of one of these codes, that work ends with."""
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def table(self, name: str, columns: str) -> None:
        """Make a table; it is dropped after the test."""
        drop = f"drop table if exists {name}"
        await self.run_all([drop, f"create table {name} ({columns})"])
        self.addCleanup(lambda: Deferred.fromCoroutine(self.run_all([drop])))

    async def run_all(self, statements: Sequence[str]) -> None:
        """Run statements of the test's own, on a connection of their own."""
        adapter = self.subject.adapter(DatabasePolicy(), PoolSettings())
        try:
            for sql in statements:
                await self.run_on(adapter, sql)
        finally:
            await adapter.close()

    async def count(self, table: str) -> int:
        """A table's rows, as another connection sees them."""
        adapter = self.subject.adapter(DatabasePolicy(), PoolSettings())
        try:
            rows, _columns = await self.read(adapter, f"select count(*) from {table}")
        finally:
            await adapter.close()
        (count,) = rows[0]
        return int(str(count))

    async def read(
        self, work: Work, sql: str, params: Sequence[object] | Mapping[str, object] | None = None
    ) -> tuple[list[Row], Sequence[Column]]:
        """All rows in the native form. Parameters are given as an adapter gets them."""
        writer = NativeWriter()
        stream = await work.query(bind(sql, params, self.dialect), Output(writer))
        try:
            while await stream.next_block() is not None:
                pass
            await stream.finish()
        except BaseException:
            await stream.abort()
            raise
        return writer.kept, stream.columns

    async def run_on(self, work: Work, sql: str, params: Sequence[object] | None = None) -> int:
        """Execute a statement; the rows changed."""
        statement = bind(sql, params, self.dialect)
        return (await work.execute(statement, Output(NativeWriter()))).row_count

    @property
    def dialect(self) -> Any:
        """How the adapter's SQL is scanned."""
        return self.subject.adapter(DatabasePolicy(), PoolSettings()).dialect

    def load(
        self,
        table: str,
        body: RowsBody,
        columns: Sequence[str] | None = None,
        on_conflict: Conflict = "error",
        keys: Sequence[str] = (),
    ) -> Load:
        """Rows for a table that was made without quotes."""
        name = TableName(None, self.subject.fold(table))
        return Load(name, body, columns, on_conflict, keys)

    async def until(self, condition: Any, seconds: float = 10.0) -> bool:
        """Wait until something holds."""
        deadline = reactor.seconds() + seconds  # type: ignore[attr-defined]
        while not condition():
            if reactor.seconds() > deadline:  # type: ignore[attr-defined]
                return False
            await pause(0.05)
        return True
