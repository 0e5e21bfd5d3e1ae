"""The HTTP server: bodies, `Expect`, framing of answers."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import (
    CALL,
    HttpGateway,
    MemoryTransport,
    parse_answer,
    request,
)


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
