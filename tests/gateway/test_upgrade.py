"""Calls that go on as WebSocket: the gateway moves the bytes and looks at none of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import HttpGateway, MemoryTransport, parse_answer

ASKED = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
ACCEPTED = (("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ("upgrade", "x"))


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def begin(self, headers: bytes = ASKED) -> MemoryTransport:
        return self.gateway.call(headers=headers)

    def switched(self) -> MemoryTransport:
        transport = self.begin()
        self.gateway.stream.agent_begins(101, ACCEPTED)
        self.assertIn(b"101 Switching", transport.take())
        return transport

    def test_the_request_reaches_the_agent_with_what_it_needs(self) -> None:
        self.begin()
        stream = self.gateway.stream
        self.assertEqual(
            stream.head.headers,
            (
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
                ("upgrade", "websocket"),
            ),
        )
        self.assertFalse(stream.ended)
        self.assertEqual(stream.head.timeout, 86_400_000)

    def test_after_101_bytes_go_both_ways_as_they_are(self) -> None:
        transport = self.begin()
        transport.protocol.dataReceived(b"early")
        stream = self.gateway.stream
        self.assertEqual(bytes(stream.body), b"")
        stream.agent_begins(101, ACCEPTED)
        head = transport.take()
        self.assertTrue(head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        for line in (
            b"connection: upgrade\r\n",
            b"upgrade: websocket\r\n",
            b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        ):
            self.assertEqual(head.count(line), 1, line)
        self.assertNotIn(b"transfer-encoding", head)
        transport.protocol.dataReceived(b"\x81\x00GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(bytes(stream.body), b"early\x81\x00GET / HTTP/1.1\r\n\r\n")
        stream.agent_sends(b"\x82\x01x")
        stream.agent_sends(b"0\r\n\r\n")
        self.assertEqual(transport.take(), b"\x82\x01x0\r\n\r\n")

    def test_the_agents_end_ends_the_connection(self) -> None:
        transport = self.switched()
        stream = self.gateway.stream
        stream.agent_sends(b"last")
        stream.agent_finishes()
        self.assertEqual(transport.take(), b"last")
        self.gateway.clock.pump([0.6] * 60)
        self.assertTrue(transport.gone)
        self.assertEqual(self.gateway.relay.calls, 0)

    def test_a_caller_who_leaves_ends_the_stream(self) -> None:
        transport = self.switched()
        transport.lose(ConnectionError())
        self.assertEqual(self.gateway.stream.reset_code, "cancelled")
        self.assertEqual(self.gateway.relay.calls, 0)

    def test_an_agent_that_takes_slowly_holds_the_caller_back(self) -> None:
        transport = self.switched()
        stream = self.gateway.stream
        stream.credit = 0
        transport.protocol.dataReceived(b"x" * 400_000)
        self.assertFalse(transport.reading)
        stream.agent_grants(None)
        self.assertTrue(transport.reading)

    def test_any_other_answer_is_one(self) -> None:
        transport = self.begin()
        self.gateway.stream.agent_begins(403, (("content-length", "2"),))
        self.gateway.stream.agent_sends(b"no")
        self.gateway.stream.agent_finishes()
        answer = parse_answer(transport.take())
        self.assertEqual((answer.status, answer.body), (403, b"no"))
        self.assertEqual(answer.headers["connection"], "close")

    def test_101_without_being_asked_is_a_malformed_answer(self) -> None:
        for headers in (
            b"",
            b"Upgrade: websocket\r\n",
            b"Connection: upgrade\r\nUpgrade: h2c\r\n",
            b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        ):
            gateway = HttpGateway()
            body = b"x" if b"Length" in headers else b""
            transport = gateway.call(headers=headers, body=b"")
            if body:
                transport.protocol.dataReceived(body)
            self.assertNotIn(("upgrade", "websocket"), gateway.stream.head.headers)
            gateway.stream.agent_begins(101, ACCEPTED)
            self.assertEqual(parse_answer(transport.take()).status, 500)

    def test_a_timeout_that_is_given_counts(self) -> None:
        transport = self.begin(ASKED + b"X-Timeout: 5\r\n")
        self.gateway.stream.agent_begins(101, ACCEPTED)
        transport.take()
        self.gateway.clock.pump([0.5] * 14)
        self.assertEqual(self.gateway.stream.reset_code, "deadline_exceeded")
        self.assertTrue(transport.gone)
