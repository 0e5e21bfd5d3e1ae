"""A stream of batches, and the acknowledgements that let it go on."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError

from tests.support.messaging import Answering, JmsCase


class Subscribing(JmsCase):
    def subscribe(self, **body: Any) -> Answering:
        deadline = body.pop("deadline", 1000.0)
        call = self.start("POST", "queues/orders/subscribe", body, deadline=deadline)
        answering = Answering(self.successResultOf(call))
        self.addCleanup(answering.leave)
        self.assertEqual(self.line(answering), {"receipt": None, "messages": []})
        return answering

    def line(self, answering: Answering) -> Any:
        """The next line, which is there."""
        held = b""
        while not held.endswith(b"\n"):
            held += self.successResultOf(answering.next())
        return json.loads(held)

    def test_a_line_for_each_batch_as_it_comes(self) -> None:
        stream = self.subscribe()
        waiting = stream.next()
        self.assertNoResult(waiting)
        self.publish("a")
        first = json.loads(self.successResultOf(waiting))
        self.assertEqual([each["body"] for each in first["messages"]], ["a"])
        self.publish("b")
        second = self.line(stream)
        self.assertEqual([each["body"] for each in second["messages"]], ["b"])
        for line in (first, second):
            self.assertEqual(self.settle(line["receipt"])["outcome"], "acknowledged")
        self.assertEqual(self.waiting(), [])

    def test_an_idle_stream_shows_that_it_is_alive(self) -> None:
        stream = self.subscribe()
        for _ in range(4):
            waiting = stream.next()
            self.clock.advance(14)
            self.assertNoResult(waiting)
            self.clock.advance(1)
            line = json.loads(self.successResultOf(waiting))
            self.assertEqual(line, {"receipt": None, "messages": []})

    def test_no_more_batches_are_out_than_the_caller_allows(self) -> None:
        self.publish("a", "b", "c", "d")
        stream = self.subscribe(max_unacknowledged=2)
        first, second = self.line(stream), self.line(stream)
        waiting = stream.next()
        self.clock.advance(5)
        self.assertNoResult(waiting)
        self.assertEqual(self.waiting(), ["c", "d"])
        self.settle(first["receipt"])
        third = json.loads(self.successResultOf(waiting))
        self.assertEqual(third["messages"][0]["body"], "c")
        waiting = stream.next()
        self.settle(second["receipt"], "release")
        again = json.loads(self.successResultOf(waiting))
        self.assertEqual(again["messages"][0]["body"], "b")
        self.assertTrue(again["messages"][0]["redelivered"])

    def test_it_shows_that_it_is_alive_while_it_is_held_back(self) -> None:
        self.publish("a", "b")
        stream = self.subscribe(max_unacknowledged=1)
        receipt = self.line(stream)["receipt"]
        waiting = stream.next()
        self.clock.pump([1] * 15)
        line = json.loads(self.successResultOf(waiting))
        self.assertEqual(line, {"receipt": None, "messages": []})
        self.settle(receipt)
        self.assertEqual(self.line(stream)["messages"][0]["body"], "b")

    def test_what_is_not_acknowledged_in_time_comes_again(self) -> None:
        self.publish("a")
        stream = self.subscribe(max_unacknowledged=1)
        self.line(stream)
        waiting = stream.next()
        self.clock.pump([1] * 15)
        self.successResultOf(waiting)
        waiting = stream.next()
        self.clock.pump([1] * 15)
        line = json.loads(self.successResultOf(waiting))
        self.assertTrue(line["messages"][0]["redelivered"])

    def test_a_caller_who_leaves_gives_back_what_is_not_settled(self) -> None:
        self.publish("a", "b", "c")
        stream = self.subscribe()
        first = self.line(stream)
        self.line(stream)
        self.settle(first["receipt"])
        self.successResultOf(stream.leave())
        self.assertEqual(self.waiting(), ["b", "c"])

    def test_a_caller_who_leaves_while_nothing_comes(self) -> None:
        stream = self.subscribe()
        waiting = stream.next()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.successResultOf(stream.leave())
        self.publish("a")
        self.assertEqual(self.waiting(), ["a"])

    def test_streams_that_have_ended_hold_no_room(self) -> None:
        for _ in range(self.max_batches + 1):
            self.successResultOf(self.subscribe().leave())
        for _ in range(self.max_batches):
            self.subscribe()
        problem = self.problem("POST", "queues/orders/subscribe", code="overloaded")
        self.assertIn("4 batches", problem.detail)

    def test_the_end_of_its_time_leaves_receipts_to_the_caller(self) -> None:
        self.publish("a")
        stream = self.subscribe(deadline=10.0)
        receipt = self.line(stream)["receipt"]
        waiting = stream.next()
        self.clock.advance(9)
        line = json.loads(self.successResultOf(waiting))
        self.assertEqual(line, {"receipt": None, "messages": [], "end": True})
        self.failureResultOf(stream.next(), StopAsyncIteration)
        self.successResultOf(stream.leave())
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.settle(receipt)["outcome"], "acknowledged")

    def test_a_broker_that_goes_ends_it_with_a_problem(self) -> None:
        stream = self.subscribe()
        waiting = stream.next()
        self.server.crash()
        line = json.loads(self.successResultOf(waiting))
        self.assertEqual(line["code"], "target_unreachable")
        self.failureResultOf(stream.next())
        self.server.restart()

    def test_a_caller_who_reads_too_slowly_is_cut_off(self) -> None:
        self.publish(*("x" * 9_000 for _ in range(10)))
        stream = self.subscribe(max=10)
        self.successResultOf(stream.next())
        self.clock.advance(30)
        line = json.loads(self.successResultOf(stream.next()))
        self.assertEqual(line["code"], "conflict")
        self.assertEqual(len(self.waiting()), 10)

    def test_a_topic_needs_a_subscription(self) -> None:
        problem = self.problem("POST", "topics/t/subscribe", code="bad_request")
        self.assertEqual(problem.extra["field"], "subscription")

    def test_a_topics_durable_subscription(self) -> None:
        call = self.start("POST", "topics/t/subscribe", {"subscription": "s"})
        stream = Answering(self.successResultOf(call))
        self.addCleanup(stream.leave)
        self.line(stream)
        waiting = stream.next()
        self.answer("POST", "topics/t/messages", {"body": "x"})
        self.assertIn(b'"x"', self.successResultOf(waiting))

    def test_bad_parameters(self) -> None:
        for body, field in (
            ({"max": 0}, "max"),
            ({"max_unacknowledged": 0}, "max_unacknowledged"),
            ({"wait": 1}, "wait"),
        ):
            problem = self.problem("POST", "queues/orders/subscribe", body, code="bad_request")
            self.assertEqual(problem.extra.get("field"), field)
