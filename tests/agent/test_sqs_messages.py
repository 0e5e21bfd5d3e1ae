"""JMS messages as Amazon's JMS library puts them into SQS."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.jms.broker import Destination, OutgoingMessage
from workato_agent.services.jms.brokers.sqs_messages import decode, encode, size
from workato_tunnel.problems import Problem

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"


def string(text: str, kind: str = "String") -> dict[str, str]:
    return {"DataType": kind, "StringValue": text}


class EncodingTests(SynchronousTestCase):
    def test_an_entry_is_what_amazons_library_makes(self) -> None:
        entry = encode(
            OutgoingMessage(
                b"\0\xff",
                {"yes": True, "n": -(2**63), "f": 1e300, "t": "ü"},
                delay=1.2,
                reply_to=Destination("queue", "r"),
                correlation_id="c",
            ),
            "q",
            URL,
        )
        self.assertEqual(
            entry,
            {
                "MessageBody": "AP8=",
                "DelaySeconds": 2,
                "MessageAttributes": {
                    "JMS_SQSMessageType": string("byte"),
                    "JMS_SQSCorrelationID": string("c"),
                    "JMS_SQSReplyToQueueName": string("r"),
                    "JMS_SQSReplyToQueueURL": string(URL[:-1] + "r"),
                    "yes": string("1", "Number.Boolean"),
                    "n": string("-9223372036854775808", "Number.long"),
                    "f": string("1e+300", "Number.double"),
                    "t": string("ü"),
                },
            },
        )
        plain = encode(OutgoingMessage("text"), "q", URL)
        self.assertEqual(size(plain), 4 + len("JMS_SQSMessageType") + len("String") + len("text"))

    def test_what_sqs_can_not_do_is_refused_by_its_field(self) -> None:
        many: dict[str, Any] = {f"p{n}": 1 for n in range(10)}
        for message, field in (
            (OutgoingMessage("x", ttl=1.0), "ttl"),
            (OutgoingMessage("x", priority=4), "priority"),
            (OutgoingMessage("x", delay=900.5), "delay"),
            (OutgoingMessage("x", reply_to=Destination("topic", "t")), "reply_to"),
            (OutgoingMessage("a\x01"), "body"),
            (OutgoingMessage("a\ufffe"), "body"),
            (OutgoingMessage(""), "body"),
            (OutgoingMessage("x", correlation_id="\0"), "correlation_id"),
            (OutgoingMessage("x", {"a b": 1}), "properties"),
            (OutgoingMessage("x", {"AWS.x": 1}), "properties"),
            (OutgoingMessage("x", {"JMS_SQSMessageType": "byte"}), "properties"),
            (OutgoingMessage("x", {"a": None}), "properties"),
            (OutgoingMessage("x", {"a": ""}), "properties"),
            (OutgoingMessage("x", many), "properties"),
        ):
            problem: Problem = self.assertRaises(Problem, encode, message, "q", URL)
            self.assertEqual((problem.code, problem.extra["field"]), ("bad_request", field))


class DecodingTests(SynchronousTestCase):
    def test_headers_and_properties(self) -> None:
        found = decode(
            {
                "MessageId": "m",
                "Body": "AP8=",
                "Attributes": {
                    "ApproximateReceiveCount": "3",
                    "SentTimestamp": "1800000000500",
                    "MessageGroupId": "g",
                    "SequenceNumber": "18",
                },
                "MessageAttributes": {
                    "JMS_SQSMessageType": string("byte"),
                    "JMS_SQSReplyToQueueName": string("r"),
                    "JMS_SQSCorrelationID": string("c"),
                    "no": string("0", "Number.Boolean"),
                    "i": string("7", "Number.int"),
                    "d": string("7", "Number.double"),
                    "n": string("7.5", "Number"),
                    "odd": string("seven", "Number"),
                    "raw": {"DataType": "Binary.gif", "BinaryValue": "AP8="},
                },
            },
            "q",
        )
        self.assertEqual((found.id, found.body), ("m", b"\0\xff"))
        self.assertEqual((found.deliveries, found.redelivered), (3, True))
        self.assertEqual(found.timestamp, 1_800_000_000.5)
        self.assertEqual((found.reply_to, found.correlation_id), (Destination("queue", "r"), "c"))
        self.assertEqual(
            found.properties,
            {
                "no": False,
                "i": 7,
                "d": 7.0,
                "n": 7.5,
                "odd": "seven",
                "raw": "AP8=",
                "JMSXGroupID": "g",
                "JMS_SQS_SequenceNumber": "18",
            },
        )
        self.assertIs(type(found.properties["d"]), float)

    def test_bodies(self) -> None:
        for kind, text, body in (
            ("text", "AP8=", "AP8="),
            ("byte", "no base64!", "no base64!"),
            ("object", "rO0ABQ==", None),
        ):
            message = {"Body": text, "MessageAttributes": {"JMS_SQSMessageType": string(kind)}}
            self.assertEqual(decode(message, "q").body, body)
        self.assertEqual(decode({"Body": "from elsewhere"}, "q").body, "from elsewhere")
