"""A database service on a real SQLite database, called as the dispatcher does."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from tests.support.database import read, request
from workato_agent.services.database.adapters.sqlite import SqliteDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.routes import OPERATIONS
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    SessionSettings,
    SqliteSettings,
)
from workato_tunnel.problems import Problem

MSGPACK = "application/vnd.msgpack"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
QUERIES = {
    "above": "select name from items where id > :low order by id",
    "one": "select name from items where id = ?",
    "all": "select count(*) from items",
}


@frozen
class Answered:
    """A call and what came of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rows: int | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def msgpack(self) -> Any:
        return msgspec.msgpack.decode(self.body)


class ServiceCase(TestCase):
    timeout = 30
    policy = DatabasePolicy()
    operations = OPERATIONS

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "items.db"
        with sqlite3.connect(self.file) as connection:
            connection.execute(
                "create table items (id integer primary key, name text, data blob, price real)"
            )
            connection.execute("insert into items values (1, 'one', x'0001', 1.5)")
        connection.close()
        self.service = self.serve()

    def serve(self, policy: DatabasePolicy | None = None, **options: Any) -> DatabaseService:
        policy = policy or self.policy
        driver = SqliteDriver(SqliteSettings(self.file), policy)
        adapter = ThreadedAdapter.build(reactor, driver, PoolSettings(max=3, wait=5), policy)
        service = DatabaseService.build(
            reactor,
            adapter,
            policy,
            self.operations,
            queries=QUERIES,
            sessions=SessionSettings("agent-1", 60.0, 2),
            **options,
        )
        self.addCleanup(lambda: ensureDeferred(service.close()))
        return service

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        accept: str | None = None,
        kind: str | None = None,
        caller: str = "tester",
        service: DatabaseService | None = None,
        **query: str,
    ) -> Answered:
        fields = () if kind is None else (("content-type", kind),)
        sent = request(
            method,
            path,
            body,
            accept=accept,
            headers=fields,
            query=urlencode(query),
            caller=caller,
        )
        response = await (service or self.service).handle(sent)
        data = await read(response)
        if not isinstance(response.body, bytes):
            await response.body.aclose()  # type: ignore[attr-defined]
        return Answered(response.status, dict(response.headers), data, sent.usage.rows)

    async def post(self, path: str, body: object = None, **options: Any) -> Answered:
        return await self.call("POST", path, body, **options)

    async def refused(self, method: str, path: str, body: object = None, **more: Any) -> Problem:
        try:
            answered = await self.call(method, path, body, **more)
        except Problem as problem:
            return problem
        raise AssertionError(f"it was answered: {answered}")

    async def rows(self, sql: str) -> list[list[Any]]:
        found: list[list[Any]] = (await self.post("query", {"sql": sql})).json["rows"]
        return found

    async def names(self) -> dict[int, str | None]:
        return dict(await self.rows("select id, name from items order by id"))  # type: ignore[arg-type]
