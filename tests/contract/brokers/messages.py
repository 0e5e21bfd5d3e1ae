"""Messages come back as they were published, as far as the broker can carry them."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from workato_agent.services.jms.broker import (
    Destination,
    OutgoingMessage,
)

from .case import BrokerCase, pause, sorted_or


class Messages(BrokerCase):
    """Publishing, and what a message has."""

    async def test_its_test_tells_what_it_is(self) -> None:
        broker = self.broker()
        facts = await broker.test()
        self.assertRegex(str(facts["target"]), self.target)
        self.assertEqual(broker.type, self.type)

    async def test_text_comes_back_as_it_was(self) -> None:
        texts = ("plain", "ünïcode ☃ 𝄞\r\nlines\n", "x" * 70_000, "a:b\\c\\nd\tq")
        for text in (*texts, "") if self.empty_text else texts:
            received = await self.one(OutgoingMessage(text))
            self.assertEqual(received.body, text)
        if not self.empty_text:
            work = self.broker().publish(await self.make_queue(), [OutgoingMessage("")])
            await self.problem(work, "bad_request")

    async def test_text_with_nul(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        work = broker.publish(queue, [OutgoingMessage("a\0b")])
        if self.nul:
            await work
            batch = await self.batch(broker, queue)
            self.assertEqual(batch.messages[0].body, "a\0b")
            await batch.acknowledge()
        else:
            await self.problem(work, "bad_request")
            await self.publish(broker, queue, "the next one")

    async def test_bytes_come_back_as_they_were(self) -> None:
        for content in (bytes(range(256)), b"text", b"\0"):
            received = await self.one(OutgoingMessage(content))
            body = received.body
            if not self.kinds and isinstance(body, str):
                body = body.encode()
            self.assertEqual(body, content)

    async def test_large_message(self) -> None:
        content = secrets.token_bytes(self.largest // 2).hex()
        received = await self.one(OutgoingMessage(content))
        self.assertTrue(received.body == content)

    async def test_properties(self) -> None:
        properties: dict[str, Any] = {
            "text": "ünï: cöde\\ \n",
            "whole": -(2**63),
            "number": 0.1,
            "yes": True,
            "no": False,
        }
        received = await self.one(OutgoingMessage("x", properties=properties))
        found = {key: received.properties.get(key) for key in properties}
        if self.typed_properties:
            self.assertEqual(found, properties)
            self.assertEqual(
                {key: type(value) for key, value in found.items()},
                {key: type(value) for key, value in properties.items()},
            )
        else:
            told = {"whole": str(-(2**63)), "number": "0.1", "yes": "true", "no": "false"}
            self.assertEqual(found, {"text": properties["text"], **told})
        self.assertEqual(len(received.properties), len(properties), received.properties)

    async def test_headers(self) -> None:
        reply = Destination("queue", "contract.replies")
        received = await self.one(
            OutgoingMessage(
                "x",
                priority=7 if self.priority else None,
                reply_to=reply if self.reply_to else None,
                correlation_id="order: 4711",
                type="order" if self.message_type else None,
            )
        )
        self.assertEqual(received.correlation_id, "order: 4711")
        if self.reply_to:
            self.assertEqual(received.reply_to, reply)
        if self.message_type:
            self.assertEqual(received.type, "order")
        if self.priority:
            self.assertEqual(received.priority, 7)
        self.assertFalse(received.redelivered)

    async def test_what_a_plain_message_has(self) -> None:
        received = await self.one(OutgoingMessage("x"))
        self.assertEqual(
            (received.reply_to, received.correlation_id, received.type, received.expires),
            (None, None, None, None),
        )
        self.assertFalse(received.redelivered)
        self.assertEqual(dict(received.properties), {})

    async def test_many_are_published_in_order_with_ids_of_their_own(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        bodies = [f"message {number}" for number in range(self.many)]
        ids = await self.publish(broker, queue, *bodies)
        self.assertEqual(len(set(ids)), self.many)
        messages, batches = await self.gather(broker, queue, self.many)
        found = [str(message.body) for message in messages]
        self.assertEqual(found if self.ordered else sorted(found), sorted_or(bodies, self.ordered))
        if self.known_ids:
            self.assertEqual({message.id for message in messages}, set(ids))
        for batch in batches:
            await batch.acknowledge()
        await self.nothing(broker, queue)

    async def test_publishing_nothing_gives_no_ids(self) -> None:
        self.assertEqual(await self.broker().publish(await self.make_queue(), []), [])

    async def test_publishing_side_by_side(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        works = [
            Deferred.fromCoroutine(self.publish(broker, queue, f"{number}")) for number in range(20)
        ]
        ids = [await work for work in works]
        self.assertEqual(len({each for (each,) in ids}), 20)
        messages, batches = await self.gather(broker, queue, 20)
        self.assertEqual({message.body for message in messages}, {str(n) for n in range(20)})
        for batch in batches:
            await batch.acknowledge()

    async def test_time_to_live(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        work = broker.publish(queue, [OutgoingMessage("short", ttl=0.3)])
        if not self.ttl:
            await self.problem(work, "bad_request")
            return
        await work
        await broker.publish(queue, [OutgoingMessage("long", ttl=600)])
        await pause(0.6)
        batch = await self.batch(broker, queue)
        self.assertEqual([message.body for message in batch.messages], ["long"])
        await batch.acknowledge()

    async def test_delay(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        work = broker.publish(queue, [OutgoingMessage("later", delay=1.0)])
        if not self.delay:
            await self.problem(work, "bad_request")
            return
        began = reactor.seconds()  # type: ignore[attr-defined]
        await work
        batch = await self.batch(broker, queue)
        self.assertGreater(reactor.seconds() - began, 0.7)  # type: ignore[attr-defined]
        self.assertEqual(batch.messages[0].body, "later")
        await batch.acknowledge()

    async def test_a_message_above_the_limit_is_refused(self) -> None:
        broker, queue = self.broker(max_message=10_000), await self.make_queue()
        message = OutgoingMessage("x" * 10_001)
        await self.problem(broker.publish(queue, [message]), "payload_too_large")
        await self.publish(broker, queue, "x" * 10_000)
