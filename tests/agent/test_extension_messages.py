"""What the agent makes of an extension's messages, right and wrong, and the authors' API."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import Chunks, PacedBody
from workato_agent.extension import Body, Extension, Problem, Request, Response
from workato_agent.services.extensions.exchange import Exchange
from workato_agent.services.extensions.messages import (
    LARGEST,
    WINDOW,
    Cancel,
    Credit,
    Data,
    End,
    Failed,
    Head,
    Malformed,
    Messages,
    encode,
    from_process,
)

MESSAGES = st.lists(
    st.one_of(
        st.builds(Data, st.integers(0, 99), st.binary(max_size=200)),
        st.builds(End, st.integers(0, 99)),
        st.builds(Credit, st.integers(0, 99), st.integers(0, WINDOW)),
        st.builds(Head, st.integers(0, 99), st.integers(200, 599), st.just([("a", "b")])),
    ),
    max_size=8,
)


class Codec(SynchronousTestCase):
    @settings(max_examples=60)
    @given(MESSAGES, st.integers(1, 50))
    def test_messages_come_through_whatever_the_reads(self, sent: list[Any], size: int) -> None:
        content = encode(*sent)
        messages, found = Messages(), []
        for start in range(0, len(content), size):
            found += messages.feed(content[start : start + size])
        self.assertEqual([from_process.decode(each) for each in found], sent)

    def test_what_is_too_long_is_malformed_both_ways(self) -> None:
        self.assertRaises(Malformed, encode, Data(1, bytes(LARGEST)))
        self.assertRaises(Malformed, Messages().feed, b"\xff\xff\xff\xff")


class Rules(SynchronousTestCase):
    def setUp(self) -> None:
        self.sent: list[Any] = []
        self.given_up: list[Exchange] = []

    def exchange(self, body: Any = None) -> Exchange:
        exchange = Exchange(1, "x", body or Chunks(), self.sent.append, self.given_up.append)
        exchange.begin()
        return exchange

    def test_a_body_before_its_head_breaks_them(self) -> None:
        self.assertFalse(self.exchange().receive(Data(1, b"x")))

    def test_a_second_head_breaks_them(self) -> None:
        exchange = self.exchange()
        self.assertTrue(exchange.receive(Head(1, 200, [])))
        self.assertFalse(exchange.receive(Head(1, 200, [])))

    def test_more_than_the_credit_breaks_them(self) -> None:
        exchange = self.exchange()
        exchange.receive(Head(1, 200, []))
        self.assertTrue(exchange.receive(Data(1, bytes(WINDOW))))
        self.assertFalse(exchange.receive(Data(1, b"x")))

    def test_credit_comes_back_as_the_body_is_read(self) -> None:
        exchange = self.exchange()
        exchange.receive(Head(1, 200, []))
        exchange.receive(Data(1, bytes(WINDOW)))
        self.successResultOf(Deferred.fromCoroutine(exchange.__anext__()))
        self.assertEqual(self.sent, [Credit(1, WINDOW)])
        self.assertTrue(exchange.receive(Data(1, bytes(WINDOW))))

    def test_an_end_without_a_head_is_no_answer(self) -> None:
        exchange = self.exchange()
        exchange.receive(End(1))
        failure = self.failureResultOf(Deferred.fromCoroutine(exchange.head()), Problem)
        self.assertEqual(failure.value.code, "internal_error")

    def test_a_code_that_is_unknown_is_an_internal_error(self) -> None:
        exchange = self.exchange()
        exchange.receive(Failed(1, "no_such_code", "detail"))
        failure = self.failureResultOf(Deferred.fromCoroutine(exchange.head()), Problem)
        self.assertEqual(failure.value.code, "internal_error")

    def test_a_problem_with_members_of_every_problem_breaks_them(self) -> None:
        failed = Failed(1, "conflict", "detail", extra={"status": 200})
        self.assertFalse(self.exchange().receive(failed))

    def test_a_request_body_is_read_only_as_it_is_asked_for(self) -> None:
        body = PacedBody()
        exchange = self.exchange(body)
        self.assertIsNone(body.waiting)
        exchange.receive(Credit(1, 10))
        body.give(b"x" * 10)
        self.assertEqual(self.sent, [Data(1, b"x" * 10)])
        body.give(b"y")
        self.assertEqual(len(self.sent), 1)
        exchange.receive(Credit(1, 10))
        body.give(None)
        self.assertEqual(self.sent[1:], [Data(1, b"y"), End(1)])

    def test_a_request_body_that_is_lost_gives_the_call_up_once(self) -> None:
        body = PacedBody()
        exchange = self.exchange(body)
        exchange.receive(Credit(1, 10))
        body.lose()
        exchange.give_up()
        self.assertEqual(self.sent, [Cancel(1)])
        self.assertEqual(self.given_up, [exchange])

    def test_what_comes_for_a_call_that_was_given_up_is_dropped(self) -> None:
        exchange = self.exchange()
        exchange.receive(Head(1, 200, []))
        exchange.give_up()
        self.assertTrue(exchange.receive(Data(1, b"x")))
        self.assertTrue(exchange.receive(Failed(1, "tunnel_lost", "cancelled")))
        self.successResultOf(exchange.over)


class AuthorsTests(SynchronousTestCase):
    """An extension's own tests need nothing of the agent."""

    def test_a_request_is_made_by_hand(self) -> None:
        class Doubles(Extension):
            def handle(self, request: Request) -> Response:
                return Response(body=request.body.read() * int(request.parameters["times"]))

        answer = Doubles({}).handle(Request("POST", "x", "times=2", body=Body([b"a", b"b"])))
        self.assertEqual((answer.status, answer.body), (200, b"abab"))

    def test_what_is_left_out_has_a_meaning(self) -> None:
        request = Request("GET")
        self.assertFalse(request.cancelled)
        self.assertEqual(request.seconds_left, float("inf"))
        self.assertEqual(request.body.read(), b"")
        self.assertIsNone(request.header("any"))
        self.assertEqual(Extension({}).test(), {})
        self.assertRaises(NotImplementedError, Extension({}).handle, request)

    def test_a_body_has_a_limit(self) -> None:
        problem = self.assertRaises(Problem, Body([b"ab", b"cd"]).read, 3)
        self.assertEqual(problem.code, "payload_too_large")
