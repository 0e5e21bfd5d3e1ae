"""A connection that becomes a WebSocket, fed by hand."""

from __future__ import annotations

import socket

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import SynchronousTestCase

from tests.agent.test_http_connection import HEAD, OK, ConnectionTestCase, Wire
from tests.support.files import PacedBody
from tests.support.http import http_request
from workato_agent.requests import BodyLost
from workato_agent.services.http.messages import Incoming, Outgoing
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings
from workato_agent.services.http.streaming import IncomingBody
from workato_agent.services.http.switching import watch
from workato_tunnel.problems import Problem

AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Accept: x=\r\n\r\n"
)


class SwitchingTests(ConnectionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.body = PacedBody()

    def ask(self) -> Deferred[Incoming]:
        return self.connection.exchange(Outgoing("GET", HEAD, passage=aiter(self.body)))

    def switch(self, early: bytes = b"") -> IncomingBody:
        waiting = self.ask()
        self.feed(AGREED + early)
        answer = self.successResultOf(waiting)
        assert isinstance(answer.body, IncomingBody)
        self.assertEqual(answer.status, 101)
        self.assertEqual(answer.fields, [("sec-websocket-accept", "x=")])
        return answer.body

    def test_nothing_of_the_body_is_asked_for_before_the_target_agrees(self) -> None:
        waiting = self.ask()
        self.assertEqual(self.wire.value(), HEAD)
        self.assertIsNone(self.body.waiting)
        for byte in AGREED:
            self.feed(bytes((byte,)))
        self.successResultOf(waiting)
        self.assertIsNotNone(self.body.waiting)

    def test_bytes_pass_as_they_are_both_ways(self) -> None:
        body = self.switch(early=b"\x81\x02HT")
        self.assertEqual(self.successResultOf(self.next_chunk(body)), b"\x81\x02HT")
        self.feed(OK)
        self.assertEqual(self.successResultOf(self.next_chunk(body)), OK)
        self.wire.clear()
        self.body.give(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.wire.value(), b"GET / HTTP/1.1\r\n\r\n")

    def test_the_connection_is_never_used_again(self) -> None:
        body = self.switch()
        self.body.give(None)
        self.assertTrue(self.wire.aborted)
        self.lose()
        self.failureResultOf(self.next_chunk(body), StopAsyncIteration)
        self.assertEqual((self.owner.released_count, self.owner.gone_count), (0, 1))

    def test_a_target_that_closes_or_dies_ends_the_answer_after_its_last_words(self) -> None:
        for clean in (True, False):
            self.setUp()
            body = self.switch(early=b"end")
            self.lose(clean=clean)
            self.assertEqual(self.successResultOf(self.next_chunk(body)), b"end")
            self.failureResultOf(self.next_chunk(body), StopAsyncIteration)

    def test_a_caller_who_is_lost_ends_the_connection(self) -> None:
        body = self.switch()
        self.body.lose()
        self.assertTrue(self.wire.aborted)
        self.failureResultOf(self.next_chunk(body), BodyLost)

    def test_closing_the_answer_ends_the_connection_and_the_reading(self) -> None:
        body = self.switch()
        self.successResultOf(Deferred.fromCoroutine(body.aclose()))
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.owner.gone_count, 1)

    def test_either_side_is_held_back_by_the_other(self) -> None:
        body = self.switch()
        self.feed(b"x" * 100_000)
        self.assertEqual(self.wire.producerState, "paused")
        self.successResultOf(self.next_chunk(body))
        self.assertEqual(self.wire.producerState, "producing")
        self.body.give(b"first")
        self.wire.producer.pauseProducing()  # type: ignore[attr-defined]
        self.body.give(b"second")
        self.assertIsNone(self.body.waiting)
        self.wire.producer.resumeProducing()  # type: ignore[attr-defined]
        self.assertIsNotNone(self.body.waiting)

    def test_any_other_answer_is_one(self) -> None:
        waiting = self.ask()
        self.feed(OK)
        self.assertEqual(self.successResultOf(waiting).body, b"ok")
        self.assertIsNone(self.body.waiting)
        self.assertEqual(self.owner.released_count, 1)

    def test_interim_answers_may_come_before(self) -> None:
        waiting = self.ask()
        self.feed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + AGREED)
        self.assertEqual(self.successResultOf(waiting).fields, [("sec-websocket-accept", "x=")])

    def test_101_for_anything_else_is_refused(self) -> None:
        for answer in (
            AGREED.replace(b"WebSocket\r", b"h2c\r"),
            AGREED.replace(b"WebSocket\r", b"websocket, h2c\r"),
            AGREED.replace(b"keep-alive, Upgrade", b"keep-alive"),
            AGREED.replace(b"HTTP/1.1", b"HTTP/1.0"),
            b"HTTP/1.1 101 Switching\r\n\r\n",
        ):
            with self.subTest(answer=answer):
                self.setUp()
                waiting = self.ask()
                self.feed(answer)
                self.failure(waiting, "target_wrong_type")
                self.assertTrue(self.wire.aborted)
        self.setUp()
        waiting = self.get()
        self.feed(AGREED)
        self.failure(waiting, "target_wrong_type")


