"""Every call of the service, on a real SQLite database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec
import pyarrow as pa
from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from tests.support.database import request
from tests.support.database_service import ARROW, CSV, MSGPACK, NDJSON, Answered, ServiceCase
from workato_agent.services.database.settings import (
    DatabasePolicy,
)
from workato_tunnel.problems import Problem


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

    async def test_a_compressed_body_is_refused(self) -> None:
        for path in ("query", "load/items"):
            headers = (("content-type", CSV), ("content-encoding", "gzip"))
            headers = headers[path == "query" :]
            sent = request("POST", path, b"\x1f\x8b", headers=headers)
            with self.assertRaises(Problem) as caught:
                await self.service.handle(sent)
            self.assertEqual(caught.exception.extra, {"field": "Content-Encoding"})

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


class WithoutPyarrow(ServiceCase):
    def setUp(self) -> None:
        super().setUp()
        # None in the place of a module: importing it fails.
        self.addCleanup(sys.modules.__setitem__, "pyarrow", pa)
        sys.modules["pyarrow"] = None  # type: ignore[assignment]

    async def test_the_extra_is_named(self) -> None:
        for path, body, options, where in (
            ("query", {"sql": "select 1"}, {"accept": ARROW}, "Accept"),
            ("load/items", b"x", {"kind": ARROW}, "Content-Type"),
        ):
            problem = await self.refused("POST", path, body, **options)
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": where}))
            self.assertIn("workato-agent[arrow]", problem.hint or "")

    def test_it_is_imported_when_it_is_asked_for(self) -> None:
        service = "workato_agent.services.database.service"
        script = f"import {service}, sys; print('pyarrow' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "False\n")


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
