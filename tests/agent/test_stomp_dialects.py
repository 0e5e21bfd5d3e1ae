"""What ActiveMQ and RabbitMQ are told, and what is made of what they tell."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.stomp_dialects import (
    ActivemqDialect,
    Dialect,
    RabbitmqDialect,
    dialect_of,
)
from workato_agent.services.jms.brokers.stomp_frames import Frame
from workato_tunnel.problems import Problem

QUEUE = Destination("queue", "a/b é")
DIALECTS: tuple[Dialect, ...] = (ActivemqDialect(), RabbitmqDialect())


class Dialects(SynchronousTestCase):
    def refused(self, dialect: Dialect, **message: Any) -> Problem:
        problem = self.assertRaises(
            Problem, dialect.message, OutgoingMessage(**{"body": "x", **message}), "id", 0.0
        )
        self.assertEqual(problem.code, "bad_request")
        return problem

    def test_the_server_says_which_it_is(self) -> None:
        for server, name in (("ActiveMQ/5.17.2", "ActiveMQ"), ("RabbitMQ/3.10.8", "RabbitMQ")):
            self.assertEqual(dialect_of(server).name, name)
        for other in ("ActiveMQ-Artemis/2.30.0 ActiveMQ Artemis Messaging Engine", "", None):
            problem = self.assertRaises(Problem, dialect_of, other)
            self.assertEqual(problem.code, "target_wrong_type")

    def test_destinations(self) -> None:
        activemq, rabbitmq = DIALECTS
        self.assertEqual(activemq.destination(QUEUE), "/queue/a/b é")
        self.assertEqual(rabbitmq.destination(QUEUE), "/queue/a%2Fb%20%C3%A9")
        for dialect in DIALECTS:
            for given in (QUEUE, Destination("topic", "a.#")):
                headers = {"reply-to": dialect.destination(given)}
                self.assertEqual(dialect.received(Frame("MESSAGE", headers)).reply_to, given)
            foreign = Frame("MESSAGE", {"reply-to": "/temp-queue/x"})
            self.assertIsNone(dialect.received(foreign).reply_to)

    def test_properties_set_no_header_of_the_brokers(self) -> None:
        for dialect in DIALECTS:
            for name in (
                "destination",
                "Destination",
                "receipt",
                "reply-to",
                "content-length",
                "transaction",
                "persistent",
                "expires",
                "expiration",
                "message-id",
                "selector",
                "JMSReplyTo",
                "AMQ_SCHEDULED_DELAY",
                "amqp-message-id",
                "workato_message_id",
            ):
                problem = self.refused(dialect, properties={name: "x"})
                self.assertEqual(problem.extra["field"], f"properties.{name}")
            dialect.message(OutgoingMessage("x", {"JMSXGroupID": "g"}), "id", 0.0)

    def test_what_headers_can_not_say(self) -> None:
        for dialect in DIALECTS:
            self.refused(dialect, properties={"a": "b\0"})
            self.refused(dialect, properties={"a": None})
            self.refused(dialect, correlation_id="a\0")
            self.refused(dialect, type="a\0")

    def test_times(self) -> None:
        activemq, rabbitmq = DIALECTS
        message = OutgoingMessage("x", ttl=1.5, delay=0.25)
        headers = dict(activemq.message(message, "id", 1000.0))
        self.assertEqual((headers["expires"], headers["AMQ_SCHEDULED_DELAY"]), ("1001500", "250"))
        headers = dict(rabbitmq.message(OutgoingMessage("x", ttl=0.0001), "id", 1000.0))
        self.assertEqual(headers["expiration"], "1")
        self.refused(rabbitmq, delay=1)

    def test_what_each_can_not_do(self) -> None:
        activemq, rabbitmq = DIALECTS
        self.refused(activemq, body="a\0")
        selecting = Source(QUEUE, "a = 1")
        self.assertIn(("selector", "a = 1"), activemq.subscription(selecting, 1))
        self.assertRaises(Problem, rabbitmq.subscription, selecting, 1)

    def test_other_publishers_messages(self) -> None:
        activemq, rabbitmq = DIALECTS
        text = activemq.received(Frame("MESSAGE", {"message-id": "ID:1", "expires": "0"}, b"x"))
        self.assertEqual((text.id, text.body, text.expires), ("ID:1", "x", None))
        binary = activemq.received(Frame("MESSAGE", {"content-length": "1"}, b"x"))
        self.assertEqual(binary.body, b"x")
        for body, expected in (
            (b"\xc3\xa9\xc0\x80x", "é\0x"),
            (b"\xed\xa0\xb4\xed\xb4\x9e \xf0\x9d\x84\x9e", "𝄞 𝄞"),
            (b"\xed\xa0\xb4", b"\xed\xa0\xb4"),
        ):
            self.assertEqual(activemq.received(Frame("MESSAGE", {}, body)).body, expected)
        odd = activemq.received(Frame("MESSAGE", {"priority": "high", "timestamp": "-"}, b"\xff"))
        self.assertEqual((odd.body, odd.priority, odd.timestamp), (b"\xff", None, None))
        plain = rabbitmq.received(Frame("MESSAGE", {"message-id": "T_1", "a": "b"}, b"x"))
        self.assertEqual((plain.id, plain.body, plain.properties), ("T_1", "x", {"a": "b"}))
        self.assertEqual(rabbitmq.received(Frame("MESSAGE", {}, b"\xff")).body, b"\xff")
