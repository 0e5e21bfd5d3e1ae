"""PostgreSQL that stands still or dies: no call hangs, and the pool comes back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.support.postgresql import PostgresqlServer
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.loading import Load
from workato_agent.services.database.loading_csv import CsvBody
from workato_agent.services.database.parameters import Number
from workato_agent.services.database.results import JsonWriter
from workato_agent.services.database.settings import PoolSettings
from workato_agent.services.database.statements import POSTGRESQL, Batch, TableName, bind
from workato_agent.services.database.work import Threads

CSV = "text/csv"


class Outages(PostgresqlTestCase):
    def setUp(self) -> None:
        # An ODBC driver brings the system's libpq into the process, beside psycopg2's own.
        ctypes.CDLL("libpq.so.5")
        self.server = PostgresqlServer.start()
        self.addCleanup(self.server.destroy)
        self.threads = Threads.of(reactor, 1, "bodies")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.stop()))
        self.server.run("create table loaded (i int)")

    def signalled(self, number: int) -> None:
        """Send a signal to each of the server's processes."""
        first = (self.server.folder / "data" / "postmaster.pid").read_text().split()[0]
        children = [
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(entry) == first
        ]
        for pid in (first, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)

    async def lines(self) -> AsyncIterator[bytes]:
        yield b"i\n"
        while True:
            await self.pause(0.01)
            yield b"1\n" * 1000

    async def begun(self, count: int) -> None:
        """Wait until that many connections are at work."""
        for _ in range(100):
            if self.working() == count:
                return
            await self.pause(0.1)
        self.fail(f"{self.working()} are at work")

    def works(self, caller: Any) -> list[Any]:
        rows = [[Number("0.1")]] * 1000
        statement = bind("select pg_sleep(?)", rows[0], POSTGRESQL)
        return [
            caller.query("select pg_sleep(30)"),
            caller.query("select i, pg_sleep(0.01) from generate_series(1, 99999) i", accept=CSV),
            self.adapter.batch(Batch(statement, rows)),
            self.adapter.call(TableName(None, "pg_sleep"), [30], lambda: Output(JsonWriter())),
            self.adapter.load(Load(TableName(None, "loaded"), CsvBody(self.lines(), self.threads))),
        ]

    async def test_a_server_that_stands_still_holds_no_call_beyond_its_deadline(self) -> None:
        caller = self.caller(pool=PoolSettings(max=5), connect_timeout=2)
        calls = [Deferred.fromCoroutine(work) for work in self.works(caller)]
        await self.begun(5)
        self.signalled(signal.SIGSTOP)
        try:
            began = time.monotonic()
            for call in calls:
                call.cancel()
            for call in calls:
                await self.assertFailure(call, CancelledError)
            self.assertLess(time.monotonic() - began, 4)
        finally:
            self.signalled(signal.SIGCONT)
        for _ in range(10):
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
            self.assertIn(b"1", (await caller.query("select 1 as a", accept=CSV)).body)

    async def test_a_server_that_dies_ends_calls_and_the_pool_comes_back(self) -> None:
        caller = self.caller(pool=PoolSettings(max=5))
        session = await self.adapter.session()
        await session.tables()
        *works, load = self.works(caller)
        load.close()
        calls = [Deferred.fromCoroutine(work) for work in works]
        await self.begun(5)
        self.server.pause()
        for call in calls:
            problem = await self.problem(call, "target_unreachable")
            self.assertIn("lost", problem.detail)
        self.assertTrue(session.ended)
        await self.problem(caller.query("select 1"), "target_unreachable")
        self.server.resume()
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
        self.assertIn(b"1", (await caller.query("select 1 as a", accept=CSV)).body)


def _parent(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""
