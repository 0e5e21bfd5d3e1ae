"""Publishing, receiving and settling, as callers see it."""

from __future__ import annotations

import base64
import json

from twisted.internet.defer import CancelledError, Deferred

from tests.support.messaging import Answering, JmsCase, request
from workato_agent.config.destinationpatterns import DestinationPattern
from workato_agent.services.jms.settings import JmsPolicy


class Publishing(JmsCase):
    def test_one_message_with_everything(self) -> None:
        answer = self.answer(
            "POST",
            "queues/orders/messages",
            {
                "body": "é",
                "properties": {"a": 1, "b": True, "c": 0.5, "d": "x", "e": None},
                "priority": 7,
                "ttl": 60,
                "delay": 5,
                "reply_to": "topics/replies/x",
                "correlation_id": "c",
                "type": "t",
                "persistent": False,
            },
        )
        self.assertEqual(self.receive(), {"receipt": None, "messages": []})
        self.clock.advance(5)
        (message,) = self.receive()["messages"]
        self.assertEqual(
            message,
            {
                "id": answer["message_id"],
                "body": "é",
                "properties": {"a": 1, "b": True, "c": 0.5, "d": "x", "e": None},
                "redelivered": False,
                "deliveries": 1,
                "priority": 7,
                "persistent": False,
                "timestamp": "1970-01-01T00:00:00.000Z",
                "expires": "1970-01-01T00:01:00.000Z",
                "reply_to": "topics/replies/x",
                "correlation_id": "c",
                "type": "t",
            },
        )

    def test_bytes(self) -> None:
        content = base64.b64encode(bytes(range(256))).decode()
        self.answer("POST", "queues/orders/messages", {"body_base64": content})
        (message,) = self.receive()["messages"]
        self.assertEqual(message["body_base64"], content)
        self.assertNotIn("body", message)

    def test_several_in_order(self) -> None:
        bodies = [f"{number}" for number in range(5)]
        answer = self.answer(
            "POST", "queues/orders/messages", {"messages": [{"body": each} for each in bodies]}
        )
        messages = self.receive()["messages"]
        self.assertEqual([each["body"] for each in messages], bodies)
        self.assertEqual([each["id"] for each in messages], answer["message_ids"])

    def test_none_of_several(self) -> None:
        answer = self.answer("POST", "queues/orders/messages", {"messages": []})
        self.assertEqual(answer, {"message_ids": []})

    def test_a_stream_of_lines(self) -> None:
        lines = b"\n".join(json.dumps({"body": f"m{n}"}).encode() for n in range(1200)) + b"\n\n"
        chunks = [lines[start : start + 777] for start in range(0, len(lines), 777)]
        answer = self.answer(
            "POST",
            "queues/orders/messages",
            chunks=chunks,
            headers=(("content-type", "application/x-ndjson; charset=utf-8"),),
        )
        self.assertEqual(answer, {"count": 1200})
        self.assertEqual(len(self.receive(1000)["messages"]), 1000)

    def test_a_bad_line_says_which_and_what_was_published_before(self) -> None:
        lines = b'{"body": "x"}\n' * 500 + b'{"body": "y"}\n{"boddy": "x"}\n'
        problem = self.problem(
            "POST",
            "queues/orders/messages",
            code="bad_request",
            chunks=[lines],
            headers=(("content-type", "application/x-ndjson"),),
        )
        self.assertEqual(problem.extra, {"field": "boddy", "line": 502, "published": 500})
        self.assertEqual(len(self.waiting()), 100)

    def test_a_line_above_the_limit(self) -> None:
        problem = self.problem(
            "POST",
            "queues/orders/messages",
            code="payload_too_large",
            chunks=[b'{"body": "', *[b"x" * 50_000] * 3],
            headers=(("content-type", "application/x-ndjson"),),
        )
        self.assertEqual(problem.extra["published"], 0)

    def test_what_is_no_message(self) -> None:
        cases: list[tuple[object, str]] = [
            ({}, "body"),
            ({"body": "x", "body_base64": "eA=="}, "body_base64"),
            ({"body_base64": "*"}, "body_base64"),
            ({"body": 1}, "body"),
            ({"body": "x", "priority": 10}, "priority"),
            ({"body": "x", "ttl": -1}, "ttl"),
            ({"body": "x", "reply_to": "orders"}, "reply_to"),
            ({"body": "x", "reply_to": "queues/"}, "reply_to"),
            ({"body": "x", "properties": {"a b": 1}}, "properties.a b"),
            ({"body": "x", "properties": {"JMSReplyTo": "x"}}, "properties.JMSReplyTo"),
            ({"body": "x", "properties": {"n": 2**63}}, "properties.n"),
            ({"body": "x", "properties": {"big": "x" * 40_000}}, "properties"),
            ({"body": "x", "whatever": 1}, "whatever"),
            ({"messages": [{"body": "x"}, {"bod": 1}]}, "messages[1].bod"),
            ({"messages": [{"body": "x"}, {}]}, "messages[1].body"),
            ({"messages": {}}, "messages"),
        ]
        for body, field in cases:
            problem = self.problem("POST", "queues/orders/messages", body, code="bad_request")
            self.assertEqual(problem.extra.get("field"), field, problem)
        self.problem("POST", "queues/orders/messages", code="bad_request", chunks=[b"[1"])
        self.problem("POST", "queues/orders/messages", code="bad_request", chunks=[b"\xff"])
        self.assertEqual(self.waiting(), [])

    def test_a_document_above_the_limit(self) -> None:
        body = {"body": "x" * 100_000}
        self.problem("POST", "queues/orders/messages", body, code="payload_too_large")


