"""Database services on a real MariaDB, and what a test asks of the server behind their back."""

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from workato_agent.services.database.adapters.mysql import MysqlDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import DatabasePolicy, MysqlSettings, PoolSettings
from workato_tunnel.problems import Problem

from .database import Caller
from .mariadb import DATABASE, PASSWORD, USER, MariadbServer, shared_server


class MysqlTestCase(TestCase):
    """A test with services on the shared server; they are closed after it."""

    timeout = 60

    def setUp(self) -> None:
        self.server: MariadbServer = shared_server()
        self.adapter: ThreadedAdapter

    def settings(self, **changed: Any) -> MysqlSettings:
        """Those of a profile on the server, but for what is changed."""
        profile: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "database": DATABASE,
            "user": USER,
            "password": PASSWORD,
        }
        return MysqlSettings(**profile | changed)

    def caller(
        self,
        policy: DatabasePolicy | None = None,
        pool: PoolSettings | None = None,
        **settings: Any,
    ) -> Caller:
        """A new service; ``settings`` are those of the profile that differ."""
        policy = policy or DatabasePolicy()
        driver = MysqlDriver.build(self.settings(**settings), policy)
        self.adapter = ThreadedAdapter.build(reactor, driver, pool or PoolSettings(), policy)
        service = DatabaseService.build(reactor, self.adapter, policy)
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

    def table(self, name: str, columns: str) -> None:
        """A table for this test."""
        self.server.run(f"drop table if exists {name}", f"create table {name} ({columns})")
        self.addCleanup(self.server.run, f"drop table if exists {name}")

    async def problem(self, work: Any, code: str) -> Problem:
        """The problem, of that code, in which some work has to end."""
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def pause(self, seconds: float) -> None:
        """Let the reactor run."""
        await task.deferLater(cast("IReactorTime", reactor), seconds)

    def working(self) -> int:
        """How many statements but this one run on the server now."""
        rows = self.server.run(
            "select count(*) from information_schema.processlist"
            f" where id <> connection_id() and user = '{USER}' and command <> 'Sleep'"
        )
        return int(rows[0][0])

    async def stops_within(self, seconds: float) -> None:
        """Nothing runs on the server after that time."""
        until = time.monotonic() + seconds
        while self.working():
            if time.monotonic() > until:
                raise AssertionError(f"the server still works after {seconds} s")
            await self.pause(0.05)
