"""The relay: what reaches an agent, who may call, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import CALL, HttpGateway, parse_answer, request
from tests.support.memory_agents import MemoryAgent
from workato_gateway.api.relay import RelayLimits
from workato_tunnel.errors import ErrorCode, HeadTooLarge, StreamRefused
from workato_tunnel.problems import PROBLEM_TYPES

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class RelayCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def problem(self, data: bytes, gateway: HttpGateway | None = None) -> dict[str, Any]:
        answer = parse_answer((gateway or self.gateway).send(data).take())
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        document: dict[str, Any] = json.loads(answer.body)
        self.assertEqual(document["status"], answer.status)
        self.assertEqual(document["request_id"], answer.headers["x-request-id"])
        self.assertEqual(document["type"], f"urn:onprem:problem:{document['code']}")
        document["headers"] = answer.headers
        return document


class Heads(RelayCase):
    def test_path_and_query_go_raw(self) -> None:
        for given, path, query in (
            (b"", "", ""),
            (b"/", "/", ""),
            (b"?a=b", "", "a=b"),
            (b"/?a=b", "/", "a=b"),
            (b"/a", "a", ""),
            (b"/a/", "a/", ""),
            (b"/a/b%2Fc%20/../d?x=%26&y=?/", "a/b%2Fc%20/../d", "x=%26&y=?/"),
            (b"//a", "/a", ""),
        ):
            self.gateway.call(path=given)
            head = self.gateway.stream.head
            self.assertEqual((head.path, head.query), (path, query), given)
            self.assertEqual((head.service, head.profile, head.method), ("http", "crm", "GET"))

    def test_group_service_and_profile_are_decoded(self) -> None:
        self.gateway.send(request(b"GET", b"/v1/groups/s%61les/htt%70/%63rm/x%61"))
        self.assertEqual(self.gateway.stream.head.path, "x%61")
        self.assertEqual(
            self.problem(request(b"GET", b"/v1/groups/%ff/http/crm"))["code"], "bad_request"
        )

    def test_every_method_passes(self) -> None:
        for method in (b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY"):
            self.gateway.call(method)
            self.assertEqual(self.gateway.stream.head.method, method.decode())

    def test_fields_of_the_hop_and_secrets_of_the_gateway_stay_here(self) -> None:
        self.gateway.call(
            headers=b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: x\r\n"
            b"Proxy-Authorization: x\r\nX-Timeout: 5\r\nX-Agent: agent-1\r\nUpgrade: h2c\r\n"
            b"X-Forwarded-For: 1.2.3.4\r\nTrailer: x\r\n"
            b"Cookie: a=b\r\nX-Own: \xe9\r\nAccept: text/csv\r\nX-Own: 2\r\n"
        )
        self.assertEqual(
            self.gateway.stream.head.headers,
            (("cookie", "a=b"), ("x-own", "é"), ("accept", "text/csv"), ("x-own", "2")),
        )
        self.assertEqual(self.gateway.stream.head.caller, "alice")

    def test_the_timeout_is_taken_from_the_query_or_the_field(self) -> None:
        for path, field, timeout, query in (
            (b"", b"", 60_000, ""),
            (b"", b"X-Timeout: 2.5\r\n", 2_500, ""),
            (b"?timeout=7", b"X-Timeout: 2.5\r\n", 7_000, ""),
            (b"?a=1&timeout=0.25&b=timeout=2", b"", 250, "a=1&b=timeout=2"),
            (b"?timeout=86400", b"", 86_400_000, ""),
            (b"?mytimeout=3&x", b"", 60_000, "mytimeout=3&x"),
        ):
            self.gateway.call(path=path, headers=field)
            head = self.gateway.stream.head
            self.assertEqual((head.timeout, head.query), (timeout, query), (path, field))

    def test_a_bad_timeout_is_named(self) -> None:
        for value in (b"0", b"-1", b"abc", b"1e3", b"86401", b"nan", b"inf", b"", b"0.0001", b"1 "):
            if value.strip() == value:
                found = self.problem(request(b"GET", CALL + b"?timeout=" + value))
                self.assertEqual((found["code"], found["field"]), ("bad_request", "timeout"), value)
        found = self.problem(request(b"GET", CALL, b"X-Timeout: soon\r\n"))
        self.assertEqual((found["code"], found["field"]), ("bad_request", "X-Timeout"))
        self.assertEqual(
            self.problem(request(b"GET", CALL + b"?timeout=1&timeout=2"))["code"], "bad_request"
        )

    def test_trace_and_request_id_are_passed_on_and_returned(self) -> None:
        transport = self.gateway.call(
            headers=b"traceparent: %b\r\ntracestate: a=b\r\nX-Request-Id: my-1.2:3\r\n"
            % TRACE.encode()
        )
        stream = self.gateway.stream
        self.assertEqual((stream.head.trace, stream.head.request_id), (TRACE, "my-1.2:3"))
        self.assertEqual(stream.head.headers, (("tracestate", "a=b"),))
        stream.agent_answers(200)
        headers = parse_answer(transport.take()).headers
        self.assertEqual((headers["x-request-id"], headers["traceparent"]), ("my-1.2:3", TRACE))

    def test_trace_and_request_id_are_made_when_absent_or_mad(self) -> None:
        seen = set()
        for fields in (
            b"",
            b"traceparent: 00-" + b"0" * 32 + b"-00f067aa0ba902b7-01\r\n",
            b"traceparent: ff" + TRACE.encode()[2:] + b"\r\n",
            b"traceparent: x\r\nX-Request-Id: a b\r\n",
            b"X-Request-Id: " + b"a" * 129 + b"\r\n",
            b"X-Request-Id: <script>\r\n",
        ):
            self.gateway.call(headers=fields)
            head = self.gateway.stream.head
            self.assertRegex(head.trace, r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-01\Z")
            self.assertEqual(head.request_id, head.trace[3:35])
            seen.add(head.request_id)
        self.assertEqual(len(seen), 6)


class Permission(RelayCase):
    def test_without_a_token(self) -> None:
        found = self.problem(b"GET " + CALL + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(found["status"], 401)
        self.assertEqual(found["headers"]["www-authenticate"], 'Bearer realm="onprem"')

    def test_what_the_token_does_not_cover_is_named(self) -> None:
        found = self.problem(request(b"POST", CALL, token=b"read"))
        self.assertEqual(found["code"], "forbidden")
        self.assertIn("sales:http:crm:POST", found["detail"])
        self.assertEqual(self.gateway.agent.opened, [])

    def test_a_group_out_of_reach_is_forbidden_whether_it_exists_or_not(self) -> None:
        for group in (b"nope", b"empty"):
            found = self.problem(request(b"GET", b"/v1/groups/%b/http/crm" % group))
            self.assertEqual(found["code"], "forbidden")

    def test_unknown_group(self) -> None:
        self.gateway.relay.known_group = lambda name: False
        self.assertEqual(self.problem(request(b"GET", CALL))["code"], "group_not_found")


class Absence(RelayCase):
    def test_nobody_connected(self) -> None:
        gateway = HttpGateway(agents=())
        found = self.problem(request(b"GET", CALL), gateway)
        self.assertEqual((found["code"], found["status"]), ("agent_inactive", 503))
        self.assertEqual(found["headers"]["retry-after"], "5")

    def test_nobody_offers_it(self) -> None:
        path = b"/v1/groups/sales/"
        self.assertEqual(
            self.problem(request(b"GET", path + b"http/x"))["code"], "profile_not_found"
        )
        self.assertEqual(
            self.problem(request(b"GET", path + b"jms/x"))["code"], "service_not_found"
        )

    def test_a_pinned_agent_that_is_not_there(self) -> None:
        found = self.problem(request(b"GET", CALL, b"X-Agent: other\r\n"))
        self.assertEqual(found["code"], "agent_inactive")
        self.assertIn("other", found["detail"])


class Limits(RelayCase):
    def test_calls_of_one_token(self) -> None:
        gateway = HttpGateway(limits=RelayLimits(calls_per_token=2))
        first, _second = gateway.call(), gateway.call()
        found = self.problem(request(b"GET", CALL), gateway)
        self.assertEqual((found["code"], found["headers"]["retry-after"]), ("overloaded", "1"))
        other = gateway.send(request(b"GET", CALL, token=b"read"))
        self.assertEqual(other.take(), b"")
        gateway.agent.opened[0].agent_answers(204)
        first.take()
        first.protocol.dataReceived(request(b"GET", CALL))
        self.assertEqual(first.take(), b"")

    def test_calls_of_the_gateway(self) -> None:
        gateway = HttpGateway(limits=RelayLimits(calls=1))
        caller = gateway.call()
        found = self.problem(request(b"GET", CALL, token=b"read"), gateway)
        self.assertEqual(found["code"], "overloaded")
        caller.abortConnection()
        self.assertEqual(gateway.relay.calls, 0)
        self.assertEqual(gateway.send(request(b"GET", CALL, token=b"read")).take(), b"")

    def test_the_size_of_bodies(self) -> None:
        gateway = HttpGateway(limits=RelayLimits(body=10))
        self.assertEqual(
            self.problem(request(b"PUT", CALL, b"", b"x" * 11), gateway)["code"],
            "payload_too_large",
        )
        self.assertEqual(gateway.agent.opened, [])
        transport = gateway.call(b"PUT", headers=b"Transfer-Encoding: chunked\r\n")
        transport.protocol.dataReceived(b"6\r\n123456\r\n")
        self.assertEqual(transport.take(), b"")
        transport.protocol.dataReceived(b"6\r\n123456\r\n0\r\n\r\n")
        self.assertEqual(parse_answer(transport.take()).status, 413)
        self.assertEqual(gateway.stream.reset_code, "cancelled")

    def test_a_head_that_the_tunnel_can_not_carry(self) -> None:
        def refuse(stream: object) -> None:
            raise HeadTooLarge("70000 bytes")

        self.gateway.agent.on_open = refuse
        found = self.problem(request(b"GET", CALL))
        self.assertEqual((found["code"], found["status"]), ("bad_request", 431))
        self.assertEqual(self.gateway.relay.calls, 0)


class Documented(SynchronousTestCase):
    def test_every_code_stands_in_the_table_with_its_status(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "http-api.md"
        rows = [
            line.split("|")[1:3] for line in page.read_text("utf-8").splitlines() if "|" in line
        ]
        for code, kind in PROBLEM_TYPES.items():
            found = [status for codes, status in rows if f"`{code}`" in codes]
            self.assertIn(str(kind.status), [status.strip() for status in found], code)


class Bugs(RelayCase):
    def test_a_bug_answers_with_an_internal_error_and_no_word_of_it(self) -> None:
        def break_it(stream: object) -> None:
            raise RuntimeError("a secret")

        self.gateway.agent.on_open = break_it
        found = self.problem(request(b"GET", CALL))
        self.assertEqual(found["code"], "internal_error")
        self.assertNotIn("a secret", json.dumps(found))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.gateway.relay.calls, 0)


class Choice(RelayCase):
    def test_the_least_busy_agent_is_asked_and_then_the_next(self) -> None:
        busy, idle, refusing = MemoryAgent("busy"), MemoryAgent("idle"), MemoryAgent("refusing")
        busy.streams = 5
        idle.streams = 1
        refusing.refusal = StreamRefused("draining", ErrorCode.DRAINING)
        gateway = HttpGateway(agents=(busy, refusing, idle))
        gateway.call()
        self.assertEqual((len(busy.opened), len(idle.opened)), (0, 1))
        idle.refusal = StreamRefused("no slot")
        gateway.call()
        self.assertEqual((len(busy.opened), len(idle.opened)), (1, 1))
        busy.refusal = StreamRefused("full", ErrorCode.OVERLOADED)
        found = self.problem(request(b"GET", CALL), gateway)
        self.assertEqual(found["code"], "overloaded")

    def test_a_pin_is_kept(self) -> None:
        one, two = MemoryAgent("one"), MemoryAgent("two")
        gateway = HttpGateway(agents=(one, two))
        for _ in range(5):
            gateway.call(headers=b"X-Agent: two\r\n")
        self.assertEqual((len(one.opened), len(two.opened)), (0, 5))


class Record(RelayCase):
    def test_a_call_is_counted_and_noted(self) -> None:
        transport = self.gateway.call(b"POST", b"/a?secret=x", body=b"12345")
        self.gateway.clock.advance(0.25)
        self.gateway.stream.agent_answers(200, (), b"hello!!")
        transport.take()
        self.gateway.log.flush()
        self.assertEqual(
            self.gateway.lines.data.decode(),
            "2023-11-14T22:13:20.250Z 192.0.2.7 alice POST /v1/groups/sales/http/crm/a 200 - 5 7"
            f" 250.000ms {self.gateway.stream.head.request_id} agent-1\n",
        )
        _, text = self.gateway.metrics.exposition()
        self.assertIn(
            b'onprem_gateway_calls_total{code="200",group="sales",service="http"} 1.0', text
        )
        self.assertIn(
            b'onprem_gateway_request_body_bytes_total{group="sales",service="http"} 5.0', text
        )
        self.assertIn(
            b'onprem_gateway_call_seconds_bucket{group="sales",le="0.25",service="http"} 1.0', text
        )

    def test_callers_that_leave_and_cut_answers_are_told_apart(self) -> None:
        self.gateway.call().abortConnection()
        self.gateway.call()
        self.gateway.stream.agent_begins(200)
        self.gateway.stream.agent_resets("tunnel_lost", remote=False)
        _, text = self.gateway.metrics.exposition()
        for code in (b"caller_left", b"tunnel_lost"):
            self.assertIn(
                b'onprem_gateway_calls_total{code="%b",group="sales",service="http"} 1.0' % code,
                text,
            )
        self.gateway.log.flush()
        left, cut = self.gateway.lines.data.decode().splitlines()
        self.assertIn(" 0! - ", left)
        self.assertIn(" 200! tunnel_lost ", cut)

    def test_names_that_do_not_exist_make_no_labels(self) -> None:
        for path in (b"/v1/groups/sales/made/up", b"/v1/groups/sales/http/up"):
            self.problem(request(b"GET", path))
        _, text = self.gateway.metrics.exposition()
        self.assertNotIn(b"made", text)
        self.assertIn(b'{code="404",group="sales",service="other"} 2.0', text)