class Receiving(JmsCase):
    def test_names_are_decoded(self) -> None:
        self.answer("POST", "queues/a%2Fb%20%C3%A9/messages", {"body": "x"})
        answer = self.answer("POST", "queues/a%2fb%20%c3%a9/receive", {"wait": 0})
        self.assertEqual(answer["messages"][0]["body"], "x")

    def test_an_empty_body_asks_for_one_message(self) -> None:
        self.publish("a", "b")
        answer = self.answer("POST", "queues/orders/receive")
        self.assertEqual([each["body"] for each in answer["messages"]], ["a"])

    def test_it_waits_for_the_first_message(self) -> None:
        waiting = self.start("POST", "queues/orders/receive", {"wait": 10})
        self.clock.advance(9)
        self.assertNoResult(waiting)
        self.publish("x")
        self.assertEqual(self.read(self.successResultOf(waiting))["messages"][0]["body"], "x")

    def test_no_message_gives_no_receipt_and_takes_no_room(self) -> None:
        for _ in range(10):
            waiting = self.start("POST", "queues/orders/receive", {"wait": 3})
            self.clock.advance(3)
            answer = self.read(self.successResultOf(waiting))
            self.assertEqual(answer, {"receipt": None, "messages": []})

    def test_the_wait_ends_before_the_deadline(self) -> None:
        waiting = self.start("POST", "queues/orders/receive", {"wait": 100}, deadline=20.0)
        self.clock.advance(19)
        self.assertEqual(self.read(self.successResultOf(waiting))["receipt"], None)

    def test_a_cancelled_wait_leaves_messages_and_gives_its_room_back(self) -> None:
        for _ in range(self.max_batches + 1):
            waiting = self.start("POST", "queues/orders/receive", {"wait": 10})
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.publish("x")
        self.assertEqual(self.waiting(), ["x"])

    def test_an_answer_that_is_not_taken_gives_back(self) -> None:
        self.publish("x")
        response = self.successResultOf(self.start("POST", "queues/orders/receive"))
        self.assertEqual(self.waiting(), [])
        self.successResultOf(Answering(response).leave())
        self.assertEqual(self.waiting(), ["x"])
        self.assertTrue(self.receive()["messages"][0]["redelivered"])

    def test_an_answer_that_is_half_taken_gives_back(self) -> None:
        self.publish("x")
        answering = Answering(self.successResultOf(self.start("POST", "queues/orders/receive")))
        self.successResultOf(answering.next())
        self.successResultOf(answering.leave())
        self.assertEqual(self.waiting(), ["x"])

    def test_one_that_is_taken_in_whole_is_the_callers(self) -> None:
        self.publish("x")
        answering = Answering(self.successResultOf(self.start("POST", "queues/orders/receive")))
        self.successResultOf(answering.next())
        self.failureResultOf(answering.next(), StopAsyncIteration)
        self.successResultOf(answering.leave())
        self.assertEqual(self.waiting(), [])

    def test_one_who_settles_before_the_answers_end_is_no_fault(self) -> None:
        self.publish("x")
        answering = Answering(self.successResultOf(self.start("POST", "queues/orders/receive")))
        document = json.loads(self.successResultOf(answering.next()))
        self.settle(document["receipt"])
        self.failureResultOf(answering.next(), StopAsyncIteration)
        self.successResultOf(answering.leave())
        self.assertEqual(self.waiting(), [])

    def test_a_caller_who_takes_too_long_to_read_gets_no_more(self) -> None:
        self.publish(*("x" * 9_000 for _ in range(10)))
        answering = Answering(
            self.successResultOf(self.start("POST", "queues/orders/receive", {"max": 10}))
        )
        self.successResultOf(answering.next())
        self.clock.advance(30)
        self.failureResultOf(answering.next())
        self.assertEqual(len(self.waiting()), 10)

    def test_a_full_profile_refuses(self) -> None:
        self.publish("a", "b", "c", "d", "e")
        receipts = [self.receive(1)["receipt"] for _ in range(3)]
        waiting = self.start("POST", "queues/empty/receive", {"wait": 10})
        problem = self.problem("POST", "queues/orders/receive", code="overloaded")
        self.assertTrue(problem.retry_after)
        self.settle(receipts[0])
        self.receive(1)
        waiting.cancel()
        self.failureResultOf(waiting)

    def test_bad_parameters(self) -> None:
        cases: list[tuple[object, str]] = [
            ({"max": 0}, "max"),
            ({"max": 1001}, "max"),
            ({"wait": -1}, "wait"),
            ({"wait": 1e9}, "wait"),
            ({"selector": ""}, "selector"),
            ({"subscription": "a b"}, "subscription"),
            ({"subscription": "s"}, "subscription"),
            ({"maxx": 1}, "maxx"),
        ]
        for body, field in cases:
            problem = self.problem("POST", "queues/orders/receive", body, code="bad_request")
            self.assertEqual(problem.extra.get("field"), field, problem)

    def test_browsing(self) -> None:
        self.publish("a", "b", "c")
        answer = self.answer("GET", "queues/orders/browse", query="max=2")
        self.assertEqual([each["body"] for each in answer["messages"]], ["a", "b"])
        self.assertEqual(self.waiting(), ["a", "b", "c"])
        for query in ("max=0", "max=x", "limit=1", "selector="):
            self.problem("GET", "queues/orders/browse", code="bad_request", query=query)

    def test_durable_subscription(self) -> None:
        body = {"wait": 0, "subscription": "s"}
        self.assertEqual(self.answer("POST", "topics/t/receive", body)["receipt"], None)
        self.answer("POST", "topics/t/messages", {"body": "x"})
        answer = self.answer("POST", "topics/t/receive", body)
        self.assertEqual(answer["messages"][0]["body"], "x")

    def test_closing_gives_back(self) -> None:
        self.publish("x")
        self.receive()
        self.successResultOf(Deferred.fromCoroutine(self.service.close()))
        self.broker = self.server.client()
        self.assertEqual(self.waiting(), ["x"])


