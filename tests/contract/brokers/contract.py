"""The tests of messages, acknowledging and failures, for any broker."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from workato_agent.services.jms.broker import (
    Batch,
    Broker,
    Destination,
    IncomingMessage,
    OutgoingMessage,
    Source,
)
from workato_tunnel.problems import Problem

LIMIT = 16 * 2**20
WAIT = 20.0
"""Seconds for what comes at once, on a slow machine."""


class BrokerContract(TestCase):
    """Subclassed once for each broker; not run by itself."""

    timeout = 120

    target: ClassVar[str]
    """A pattern for the ``target`` that the test tells."""
    type: ClassVar[str]

    short: ClassVar[float] = 0.25
    """Seconds in which what doesn't come would have come."""
    selectors: ClassVar[bool] = True
    browsing: ClassVar[bool] = True
    browsing_marks: ClassVar[bool] = False
    """What was browsed, or is about to be delivered, counts as delivered already."""
    topics: ClassVar[bool] = True
    """Topics with durable subscriptions."""
    durable_batches: ClassVar[bool] = False
    """A durable subscription may have several batches outstanding."""
    delay: ClassVar[bool] = True
    ttl: ClassVar[bool] = True
    priority: ClassVar[bool] = True
    """A message keeps its priority."""
    typed_properties: ClassVar[bool] = True
    """Properties keep their types; else all are text."""
    ordered: ClassVar[bool] = True
    """A queue's messages come in the order in which they were published."""
    known_ids: ClassVar[bool] = True
    """A message has the id that publishing it told."""
    nul: ClassVar[bool] = True
    """Text may hold NUL."""
    empty_text: ClassVar[bool] = True
    """Text may be empty."""
    kinds: ClassVar[bool] = True
    """Text comes back as text and bytes as bytes."""
    reply_to: ClassVar[bool] = True
    message_type: ClassVar[bool] = True
    """A message has a ``type``."""
    release_is_quick: ClassVar[bool] = True
    survives: ClassVar[bool] = True
    """The server keeps persistent messages when it is killed, and can be restarted."""
    keeps_acknowledgements: ClassVar[bool] = True
    """What was acknowledged does not come again after the server was killed."""
    marks_after_crash: ClassVar[bool] = True
    """What a killed server had delivered is marked when it comes again."""
    many: ClassVar[int] = 250
    largest: ClassVar[int] = 5 * 2**20
    """Bytes of a large message."""

    # -- hooks -------------------------------------------------------------------------------

    def make_broker(self, **settings: Any) -> Broker:
        """A client of the real broker.

        :param settings: of the broker's settings class, as ``connect_timeout``, ``max_message``.
        """
        raise NotImplementedError

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        """A client of whatever listens at a port of 127.0.0.1; None where it can't be so."""
        raise NotImplementedError

    def rejected_broker(self) -> Broker | None:
        """A client with a wrong password; None where there is no login."""
        raise NotImplementedError

    async def make_queue(self) -> Destination:
        """An empty queue of the test's own. Override where queues have to be made."""
        return Destination("queue", f"contract.{secrets.token_hex(6)}")

    async def make_topic(self) -> Destination:
        """A topic of the test's own."""
        return Destination("topic", f"contract.{secrets.token_hex(6)}")

    def kill_server(self) -> None:
        """kill -9."""
        raise NotImplementedError

    def restart_server(self) -> None:
        """After :meth:`kill_server`, with the same messages, on the same port."""
        raise NotImplementedError

    # -- means -------------------------------------------------------------------------------

    def broker(self, **settings: Any) -> Broker:
        """A client that is closed after the test."""
        broker = self.make_broker(**settings)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    async def batch(
        self,
        broker: Broker,
        destination: Destination,
        limit: int = 10,
        *,
        subscription: str | None = None,
        selector: str | None = None,
        max_bytes: int = LIMIT,
    ) -> Batch:
        """A batch; the test fails if none comes."""
        source = Source(destination, selector, subscription)
        batch = await broker.receive(source, limit, WAIT, max_bytes)
        assert batch is not None, "nothing has come"
        return batch

    async def gather(
        self, broker: Broker, destination: Destination, count: int
    ) -> tuple[list[IncomingMessage], list[Batch]]:
        """So many messages, in as many batches as it takes."""
        messages: list[IncomingMessage] = []
        batches: list[Batch] = []
        while len(messages) < count:
            batches.append(await self.batch(broker, destination, count - len(messages)))
            messages += batches[-1].messages
        return messages, batches

    async def nothing(self, broker: Broker, destination: Destination, **how: Any) -> None:
        """Nothing comes."""
        source = Source(destination, how.get("selector"), how.get("subscription"))
        self.assertIsNone(await broker.receive(source, 10, self.short, LIMIT))

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        """The problem, of one of these codes, that work ends with."""
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            self.assertTrue(problem.hint)
            return problem
        raise AssertionError("no problem was raised")

    async def one(self, message: OutgoingMessage) -> IncomingMessage:
        """A message after it has gone through the broker."""
        broker, queue = self.broker(), await self.make_queue()
        (published,) = await broker.publish(queue, [message])
        batch = await self.batch(broker, queue)
        (received,) = batch.messages
        await batch.acknowledge()
        if self.known_ids:
            self.assertEqual(received.id, published)
        return received

    async def publish(self, broker: Broker, queue: Destination, *bodies: str) -> list[str]:
        """Publish texts."""
        return await broker.publish(queue, [OutgoingMessage(body) for body in bodies])

    # -- messages ----------------------------------------------------------------------------

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

    # -- receiving ---------------------------------------------------------------------------

    async def test_an_empty_queue_gives_nothing_in_time(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        began = reactor.seconds()  # type: ignore[attr-defined]
        self.assertIsNone(await broker.receive(Source(queue), 1, 0.6, LIMIT))
        self.assertGreater(reactor.seconds() - began, 0.5)  # type: ignore[attr-defined]
        self.assertIsNone(await broker.receive(Source(queue), 1, 0.0, LIMIT))

    async def test_what_is_waited_for_comes_at_once(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        waiting = Deferred.fromCoroutine(self.batch(broker, queue))
        await pause(0.3)
        self.assertFalse(waiting.called)
        began = reactor.seconds()  # type: ignore[attr-defined]
        await self.publish(broker, queue, "now")
        batch = await waiting
        self.assertLess(reactor.seconds() - began, WAIT / 2)  # type: ignore[attr-defined]
        await batch.acknowledge()

    async def test_no_more_than_was_asked_for(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, *(str(number) for number in range(7)))
        first = await self.batch(broker, queue, 3)
        self.assertLessEqual(len(first.messages), 3)
        messages, others = await self.gather(broker, queue, 7 - len(first.messages))
        bodies = {message.body for message in (*first.messages, *messages)}
        self.assertEqual(bodies, {str(number) for number in range(7)})
        self.assertFalse(any(message.redelivered for message in messages))
        for batch in (first, *others):
            await batch.acknowledge()

    async def test_a_batch_ends_with_its_bytes(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, *("x" * 20_000 for _ in range(5)))
        batch = await self.batch(broker, queue, 5, max_bytes=30_000)
        self.assertLessEqual(len(batch.messages), 2)
        await batch.acknowledge()
        _, others = await self.gather(broker, queue, 5 - len(batch.messages))
        for each in others:
            await each.acknowledge()
        await self.nothing(broker, queue)

    async def test_what_is_not_settled_is_nobody_elses(self) -> None:
        broker, other, queue = self.broker(), self.broker(), await self.make_queue()
        await self.publish(broker, queue, "mine")
        batch = await self.batch(broker, queue)
        await self.nothing(broker, queue)
        await self.nothing(other, queue)
        await batch.acknowledge()

    async def test_what_is_acknowledged_does_not_come_again(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "a", "b")
        _, batches = await self.gather(broker, queue, 2)
        for batch in batches:
            await batch.acknowledge()
        await broker.close()
        await self.nothing(self.broker(), queue)

    async def test_what_is_released_comes_again_marked(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "again")
        batch = await self.batch(broker, queue)
        first = batch.messages[0]
        await batch.release()
        again = await self.batch(broker, queue)
        self.assertEqual((again.messages[0].id, again.messages[0].body), (first.id, "again"))
        self.assertTrue(again.messages[0].redelivered)
        self.assertIn(again.messages[0].deliveries, (None, 3 if self.browsing_marks else 2))
        await again.acknowledge()
        await self.nothing(broker, queue)

    async def test_releasing_many_times_loses_nothing(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "a", "b", "c")
        for _ in range(8):
            _, batches = await self.gather(broker, queue, 3)
            for batch in batches:
                await batch.release()
        messages, batches = await self.gather(broker, queue, 3)
        self.assertEqual({message.body for message in messages}, {"a", "b", "c"})
        for batch in batches:
            await batch.acknowledge()

    async def test_settling_twice(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "x")
        batch = await self.batch(broker, queue)
        await batch.acknowledge()
        await batch.release()
        await self.nothing(broker, queue)
        await self.publish(broker, queue, "y")
        batch = await self.batch(broker, queue)
        await batch.release()
        await batch.release()
        await self.problem(batch.acknowledge(), "conflict")
        again = await self.batch(broker, queue)
        await again.acknowledge()

    async def test_batches_are_settled_in_any_order(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "a", "b", "c")
        batches = [await self.batch(broker, queue, 1) for _ in range(3)]
        bodies = [batch.messages[0].body for batch in batches]
        self.assertEqual(set(bodies), {"a", "b", "c"})
        await batches[2].acknowledge()
        await batches[1].release()
        await batches[0].acknowledge()
        again = await self.batch(broker, queue)
        self.assertEqual([message.body for message in again.messages], [bodies[1]])
        self.assertTrue(again.messages[0].redelivered)
        await again.acknowledge()
        await self.nothing(broker, queue)

    async def test_closing_gives_back(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "x")
        batch = await self.batch(broker, queue)
        await broker.close()
        await self.problem(batch.acknowledge(), "conflict")
        await batch.release()
        again = await self.batch(self.broker(), queue)
        self.assertTrue(again.messages[0].redelivered)
        await again.acknowledge()

    async def test_a_cancelled_receive_takes_nothing(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        waiting = Deferred.fromCoroutine(broker.receive(Source(queue), 10, 60.0, LIMIT))
        await pause(0.3)
        waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        else:
            raise AssertionError("it was not cancelled")
        await self.publish(broker, queue, "x")
        batch = await self.batch(broker, queue)
        await batch.acknowledge()

    async def test_receives_that_are_cancelled_while_messages_come_lose_none(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        bodies = [str(number) for number in range(12)]
        for body in bodies:
            waiting = Deferred.fromCoroutine(broker.receive(Source(queue), 10, 60.0, LIMIT))
            publishing = Deferred.fromCoroutine(self.publish(broker, queue, body))
            await pause(0.002 * int(body))
            waiting.cancel()
            await publishing
            try:
                batch = await waiting
            except CancelledError:
                continue
            assert batch is not None
            await batch.release()
        messages, batches = await self.gather(broker, queue, len(bodies))
        self.assertEqual({message.body for message in messages}, set(bodies))
        for batch in batches:
            await batch.acknowledge()
        await self.nothing(broker, queue)

    async def test_selectors(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        texts = ("red", "blue", "red")
        await broker.publish(
            queue, [OutgoingMessage(each, properties={"colour": each}) for each in texts]
        )
        if not self.selectors:
            source = Source(queue, "colour = 'blue'")
            await self.problem(broker.receive(source, 1, self.short, LIMIT), "bad_request")
            return
        batch = await self.batch(broker, queue, selector="colour = 'blue'")
        self.assertEqual([message.body for message in batch.messages], ["blue"])
        await batch.acknowledge()
        await self.nothing(broker, queue, selector="colour = 'blue'")
        malformed = broker.receive(Source(queue, "colour = = 1"), 1, self.short, LIMIT)
        await self.problem(malformed, "bad_request")
        messages, batches = await self.gather(broker, queue, 2)
        self.assertEqual([message.body for message in messages], ["red", "red"])
        for batch in batches:
            await batch.acknowledge()

    async def test_browsing_leaves_messages_there(self) -> None:
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "a", "b", "c")
        if not self.browsing:
            await self.problem(broker.browse(queue, 10, None), "bad_request")
            return
        for _ in range(2):
            found = await broker.browse(queue, 10, None)
            self.assertEqual([message.body for message in found], ["a", "b", "c"])
        self.assertEqual([each.body for each in await broker.browse(queue, 2, None)], ["a", "b"])
        messages, batches = await self.gather(broker, queue, 3)
        if not self.browsing_marks:
            self.assertFalse(any(message.redelivered for message in messages))
        for batch in batches:
            await batch.acknowledge()
        self.assertEqual(await broker.browse(queue, 10, None), [])

    # -- topics ------------------------------------------------------------------------------

    async def test_durable_subscription(self) -> None:
        broker, topic = self.broker(), await self.make_topic()
        if not self.topics:
            source = Source(topic, None, "s")
            await self.problem(broker.receive(source, 1, self.short, LIMIT), "bad_request")
            return
        name = f"s-{secrets.token_hex(4)}"
        await self.nothing(broker, topic, subscription=name)
        await self.publish(broker, topic, "a", "b")
        batch = await self.batch(broker, topic, 1, subscription=name)
        self.assertEqual([message.body for message in batch.messages], ["a"])
        await batch.release()
        again = await self.batch(broker, topic, 1, subscription=name)
        self.assertEqual([message.body for message in again.messages], ["a"])
        await again.acknowledge()
        await broker.close()
        other = self.broker()
        rest = await self.batch(other, topic, 10, subscription=name)
        self.assertEqual([message.body for message in rest.messages], ["b"])
        await rest.acknowledge()
        await self.nothing(other, topic, subscription=name)

    async def test_every_durable_subscription_gets_its_own(self) -> None:
        if not self.topics:
            return
        broker, topic = self.broker(), await self.make_topic()
        names = [f"s-{secrets.token_hex(4)}" for _ in range(2)]
        for name in names:
            await self.nothing(broker, topic, subscription=name)
        await self.publish(broker, topic, "for all")
        for name in names:
            batch = await self.batch(broker, topic, subscription=name)
            self.assertEqual([message.body for message in batch.messages], ["for all"])
            await batch.acknowledge()

    async def test_second_batch_of_a_durable_subscription(self) -> None:
        if not self.topics:
            return
        broker, topic = self.broker(), await self.make_topic()
        name = f"s-{secrets.token_hex(4)}"
        await self.nothing(broker, topic, subscription=name)
        await self.publish(broker, topic, "a", "b")
        first = await self.batch(broker, topic, 1, subscription=name)
        second = Deferred.fromCoroutine(self.batch(broker, topic, 1, subscription=name))
        if not self.durable_batches:
            await pause(0.3)
            self.assertFalse(second.called)
            await first.acknowledge()
        batch = await second
        if self.durable_batches:
            await first.acknowledge()
        self.assertEqual([message.body for message in batch.messages], ["b"])
        await batch.acknowledge()

    async def test_topic_without_subscription_is_heard_while_waiting(self) -> None:
        if not self.topics:
            return
        broker, topic = self.broker(), await self.make_topic()
        await self.publish(broker, topic, "nobody hears this")
        waiting = Deferred.fromCoroutine(self.batch(broker, topic))
        for _ in range(100):
            await pause(0.1)
            if waiting.called:
                break
            await self.publish(broker, topic, "heard")
        batch = await waiting
        self.assertEqual({message.body for message in batch.messages}, {"heard"})
        await batch.acknowledge()

    # -- failures ----------------------------------------------------------------------------

    async def test_nobody_listens(self) -> None:
        broker = self.broker_at(1)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        queue = Destination("queue", "contract.x")
        await self.problem(broker.test(), "target_unreachable")
        await self.problem(self.publish(broker, queue, "x"), "target_unreachable")
        await self.problem(broker.receive(Source(queue), 1, 1.0, LIMIT), "target_unreachable")

    async def test_wrong_password(self) -> None:
        broker = self.rejected_broker()
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        problem = await self.problem(broker.test(), "target_login_failed")
        self.assertNotIn("wrong-password", f"{problem} {problem.hint} {broker!r}")

    async def test_a_broker_that_says_nothing(self) -> None:
        port = self.silent_port()
        broker = self.broker_at(port, connect_timeout=1.0)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        await self.problem(broker.test(), "target_unreachable")
        waiting = Deferred.fromCoroutine(broker.test())
        await pause(0.1)
        waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        else:
            raise AssertionError("it was not cancelled")

    async def test_something_else_listens(self) -> None:
        port = self.silent_port(b"220 mail.example ESMTP\r\n")
        broker = self.broker_at(port, connect_timeout=2.0)
        if broker is None:
            return
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        await self.problem(broker.test(), "target_wrong_type", "target_unreachable")

    async def test_a_killed_broker_loses_nothing(self) -> None:
        if not self.survives:
            return
        broker, queue = self.broker(), await self.make_queue()
        await self.publish(broker, queue, "kept", "delivered", "acknowledged")
        messages, batches = [], []
        for _ in range(3):
            batch = await self.batch(broker, queue, 1)
            messages += batch.messages
            batches.append(batch)
        await batches[2].acknowledge()
        await batches[0].release()
        self.kill_server()
        try:
            problem = await self.problem(batches[1].acknowledge(), "conflict", "target_unreachable")
            self.assertTrue(problem.detail)
            await self.problem(self.publish(broker, queue, "x"), "target_unreachable")
            await batches[1].release()
        finally:
            self.restart_server()
        await self.publish(broker, queue, "new")
        marked: dict[str, bool] = {}
        bodies = [str(message.body) for message in messages]
        expected = {*bodies[:2], "new"}
        while not expected <= set(marked):
            batch = await self.batch(broker, queue)
            marked.update((str(each.body), each.redelivered) for each in batch.messages)
            batches.append(batch)
        if self.keeps_acknowledgements:
            self.assertEqual(set(marked), expected)
        self.assertFalse(marked["new"])
        if self.marks_after_crash:
            self.assertEqual({marked[body] for body in bodies if body in marked}, {True})
        for batch in batches[3:]:
            await batch.acknowledge()

    def silent_port(self, greeting: bytes = b"") -> int:
        """A port that takes connections and says this and nothing more."""

        class Silent(Protocol):
            def connectionMade(self) -> None:
                if greeting:
                    self.transport.write(greeting)

        factory = Factory.forProtocol(Silent)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number


def sorted_or(bodies: Sequence[str], ordered: bool) -> list[str]:
    """As they are, or sorted where order means nothing."""
    return list(bodies) if ordered else sorted(bodies)


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor turn for a while."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]
