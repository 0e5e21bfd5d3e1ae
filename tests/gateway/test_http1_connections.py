"""The HTTP server's connections: order, persistence, early answers, time; its own resources."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import (
    CALL,
    HttpGateway,
    echo,
    parse_answer,
    request,
)
from tests.support.memory_agents import MemoryAgent, MemoryStream
from workato_gateway.api.connections import HttpLimits
from workato_gateway.api.messages import AdminRequest, AdminResponse


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
