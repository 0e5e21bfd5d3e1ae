"""Receiving in batches, and settling them."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from workato_agent.services.jms.broker import (
    OutgoingMessage,
    Source,
)

from .case import LIMIT, WAIT, BrokerCase, pause


class Receiving(BrokerCase):
    """Batches, selectors and browsing."""

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
