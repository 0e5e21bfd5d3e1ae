"""Targets that fall silent, on a connection that has a limit for it."""

from __future__ import annotations

from tests.agent.test_http_connection import OK, ConnectionTestCase
from tests.support.files import PacedBody
from workato_agent.services.http.connection import HttpConnection
from workato_agent.services.http.streaming import IncomingBody
from workato_agent.services.http.target import parse_base_url


class PatienceTests(ConnectionTestCase):
    def setUp(self) -> None:
        super().setUp()
        origin = parse_base_url("http://a.b")
        self.connection = HttpConnection(self.clock, origin, self.owner, patience=10)
        self.connection.makeConnection(self.wire)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_that_does_not_come_ends_the_call(self) -> None:
        waiting = self.get()
        self.clock.advance(9.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        problem = self.failure(waiting, "target_unreachable")
        self.assertEqual(problem.extra["reason"], "timeout")
        self.assertTrue(self.wire.aborted)

    def test_each_byte_begins_the_time_anew(self) -> None:
        waiting = self.get()
        for index in range(len(OK)):
            self.clock.advance(9)
            self.feed(OK[index : index + 1])
        self.successResultOf(waiting)

    def test_a_body_that_stops_is_cut(self) -> None:
        waiting = self.get()
        self.feed(b"HTTP/1.1 200 OK\r\n\r\nsome")
        body = self.successResultOf(waiting).body
        self.successResultOf(self.next_chunk(body))
        rest = self.next_chunk(body)
        self.clock.advance(10.1)
        self.failure(rest, "target_unreachable")  # type: ignore[arg-type]

    def test_a_slow_reader_or_sender_is_not_the_targets_fault(self) -> None:
        waiting = self.get()
        self.feed(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)
        body = self.successResultOf(waiting).body
        assert isinstance(body, IncomingBody)
        self.clock.pump([9.0] * 10)
        self.successResultOf(self.next_chunk(body))
        self.lose()
        self.setUp()
        paced = PacedBody()
        waiting = self.upload(paced)
        self.clock.pump([9.0] * 10)
        self.assertNoResult(waiting)
        paced.give(None)
        self.clock.advance(9)
        self.feed(OK)
        self.successResultOf(waiting)

    def test_an_idle_connection_owes_nothing(self) -> None:
        waiting = self.get()
        self.feed(OK)
        self.successResultOf(waiting)
        self.clock.pump([9.0] * 10)
        self.assertFalse(self.wire.aborted)
