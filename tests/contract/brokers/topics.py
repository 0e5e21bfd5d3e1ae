"""Topics and their durable subscriptions."""

from __future__ import annotations

import secrets

from twisted.internet.defer import Deferred

from workato_agent.services.jms.broker import (
    Source,
)

from .case import LIMIT, BrokerCase, pause


class Topics(BrokerCase):
    """Who gets a copy."""

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
