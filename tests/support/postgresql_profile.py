"""Database services on a real PostgreSQL, and what a test asks of the server behind their back."""

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from workato_agent.services.database.adapters.postgresql import PostgresqlAdapter
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    PostgresqlSettings,
)
from workato_tunnel.problems import Problem

from .database import Caller
from .postgresql import PASSWORD, SUPERUSER, PostgresqlServer, shared_server


class PostgresqlTestCase(TestCase):
    """A test with services on the shared server; they are closed after it."""

    timeout = 60

    def setUp(self) -> None:
        self.server: PostgresqlServer = shared_server()
        self.adapter: PostgresqlAdapter

    def caller(
        self,
        policy: DatabasePolicy | None = None,
        pool: PoolSettings | None = None,
        **settings: Any,
    ) -> Caller:
        """A new service; ``settings`` are those of the profile that differ."""
        policy = policy or DatabasePolicy()
        profile = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "database": "postgres",
            "user": SUPERUSER,
            "password": PASSWORD,
        } | settings
        self.adapter = PostgresqlAdapter.build(
            reactor, PostgresqlSettings(**profile), pool or PoolSettings(), policy
        )
        service = DatabaseService.build(reactor, self.adapter, policy)
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return Caller(service)

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
        """How many of the agent's statements run on the server now."""
        rows = self.server.run(
            "select count(*) from pg_stat_activity where application_name = 'workato-agent'"
            " and state <> 'idle'"
        )
        return int(rows[0][0])

    async def stops_within(self, seconds: float) -> None:
        """Nothing of the agent's runs on the server after that time."""
        until = time.monotonic() + seconds
        while self.working():
            if time.monotonic() > until:
                raise AssertionError(f"the server still works after {seconds} s")
            await self.pause(0.05)
