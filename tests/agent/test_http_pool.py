"""The pool: reuse, limits, waiting in line, idle connections, and repeating a call safely."""

from __future__ import annotations

from attrs import define, evolve, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import Chunks, PacedBody
from tests.support.http import http_request
from workato_agent.requests import Headers, Response
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings
from workato_tunnel.problems import Problem

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire(StringTransport):
    """A transport in memory; what is aborted ends when the test says so, as with a socket."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    loseConnection = abortConnection


@define
class Opened:
    """One connection that the client has made."""

    protocol: object
    wire: Wire = field(factory=Wire)

    def answer(self, data: bytes = OK) -> None:
        self.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[attr-defined]


class PoolTestCase(SynchronousTestCase):
    settings = HttpSettings(
        "http://127.0.0.1:8080", max_connections=2, max_waiting=2, wait_timeout=5, idle_timeout=30
    )

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.build(self.settings)

    def build(self, settings: HttpSettings) -> None:
        self.service = HttpService(self.reactor, settings)
        self.pool = self.service._client.pool

    def call(
        self, method: str = "GET", path: str = "x", headers: Headers = (), body: object = ()
    ) -> Deferred[Response]:
        request = http_request(method, path, headers=headers, body=body, deadline=100.0)
        return Deferred.fromCoroutine(self.service.handle(request))

    def attempts(self) -> int:
        return len(self.reactor.tcpClients)

    def accept(self) -> Opened:
        """Let the latest connection attempt succeed."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 8080))
        opened = Opened(protocol._wrappedProtocol)
        protocol.makeConnection(opened.wire)
        return opened

    def refuse(self) -> None:
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(Refused()))


