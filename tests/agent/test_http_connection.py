"""One HTTP/1.1 connection, fed by hand: framing, reuse, hostile responses, cancellation."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import Chunks, PacedBody
from workato_agent.requests import BodyLost
from workato_agent.services.http.connection import HttpConnection
from workato_agent.services.http.failures import ConnectionDied
from workato_agent.services.http.messages import Incoming, Outgoing
from workato_agent.services.http.streaming import IncomingBody, Upload
from workato_agent.services.http.target import parse_base_url
from workato_tunnel.problems import Problem

HEAD = b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@define
class Owner:
    """Remembers what the connection tells its pool."""

    released_count: int = 0
    gone_count: int = 0
    connections: list[HttpConnection] = field(factory=list)

    def released(self, connection: HttpConnection) -> None:
        self.released_count += 1

    def gone(self, connection: HttpConnection) -> None:
        self.gone_count += 1


class Wire(StringTransport):
    """A transport in memory that loses its connection as a socket does."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    loseConnection = abortConnection


class ConnectionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.wire = Wire()
        self.connection = HttpConnection(self.clock, parse_base_url("http://a.b"), self.owner)
        self.connection.makeConnection(self.wire)

    def get(self, method: str = "GET") -> Deferred[Incoming]:
        return self.connection.exchange(Outgoing(method, HEAD))

    def upload(
        self, body: object, length: int | None = None, *, expect: bool = False
    ) -> Deferred[Incoming]:
        source = aiter(body)  # type: ignore[call-overload]
        upload = Upload(source, length=length, expect=expect)
        return self.connection.exchange(Outgoing("POST", HEAD, upload))

    def feed(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def lose(self, *, clean: bool = True) -> None:
        error = ConnectionDone() if clean else ConnectionLost()
        self.connection.connectionLost(Failure(error))

    def failure(self, deferred: Deferred[Incoming], code: str) -> Problem:
        problem = self.failureResultOf(deferred, Problem).value
        self.assertEqual(problem.code, code)
        return problem

    def next_chunk(self, body: object) -> Deferred[bytes]:
        assert isinstance(body, IncomingBody)
        return Deferred.fromCoroutine(body.__anext__())


class FramingTests(ConnectionTestCase):
    def test_a_short_response_comes_whole(self) -> None:
        waiting = self.get()
        self.assertEqual(self.wire.value(), HEAD)
        self.feed(OK)
        answer = self.successResultOf(waiting)
        self.assertEqual((answer.status, answer.length, answer.body), (200, 2, b"ok"))
        self.assertEqual((self.owner.released_count, self.owner.gone_count), (1, 0))

    def test_a_response_may_come_byte_by_byte(self) -> None:
        for response, body in (
            (OK, b"ok"),
            (
                CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
                b"ok",
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        ):
            with self.subTest(response=response):
                self.setUp()
                waiting = self.get()
                for index in range(len(response)):
                    self.feed(response[index : index + 1])
                answer = self.successResultOf(waiting)
                whole = answer.body
                if isinstance(whole, IncomingBody):
                    whole = self.successResultOf(self.next_chunk(whole))
                self.assertEqual(whole, body)
                self.assertEqual(self.owner.released_count, 1)

    def test_responses_without_a_body_end_with_their_head(self) -> None:
        for method, response in (
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
            ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ):
            with self.subTest(method=method, response=response):
                self.setUp()
                waiting = self.get(method)
                self.feed(response)
                self.assertEqual(self.successResultOf(waiting).body, b"")
                self.assertEqual(self.owner.released_count, 1)
                again = self.get()
                self.feed(OK)
                self.assertEqual(self.successResultOf(again).body, b"ok")

    def test_a_body_without_length_ends_with_a_clean_close(self) -> None:
        waiting = self.get()
        self.feed(b"HTTP/1.1 200 OK\r\n\r\nab")
        body = self.successResultOf(waiting).body
        self.assertEqual(self.successResultOf(self.next_chunk(body)), b"ab")
        self.feed(b"cd")
        self.lose()
        self.assertEqual(self.successResultOf(self.next_chunk(body)), b"cd")
        self.failureResultOf(self.next_chunk(body), StopAsyncIteration)

    def test_a_body_without_length_is_cut_by_an_unclean_close(self) -> None:
        waiting = self.get()
        self.feed(b"HTTP/1.1 200 OK\r\n\r\nab")
        body = self.successResultOf(waiting).body
        self.lose(clean=False)
        self.assertEqual(self.successResultOf(self.next_chunk(body)), b"ab")
        problem = self.failureResultOf(self.next_chunk(body), Problem).value
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_unreachable", "cut"))

    def test_a_body_shorter_than_its_length_is_cut(self) -> None:
        for head in (
            b"Content-Length: 10",
            b"Content-Length: 100000",
            b"Transfer-Encoding: chunked",
        ):
            with self.subTest(head=head):
                self.setUp()
                waiting = self.get()
                self.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n3\r\nabc\r\n")
                self.lose()
                if waiting.called and not isinstance(waiting.result, Failure):
                    body = self.successResultOf(waiting).body
                    self.successResultOf(self.next_chunk(body))
                    self.failureResultOf(self.next_chunk(body), Problem)
                else:
                    problem = self.failure(waiting, "target_unreachable")
                    self.assertEqual(problem.extra["reason"], "cut")

    def test_interim_responses_are_skipped(self) -> None:
        waiting = self.get()
        self.feed(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK
        )
        answer = self.successResultOf(waiting)
        self.assertEqual((answer.status, answer.fields), (200, []))


class ReuseTests(ConnectionTestCase):
    def test_a_connection_is_kept_or_closed_as_the_response_says(self) -> None:
        for head, kept in (
            (b"HTTP/1.1 200 OK\r\n", True),
            (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
            (b"HTTP/1.0 200 OK\r\n", False),
            (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
        ):
            with self.subTest(head=head):
                self.setUp()
                waiting = self.get()
                self.feed(head + b"Content-Length: 2\r\n\r\nok")
                self.assertEqual(self.successResultOf(waiting).body, b"ok")
                self.assertEqual(self.owner.released_count, int(kept))
                self.assertEqual(
                    (self.owner.gone_count, self.wire.aborted), (int(not kept), not kept)
                )

    def test_bytes_after_the_response_are_the_last_of_the_connection(self) -> None:
        for method, response in (
            ("GET", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            ("GET", OK + b"x"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2"),
            ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
        ):
            with self.subTest(method=method, response=response):
                self.setUp()
                waiting = self.get(method)
                self.feed(response)
                self.assertIn(self.successResultOf(waiting).body, (b"", b"ok"))
                self.assertEqual((self.owner.released_count, self.owner.gone_count), (0, 1))

    def test_bytes_on_an_idle_connection_close_it(self) -> None:
        self.get().addCallback(lambda _answer: None)
        self.feed(OK)
        self.feed(OK)
        self.assertTrue(self.wire.aborted)
        self.assertFalse(self.connection.usable())

    def test_the_next_call_sees_nothing_of_the_one_before(self) -> None:
        first = self.get()
        self.feed(b"HTTP/1.1 404 Gone\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc")
        self.successResultOf(first)
        second = self.get()
        self.feed(OK)
        answer = self.successResultOf(second)
        self.assertEqual((answer.status, answer.fields, answer.body), (200, [], b"ok"))

    def test_a_connection_that_dies_before_the_response_says_so(self) -> None:
        waiting = self.get()
        self.lose()
        self.assertFalse(self.failureResultOf(waiting, ConnectionDied).value.unsent)
        self.assertEqual(self.owner.gone_count, 1)


class HostileTests(ConnectionTestCase):
    def test_what_is_no_reliable_http_is_refused(self) -> None:
        for response in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x15\x03\x03\x00\x02\x02\x50",
            b"220 mail.example ESMTP\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"HTTP/1.1 099 Huh\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 11_000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        ):
            with self.subTest(response=response[:80]):
                self.setUp()
                waiting = self.get()
                self.feed(response)
                problem = self.failure(waiting, "target_wrong_type")
                self.assertIn("a.b:80", problem.detail)
                self.assertEqual((self.owner.released_count, self.owner.gone_count), (0, 1))
                self.assertTrue(self.wire.aborted)

    def test_a_large_head_passes_however_it_is_cut(self) -> None:
        response = b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"y" * 50_000 + b"\r\n" + OK[17:]
        for size in (1_000, 30_000, 60_000):
            self.setUp()
            waiting = self.get()
            for start in range(0, len(response), size):
                self.feed(response[start : start + size])
            answer = self.successResultOf(waiting)
            self.assertEqual((answer.fields, answer.body), ([("x-a", "y" * 50_000)], b"ok"))

    def test_an_endless_head_is_refused_before_it_takes_memory(self) -> None:
        for endless in (b"X", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"X: y\r\n"):
            with self.subTest(endless=endless):
                self.setUp()
                waiting = self.get()
                self.feed(b"HTTP/1.1 ")
                self.feed(b"100 C\r\n\r\n" if endless[:1] in b"H\r" else b"200 ")
                fed = 0
                while not waiting.called and fed < 1 << 20:
                    piece = endless * (4096 // len(endless))
                    self.feed(piece)
                    fed += len(piece)
                self.failure(waiting, "target_wrong_type")
                self.assertLess(fed, 80_000)

    def test_an_endless_trailer_or_chunk_extension_is_refused(self) -> None:
        for start in (b"0\r\nX: ", b"0\r\n", b"5;x="):
            with self.subTest(start=start):
                self.setUp()
                waiting = self.get()
                self.feed(CHUNKED + start)
                body = self.successResultOf(waiting).body
                chunk = self.next_chunk(body)
                fed = 0
                while not chunk.called and fed < 1 << 20:
                    self.feed(b"X: " + b"y" * 4090 + b"\r\n" if start == b"0\r\n" else b"y" * 4096)
                    fed += 4096
                self.assertEqual(
                    self.failureResultOf(chunk, Problem).value.code, "target_wrong_type"
                )
                self.assertLess(fed, 80_000)

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b"HTTP/1.1 200 OK\r\n",
                        b"HTTP/1.1 204 No Content\r\n",
                        b"HTTP/1.1 100 Continue\r\n\r\n",
                        b"HTTP/1.0 200 OK\r\n",
                        b"Content-Length: 3\r\n",
                        b"Content-Length: 200000\r\n",
                        b"Transfer-Encoding: chunked\r\n",
                        b"Connection: close\r\n",
                        b"Connection: keep-alive\r\n",
                        b"Upgrade: x\r\nConnection: upgrade\r\n",
                        b"\r\n",
                        b"\r\n\r\n",
                        b"abc",
                        b"3\r\nabc\r\n",
                        b"0\r\n\r\n",
                        b"0\r\nX: y\r\n\r\n",
                        OK,
                    ]
                ),
                st.binary(max_size=8),
            ),
            max_size=10,
        ),
        st.sampled_from(["GET", "HEAD"]),
        st.integers(1, 20),
        st.booleans(),
    )
    def test_any_bytes_end_in_a_response_or_a_known_error(
        self, parts: Sequence[bytes], method: str, cut: int, clean: bool
    ) -> None:
        self.setUp()
        waiting = self.get(method)
        data = b"".join(parts)
        for start in range(0, len(data), cut):
            self.feed(data[start : start + cut])
        self.lose(clean=clean)
        self.assertTrue(waiting.called)
        if isinstance(waiting.result, Failure):
            self.failureResultOf(waiting, Problem, ConnectionDied)
        else:
            answer = self.successResultOf(waiting)
            self.assertGreaterEqual(answer.status, 200)
            if isinstance(answer.body, IncomingBody):
                chunk = self.next_chunk(answer.body)
                while isinstance(chunk.result, bytes):
                    chunk = self.next_chunk(answer.body)
                self.failureResultOf(chunk, Problem, StopAsyncIteration)
        self.assertEqual(self.owner.gone_count, 1)
        self.assertLessEqual(self.owner.released_count, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BackPressureTests(ConnectionTestCase):
    def start(self) -> object:
        waiting = self.get()
        self.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        return self.successResultOf(waiting).body

    def test_the_target_is_held_back_while_nobody_reads(self) -> None:
        body = self.start()
        self.feed(b"x" * 60_000)
        self.assertEqual(self.wire.producerState, "producing")
        self.feed(b"x" * 60_000)
        self.assertEqual(self.wire.producerState, "paused")
        self.assertEqual(len(self.successResultOf(self.next_chunk(body))), 120_000)
        self.assertEqual(self.wire.producerState, "producing")

    def test_a_waiting_reader_gets_what_comes(self) -> None:
        body = self.start()
        chunk = self.next_chunk(body)
        self.assertNoResult(chunk)
        self.feed(b"x" * 10)
        self.assertEqual(self.successResultOf(chunk), b"x" * 10)

    def test_a_body_that_is_whole_leaves_the_connection_free_though_unread(self) -> None:
        body = self.start()
        self.feed(b"x" * 1_000_000)
        self.assertEqual(self.owner.released_count, 1)
        self.assertEqual(self.wire.producerState, "producing")
        again = self.get()
        self.feed(OK)
        self.assertEqual(self.successResultOf(again).body, b"ok")
        self.assertEqual(len(self.successResultOf(self.next_chunk(body))), 1_000_000)
        self.failureResultOf(self.next_chunk(body), StopAsyncIteration)

    def test_a_reader_who_leaves_closes_the_connection(self) -> None:
        body = self.start()
        assert isinstance(body, IncomingBody)
        self.successResultOf(Deferred.fromCoroutine(body.aclose()))
        self.assertTrue(self.wire.aborted)
        self.failureResultOf(self.next_chunk(body), BodyLost)

    def test_cancelling_a_waiting_reader_closes_the_connection(self) -> None:
        body = self.start()
        chunk = self.next_chunk(body)
        chunk.cancel()
        self.failureResultOf(chunk, CancelledError)
        self.assertTrue(self.wire.aborted)
        self.failureResultOf(self.next_chunk(body), BodyLost)

    def test_closing_a_body_that_has_wholly_come_leaves_the_connection(self) -> None:
        body = self.start()
        assert isinstance(body, IncomingBody)
        self.feed(b"x" * 1_000_000)
        self.successResultOf(Deferred.fromCoroutine(body.aclose()))
        self.assertFalse(self.wire.aborted)


class UploadTests(ConnectionTestCase):
    def test_head_and_short_body_leave_in_one_piece(self) -> None:
        writes: list[bytes] = []
        self.wire.write = writes.append  # type: ignore[method-assign,assignment]
        waiting = self.upload(Chunks([b"ab", b"cd"]), 4)
        self.assertEqual(writes, [HEAD + b"abcd"])
        self.feed(OK)
        self.successResultOf(waiting)
        self.assertEqual(self.owner.released_count, 1)

    def test_a_body_of_unknown_length_goes_in_chunks(self) -> None:
        self.upload(Chunks([b"abc", b"x" * 17]))
        self.assertEqual(
            self.wire.value(), HEAD + b"3\r\nabc\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
        )

    def test_the_head_leaves_before_a_slow_body(self) -> None:
        body = PacedBody()
        self.upload(body, 2)
        self.assertEqual(self.wire.value(), HEAD)
        body.give(b"ab")
        body.give(None)
        self.assertEqual(self.wire.value(), HEAD + b"ab")

    def test_a_body_of_another_length_than_announced_ends_the_connection(self) -> None:
        for chunks in ([b"abc"], [b"abcde"], [b"ab", b"cdef"], []):
            with self.subTest(chunks=chunks):
                self.setUp()
                problem = self.failure(self.upload(Chunks(chunks), 4), "bad_request")
                self.assertEqual(problem.extra, {"field": "content-length"})
                self.assertTrue(self.wire.aborted)

    def test_a_body_that_is_lost_ends_the_connection_and_is_told(self) -> None:
        body = PacedBody()
        waiting = self.upload(body)
        body.give(b"ab")
        body.lose()
        self.failureResultOf(waiting, BodyLost)
        self.assertTrue(self.wire.aborted)
        self.assertFalse(self.wire.value().endswith(b"0\r\n\r\n"))

    def test_nothing_is_sent_for_a_body_that_is_lost_already(self) -> None:
        self.failureResultOf(self.upload(Chunks([b"ab"], lost=True)), BodyLost)
        self.assertEqual(self.wire.value(), b"")

    def test_a_paused_transport_stops_the_reading_of_the_body(self) -> None:
        body = PacedBody()
        self.upload(body)
        body.give(b"ab")
        producer = self.wire.producer
        assert producer is not None
        producer.pauseProducing()
        body.give(b"cd")
        self.assertIsNone(body.waiting)
        producer.resumeProducing()
        self.assertIsNotNone(body.waiting)
        body.give(None)
        self.assertIsNone(self.wire.producer)

    def test_an_early_refusal_stops_the_upload(self) -> None:
        body = PacedBody()
        waiting = self.upload(body)
        body.give(b"ab")
        self.feed(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n")
        self.assertTrue(body.waiting is not None and body.waiting.called)
        self.feed(b"no")
        self.assertEqual(self.successResultOf(waiting).status, 413)
        self.assertEqual((self.owner.released_count, self.wire.aborted), (0, True))

    def test_an_upload_goes_on_while_the_response_streams(self) -> None:
        body = PacedBody()
        waiting = self.upload(body)
        self.feed(CHUNKED)
        answer = self.successResultOf(waiting)
        body.give(b"ab")
        self.feed(b"2\r\nAB\r\n")
        self.assertEqual(self.successResultOf(self.next_chunk(answer.body)), b"AB")
        body.give(None)
        self.feed(b"0\r\n\r\n")
        self.failureResultOf(self.next_chunk(answer.body), StopAsyncIteration)
        self.assertEqual(self.owner.released_count, 1)

    def test_a_response_that_ends_before_the_upload_ends_both(self) -> None:
        body = PacedBody()
        waiting = self.upload(body)
        self.feed(OK)
        self.assertEqual(self.successResultOf(waiting).body, b"ok")
        self.assertTrue(body.waiting is not None and body.waiting.called)
        self.assertEqual((self.owner.released_count, self.wire.aborted), (0, True))

    def test_cancelling_closes_the_connection_and_stops_the_upload(self) -> None:
        body = PacedBody()
        waiting = self.upload(body)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(body.waiting is not None and body.waiting.called)
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.owner.gone_count, 1)
        self.lose(clean=False)
        self.assertEqual(self.owner.gone_count, 1)


class ContinueTests(ConnectionTestCase):
    def test_the_body_waits_for_100_continue(self) -> None:
        waiting = self.upload(Chunks([b"abcd"]), 4, expect=True)
        self.assertEqual(self.wire.value(), HEAD)
        self.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(self.wire.value(), HEAD + b"abcd")
        self.feed(OK)
        self.assertEqual(self.successResultOf(waiting).body, b"ok")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_body_is_sent_after_a_second_without_an_answer(self) -> None:
        self.upload(Chunks([b"abcd"]), 4, expect=True)
        self.clock.advance(0.9)
        self.assertEqual(self.wire.value(), HEAD)
        self.clock.advance(0.2)
        self.assertEqual(self.wire.value(), HEAD + b"abcd")

    def test_after_a_final_response_the_body_is_never_sent(self) -> None:
        for status in (b"417 No", b"302 Found", b"200 OK"):
            with self.subTest(status=status):
                self.setUp()
                waiting = self.upload(Chunks([b"abcd"]), 4, expect=True)
                self.feed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n")
                self.clock.advance(5)
                self.feed(b"no")
                self.successResultOf(waiting)
                self.assertEqual(self.wire.value(), HEAD)
                self.assertEqual(self.owner.released_count, 0)
                self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelling_while_waiting_leaves_no_timer(self) -> None:
        waiting = self.upload(Chunks([b"abcd"]), 4, expect=True)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
