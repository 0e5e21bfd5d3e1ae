"""The service around an adapter: operations, bodies, and results that end before their time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.database import Answer, read, request
from workato_agent.requests import Response
from workato_agent.services.database.adapters.base import Block, Outcome, Output
from workato_agent.services.database.bodies import MAX_BODY
from workato_agent.services.database.results import Column
from workato_agent.services.database.service import DatabaseService
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import SQLITE, Statement
from workato_tunnel.problems import Problem


@define(eq=False)
class Rows:
    """A result of so many rows, which may end in an error; ``commit`` may fail too."""

    output: Output
    batches: list[int]
    failure: Problem | None = None
    commit_failure: Problem | None = None
    columns: Sequence[Column] = (Column("n", "string"),)
    changed: int | None = None
    state: str = "open"
    waiting: Deferred[None] | None = None

    async def next_block(self) -> Block | None:
        if self.waiting is not None:
            await self.waiting
        if self.batches:
            return self.output.encode([("x" * 999,)] * self.batches.pop(0))
        if self.failure is not None:
            raise self.failure
        return None

    async def finish(self) -> None:
        if self.commit_failure is not None:
            raise self.commit_failure
        self.state = "finished"

    async def abort(self) -> None:
        self.state = "aborted"


@define(eq=False)
class Adapter:
    """An adapter whose results the test decides."""

    make: object
    type: str = "fake"
    dialect = SQLITE
    streams: list[Rows] = field(factory=list)

    async def test(self) -> Mapping[str, object]:
        return {"target": "Fake 1"}

    async def query(self, statement: Statement, output: Output) -> Rows:
        self.streams.append(Rows(output, **self.make))  # type: ignore[arg-type]
        return self.streams[-1]

    async def execute(self, statement: Statement, output: Output) -> Outcome:
        return Outcome(3)

    async def close(self) -> None:
        pass


class Service(SynchronousTestCase):
    def service(self, policy: DatabasePolicy | None = None, **make: object) -> DatabaseService:
        self.adapter = Adapter(make)
        return DatabaseService.build(Clock(), self.adapter, policy or DatabasePolicy())

    def start(
        self, service: DatabaseService, accept: str | None = None, **body: object
    ) -> Response:
        self.request = request(body={"sql": "x"} | body, accept=accept)
        return self.successResultOf(ensureDeferred(service.handle(self.request)))

    def query(self, service: DatabaseService, accept: str | None = None, **body: object) -> Answer:
        response = self.start(service, accept, **body)
        return Answer(self.request, response, self.successResultOf(ensureDeferred(read(response))))

    @property
    def state(self) -> str:
        return self.adapter.streams[-1].state


class Operations(Service):
    def test_method_and_path_name_the_operation(self) -> None:
        service = self.service()
        for method, path, expected in (
            ("GET", "", "test"),
            ("POST", "query", "query"),
            ("POST", "%71uery", "query"),
            ("POST", "execute", "execute"),
        ):
            self.assertEqual(service.operation(request(method, path)), expected)

    def test_everything_else_is_not_found(self) -> None:
        service = self.service()
        for method, path in (
            ("POST", ""), ("GET", "query"), ("PUT", "execute"), ("POST", "query/"),
            ("GET", "batch"), ("POST", "../query"), ("POST", "QUERY"), ("DELETE", "sessions"),
            ("POST", "call"), ("POST", "load/"), ("POST", "sessions/1"), ("GET", "sessions/1/test"),
            ("GET", "sessions/1/commit"), ("POST", "sessions/1/sessions"), ("POST", "call/a/b"),
        ):  # fmt: skip
            with self.assertRaises(Problem) as caught:
                service.operation(request(method, path))
            self.assertEqual(caught.exception.code, "operation_not_found")

    def test_the_profile_is_tested(self) -> None:
        response = self.successResultOf(ensureDeferred(self.service().handle(request("GET", ""))))
        assert isinstance(response.body, bytes)
        self.assertEqual(json.loads(response.body), {"ok": True, "target": "Fake 1"})

    def test_execute_counts_rows(self) -> None:
        sent = request("POST", "execute", {"sql": "x"})
        response = self.successResultOf(ensureDeferred(self.service().handle(sent)))
        self.assertEqual((response.body, sent.usage.rows), (b'{"row_count":3}', 3))

    def test_statements_are_logged_when_asked_for_and_values_never(self) -> None:
        for debug in (True, False):
            adapter = Adapter({})
            service = DatabaseService.build(Clock(), adapter, DatabasePolicy(), debug=debug)
            with capturedLogs() as events:
                sent = request("POST", "execute", {"sql": "update x ?", "params": ["secret"]})
                self.successResultOf(ensureDeferred(service.handle(sent)))
            self.assertEqual([event["sql"] for event in events], ["update x ?"] if debug else [])
            self.assertNotIn("secret", repr(events))

    def test_a_body_is_bounded(self) -> None:
        sent = request(body=b" " * (MAX_BODY + 1))
        failed = ensureDeferred(self.service().handle(sent))
        self.assertEqual(self.failureResultOf(failed, Problem).value.code, "payload_too_large")


class Results(Service):
    def test_a_small_result_comes_whole(self) -> None:
        response = self.start(self.service(batches=[2]))
        self.assertIsInstance(response.body, bytes)
        self.assertEqual((self.state, self.request.usage.rows), ("finished", 2))

    def test_a_large_one_in_chunks(self) -> None:
        answer = self.query(self.service(batches=[100] * 3))
        self.assertNotIsInstance(answer.response.body, bytes)
        self.assertEqual(answer.json["row_count"], 300)
        self.assertEqual((self.state, answer.request.usage.rows), ("finished", 300))

    def test_an_error_before_the_first_chunk_is_a_plain_answer(self) -> None:
        sent = request(body={"sql": "x"}, accept="application/x-ndjson")
        service = self.service(batches=[2], failure=Problem("query_failed", "no"))
        self.failureResultOf(ensureDeferred(service.handle(sent)), Problem)
        self.assertEqual(self.state, "aborted")

    def test_an_error_later_is_the_last_item_of_ndjson_and_is_raised(self) -> None:
        service = self.service(batches=[100, 1], failure=Problem("query_failed", "no"))
        body = self.start(service, "application/x-ndjson").body
        assert not isinstance(body, bytes)
        self.successResultOf(ensureDeferred(anext(body)))
        last = self.successResultOf(ensureDeferred(anext(body))).splitlines()
        self.assertEqual(json.loads(last[-1])["code"], "query_failed")
        self.assertEqual(list(json.loads(last[0])), ["n"])
        self.failureResultOf(ensureDeferred(anext(body)), Problem)
        self.assertEqual(self.state, "aborted")

    def test_in_json_and_csv_it_is_only_raised(self) -> None:
        for accept in ("application/json", "text/csv"):
            service = self.service(batches=[100], failure=Problem("query_failed", "no"))
            body = self.start(service, accept).body
            assert not isinstance(body, bytes)
            self.successResultOf(ensureDeferred(anext(body)))
            self.failureResultOf(ensureDeferred(anext(body)), Problem)

    def test_a_failed_commit_is_seen_before_the_end(self) -> None:
        service = self.service(batches=[100], commit_failure=Problem("query_failed", "no"))
        body = self.start(service).body
        assert not isinstance(body, bytes)
        self.successResultOf(ensureDeferred(anext(body)))
        self.failureResultOf(ensureDeferred(anext(body)), Problem)
        self.assertEqual(self.state, "aborted")

    def test_closing_the_body_stops_the_statement(self) -> None:
        body = self.start(self.service(batches=[100, 100])).body
        assert not isinstance(body, bytes)
        self.successResultOf(ensureDeferred(body.aclose()))  # type: ignore[attr-defined]
        self.assertEqual(self.state, "aborted")

    def test_cancelling_the_call_stops_the_statement(self) -> None:
        service = self.service(batches=[1], waiting=Deferred())
        called = ensureDeferred(service.handle(request(body={"sql": "x"})))
        called.cancel()
        self.failureResultOf(called)
        self.assertEqual(self.state, "aborted")

    def test_the_policy_bounds_rows(self) -> None:
        policy = DatabasePolicy(max_rows=5)
        answer = self.query(self.service(policy, batches=[9]))
        self.assertEqual((answer.json["row_count"], answer.json["truncated"]), (5, True))
        answer = self.query(self.service(policy, batches=[9]), max_rows=7)
        self.assertEqual(answer.json["row_count"], 5)
        answer = self.query(self.service(policy, batches=[9]), max_rows=2)
        self.assertEqual((answer.json["row_count"], answer.json["truncated"]), (2, True))
        answer = self.query(self.service(policy, batches=[9]), "text/csv", max_rows=2)
        self.assertEqual(len(answer.body.splitlines()), 3)
        sent = request(body={"sql": "x"}, accept="text/csv")
        failed = ensureDeferred(self.service(policy, batches=[9]).handle(sent))
        self.assertEqual(self.failureResultOf(failed, Problem).value.extra, {"rule": "max_rows"})

    def test_a_statement_without_rows_tells_how_many_it_changed(self) -> None:
        answer = self.query(self.service(batches=[], columns=(), changed=4))
        self.assertEqual(
            answer.json, {"columns": [], "rows": [], "row_count": 4, "truncated": False}
        )
        self.assertEqual(answer.request.usage.rows, 4)
