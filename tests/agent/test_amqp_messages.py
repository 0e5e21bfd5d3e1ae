"""JMS messages as AMQP 1.0's, and AMQP's as JMS's."""

from __future__ import annotations

import struct
import uuid
from typing import Any

from proton import (
    Data,
    Message,
    byte,
    decimal32,
    float32,
    int32,
    symbol,
    timestamp,
    ubyte,
    ulong,
)
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.jms.broker import Destination, IncomingMessage, OutgoingMessage, Source
from workato_agent.services.jms.brokers.amqp_addresses import Dialect, Peer, Rabbitmq3, Rabbitmq4
from workato_agent.services.jms.brokers.amqp_messages import Reader, Unreadable, encode
from workato_tunnel.problems import Problem

NOW = 1_800_000_000.0
STANDARD = Dialect(Peer())


def read(content: bytes, dialect: Dialect = STANDARD) -> IncomingMessage:
    return Reader(dialect, lambda: NOW).read(content)


def section(code: int, value: Any) -> bytes:
    data = Data()
    data.put_described()
    data.enter()
    data.put_ulong(code)
    data.put_object(value)
    data.exit()
    return bytes(data.encode())


class EncodingTests(SynchronousTestCase):
    def encoded(self, message: OutgoingMessage, dialect: Dialect = STANDARD) -> Message:
        identity, content = encode(message, dialect, NOW)
        found = Message()
        found.decode(content)
        self.assertEqual(found.id, identity)
        self.assertTrue(identity.startswith("ID:"))
        return found

    def test_text_and_bytes_are_what_a_jms_client_takes_them_for(self) -> None:
        text = self.encoded(OutgoingMessage("tëxt"))
        self.assertEqual((text.body, text.inferred), ("tëxt", False))
        self.assertEqual(text.annotations[symbol("x-opt-jms-msg-type")], 5)
        content = self.encoded(OutgoingMessage(b"\0\xff"))
        self.assertEqual((bytes(content.body), content.inferred), (b"\0\xff", True))
        self.assertEqual(content.content_type, "application/octet-stream")
        self.assertEqual(content.annotations[symbol("x-opt-jms-msg-type")], 3)

    def test_headers(self) -> None:
        found = self.encoded(
            OutgoingMessage(
                "x",
                {"JMSXGroupID": "g", "JMSXGroupSeq": 7, "n": None, "b": True},
                priority=9,
                ttl=1.5,
                delay=2.25,
                reply_to=Destination("topic", "replies"),
                correlation_id="c",
                type="t",
                persistent=False,
            )
        )
        self.assertEqual((found.priority, found.ttl, found.durable), (9, 1.5, False))
        self.assertEqual(found.expiry_time, NOW + 1.5)
        self.assertEqual((found.subject, found.correlation_id), ("t", "c"))
        self.assertEqual((found.group_id, found.group_sequence), ("g", 7))
        self.assertEqual(found.properties, {"n": None, "b": True})
        self.assertEqual(found.reply_to, "replies")
        self.assertEqual(found.annotations[symbol("x-opt-jms-reply-to")], 1)
        self.assertEqual(found.annotations[symbol("x-opt-delivery-delay")], 2250)

    def test_what_was_encoded_is_read(self) -> None:
        message = OutgoingMessage(
            "x",
            {"JMSXGroupID": "g", "i": 2**63 - 1, "f": 0.5, "t": "ü", "n": None},
            priority=0,
            ttl=60,
            reply_to=Destination("queue", "r"),
            correlation_id="c",
            type="t",
        )
        for dialect in (STANDARD, Rabbitmq3(Peer()), Rabbitmq4(Peer())):
            identity, content = encode(message, dialect, NOW)
            found = read(content, dialect)
            self.assertEqual(found.id, identity)
            self.assertEqual(found.properties, {**message.properties, "JMSXGroupSeq": 0})
            self.assertEqual((found.priority, found.timestamp), (0, NOW))
            self.assertEqual(found.expires, NOW + 60)
            self.assertEqual(found.reply_to, message.reply_to)
            self.assertEqual((found.correlation_id, found.type), ("c", "t"))


