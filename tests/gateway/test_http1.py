"""The HTTP server: framing, order, persistence, early answers, time."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import (
    CALL,
    HttpGateway,
    MemoryTransport,
    echo,
    parse_answer,
    request,
)
from tests.support.memory_agents import MemoryAgent, MemoryStream
from workato_gateway.api.connections import HttpLimits
from workato_gateway.api.messages import AdminRequest, AdminResponse


class RequestBodies(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def test_a_sized_body_reaches_the_agent_in_any_pieces(self) -> None:
        data = request(b"POST", CALL, b"", b"hello world")
        for cut in range(len(data)):
            transport = self.gateway.send(data[:cut])
            transport.protocol.dataReceived(data[cut:])
            self.assertEqual(bytes(self.gateway.stream.body), b"hello world")
            self.assertTrue(self.gateway.stream.ended)

    def test_a_chunked_body_reaches_the_agent_in_any_pieces(self) -> None:
        data = request(b"PUT", CALL, b"Transfer-Encoding: chunked\r\n")
        data += b"5;x=y\r\nhello\r\n00006\r\n world\r\n0\r\nTrailer: dropped\r\n\r\n"
        for cut in range(len(data)):
            transport = self.gateway.send(data[:cut])
            transport.protocol.dataReceived(data[cut:])
            self.assertEqual(bytes(self.gateway.stream.body), b"hello world")
            self.assertTrue(self.gateway.stream.ended)
            self.assertNotIn("trailer", dict(self.gateway.stream.head.headers))

    def test_an_empty_chunked_body_ends(self) -> None:
        self.gateway.call(b"POST", headers=b"Transfer-Encoding: chunked\r\n").protocol.dataReceived(
            b"0\r\n\r\n"
        )
        self.assertTrue(self.gateway.stream.ended)
        self.assertEqual(bytes(self.gateway.stream.body), b"")

    def test_a_request_without_body_ends_with_its_head(self) -> None:
        for headers in (b"", b"Content-Length: 0\r\n"):
            self.gateway.call(b"POST", headers=headers)
            self.assertTrue(self.gateway.stream.ended)

    def test_the_length_is_passed_on_and_the_coding_is_not(self) -> None:
        self.gateway.call(b"POST", body=b"abc")
        self.assertIn(("content-length", "3"), self.gateway.stream.head.headers)
        self.gateway.call(b"POST", headers=b"Transfer-Encoding: chunked\r\n")
        self.assertNotIn("transfer-encoding", dict(self.gateway.stream.head.headers))

    def test_broken_chunks_answer_400_cancel_the_call_and_close(self) -> None:
        for broken in (b"x\r\n", b"-1\r\n", b"5\r\nhelloX", b"5\nhello", b" 5\r\n", b"g" * 2000):
            transport = self.gateway.call(b"POST", headers=b"Transfer-Encoding: chunked\r\n")
            transport.protocol.dataReceived(broken)
            answer = parse_answer(transport.take())
            self.assertEqual((answer.status, answer.headers["connection"]), (400, "close"), broken)
            self.assertEqual(self.gateway.stream.reset_code, "cancelled")
            self.assertTrue(transport.half_closed)

    def test_broken_chunks_after_the_head_abort(self) -> None:
        transport = self.gateway.call(b"POST", headers=b"Transfer-Encoding: chunked\r\n")
        self.gateway.stream.agent_begins(200)
        transport.protocol.dataReceived(b"zz\r\n")
        self.assertTrue(transport.aborted)

    def test_a_slow_agent_stops_the_reading_of_the_body(self) -> None:
        self.gateway.agent.credit = 0
        transport = self.gateway.call(b"PUT", headers=b"Content-Length: 10000000\r\n")
        sent = 0
        while transport.reading:
            transport.protocol.dataReceived(bytes(65536))
            sent += 65536
        self.assertLessEqual(sent, 4 * 65536)
        self.assertLessEqual(self.gateway.stream.most_queued, 4 * 65536)
        self.gateway.stream.agent_grants(sent)
        self.assertTrue(transport.reading)
        transport.protocol.dataReceived(bytes(65536))
        self.gateway.stream.agent_grants(65536)
        self.assertEqual(len(self.gateway.stream.body), sent + 65536)

    def test_an_upload_of_many_windows_comes_whole(self) -> None:
        self.gateway.agent.credit = 0
        size = 3_000_000
        content = bytes(range(250)) * (size // 250)
        transport = self.gateway.call(b"PUT", headers=b"Content-Length: %d\r\n" % size)
        at = 0
        while at < size:
            if transport.reading:
                transport.protocol.dataReceived(content[at : at + 50_000])
                at += 50_000
            else:
                self.gateway.stream.agent_grants(77_777)
        self.gateway.stream.agent_grants(size)
        self.assertEqual(bytes(self.gateway.stream.body), content)
        self.assertTrue(self.gateway.stream.ended)


class Continue(SynchronousTestCase):
    EXPECT = b"Expect: 100-continue\r\nContent-Length: 5\r\n"

    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def test_the_body_is_asked_for_once_a_stream_is_open(self) -> None:
        transport = self.gateway.call(b"PUT", headers=self.EXPECT)
        self.assertEqual(transport.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        transport.protocol.dataReceived(b"hello")
        self.assertEqual(bytes(self.gateway.stream.body), b"hello")
        self.gateway.stream.agent_answers(201)
        self.assertEqual(parse_answer(transport.take()).status, 201)
        self.assertFalse(transport.gone)

    def test_a_refused_call_is_answered_at_once_and_closes(self) -> None:
        self.gateway.agent.connected = False
        transport = self.gateway.call(b"PUT", headers=self.EXPECT)
        answer = parse_answer(transport.take())
        self.assertEqual((answer.status, answer.headers["connection"]), (503, "close"))

    def test_it_is_not_said_when_the_body_is_there_already(self) -> None:
        transport = self.gateway.send(request(b"PUT", CALL, self.EXPECT) + b"hello")
        self.assertEqual(transport.take(), b"")

    def test_it_is_not_said_to_http_1_0(self) -> None:
        transport = self.gateway.send(
            b"PUT %b HTTP/1.0\r\nAuthorization: Bearer all\r\n%b\r\n" % (CALL, self.EXPECT)
        )
        self.assertEqual(transport.take(), b"")

    def test_another_expectation_is_refused(self) -> None:
        transport = self.gateway.call(headers=b"Expect: 200-ok\r\n")
        self.assertEqual(parse_answer(transport.take()).status, 417)


class Responses(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def answered(self, method: bytes = b"GET", version: bytes = b"1.1") -> MemoryTransport:
        return self.gateway.send(request(method, CALL).replace(b"HTTP/1.1", b"HTTP/" + version))

    def test_a_declared_length_is_passed_on(self) -> None:
        transport = self.answered()
        self.gateway.stream.agent_answers(200, (("content-length", "5"), ("x-a", "é")), b"hello")
        answer = parse_answer(transport.take())
        self.assertEqual((answer.status, answer.body, answer.rest), (200, b"hello", b""))
        self.assertEqual(answer.headers["content-length"], "5")
        self.assertEqual(answer.headers["x-a"], "é")
        self.assertEqual(answer.headers["server"], "onprem-gateway")
        self.assertEqual(answer.headers["date"], "Tue, 14 Nov 2023 22:13:20 GMT")
        self.assertNotIn("transfer-encoding", answer.headers)

    def test_without_a_length_it_is_chunked(self) -> None:
        transport = self.answered()
        stream = self.gateway.stream
        stream.agent_begins(200)
        stream.agent_sends(b"a" * 10)
        stream.agent_sends(b"b" * 10_000)
        self.assertRaises(ValueError, parse_answer, bytes(transport.written))
        stream.agent_finishes()
        answer = parse_answer(transport.take())
        self.assertEqual(answer.chunks, (b"a" * 10, b"b" * 10_000))
        self.assertFalse(transport.gone)

    def test_http_1_0_gets_the_body_up_to_the_close(self) -> None:
        transport = self.answered(version=b"1.0")
        self.gateway.stream.agent_answers(200, (), b"hello")
        answer = parse_answer(transport.take())
        self.assertEqual((answer.body, answer.headers["connection"]), (b"hello", "close"))
        self.assertTrue(transport.gone)
        self.assertFalse(transport.aborted)

    def test_http_1_0_may_keep_the_connection_when_the_length_is_known(self) -> None:
        transport = self.gateway.send(
            b"GET %b HTTP/1.0\r\nAuthorization: Bearer all\r\nConnection: Keep-Alive\r\n\r\n" % CALL
        )
        self.gateway.stream.agent_answers(200, (("content-length", "2"),), b"ok")
        self.assertEqual(parse_answer(transport.take()).headers["connection"], "keep-alive")
        self.assertFalse(transport.gone)

    def test_head_204_and_304_have_no_body(self) -> None:
        for method, status in ((b"HEAD", 200), (b"GET", 204), (b"GET", 304)):
            transport = self.answered(method)
            headers = () if status == 204 else (("content-length", "1000"),)
            self.gateway.stream.agent_answers(status, headers, b"should not be here")
            answer = parse_answer(transport.take(), to_head=True)
            self.assertEqual((answer.status, answer.rest), (status, b""))
            self.assertEqual(
                answer.headers.get("content-length"), headers[0][1] if headers else None
            )
            self.assertNotIn("transfer-encoding", answer.headers)
            self.assertFalse(transport.gone)

    def test_less_than_declared_aborts(self) -> None:
        transport = self.answered()
        self.gateway.stream.agent_answers(200, (("content-length", "6"),), b"hello")
        self.assertTrue(transport.aborted)

    def test_more_than_declared_aborts_and_cancels(self) -> None:
        transport = self.answered()
        self.gateway.stream.agent_begins(200, (("content-length", "4"),))
        self.gateway.stream.agent_sends(b"hello")
        self.assertTrue(transport.aborted)
        self.assertEqual(self.gateway.stream.reset_code, "cancelled")
        self.assertNotIn(b"hello", transport.written)

    def test_a_cut_chunked_body_has_no_last_chunk(self) -> None:
        transport = self.answered()
        self.gateway.stream.agent_begins(200)
        self.gateway.stream.agent_sends(b"hello")
        self.gateway.stream.agent_resets("tunnel_lost")
        self.assertTrue(transport.aborted)
        self.assertRaises(ValueError, parse_answer, bytes(transport.written))

    def test_fields_of_the_hop_and_of_the_gateway_are_not_taken_from_the_agent(self) -> None:
        transport = self.answered()
        self.gateway.stream.agent_answers(
            200,
            (
                ("connection", "close, x-b"),
                ("Transfer-Encoding", "gzip"),
                ("keep-alive", "timeout=1"),
                ("upgrade", "h2c"),
                ("x-request-id", "other"),
                ("server", "Apache"),
                ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ),
            b"x",
        )
        answer = parse_answer(transport.take())
        self.assertEqual(answer.headers["transfer-encoding"], "chunked")
        for name in ("connection", "keep-alive", "upgrade"):
            self.assertNotIn(name, answer.headers)
        self.assertNotEqual(answer.headers["x-request-id"], "other")
        self.assertEqual(answer.headers["server"], "Apache")
        self.assertEqual(answer.headers["date"], "Mon, 01 Jan 2024 00:00:00 GMT")

    def test_a_malformed_head_of_the_agent_is_an_internal_error(self) -> None:
        for status, headers in (
            (200, (("a\r\nb", "c"),)),
            (200, (("a", "b\r\nset-cookie: x"),)),
            (200, (("a", "b\x00"),)),
            (200, (("date", "b\r\nset-cookie: x"),)),
            (200, (("server", "b\r\n\r\nset-cookie: x"),)),
            (200, (("a", "b\n"),)),
            (200, (("a", "b\rc"),)),
            (200, (("a: b\r\nc", "d"),)),
            (200, (("a", "\u20ac"),)),
            (200, (("", "b"),)),
            (200, (("content-length", "1"), ("content-length", "2"))),
            (200, (("content-length", "-1"),)),
            (101, ()),
            (1000, ()),
        ):
            transport = self.answered()
            self.gateway.stream.agent_begins(status, headers)
            answer = parse_answer(transport.take())
            self.assertEqual(
                (answer.status, json.loads(answer.body)["code"]), (500, "internal_error")
            )
            self.assertEqual(self.gateway.stream.reset_code, "internal_error")
            self.assertNotIn("set-cookie", answer.headers)

    def test_a_slow_reader_stops_the_stream(self) -> None:
        transport = self.answered()
        stream = self.gateway.stream
        stream.agent_begins(200)
        sent = 0
        while not stream.paused:
            stream.agent_sends(bytes(16384))
            sent += 16384
        self.assertLessEqual(transport.most_unread, 128 * 1024)
        transport.take()
        self.assertFalse(stream.paused)
        stream.agent_sends(b"more")
        stream.agent_finishes()
        transport.take()
        self.assertEqual(len(parse_answer(bytes(transport.taken)).body), sent + 4)

    def test_small_answers_of_the_gateway_are_one_write(self) -> None:
        transport = self.gateway.send(request(b"GET", b"/healthz"))
        self.assertEqual((transport.writes, parse_answer(transport.take()).status), (1, 200))


class Persistence(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()
        self.streams: list[MemoryStream] = []
        self.gateway.agent.on_open = self.streams.append

    def test_pipelined_calls_are_answered_in_order_one_at_a_time(self) -> None:
        data = b"".join(request(b"POST", CALL + b"/%d" % n, b"", b"body%d" % n) for n in range(5))
        transport = self.gateway.send(data)
        for n in range(5):
            self.assertEqual(len(self.streams), n + 1)
            self.assertEqual(self.streams[n].head.path, str(n))
            self.assertEqual(bytes(self.streams[n].body), b"body%d" % n)
            self.streams[n].agent_answers(200, (("content-length", "1"),), b"%d" % n)
        rest = transport.take()
        for n in range(5):
            answer = parse_answer(rest)
            self.assertEqual(answer.body, b"%d" % n)
            rest = answer.rest
        self.assertEqual(rest, b"")

    def test_pipelined_data_is_bounded(self) -> None:
        transport = self.gateway.send(request(b"GET", CALL))
        sent = 0
        while transport.reading:
            transport.protocol.dataReceived(request(b"GET", CALL))
            sent += 1
        self.assertLess(sent * len(request(b"GET", CALL)), 100_000)
        self.assertEqual(len(self.streams), 1)
        for n in range(sent + 1):
            self.streams[n].agent_answers(204)
            transport.take()
        self.assertEqual(len(self.streams), sent + 1)
        self.assertTrue(transport.reading)

    def test_who_pipelines_and_does_not_read_is_held_back(self) -> None:
        transport = self.gateway.connect()
        asked = 0
        while transport.reading and asked < 100_000:
            transport.protocol.dataReceived(request(b"GET", b"/healthz"))
            asked += 1
        self.assertFalse(transport.reading)
        self.assertLess(transport.most_unread, 70_000)
        answered = 0
        while data := transport.take():
            answered += data.count(b"HTTP/1.1 200 OK")
        self.assertEqual(answered, asked)

    def test_connection_close_is_honoured(self) -> None:
        transport = self.gateway.send(request(b"GET", CALL, b"Connection: close\r\n"))
        self.streams[0].agent_answers(200, (), b"x")
        self.assertEqual(parse_answer(transport.take()).headers["connection"], "close")
        self.assertTrue(transport.gone)

    def test_an_early_answer_to_a_small_body_reads_it_away_and_goes_on(self) -> None:
        transport = self.gateway.send(
            request(b"POST", CALL, b"Content-Length: 10\r\n", token=b"bad") + b"12345"
        )
        self.assertEqual(parse_answer(transport.take()).status, 401)
        transport.protocol.dataReceived(b"67890" + request(b"GET", b"/healthz"))
        self.assertEqual(parse_answer(transport.take()).status, 200)

    def test_an_early_answer_to_a_large_body_closes_after_lingering(self) -> None:
        transport = self.gateway.send(
            request(b"POST", CALL, b"Content-Length: 1000000000\r\n", token=b"bad")
        )
        answer = parse_answer(transport.take())
        self.assertEqual((answer.status, answer.headers["connection"]), (401, "close"))
        self.assertTrue(transport.half_closed)
        for _ in range(29):
            transport.protocol.dataReceived(bytes(65536))
            self.gateway.clock.advance(1)
        self.assertFalse(transport.gone)
        for _ in range(3):
            if not transport.gone:
                transport.protocol.dataReceived(bytes(65536))
            self.gateway.clock.advance(1)
        self.assertTrue(transport.aborted)

    def test_lingering_ends_soon_when_nothing_comes(self) -> None:
        transport = self.gateway.send(
            request(b"POST", CALL, b"Content-Length: 1000000000\r\n", token=b"bad")
        )
        self.gateway.clock.pump([1.0] * 4)
        self.assertFalse(transport.gone)
        self.gateway.clock.pump([1.0] * 2)
        self.assertTrue(transport.gone)

    def test_lingering_is_bounded_in_bytes(self) -> None:
        transport = self.gateway.send(
            request(b"POST", CALL, b"Content-Length: 100000000000\r\n", token=b"bad")
        )
        for _ in range(1025):
            if not transport.gone:
                transport.protocol.dataReceived(bytes(65536))
        self.assertTrue(transport.aborted)

    def test_an_answer_before_the_body_ends_is_whole_and_the_rest_is_read_away(self) -> None:
        transport = self.gateway.send(request(b"POST", CALL, b"Transfer-Encoding: chunked\r\n"))
        transport.protocol.dataReceived(b"5\r\nhello\r\n")
        self.streams[0].agent_answers(413, (("content-length", "2"),), b"no")
        self.assertEqual(parse_answer(transport.take()).status, 413)
        transport.protocol.dataReceived(b"5\r\nhello\r\n0\r\n\r\n" + request(b"GET", b"/healthz"))
        self.assertEqual(parse_answer(transport.take()).status, 200)

    def test_an_endless_body_after_an_early_answer_closes(self) -> None:
        transport = self.gateway.send(request(b"POST", CALL, b"Transfer-Encoding: chunked\r\n"))
        self.streams[0].agent_answers(413, (("content-length", "2"),), b"no")
        for _ in range(9):
            transport.protocol.dataReceived(b"2000\r\n" + bytes(0x2000) + b"\r\n")
        self.assertTrue(transport.half_closed)


class Time(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def test_an_incomplete_head_gets_408(self) -> None:
        transport = self.gateway.send(b"GET / HTTP/1.1\r\n")
        for _ in range(20):
            self.gateway.clock.advance(1)
            if not transport.half_closed:
                transport.protocol.dataReceived(b"a: b\r\n")
        answer = parse_answer(transport.take())
        self.assertEqual((answer.status, answer.headers["connection"]), (408, "close"))

    def test_a_silent_connection_is_closed(self) -> None:
        transport = self.gateway.connect()
        self.gateway.clock.pump([0.5] * 32)
        self.assertTrue(transport.gone)

    def test_an_idle_connection_is_closed_after_75_seconds(self) -> None:
        transport = self.gateway.send(request(b"GET", b"/healthz"))
        transport.take()
        self.gateway.clock.pump([1.0] * 74)
        self.assertFalse(transport.gone)
        self.gateway.clock.pump([1.0] * 3)
        self.assertTrue(transport.gone)
        self.assertFalse(transport.aborted)

    def test_who_never_reads_is_cut_after_the_close(self) -> None:
        transport = self.gateway.send(request(b"GET", b"/healthz", b"Connection: close\r\n"))
        self.gateway.clock.pump([1.0] * 29)
        self.assertFalse(transport.gone)
        self.gateway.clock.pump([1.0] * 3)
        self.assertTrue(transport.aborted)

    def test_no_clock_runs_without_connections(self) -> None:
        transport = self.gateway.connect()
        self.assertTrue(self.gateway.clock.getDelayedCalls())
        transport.abortConnection()
        self.assertEqual(self.gateway.clock.getDelayedCalls(), [])


class Connections(SynchronousTestCase):
    def test_one_too_many_is_told_so(self) -> None:
        gateway = HttpGateway(http=HttpLimits(connections=2))
        first, second, third = (gateway.connect() for _ in range(3))
        answer = parse_answer(third.take())
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "5"))
        third.abortConnection()
        first.protocol.dataReceived(request(b"GET", b"/healthz"))
        self.assertEqual(parse_answer(first.take()).status, 200)
        self.assertEqual(gateway.factory.connections, 2)
        second.abortConnection()

    def test_no_delay_is_set(self) -> None:
        self.assertTrue(HttpGateway().connect().no_delay)

    def test_a_drain_lets_calls_finish_and_closes_the_rest(self) -> None:
        gateway = HttpGateway()
        idle = gateway.connect()
        busy = gateway.call()
        drained = gateway.factory.drain(30)
        self.assertTrue(idle.gone)
        self.assertNoResult(drained)
        gateway.stream.agent_answers(200, (), b"whole")
        answer = parse_answer(busy.take())
        self.assertEqual((answer.body, answer.headers["connection"]), (b"whole", "close"))
        self.successResultOf(drained)
        gateway.clock.advance(1)
        gateway.log.close()
        self.assertEqual(gateway.clock.getDelayedCalls(), [])

    def test_a_drain_ends_in_time(self) -> None:
        gateway = HttpGateway()
        busy = gateway.call()
        drained = gateway.factory.drain(5)
        gateway.clock.advance(6)
        self.assertTrue(busy.aborted)
        self.assertEqual(gateway.stream.reset_code, "cancelled")
        self.successResultOf(drained)

    def test_nothing_to_drain(self) -> None:
        self.successResultOf(HttpGateway().factory.drain(5))


class Administration(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway(resource=echo)

    def ask(self, data: bytes) -> tuple[int, dict[str, object]]:
        answer = parse_answer(self.gateway.send(data).take())
        return answer.status, json.loads(answer.body)

    def test_a_resource_sees_the_whole_request_decoded(self) -> None:
        status, seen = self.ask(
            request(b"POST", b"/v1/things/a%20b?x=1&y=%C3%A9&z=", b"", b"the body")
        )
        self.assertEqual(status, 200)
        self.assertEqual(seen["path"], ["things", "a b"])
        self.assertEqual(seen["query"], {"x": "1", "y": "é", "z": ""})
        self.assertEqual((seen["body"], seen["owner"]), ("the body", "alice"))

    def test_the_peer_behind_a_trusted_proxy_is_seen(self) -> None:
        for header, peer in (
            (b"", "192.0.2.7"),
            (b"X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
            (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 192.0.2.8\r\n", "203.0.113.9"),
        ):
            _, seen = self.ask(request(b"GET", b"/v1/things/a%20b", header))
            self.assertEqual(seen["peer"], peer)

    def test_a_token_is_needed_except_for_public_paths(self) -> None:
        self.assertEqual(self.ask(request(b"GET", b"/v1/things/a%20b", token=b"x"))[0], 401)
        self.assertEqual(self.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0], 200)

    def test_unknown_paths_are_not_found(self) -> None:
        self.gateway = HttpGateway()
        for path in (b"/", b"/v1", b"/v1/x", b"/v2/things", b"/v1/groups/sales/agents/x", b"*"):
            self.assertEqual(self.ask(request(b"OPTIONS", path))[0], 404, path)

    def test_a_large_body_is_refused_by_its_length_or_its_bytes(self) -> None:
        target = b"/v1/things/a%20b"
        declared = self.gateway.send(request(b"POST", target, b"Content-Length: 1048577\r\n"))
        self.assertEqual(parse_answer(declared.take()).status, 413)
        sent = self.gateway.send(request(b"POST", target, b"Transfer-Encoding: chunked\r\n"))
        for _ in range(17):
            sent.protocol.dataReceived(b"10000\r\n" + bytes(65536) + b"\r\n")
        self.assertEqual(parse_answer(sent.take()).status, 413)

    def test_a_bug_in_a_resource_is_an_internal_error(self) -> None:
        async def broken(_: AdminRequest) -> AdminResponse:
            raise RuntimeError("secret")

        gateway = HttpGateway(resource=broken)
        answer = parse_answer(gateway.send(request(b"GET", b"/v1/things/a%20b")).take())
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_slow_resource_is_cancelled_at_its_deadline_or_when_the_caller_leaves(self) -> None:
        cancelled: list[bool] = []

        async def slow(_: AdminRequest) -> AdminResponse:
            await Deferred(lambda _d: cancelled.append(True))
            raise AssertionError("not reached")

        gateway = HttpGateway(resource=slow)
        waiting = gateway.send(request(b"GET", b"/v1/things/a%20b"))
        gateway.clock.pump([1.0] * 62)
        self.assertEqual(parse_answer(waiting.take()).status, 504)
        self.assertEqual(len(cancelled), 1)
        gateway.send(request(b"GET", b"/v1/things/a%20b")).abortConnection()
        self.assertEqual(len(cancelled), 2)

    def test_head_is_answered_without_body(self) -> None:
        transport = self.gateway.send(request(b"HEAD", b"/healthz"))
        self.assertTrue(transport.take().endswith(b"\r\n\r\n"))


class SeveralAgents(SynchronousTestCase):
    def test_no_agent_keeps_anything_of_an_ended_call(self) -> None:
        gateway = HttpGateway(agents=(MemoryAgent("one"), MemoryAgent("two")))
        for _ in range(50):
            transport = gateway.call(b"POST", body=b"x")
            for agent in gateway.registry.agents:
                for stream in agent.opened:
                    stream.agent_answers(200, (), b"y")
            transport.abortConnection()
        self.assertEqual([agent.streams for agent in gateway.registry.agents], [0, 0])
        self.assertEqual(gateway.relay.calls, 0)
        self.assertEqual(gateway.factory.connections, 0)