class Routing(JmsCase):
    def test_there_is_no_other_call(self) -> None:
        for method, path in (
            ("GET", "queues/a"),
            ("GET", "queues/a/messages"),
            ("POST", "queues/a/browse"),
            ("GET", "topics/a/browse"),
            ("POST", "queue/a/messages"),
            ("POST", "queues/a/b/messages"),
            ("DELETE", "receipts/x"),
            ("POST", "receipts/x/y"),
            ("POST", ""),
        ):
            self.problem(method, path, code="operation_not_found")

    def test_names_that_none_has(self) -> None:
        for name in ("", "%00", "a%0Ab", "%ff", "x" * 501, "%7f"):
            self.problem("POST", f"queues/{name}/receive", code="bad_request")

    def test_operations(self) -> None:
        for method, path, operation in (
            ("GET", "", "test"),
            ("POST", "queues/a/messages", "publish"),
            ("POST", "topics/a/messages", "publish"),
            ("POST", "queues/a/receive", "receive"),
            ("POST", "queues/a/subscribe", "subscribe"),
            ("GET", "queues/a/browse", "browse"),
            ("POST", "receipts/x", "receive"),
        ):
            self.assertEqual(self.service.operation(request(method, path)), operation)

    def test_the_test(self) -> None:
        self.assertEqual(self.answer("GET", ""), {"ok": True, "target": "memory"})


class OnlySubscribing(JmsCase):
    policy = JmsPolicy(operations=("subscribe",))

    def test_settling_belongs_to_it(self) -> None:
        self.assertEqual(self.service.operation(request("POST", "receipts/x")), "subscribe")
        self.assertEqual(self.service.operations, ("test", "subscribe"))


class Confined(JmsCase):
    policy = JmsPolicy(
        destinations=tuple(
            DestinationPattern.parse(text) for text in ("queue:orders*", "topic:prices.*", "both")
        ),
        max_bytes=5,
    )

    def test_destinations(self) -> None:
        allowed = ("queues/orders", "queues/orders.new", "topics/prices.eu", "topics/both")
        for path in (*allowed, "queues/both"):
            self.answer("POST", f"{path}/messages", {"body": "x"})
        for path in (
            "queues/other",
            "topics/orders",
            "queues/prices.eu",
            "queues/orders,other",
            "queues/orders%3Fconsumer.exclusive=true",
            "queues/orders.%3E",
            "queues/orders*",
            "queues/both%2F..%2Fother",
            "queues/queue:%2F%2Forders",
        ):
            for call in ("messages", "receive", "subscribe"):
                problem = self.problem("POST", f"{path}/{call}", code="policy_denied")
                self.assertEqual(problem.extra["rule"], "destinations")
        self.problem("GET", "queues/other/browse", code="policy_denied")

    def test_replies_go_to_allowed_destinations_only(self) -> None:
        body = {"body": "x", "reply_to": "queues/other"}
        problem = self.problem("POST", "queues/orders/messages", body, code="policy_denied")
        self.assertEqual(problem.extra["rule"], "destinations")
        self.answer("POST", "queues/orders/messages", {"body": "x", "reply_to": "queues/both"})

    def test_size_of_a_body(self) -> None:
        self.answer("POST", "queues/orders/messages", {"body": "12345"})
        self.answer("POST", "queues/orders/messages", {"body_base64": "MTIzNDU="})
        for body in ({"body": "éééx"}, {"body_base64": "MTIzNDU2"}):
            problem = self.problem("POST", "queues/orders/messages", body, code="policy_denied")
            self.assertEqual(problem.extra["rule"], "max_bytes")