class ReadingTests(SynchronousTestCase):
    def test_a_body_in_several_sections_is_whole(self) -> None:
        found = read(section(0x75, b"one ") + section(0x75, b"two ") + section(0x75, b"three"))
        self.assertEqual(found.body, b"one two three")

    def test_bytes_that_are_said_to_be_text(self) -> None:
        for kind, body in (
            ("text/plain", "ü"),
            ("application/json; charset=utf-8", "ü"),
            ("application/vnd.x+xml", "ü"),
            ("text/plain; charset=iso-8859-1", "ü".encode()),
            ("application/octet-stream", "ü".encode()),
        ):
            properties = section(0x73, [None] * 6 + [symbol(kind)])
            self.assertEqual(read(properties + section(0x75, "ü".encode())).body, body)
        broken = section(0x73, [None] * 6 + [symbol("text/plain")]) + section(0x75, b"\xff")
        self.assertEqual(read(broken).body, b"\xff")

    def test_other_bodies_have_none(self) -> None:
        for value in ({"a": 1}, [1], 5, None, symbol("s")):
            self.assertIsNone(read(section(0x77, value)).body)
        self.assertIsNone(read(section(0x76, [1])).body)
        self.assertEqual(read(section(0x77, b"bytes")).body, b"bytes")
        self.assertEqual(read(b"").body, "")

    def test_numbers_of_every_kind_become_plain_ones(self) -> None:
        identity = uuid.uuid4()
        given = {
            "i": int32(-5),
            "u": ulong(2**64 - 1),
            "b": byte(-1),
            "ub": ubyte(200),
            "f": float32(0.5),
            "t": timestamp(12),
            "d": decimal32(1),
            "s": symbol("sym"),
            "id": identity,
            "bytes": b"\xff",
        }
        found = read(section(0x74, given)).properties
        self.assertEqual(
            found,
            {
                "i": -5,
                "u": 2**64 - 1,
                "b": -1,
                "ub": 200,
                "f": 0.5,
                "t": 12,
                "d": None,
                "s": "sym",
                "id": str(identity),
                "bytes": "/w==",
            },
        )
        self.assertLessEqual(
            {type(value) for value in found.values()}, {int, float, str, type(None)}
        )

    def test_deliveries_are_counted_where_the_broker_counts(self) -> None:
        header = section(0x70, [True, ubyte(4), None, False, ulong(2)])
        found = read(header)
        self.assertEqual((found.redelivered, found.deliveries), (True, 3))
        found = read(section(0x70, [True]))
        self.assertEqual((found.redelivered, found.deliveries), (False, 1))
        rabbitmq = Rabbitmq3(Peer())
        first, again = [None, None, None, True], [None, None, None, False]
        self.assertFalse(read(section(0x70, first), rabbitmq).redelivered)
        found = read(section(0x70, again), rabbitmq)
        self.assertEqual((found.redelivered, found.deliveries), (True, None))

    def test_a_time_to_live_counts_from_now_where_no_end_is_told(self) -> None:
        self.assertEqual(read(section(0x70, [None, None, ulong(1500)])).expires, NOW + 1.5)

    def test_ids_of_other_kinds_are_text(self) -> None:
        identity = uuid.uuid4()
        for value, text in (
            (ulong(5), "5"),
            (identity, str(identity)),
            (b"\x01\xff", "ID:AMQP_BINARY:01FF"),
        ):
            self.assertEqual(read(section(0x73, [value])).id, text)

    def test_what_is_no_message_is_told(self) -> None:
        depth = 4000
        parts = (b"\xd0" + struct.pack("!II", 9 * (depth - 1 - n) + 5, 1) for n in range(depth))
        for content in (
            b"\x00",
            b"\x00\x53\x70",
            b"\x40",
            b"HTTP/1.1",
            section(0x99, "x"),
            section(0x77, "x") + section(0x75, b"x"),
            section(0x77, "x") * 2,
            b"\x00\x53\x77" + b"".join(parts) + b"\x40",
        ):
            self.assertRaises(Unreadable, read, content)


class AddressTests(SynchronousTestCase):
    def test_a_broker_is_known_by_what_it_says(self) -> None:
        for version, kind in (("3.12.1", Rabbitmq3), ("4.0.2", Rabbitmq4), ("", Rabbitmq3)):
            self.assertIs(type(Peer("RabbitMQ", version).dialect()), kind)
        self.assertIs(type(Peer("apache-activemq-artemis", "2.30").dialect()), Dialect)

    def test_addresses(self) -> None:
        queue, topic = Destination("queue", "a/b c"), Destination("topic", "t")
        self.assertEqual(STANDARD.targets(queue), ("a/b c",))
        prefixed = Peer(prefixes={"queue": "queue://", "topic": "topic://"}).dialect()
        self.assertEqual(prefixed.targets(topic), ("topic://t",))
        self.assertEqual(prefixed.destination("topic://t", None), topic)
        old, new = Rabbitmq3(Peer()), Rabbitmq4(Peer())
        self.assertEqual(old.targets(queue), ("/queue/a%2Fb%20c", "/amq/queue/a%2Fb%20c"))
        self.assertEqual(old.sources(Source(queue)), old.targets(queue)[::-1])
        self.assertEqual(new.targets(topic), ("/exchanges/amq.topic/t",))
        for dialect in (old, new):
            self.assertRaises(Problem, dialect.sources, Source(topic))
            self.assertEqual(dialect.destination(dialect.reply_to(queue), None), queue)
            self.assertEqual(dialect.destination(dialect.reply_to(topic), None), topic)
        self.assertEqual(STANDARD.destination("t", "topic"), topic)