class ReuseTests(PoolTestCase):
    def test_nothing_is_opened_before_it_is_needed(self) -> None:
        self.assertEqual((self.attempts(), self.reactor.getDelayedCalls()), (0, []))

    def test_one_connection_serves_one_call_after_the_other(self) -> None:
        first = self.call()
        opened = self.accept()
        opened.answer()
        self.assertEqual(self.successResultOf(first).body, b"ok")
        second = self.call()
        opened.answer()
        self.assertEqual(self.successResultOf(second).body, b"ok")
        self.assertEqual(self.attempts(), 1)

    def test_an_idle_connection_is_closed_after_its_time(self) -> None:
        self.call().addErrback(lambda _failure: None)
        opened = self.accept()
        opened.answer()
        self.reactor.advance(29)
        self.assertFalse(opened.wire.aborted)
        self.reactor.advance(2)
        self.assertTrue(opened.wire.aborted)
        self.assertEqual(self.pool.counts, (0, 0, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_connection_is_not_used_when_the_target_is_about_to_close_it(self) -> None:
        self.call().addErrback(lambda _failure: None)
        opened = self.accept()
        opened.answer(b"HTTP/1.1 204 No\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\n")
        self.reactor.pump([1, 1, 1, 1.5])
        second = self.call()
        self.assertEqual(self.attempts(), 2)
        self.accept().answer()
        self.successResultOf(second)

    def test_a_target_that_closes_an_idle_connection_frees_its_slot(self) -> None:
        self.call().addErrback(lambda _failure: None)
        opened = self.accept()
        opened.answer()
        self.assertEqual(self.pool.counts, (0, 1, 0))
        opened.lose()
        self.assertEqual(self.pool.counts, (0, 0, 0))


class RepeatTests(PoolTestCase):
    def stale(self, **request: object) -> tuple[Deferred[Response], int]:
        """A call on a kept connection that the target closes without an answer."""
        first = self.call()
        opened = self.accept()
        opened.answer()
        self.successResultOf(first)
        second = self.call(**request)  # type: ignore[arg-type]
        opened.lose()
        return second, self.attempts()

    def test_an_idempotent_call_is_sent_once_more_on_a_new_connection(self) -> None:
        second, attempts = self.stale()
        self.assertEqual(attempts, 2)
        self.accept().answer()
        self.assertEqual(self.successResultOf(second).body, b"ok")

    def test_an_idempotent_short_upload_is_sent_once_more_with_its_body(self) -> None:
        second, _ = self.stale(
            method="PUT", headers=(("content-length", "4"),), body=Chunks([b"ab", b"cd"])
        )
        opened = self.accept()
        self.assertTrue(opened.wire.value().endswith(b"\r\n\r\nabcd"))
        opened.answer()
        self.successResultOf(second)

    def test_it_is_not_sent_a_third_time(self) -> None:
        second, _ = self.stale()
        self.accept().lose()
        problem = self.failureResultOf(second, Problem).value
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_unreachable", "closed"))
        self.assertEqual(self.attempts(), 2)

    def test_what_might_be_done_twice_is_not_sent_twice(self) -> None:
        for request in (
            {"method": "POST"},
            {"method": "POST", "headers": (("content-length", "2"),), "body": Chunks([b"ab"])},
            {"method": "PATCH", "body": Chunks([b"ab"])},
        ):
            with self.subTest(request=request):
                self.setUp()
                second, attempts = self.stale(**request)
                problem = self.failureResultOf(second, Problem).value
                self.assertEqual((problem.code, attempts), ("target_unreachable", 1))
                self.assertIn("may have been done", problem.hint or "")

    def test_a_body_that_was_partly_sent_is_not_sent_again(self) -> None:
        second, attempts = self.stale(
            method="PUT", headers=(("content-length", "4"),), body=PacedBody()
        )
        self.failureResultOf(second, Problem)
        self.assertEqual(attempts, 1)

    def test_a_body_of_which_nothing_was_sent_makes_any_call_repeatable(self) -> None:
        headers = (("content-length", "4"), ("expect", "100-continue"))
        second, attempts = self.stale(method="POST", headers=headers, body=Chunks([b"abcd"]))
        self.assertEqual(attempts, 2)
        opened = self.accept()
        opened.answer(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertEqual(self.successResultOf(second).status, 200)

    def test_a_new_connection_that_dies_is_not_tried_again(self) -> None:
        call = self.call()
        self.accept().lose()
        self.refuse()  # the look at who hung up
        self.assertEqual(self.failureResultOf(call, Problem).value.code, "target_unreachable")
        self.assertEqual((self.attempts(), self.pool.counts), (2, (0, 0, 0)))


class LimitTests(PoolTestCase):
    def test_calls_beyond_the_connections_wait_for_one(self) -> None:
        first = self.call()
        one = self.accept()
        self.call().addErrback(lambda _failure: None)
        self.accept()
        third = self.call()
        self.assertEqual((self.attempts(), self.pool.counts), (2, (2, 0, 1)))
        one.answer()
        self.successResultOf(first)
        self.assertNoResult(third)
        one.answer()
        self.assertEqual(self.successResultOf(third).body, b"ok")

    def test_a_connection_that_ends_makes_room_for_the_next_in_line(self) -> None:
        first = self.call()
        one = self.accept()
        one.answer()
        self.successResultOf(first)
        first = self.call("POST")
        self.call().addErrback(lambda _failure: None)
        self.accept()
        third = self.call()
        one.lose()
        self.failureResultOf(first, Problem)
        self.assertEqual(self.attempts(), 3)
        self.accept().answer()
        self.successResultOf(third)

    def test_an_attempt_that_fails_makes_room_for_the_next_in_line(self) -> None:
        self.call().addErrback(lambda _failure: None)
        self.accept()
        second = self.call()
        third = self.call()
        self.refuse()
        self.failureResultOf(second, Problem)
        self.assertEqual(self.attempts(), 3)
        self.accept().answer()
        self.successResultOf(third)

    def fill(self) -> None:
        for _ in range(2):
            self.call().addErrback(lambda _failure: None)
            self.accept()

    def test_the_line_is_bounded(self) -> None:
        self.fill()
        waiting = [self.call(), self.call()]
        problem = self.failureResultOf(self.call(), Problem).value
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 1))
        for deferred in waiting:
            self.assertNoResult(deferred)
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)

    def test_nobody_waits_for_longer_than_the_limit(self) -> None:
        self.fill()
        waiting = self.call()
        self.reactor.advance(5.1)
        self.assertEqual(self.failureResultOf(waiting, Problem).value.code, "overloaded")
        self.assertEqual(self.pool.counts, (2, 0, 0))

    def test_who_leaves_the_line_is_not_served(self) -> None:
        self.fill()
        waiting = self.call()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.pool.counts, (2, 0, 0))

    def test_cancelling_a_call_while_it_connects_gives_the_attempt_up(self) -> None:
        call = self.call()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assertEqual(self.pool.counts, (0, 0, 0))

    def test_cancelling_a_call_in_flight_closes_its_connection(self) -> None:
        call = self.call()
        opened = self.accept()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assertTrue(opened.wire.aborted)
        self.assertEqual(self.pool.counts, (0, 0, 0))

    def test_an_attempt_ends_with_its_time(self) -> None:
        self.build(evolve(self.settings, connect_timeout=3))
        call = self.call()
        self.reactor.advance(3.1)
        problem = self.failureResultOf(call, Problem).value
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_unreachable", "timeout"))


class CloseTests(PoolTestCase):
    def test_closing_waits_until_the_last_connection_is_closed(self) -> None:
        first = self.call()
        one = self.accept()
        self.call().addErrback(lambda _failure: None)
        two = self.accept()
        one.answer()
        self.successResultOf(first)
        closing = Deferred.fromCoroutine(self.service.close())
        self.assertTrue(one.wire.aborted)
        self.assertTrue(two.wire.aborted)
        one.lose()
        self.assertNoResult(closing)
        two.lose()
        self.successResultOf(closing)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_waits_in_line_is_told(self) -> None:
        self.call().addErrback(lambda _failure: None)
        one = self.accept()
        self.call().addErrback(lambda _failure: None)
        two = self.accept()
        waiting = self.call()
        closing = Deferred.fromCoroutine(self.service.close())
        self.assertEqual(self.failureResultOf(waiting, Problem).value.code, "overloaded")
        one.lose()
        two.lose()
        self.successResultOf(closing)

    def test_closing_an_unused_service_is_immediate(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.service.close()))
