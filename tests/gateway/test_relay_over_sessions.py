"""The relay over real sessions of the tunnel, in memory: the two fit together."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import CALL, HttpGateway, MemoryTransport, parse_answer, request
from workato_gateway.agents.registry import LiveAgent, Registry
from workato_tunnel.errors import StreamReset
from workato_tunnel.frames import Catalogue, Head, Open, Profile, Trailers
from workato_tunnel.tx.testing import MemoryPair
from workato_tunnel.tx.transport import StreamTransport


class AgentSide:
    """What an agent sees of a call; ``on_open`` and ``on_end`` may answer it."""

    def __init__(self, stream: StreamTransport, head: Open) -> None:
        self.stream = stream
        self.head = head
        self.body = bytearray()
        self.ended = False
        self.reset: StreamReset | None = None
        self.on_end: Callable[[], None] = lambda: None

    def head_received(self, head: Head) -> None:
        raise AssertionError("a HEAD came to the agent")

    def data_received(self, data: bytes) -> None:
        self.body += data

    def end_received(self) -> None:
        self.ended = True
        self.on_end()

    def finished(self, trailers: Trailers) -> None:
        raise AssertionError("TRAILERS came to the agent")

    def reset_received(self, reason: StreamReset) -> None:
        self.reset = reason

    def answer(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.stream.send_head(Head(200, headers))
        self.stream.write(body)
        self.stream.finish(Trailers())
        self.stream.release()


class OverSessions(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[AgentSide] = []
        self.pair = MemoryPair(agent_accept=self.accept)
        registry = Registry()
        live = LiveAgent("id", "real", "sales", self.pair.gateway)
        registry.add(live)
        self.pair.flush()
        self.pair.agent.announce(Catalogue(profiles=(Profile("http", "crm"),)))
        self.pair.flush()
        self.gateway = HttpGateway(self.pair.clock)
        self.gateway.relay.registry = registry
        self.registry = registry

    def accept(self, stream: StreamTransport, head: Open) -> AgentSide:
        self.calls.append(AgentSide(stream, head))
        return self.calls[-1]

    def begin(
        self, method: bytes = b"GET", headers: bytes = b"", body: bytes = b""
    ) -> MemoryTransport:
        transport = self.gateway.call(method, headers=headers, body=body)
        self.pair.flush()
        return transport

    def tearDown(self) -> None:
        self.assertEqual(self.pair.gateway.streams, 0)
        self.assertEqual(self.gateway.relay.calls, 0)

    def test_a_small_call(self) -> None:
        transport = self.begin(b"POST", body=b'{"a": 1}')
        self.assertEqual(bytes(self.calls[0].body), b'{"a": 1}')
        self.assertTrue(self.calls[0].ended)
        self.calls[0].answer(b"fine", (("content-length", "4"),))
        self.pair.flush()
        self.assertEqual(parse_answer(transport.take()).body, b"fine")

    def test_a_download_to_a_slow_reader_is_whole_and_bounded(self) -> None:
        content = bytes(range(256)) * 20_000
        transport = self.begin()
        self.calls[0].answer(content)
        self.pair.flush()
        while transport.take(50_000):
            self.pair.flush()
        self.assertEqual(parse_answer(bytes(transport.taken)).body, content)
        self.assertLess(transport.most_unread, 192 * 1024)

    def test_an_upload_is_whole_across_cuts_of_the_socket(self) -> None:
        content = bytes(range(256)) * 8_000
        transport = self.gateway.call(b"PUT", headers=b"Content-Length: %d\r\n" % len(content))
        at = 0
        while at < len(content):
            if transport.reading:
                transport.protocol.dataReceived(content[at : at + 65_536])
                at += 65_536
            if at % (5 * 65_536) == 0:
                self.pair.cut()
                self.pair.resume()
            self.pair.step()
        self.pair.flush()
        self.assertEqual(bytes(self.calls[0].body), content)
        self.calls[0].answer(b"")
        self.pair.flush()
        self.assertEqual(parse_answer(transport.take()).status, 200)

    def test_an_answer_that_waits_for_its_reader_while_the_upload_goes_on(self) -> None:
        transport = self.begin(b"POST", b"Content-Length: 1000000\r\n")
        self.calls[0].answer(bytes(200_000))
        self.pair.flush()
        for _ in range(10):
            if transport.reading and not transport.gone:
                transport.protocol.dataReceived(bytes(65_536))
            self.pair.flush()
        while transport.take():
            self.pair.flush()
        self.assertEqual(len(parse_answer(bytes(transport.taken)).body), 200_000)

    def test_more_than_was_declared(self) -> None:
        transport = self.begin()
        self.calls[0].answer(bytes(200_000), (("content-length", "100000"),))
        self.pair.flush()
        while not transport.gone and transport.take():
            self.pair.flush()
        self.assertTrue(transport.aborted)

    def test_the_caller_leaves(self) -> None:
        transport = self.begin(b"POST", b"Content-Length: 1000000\r\n")
        transport.abortConnection()
        self.pair.flush()
        reset = self.calls[0].reset
        assert reset is not None
        self.assertEqual(reset.reason, "cancelled")

    def test_the_session_ends(self) -> None:
        transport = self.begin()
        self.pair.gateway.terminate("revoked", "the agent was revoked")
        answer = parse_answer(transport.take())
        self.assertEqual(json.loads(answer.body)["code"], "tunnel_lost")
        self.assertEqual(
            json.loads(parse_answer(self.gateway.call().take()).body)["code"], "agent_inactive"
        )

    def test_while_the_socket_is_gone_new_calls_are_told_to_come_again(self) -> None:
        waiting = self.begin()
        self.pair.cut()
        found = json.loads(parse_answer(self.gateway.call().take()).body)
        self.assertEqual(found["code"], "agent_inactive")
        self.pair.resume()
        self.calls[0].answer(b"still here")
        self.pair.flush()
        self.assertEqual(parse_answer(waiting.take()).body, b"still here")

    def test_a_head_too_large_for_the_tunnel(self) -> None:
        fields = b"".join(b"a%d: %b\r\n" % (n, b"\xe9" * 700) for n in range(60))
        answer = parse_answer(self.gateway.send(request(b"GET", CALL, fields)).take())
        self.assertEqual(answer.status, 431)

    def fail_behind(self, size: int) -> None:
        stream = self.calls[0].stream
        stream.send_head(Head(200))
        stream.write(bytes(size) + b"the last item")
        stream.finish(Trailers(code="query_failed", message="refused", detail="division by zero"))
        stream.release()
        self.pair.flush()

    def test_a_failure_behind_the_body_lets_all_of_it_through_and_no_clean_end(self) -> None:
        for size in (0, 500_000):
            self.calls.clear()
            transport = self.begin()
            self.fail_behind(size)
            while transport.take(50_000):
                self.pair.flush()
            self.assertTrue(transport.gone)
            self.assertFalse(transport.aborted)
            self.assertTrue(transport.taken.endswith(b"the last item\r\n"))
            self.assertRaises(ValueError, parse_answer, bytes(transport.taken))

    def test_a_failure_behind_the_body_is_a_reset_where_a_close_would_end_the_body(self) -> None:
        call = request(b"GET", CALL).replace(b"HTTP/1.1", b"HTTP/1.0")
        transport = self.gateway.send(call)
        self.pair.flush()
        self.fail_behind(0)
        self.assertTrue(transport.aborted)

    def test_the_agents_own_reset(self) -> None:
        transport = self.begin()
        self.calls[0].stream.reset("target_unreachable", "refused", "10.0.0.1:80 refused")
        self.pair.flush()
        found = json.loads(parse_answer(transport.take()).body)
        self.assertEqual(
            (found["code"], found["detail"]), ("target_unreachable", "10.0.0.1:80 refused")
        )
