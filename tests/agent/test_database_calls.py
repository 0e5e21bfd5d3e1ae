"""Every call of the service, on a real SQLite database."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pyarrow as pa
from attrs import define, evolve, field, frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import capturedLogs
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


@define(eq=False)
class StalledBody:
    """A body that comes as far as ``data`` and then no further."""

    data: bytes
    stalled: Deferred[None] = field(factory=Deferred)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 65536):
            yield self.data[start : start + 65536]
        self.stalled.callback(None)
        await Deferred()

    async def read(self, limit: int) -> bytes:
        raise AssertionError("it is streamed")


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


class Batches(ServiceCase):
    async def test_lists_and_objects(self) -> None:
        sql = "insert into items (id, name) values (?, ?)"
        answered = await self.post("batch", {"sql": sql, "params": [[2, "two"], [3, None]]})
        self.assertEqual((answered.json, answered.rows), ({"row_count": 2}, 2))
        sql = "insert into items (name, id) values (:name || :name, :id)"
        sets = [{"id": 4, "name": "x"}, {"name": "y", "id": 5, "unused": 1}]
        self.assertEqual((await self.post("batch", {"sql": sql, "params": sets})).rows, 2)
        self.assertEqual(await self.names(), {1: "one", 2: "two", 3: None, 4: "xx", 5: "yy"})

    async def test_all_or_nothing(self) -> None:
        sql = "insert into items (id, name) values (?, ?)"
        problem = await self.refused("POST", "batch", {"sql": sql, "params": [[2, "x"], [1, "y"]]})
        self.assertEqual(problem.code, "query_failed")
        self.assertEqual(await self.names(), {1: "one"})

    async def test_without_sets_nothing_is_done(self) -> None:
        body: dict[str, object] = {"sql": "delete from items", "params": []}
        self.assertEqual((await self.post("batch", body)).json, {"row_count": 0})
        self.assertEqual(await self.names(), {1: "one"})

    async def test_a_set_that_does_not_match_is_named(self) -> None:
        lists = "insert into items (id, name) values (?, ?)"
        names = "insert into items (id, name) values (:id, :name)"
        for sql, sets, where in (
            (lists, [[2, "x"], [3]], "params[1]"),
            (lists, [[2], [3]], "params"),
            (lists, [[2, "x"], {"id": 1}], "params[1]"),
            (lists, [[2, {"type": "date", "value": "x"}]], "params[0][1].value"),
            (names, [{"id": 2, "name": "x"}, {"id": 3}], "params[1].name"),
            (names, [{"id": 2}], "params.name"),
            (names, {"id": 2}, "params"),
            (names, [1], "params[0]"),
        ):
            problem = await self.refused("POST", "batch", {"sql": sql, "params": sets})
            self.assertEqual((problem.code, problem.extra.get("field")), ("bad_request", where))

    async def test_a_large_one(self) -> None:
        sets = [[n, "x" * 20] for n in range(2, 20_000)]
        sql = "insert into items (id, name) values (?, ?)"
        answered = await self.post("batch", {"sql": sql, "params": sets})
        self.assertEqual(answered.json, {"row_count": 19_998})


class Bodies(ServiceCase):
    async def test_messagepack_carries_values_as_they_are(self) -> None:
        params = [2, "zwei", b"\0\xff", 2.5]
        sql = "insert into items values (?, ?, ?, ?) returning *"
        body = msgspec.msgpack.encode({"sql": sql, "params": params})
        for kind in (MSGPACK, "application/msgpack", "Application/X-MsgPack; charset=x"):
            answered = await self.post("execute", body, kind=kind, accept=MSGPACK)
            self.assertEqual(answered.headers["content-type"], MSGPACK)
            self.assertEqual(answered.msgpack["rows"], [params])
            self.assertEqual((answered.msgpack["row_count"], answered.rows), (1, 1))
            await self.post("execute", {"sql": "delete from items where id = 2"})

    async def test_messagepack_is_checked_as_json_is(self) -> None:
        for body, where in (
            ({"sql": 1}, "sql"),
            ({"sql": "x", "more": 1}, "more"),
            ({"sql": "x", "params": [{"a": 1}]}, "params[0]"),
            ({"sql": "x", "params": [{1: 2}]}, "params[0]"),
            ({"sql": "x", "params": [msgspec.msgpack.Ext(5, b"x")]}, "params[0]"),
            ({"sql": "x", "params": [{"type": "json", "value": b"x"}]}, "params[0].value"),
        ):
            problem = await self.refused(
                "POST", "query", msgspec.msgpack.encode(body), kind=MSGPACK
            )
            self.assertEqual((problem.code, problem.extra.get("field")), ("bad_request", where))
        for data in (
            b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"\xdf\xff\xff\xff\xff",
            b"\x82\xa3sql\xa1x\xa6params" + b"\x91" * 5000, b'{"sql": "x"}',
        ):  # fmt: skip
            problem = await self.refused("POST", "query", data, kind=MSGPACK)
            self.assertEqual(problem.code, "bad_request")

    async def test_other_types_are_refused(self) -> None:
        for kind in ("multipart/form-data; boundary=x", "text/csv", "application/vnd.other"):
            problem = await self.refused("POST", "query", {"sql": "select 1"}, kind=kind)
            self.assertEqual(problem.extra, {"field": "Content-Type"})
        answered = await self.post("query", {"sql": "select 1"}, kind="text/plain")
        self.assertEqual(answered.status, 200)

    async def test_small_answers_come_as_messagepack_too(self) -> None:
        answered = await self.call("GET", "", accept=MSGPACK)
        self.assertTrue(answered.msgpack["ok"])
        answered = await self.call("GET", "schema/items", accept=MSGPACK)
        self.assertEqual(answered.msgpack["name"], "items")

    async def test_every_format_of_a_result(self) -> None:
        sql = {"sql": "select id, name, data, price from items"}
        data = (await self.post("query", sql, accept=ARROW)).body
        expected = {"id": 1, "name": "one", "data": b"\0\1", "price": 1.5}
        self.assertEqual(pa.ipc.open_stream(data).read_all().to_pylist(), [expected])
        answered = await self.post("query", sql, accept=MSGPACK)
        self.assertIn(msgspec.msgpack.encode(list(expected.values())), answered.body)
        self.assertEqual((await self.post("query", sql, accept=CSV)).body.count(b"AAE="), 1)
        self.assertEqual((await self.post("query", sql, accept=NDJSON)).json["data"], "AAE=")


class Names(ServiceCase):
    async def test_queries_are_called_by_name(self) -> None:
        answered = await self.post("queries/above", {"params": {"low": 0}})
        self.assertEqual((answered.json["rows"], answered.rows), ([["one"]], 1))
        answered = await self.post("queries/one", {"params": [1]}, accept=CSV)
        self.assertEqual(answered.body, b"name\r\none\r\n")
        self.assertEqual((await self.post("queries/all")).json["rows"], [[1]])
        answered = await self.post("queries/above", {"params": {"low": 0}, "max_rows": 0})
        self.assertEqual(answered.json["truncated"], True)

    async def test_they_are_listed_without_their_text(self) -> None:
        found = (await self.call("GET", "queries")).json["queries"]
        self.assertEqual(
            found,
            [
                {"name": "above", "names": ["low"], "positional": 0},
                {"name": "all", "names": [], "positional": 0},
                {"name": "one", "names": [], "positional": 1},
            ],
        )

    async def test_what_does_not_fit_is_refused(self) -> None:
        problem = await self.refused("POST", "queries/nothing")
        self.assertEqual(problem.code, "not_found")
        self.assertIn("above", problem.hint or "")
        for params, where in (
            (None, "params"),
            ([1], "params"),
            ({}, "params.low"),
            ({"low": 1, "high": 2}, "params.high"),
        ):
            problem = await self.refused("POST", "queries/above", {"params": params})
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": where}))
        problem = await self.refused("POST", "queries/above", {"sql": "select 1"})
        self.assertEqual(problem.extra, {"field": "sql"})

    async def test_only_they_are_left_without_adhoc(self) -> None:
        service = self.serve(DatabasePolicy(adhoc=False))
        for path, body in (
            ("query", {"sql": "select 1"}),
            ("execute", {"sql": "select 1"}),
            ("batch", {"sql": "select 1", "params": []}),
        ):
            problem = await self.refused("POST", path, body, service=service)
            self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "adhoc"}))
        answered = await self.post("queries/all", service=service)
        self.assertEqual(answered.json["rows"], [[1]])


class Schema(ServiceCase):
    async def test_tables_and_columns(self) -> None:
        answered = await self.call("GET", "schema")
        self.assertEqual(answered.json, {"tables": [{"name": "items", "type": "table"}]})
        shape = (await self.call("GET", "schema/items")).json
        self.assertEqual(
            [column["name"] for column in shape["columns"]], ["id", "name", "data", "price"]
        )
        self.assertEqual(shape["primary_key"], ["id"])

    async def test_names_may_be_qualified_quoted_and_encoded(self) -> None:
        await self.post("execute", {"sql": 'create table "a.b ""c"" é/" (x int)'})
        name = 'a.b ""c"" é/'
        for path in ("main.items", quote("é", safe=""), quote(f'"{name}"', safe="")):
            if path == quote("é", safe=""):
                self.assertEqual((await self.refused("GET", f"schema/{path}")).code, "not_found")
            else:
                self.assertEqual((await self.call("GET", f"schema/{path}")).status, 200)
        for path in ("a.b.c", "%22a", ".a", "a.", "%00", "x" * 600):
            problem = await self.refused("GET", f"schema/{path}")
            self.assertEqual(problem.extra, {"field": "table"})
        self.assertEqual((await self.refused("GET", "schema/%ff")).code, "bad_request")

    async def test_procedures_there_are_none(self) -> None:
        problem = await self.refused("POST", "call/some.thing", {"params": [1]})
        self.assertEqual(problem.code, "operation_not_found")


class Loads(ServiceCase):
    async def load(self, data: bytes, kind: str = CSV, **query: str) -> Answered:
        return await self.post("load/items", data, kind=kind, **query)

    async def test_each_format(self) -> None:
        answered = await self.load(b'id,name\n2,"two"\n3,\n4,""\n')
        self.assertEqual((answered.json, answered.rows), ({"row_count": 3}, 3))
        await self.load(b'{"id":5,"name":"five"}\n{"id":6}\n', NDJSON)
        table = pa.table({"id": [7, 8], "name": ["seven", None], "data": [b"\0", None]})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        await self.load(sink.getvalue().to_pybytes(), ARROW)
        self.assertEqual(
            await self.names(),
            {1: "one", 2: "two", 3: None, 4: "", 5: "five", 6: None, 7: "seven", 8: None},
        )

    async def test_conflicts(self) -> None:
        data = b"id,name\n1,uno\n2,due\n"
        problem = await self.refused("POST", "load/items", data, kind=CSV)
        self.assertEqual(problem.code, "query_failed")
        self.assertEqual(await self.names(), {1: "one"})
        self.assertEqual((await self.load(data, on_conflict="ignore")).status, 200)
        self.assertEqual(await self.names(), {1: "one", 2: "due"})
        await self.load(data, on_conflict="update", keys="id")
        self.assertEqual(await self.names(), {1: "uno", 2: "due"})

    async def test_columns_go_where_the_caller_says(self) -> None:
        await self.load(b"a,b\n2,two\n", columns='"id",name')
        await self.load(b'{"name":"three","id":3}\n', NDJSON, columns="id,name")
        self.assertEqual(await self.names(), {1: "one", 2: "two", 3: "three"})

    async def test_what_does_not_fit_is_refused(self) -> None:
        data = b"id,name\n2,two\n"
        for query, where in (
            ({"columns": "id"}, "columns"),
            ({"columns": "id,,name"}, "columns"),
            ({"columns": "id,id"}, "columns"),
            ({"columns": ""}, "columns"),
            ({"on_conflict": "replace"}, "on_conflict"),
            ({"keys": "id"}, "keys"),
            ({"keys": "other", "on_conflict": "update"}, "keys"),
            ({"colums": "id"}, "colums"),
        ):
            problem = await self.refused("POST", "load/items", data, kind=CSV, **query)
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": where}))
        for kind in (
            None,
            "application/json",
            "text/csv; charset=latin-1",
            "text/csv;header=absent",
        ):
            problem = await self.refused("POST", "load/items", data, kind=kind)
            self.assertEqual(problem.extra, {"field": "Content-Type"})
        self.assertEqual(await self.names(), {1: "one"})

    async def test_a_malformed_row_undoes_all_before_it(self) -> None:
        rows = b"id,name\n" + b"".join(b"%d,x\n" % n for n in range(2, 60_000))
        problem = await self.refused("POST", "load/items", rows + b"1,2,3\n", kind=CSV)
        self.assertEqual(problem.extra, {"line": 60_000})
        self.assertEqual(await self.names(), {1: "one"})

    async def test_a_caller_who_leaves_undoes_all(self) -> None:
        table = pa.table({"id": list(range(2, 5000))})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=500)
        numbers = range(2, 50_000)
        for kind, data in (
            (CSV, b"id\n" + b"".join(b"%d\n" % n for n in numbers)),
            (NDJSON, b"".join(b'{"id":%d}\n' % n for n in numbers)),
            (ARROW, sink.getvalue().to_pybytes()[:-64]),
        ):
            body = StalledBody(data)
            sent = request("POST", "load/items", headers=(("content-type", kind),))
            loading = ensureDeferred(self.service.handle(evolve(sent, body=body)))
            await body.stalled
            loading.cancel()
            with self.assertRaises(CancelledError):
                await loading
            self.assertEqual(await self.names(), {1: "one"})

    async def test_no_rows(self) -> None:
        self.assertEqual((await self.load(b"id,name\n")).json, {"row_count": 0})
        self.assertEqual((await self.load(b"", NDJSON)).json, {"row_count": 0})

    async def test_a_read_only_profile_takes_none(self) -> None:
        service = self.serve(DatabasePolicy(read_only=True))
        problem = await self.refused("POST", "load/items", b"id\n9\n", kind=CSV, service=service)
        self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "read_only"}))


class Sessions(ServiceCase):
    async def open(self, **options: Any) -> str:
        answered = await self.post("sessions", **options)
        self.assertEqual(answered.status, 201)
        identifier: str = answered.json["session"]
        self.assertEqual(answered.headers["location"], f"sessions/{identifier}")
        return identifier

    async def test_a_transaction_over_several_calls(self) -> None:
        path = "sessions/" + await self.open()
        await self.post(f"{path}/execute", {"sql": "update items set name = 'x'"})
        sets = {"sql": "insert into items (id) values (?)", "params": [[2], [3]]}
        await self.post(f"{path}/batch", sets)
        await self.post(f"{path}/load/items", b"id\n4\n", kind=CSV)
        self.assertEqual((await self.post(f"{path}/queries/all")).json["rows"], [[4]])
        self.assertEqual((await self.call("GET", f"{path}/schema/items")).status, 200)
        self.assertEqual(await self.names(), {1: "one"})
        self.assertEqual((await self.post(f"{path}/commit")).json, {"ok": True})
        self.assertEqual(len(await self.names()), 4)
        await self.post(f"{path}/execute", {"sql": "delete from items"})
        await self.post(f"{path}/rollback")
        self.assertEqual(len(await self.names()), 4)
        await self.post(f"{path}/execute", {"sql": "delete from items"})
        self.assertEqual((await self.call("DELETE", path)).status, 204)
        self.assertEqual(len(await self.names()), 4)
        self.assertEqual((await self.refused("DELETE", path)).code, "not_found")

    async def test_ids_name_the_agent_and_can_not_be_guessed(self) -> None:
        one, two = await self.open(), await self.open()
        self.assertRegex(one, r"\Aagent-1~[A-Za-z0-9_-]{32}\Z")
        self.assertNotEqual(one, two)

    async def test_a_session_is_its_callers_alone(self) -> None:
        identifier = await self.open(caller="alice")
        for method, rest in (("POST", "/rollback"), ("POST", "/query"), ("DELETE", "")):
            problem = await self.refused(method, f"sessions/{identifier}{rest}", {}, caller="bob")
            self.assertEqual(problem.code, "not_found")
            self.assertNotIn(identifier, str(problem.detail) + str(problem.hint))
        await self.post(f"sessions/{identifier}/commit", caller="alice")

    async def test_there_are_so_many(self) -> None:
        first = await self.open()
        await self.open()
        problem = await self.refused("POST", "sessions")
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 60))
        # A plain call still finds a connection.
        self.assertEqual(await self.names(), {1: "one"})
        await self.call("DELETE", f"sessions/{first}")
        await self.open()

    async def test_one_call_at_a_time(self) -> None:
        path = "sessions/" + await self.open()
        endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n"
        sent = request("POST", f"{path}/query", {"sql": endless})
        response = await self.service.handle(sent)
        for method, rest in (("POST", "/query"), ("POST", "/commit"), ("DELETE", "")):
            body = {"sql": "select 1"} if rest == "/query" else None
            problem = await self.refused(method, path + rest, body)
            self.assertEqual(problem.code, "conflict", rest)
        body = response.body
        assert not isinstance(body, bytes)
        await anext(body)
        await body.aclose()  # type: ignore[attr-defined]
        # Work that was cut ends the session.
        problem = await self.refused("POST", f"{path}/commit")
        self.assertEqual(problem.code, "not_found")

    async def test_a_result_read_to_its_end_leaves_it_free(self) -> None:
        path = "sessions/" + await self.open()
        numbers = "with recursive n(x) as (select 1 union all select x + 1 from n limit 50000)"
        sql = f"{numbers} select x from n"
        for _ in range(3):
            answered = await self.post(f"{path}/query", {"sql": sql}, accept=CSV)
            self.assertEqual(answered.rows, 50_000)
        problem = await self.refused("POST", f"{path}/query", {"sql": "select nothing"})
        self.assertEqual(problem.code, "query_failed")
        await self.post(f"{path}/commit")

    async def test_bodies_are_checked(self) -> None:
        self.assertEqual((await self.refused("POST", "sessions", {"a": 1})).code, "bad_request")
        await self.post("sessions", {})

    async def test_closing_the_service_rolls_back(self) -> None:
        service = self.serve()
        answered = await self.post("sessions", service=service)
        path = f"sessions/{answered.json['session']}"
        await self.post(f"{path}/execute", {"sql": "delete from items"}, service=service)
        await service.close()
        self.assertEqual(await self.names(), {1: "one"})
        problem = await self.refused("POST", "sessions", service=service)
        self.assertEqual(problem.code, "overloaded")

    async def test_nothing_is_logged_of_an_id(self) -> None:
        service = self.serve(debug=True)
        with capturedLogs() as events:
            answered = await self.post("sessions", service=service)
            path = f"sessions/{answered.json['session']}"
            await self.post(f"{path}/query", {"sql": "select 1"}, service=service)
            await self.call("DELETE", path, service=service)
        self.assertIn("select 1", repr(events))
        self.assertNotIn(path.partition("~")[2], repr(events))


class WithoutSessions(ServiceCase):
    operations = ("test", "query")

    async def test_a_session_needs_the_right_to_have_one(self) -> None:
        problem = await self.refused("POST", "sessions/agent-1~x/query", {"sql": "select 1"})
        self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "operations"}))
