"""Whatever a caller sends, the answer is a problem that says what is wrong, and never a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.database import request
from workato_agent.services.database.batches import batch_of
from workato_agent.services.database.bodies import JSON, MSGPACK, BatchCall, Encoded, media_type
from workato_agent.services.database.loading import Load
from workato_agent.services.database.loads import load_rows
from workato_agent.services.database.named import NamedQuery
from workato_agent.services.database.names import parse_name
from workato_agent.services.database.routes import OPERATIONS, find_route
from workato_agent.services.database.statements import POSTGRESQL, SQLITE, TableName
from workato_agent.services.database.work import Threads
from workato_tunnel.problems import Problem

CODES = {"bad_request", "operation_not_found", "payload_too_large"}
values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "value", "x"]), inner, max_size=3)
        | st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["bytes", "date", "json", "array", "integer", "decimal", "x"]
                ),
                "value": inner,
            }
        )
    ),
    max_leaves=8,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "sql": st.sampled_from(["select ?", "select :a, :b", "", " ", "x\0"]) | values,
        "params": st.lists(st.lists(values, max_size=2) | st.dictionaries(st.text(), values))
        | st.lists(values, max_size=3)
        | values,
        "max_rows": values,
        "other": values,
    },
)


class Reader:
    """A Work that does nothing but read what it is to load."""

    def __init__(self) -> None:
        self.rows = 0

    async def load(self, load: Load) -> int:
        async for block in load.body.blocks():
            self.rows += len(block)
        return self.rows


class Hostile(SynchronousTestCase):
    def only_problems(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Problem as problem:
            self.assertIn(problem.code, CODES)
            self.assertTrue(problem.detail)

    def body(self, data: bytes, kind: str) -> None:
        encoded = Encoded(data, kind)
        for decode in (
            encoded.query,
            encoded.execute,
            encoded.named,
            encoded.procedure,
            encoded.nothing,
        ):
            self.only_problems(decode)
        self.only_problems(lambda: batch_of(encoded.batch(), SQLITE))

    @settings(max_examples=150)
    @given(bodies)
    def test_bodies_of_the_right_make(self, body: dict[str, object]) -> None:
        self.body(msgspec.json.encode(body), JSON)
        self.body(msgspec.msgpack.encode(body), MSGPACK)

    @settings(max_examples=150)
    @given(st.binary(max_size=60))
    def test_bodies_of_any_make(self, data: bytes) -> None:
        self.body(data, JSON)
        self.body(data, MSGPACK)
        self.body(b"\x82\xa3sql\xa1x\xa6params" + data, MSGPACK)

    @settings(max_examples=150)
    @given(
        st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT"]),
        st.lists(
            st.sampled_from([*OPERATIONS, "commit", "rollback", "a~b", "", "..", "%2F", "%ff", "%"])
            | st.text(max_size=5),
            max_size=4,
        ),
    )
    def test_paths(self, method: str, segments: list[str]) -> None:
        path = "/".join(segments)
        self.only_problems(lambda: self.assertIn(find_route(method, path).operation, OPERATIONS))

    @given(st.text('ab."\0é') | st.text())
    def test_names(self, text: str) -> None:
        self.only_problems(lambda: parse_name(text, "table"))

    @given(st.text('ab"', min_size=1), st.none() | st.text('ab."', min_size=1))
    def test_a_quoted_name_is_that_name(self, name: str, schema: str | None) -> None:
        parts = [part for part in (schema, name) if part is not None]
        text = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        self.assertEqual(parse_name(text, "table"), TableName(schema, name))

    @given(st.text())
    def test_media_types(self, text: str) -> None:
        self.only_problems(lambda: media_type(text))

    @settings(max_examples=150)
    @given(
        st.sampled_from(["text/csv", "application/x-ndjson"]),
        st.binary(max_size=40) | st.text('a1,"\n\r{}:[]', max_size=30).map(str.encode),
        st.text("columns=&on_conflict%,;keys", max_size=30)
        | st.sampled_from(["columns=a", "keys=a&on_conflict=update", "&".join(["a"] * 200)]),
    )
    def test_loads(self, kind: str, data: bytes, query: str) -> None:
        sent = request("POST", "load/t", data, headers=(("content-type", kind),), query=query)
        clock = Clock()
        work: Any = Reader()
        threads = Threads.of(clock, 1, "test")
        loading = ensureDeferred(load_rows(clock, threads, sent, TableName(None, "t"), work))
        self.only_problems(lambda: self.successResultOf(loading.addErrback(self.raised)))

    def raised(self, failure: Any) -> None:
        self.assertIn(failure.check(Problem), (Problem,), failure)
        self.assertIn(failure.value.code, CODES)

    @given(st.text("select :a?'\"$ -/*\n"), values)
    def test_named_queries(self, sql: str, params: object) -> None:
        for dialect in (POSTGRESQL, SQLITE):
            query = NamedQuery.of("x", sql, dialect)
            if isinstance(params, list | dict):
                self.only_problems(lambda: query.check(params))  # noqa: B023

    def test_a_batch_in_many_sets_is_bound_once(self) -> None:
        sets: list[dict[str, object]] = [{"a": n, "b": -n} for n in range(1000)]
        batch = batch_of(BatchCall("values (:b, :a, :b)", sets), SQLITE)
        self.assertEqual(batch.statement.values, [0, 0, 0])
        self.assertEqual(batch.rows[7], [-7, 7, -7])