class WatchTests(SynchronousTestCase):
    def test_the_kernel_asks_a_silent_host_with_tls_or_without(self) -> None:
        for wrapped in (False, True):
            with socket.socket() as handle:
                wire = SocketWire(handle)
                transport: object = wire
                if wrapped:
                    transport = ProtocolWrapper(Factory(), Protocol())  # type: ignore[no-untyped-call]
                    transport.transport = wire  # type: ignore[attr-defined]
                watch(transport)
                asked = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                given = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                self.assertEqual((asked, given), (60, 120_000))
        watch(Wire())


class SocketWire:
    """A transport as far as it has a socket."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle

    def getHandle(self) -> socket.socket:  # noqa: N802 - Twisted's name
        return self.handle


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = HttpService(Clock(), HttpSettings("http://127.0.0.1:1"))  # type: ignore[arg-type]

    def test_a_get_that_asks_for_one_is_an_operation_of_its_own(self) -> None:
        asked = (("upgrade", "WebSocket"),)
        for path in ("", "/", "x"):
            request = http_request("GET", path, headers=asked)
            self.assertEqual(self.service.operation(request), "websocket")
        self.assertEqual(self.service.operation(http_request("POST", "x", headers=asked)), "post")
        self.assertRaises(Problem, self.service.operation, http_request("WEBSOCKET", "x"))

    def test_an_application_that_does_not_answer_is_left_after_a_minute(self) -> None:
        reactor = MemoryReactorClock()
        service = HttpService(reactor, HttpSettings("http://127.0.0.1:1"))
        request = http_request("GET", "x", headers=(("upgrade", "websocket"),), body=PacedBody())
        calling = Deferred.fromCoroutine(service.handle(request))
        protocol = reactor.tcpClients[0][2].buildProtocol(None)
        wire = Wire()
        protocol.makeConnection(wire)
        self.assertIn(b"Upgrade: websocket\r\n", wire.value())
        reactor.advance(59)
        self.assertNoResult(calling)
        reactor.advance(2)
        problem = self.failureResultOf(calling, Problem).value
        self.assertEqual(problem.extra["reason"], "timeout")
        self.assertTrue(wire.aborted)

    def test_one_with_a_body_is_refused(self) -> None:
        for name, value in (("content-length", "1"), ("transfer-encoding", "chunked")):
            request = http_request("GET", "x", headers=(("upgrade", "websocket"), (name, value)))
            calling = Deferred.fromCoroutine(self.service.handle(request))
            problem = self.failureResultOf(calling, Problem).value
            self.assertEqual((problem.code, problem.extra["field"]), ("bad_request", name))
