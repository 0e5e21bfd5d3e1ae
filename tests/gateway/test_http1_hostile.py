"""Requests made to confuse: each is refused, the connection closed, and no agent sees a thing."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import CALL, HttpGateway, parse_answer, request
from workato_gateway.api.bodies import ChunkedBody
from workato_gateway.api.connections import HttpLimits
from workato_gateway.api.heads import HeadParser
from workato_tunnel.problems import Problem

START = b"POST " + CALL + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all\r\n"
SMUGGLED = b"GET /v1/groups/sales/http/crm/admin HTTP/1.1\r\nHost: x\r\n\r\n"


class Hostile(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def refused(self, data: bytes, status: int = 400) -> None:
        transport = self.gateway.send(data)
        answer = parse_answer(transport.take())
        self.assertEqual(answer.status, status, data[:200])
        self.assertEqual(json.loads(answer.body)["code"], "bad_request")
        self.assertEqual(json.loads(answer.body)["status"], status)
        self.assertEqual(answer.headers["connection"], "close")
        self.assertEqual(answer.rest, b"")
        self.assertTrue(transport.half_closed or transport.gone)
        transport.protocol.dataReceived(SMUGGLED)
        self.assertEqual(bytes(transport.written), b"")
        self.assertEqual(self.gateway.agent.opened, [])
        transport.abortConnection()

    def test_two_ways_to_read_where_the_body_ends(self) -> None:
        for fields in (
            b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
            b"Content-Length: 6\r\nContent-Length: 6\r\n",
            b"Content-Length: 6\r\nContent-Length: 5\r\n",
            b"Content-Length: 6, 6\r\n",
            b"Content-Length: +6\r\n",
            b"Content-Length: -6\r\n",
            b"Content-Length: 0x6\r\n",
            b"Content-Length: 6 6\r\n",
            b"Content-Length:\r\n",
            b"Content-Length: 99999999999999999999999999\r\n",
            b"Content-Length : 6\r\n",
            b"Transfer-Encoding: chunked, gzip\r\n",
            b"Transfer-Encoding: \x0bchunked\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b"Transfer-Encoding: identity\r\n",
        ):
            self.refused(START + fields + b"\r\n0\r\n\r\n" + SMUGGLED)

    def test_codings_that_are_not_spoken(self) -> None:
        for fields in (
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ):
            transport = self.gateway.send(START + fields + b"\r\n0\r\n\r\n" + SMUGGLED)
            self.assertIn(parse_answer(transport.take()).status, (400, 501))
            self.assertEqual(self.gateway.agent.opened, [])
            self.assertTrue(transport.half_closed)

    def test_chunked_in_http_1_0(self) -> None:
        self.refused(
            START.replace(b"1.1", b"1.0")
            + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + SMUGGLED
        )

    def test_lines_that_are_not_lines(self) -> None:
        for data in (
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"GET / HTTP/1.1\nHost: x\r\n\r\n",
            START + b"A: b\nC: d\r\n\r\n",
            START + b"A: b\rC: d\r\n\r\n",
            START + b"A: b\r\n continued\r\n\r\n",
            START + b"A: b\x00\r\n\r\n",
            START + b"A\x00: b\r\n\r\n",
            START + b"A\xe9: b\r\n\r\n",
            START + b": b\r\n\r\n",
            START + b"no colon\r\n\r\n",
            START + b" A: b\r\n\r\n",
            START + b"A : b\r\n\r\n",
            b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            b"\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\r\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            self.refused(data)

    def test_request_lines(self) -> None:
        for line in (
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET /\tx HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET /\xc3\xa9 HTTP/1.1",
            b"GET /\x01 HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /#x HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET ftp://x/ HTTP/1.1",
            b"CONNECT internal:22 HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            b"{}",
        ):
            self.refused(line + b"\r\nHost: x\r\n\r\n")

    def test_versions(self) -> None:
        for version in (b"HTTP/2.0", b"HTTP/0.9", b"ICE/1.0", b"RTSP/1.0"):
            transport = self.gateway.send(b"GET / " + version + b"\r\nHost: x\r\n\r\n")
            self.assertIn(parse_answer(transport.take()).status, (400, 505), version)
            self.assertTrue(transport.half_closed)
        self.refused(b"GET / HTTP/1.9\r\nHost: x\r\n\r\n")
        transport = self.gateway.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertIn(parse_answer(transport.take()).status, (400, 505))

    def test_methods_that_are_none(self) -> None:
        self.refused(b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 501)
        self.refused(b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 501)

    def test_hosts(self) -> None:
        self.refused(b"GET / HTTP/1.1\r\n\r\n")
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")

    def test_fields_that_may_come_once(self) -> None:
        for name in (b"Authorization", b"X-Timeout", b"X-Agent", b"traceparent", b"X-Request-Id"):
            self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n" + (name + b": a\r\n") * 2 + b"\r\n")

    def test_heads_that_are_too_large(self) -> None:
        self.refused(START + b"a: b\r\n" * 101 + b"\r\n", 431)
        self.refused(START + b"a: " + b"b" * 65536 + b"\r\n\r\n", 431)
        self.refused(START + b"a: " + b"b" * 70000, 431)
        self.refused(b"GET /" + b"a" * 16384 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414)
        self.refused(b"GET /" + b"a" * 20000, 414)

    def test_the_head_limit_is_a_setting(self) -> None:
        gateway = HttpGateway(http=HttpLimits(header_bytes=4096))
        transport = gateway.send(START + b"a: " + b"b" * 4096 + b"\r\n\r\n")
        self.assertEqual(parse_answer(transport.take()).status, 431)

    def test_a_head_that_trickles_in_costs_no_more_than_its_bytes(self) -> None:
        transport = self.gateway.connect()
        for byte in START + b"a: " + b"b" * 5000:
            transport.protocol.dataReceived(bytes([byte]))
        transport.protocol.dataReceived(b"\r\n\r\n")
        self.assertEqual(len(self.gateway.agent.opened), 1)

    def test_endless_empty_lines_open_nothing_and_end_in_time(self) -> None:
        transport = self.gateway.connect()
        for _ in range(20):
            self.gateway.clock.advance(1)
            if not transport.gone:
                transport.protocol.dataReceived(b"\r\n" * 100)
        self.assertTrue(transport.gone)

    def test_one_empty_line_before_a_request_is_let_through(self) -> None:
        transport = self.gateway.send(b"\r\n" + request(b"GET", b"/healthz"))
        self.assertEqual(parse_answer(transport.take()).status, 200)

    def test_a_target_may_be_a_url(self) -> None:
        self.gateway.send(request(b"GET", b"http://gw:8080" + CALL + b"/a?b"))
        self.assertEqual(self.gateway.stream.head.path, "a")
        self.assertEqual(self.gateway.stream.head.query, "b")

    def test_an_upgrade_is_answered_as_a_plain_request(self) -> None:
        self.gateway.call(headers=b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n")
        names = dict(self.gateway.stream.head.headers)
        self.assertNotIn("upgrade", names)
        self.assertNotIn("connection", names)

    def test_a_bodys_bytes_are_never_a_request(self) -> None:
        transport = self.gateway.send(
            START + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
        )
        self.assertEqual(bytes(self.gateway.stream.body), SMUGGLED)
        self.gateway.stream.agent_answers(204)
        self.assertEqual(parse_answer(transport.take()).rest, b"")
        self.assertEqual(len(self.gateway.agent.opened), 1)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=400), st.integers(0, 400))
    def test_noise_never_raises(self, noise: bytes, cut: int) -> None:
        gateway = HttpGateway()
        transport = gateway.send(noise[:cut])
        if not transport.gone:
            transport.protocol.dataReceived(noise[cut:])
        transport.abortConnection()
        self.assertEqual(gateway.factory.connections, 0)

    @settings(max_examples=500, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    *(START[n : n + 9] for n in range(0, len(START), 9)),
                    START,
                    SMUGGLED,
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b" ",
                    b":",
                    b"0",
                    b"5\r\nhello\r\n",
                    b"Content-Length: 5\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"Expect: 100-continue\r\n",
                    b"Connection: close\r\n",
                    b"Connection: upgrade\r\nUpgrade: x\r\n",
                    b"\x00",
                    b"\xff",
                ]
            ),
            max_size=12,
        ),
        st.booleans(),
    )
    def test_requests_cut_and_glued_never_raise_and_leave_nothing(
        self, pieces: list[bytes], answered: bool
    ) -> None:
        gateway = HttpGateway()
        transport = gateway.connect()
        for piece in pieces:
            if not transport.gone and transport.reading:
                transport.protocol.dataReceived(piece)
            if answered and gateway.agent.opened:
                gateway.stream.agent_answers(200, (), b"x")
            transport.take()
        transport.abortConnection()
        self.assertEqual(gateway.factory.connections, 0)
        self.assertEqual((gateway.relay.calls, gateway.agent.streams), (0, 0))


def _chunked(content: list[bytes]) -> bytes:
    return b"".join(b"%X\r\n%b\r\n" % (len(c), c) for c in content if c) + b"0\r\n\r\n"


class Chunks(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.binary(max_size=50), max_size=5),
        st.binary(max_size=20),
        st.lists(st.integers(0, 60), max_size=8),
    )
    def test_what_was_coded_comes_back_and_no_byte_more_is_taken(
        self, content: list[bytes], after: bytes, cuts: list[int]
    ) -> None:
        data = _chunked(content) + after
        body, got, rest = ChunkedBody(), b"", b""
        at = 0
        for cut in [*cuts, len(data)]:
            if body.ended:
                break
            piece, rest = body.take(rest + data[at : at + cut])
            at += cut
            got += piece
        self.assertTrue(body.ended)
        self.assertEqual(got, b"".join(content))
        self.assertEqual(rest + data[at:], after)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=100))
    def test_noise_is_a_problem_or_waits(self, noise: bytes) -> None:
        body = ChunkedBody()
        try:
            _, rest = body.take(noise)
        except Problem as problem:
            self.assertEqual(problem.status, 400)
        else:
            self.assertTrue(body.ended or len(rest) <= 100)


class Heads(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.from_regex(r"[a-wyzA-WYZ][a-z]{8,12}", fullmatch=True),
                st.from_regex(r"[!-~]([ -~\xe9]*[!-~])?", fullmatch=True),
            ),
            max_size=10,
        )
    )
    def test_fields_come_through_as_they_are(self, fields: list[tuple[str, str]]) -> None:
        fields = [f for f in fields if f[0].lower() not in ("connection", "keepalive")]
        lines = "".join(f"{name}:  {value}\t \r\n" for name, value in fields)
        head = HeadParser().parse(f"GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode("latin-1"))
        self.assertEqual(head.fields, [(name.lower(), value) for name, value in fields])
