"""The contract of message brokers, for Amazon SQS as moto's server emulates it."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.support import sqs
from workato_agent.services.jms.broker import Broker, Destination, Source
from workato_agent.services.jms.brokers.sqs import SqsBroker
from workato_agent.services.jms.settings import SqsSettings

from . import contract


class SqsTests(contract.BrokerContract):
    target = r"^Amazon SQS eu-west-1$"
    type = "sqs"
    selectors = False
    browsing = False
    topics = False
    ttl = False
    priority = False
    ordered = False
    nul = False
    empty_text = False
    survives = False
    many = 33
    largest = 200_000

    def make_broker(self, **settings: Any) -> Broker:
        return self._broker(sqs.shared_server().port, **settings)

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        return self._broker(port, **settings)

    def rejected_broker(self) -> Broker | None:
        return None

    def _broker(self, port: int, **settings: Any) -> SqsBroker:
        endpoint = f"http://127.0.0.1:{port}"
        keys = {"access_key": "AKIAX", "secret_key": "xyz", "poll": 1, **settings}
        return SqsBroker.of(reactor, SqsSettings(sqs.REGION, endpoint=endpoint, tls=None, **keys))

    async def make_queue(self) -> Destination:
        name = f"contract-{secrets.token_hex(6)}"
        sqs.shared_server().make_queue(name)
        return Destination("queue", name)

    async def test_a_cancelled_receive_takes_nothing(self) -> None:
        # Its last call may go on in the emulator: what that takes is hidden for its time.
        broker, queue = self.broker(visibility=1.0), await self.make_queue()
        waiting = Deferred.fromCoroutine(broker.receive(Source(queue), 10, 60.0, contract.LIMIT))
        await contract.pause(0.3)
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
        # What a cancelled call had taken is hidden until its time is over.
        broker, queue = self.broker(visibility=1.0), await self.make_queue()
        for number in range(6):
            waiting = Deferred.fromCoroutine(
                broker.receive(Source(queue), 10, 60.0, contract.LIMIT)
            )
            publishing = Deferred.fromCoroutine(self.publish(broker, queue, str(number)))
            await contract.pause(0.004 * number)
            waiting.cancel()
            await publishing
            try:
                batch = await waiting
            except CancelledError:
                continue
            assert batch is not None
            await batch.release()
        bodies: set[str] = set()
        while len(bodies) < 6:
            batch = await self.batch(broker, queue)
            bodies |= {str(message.body) for message in batch.messages}
            await batch.acknowledge()
        self.assertEqual(bodies, {str(number) for number in range(6)})
