"""What a broker through Java does with messages of all kinds, on a real ActiveMQ."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.support.java_brokers import (
    LIMIT,
    WAIT,
    JavaCase,
    pause,
    publish,
    queue,
    receive,
)
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers import jms_java_links


class Messages(JavaCase):
    async def test_messages_of_other_kinds_have_no_body_and_are_not_deserialised(self) -> None:
        def thd_fill(session: Any) -> list[Any]:
            pairs = session.createMapMessage()
            pairs.setString("key", "value")
            # A class that this side doesn't have, so that reading it would fail.
            elsewhere = self.server.made("org.apache.activemq.command.ActiveMQQueue", "x")
            return [pairs, session.createObjectMessage(elsewhere), session.createMessage(),
                    session.createStreamMessage(), session.createTextMessage()]  # fmt: skip

        await self.foreign(thd_fill)
        batch = await receive(self.activemq(), queue("open.foreign"))
        self.assertEqual([message.body for message in batch.messages], [None] * 5)
        await batch.acknowledge()

    async def test_text_that_is_none_in_any_encoding_is_received_all_the_same(self) -> None:
        def thd_fill(session: Any) -> list[Any]:
            half = self.server.jpype.JClass("java.lang.StringBuilder")("a")
            half.appendCodePoint(0xD800).append("b")
            message = session.createTextMessage(half.toString())
            message.setStringProperty("p", half.toString())
            message.setJMSType(half.toString())
            return [message]

        await self.foreign(thd_fill)
        batch = await receive(self.activemq(), queue("open.foreign"))
        (message,) = batch.messages
        expected = "a\ufffdb"
        self.assertEqual((message.body, message.type), (expected, expected))
        self.assertEqual(dict(message.properties), {"p": expected})
        await batch.acknowledge()

    async def test_a_broker_that_is_full(self) -> None:
        place = queue("open.full")
        memory = self.server.service.getSystemUsage().getMemoryUsage()
        broker, before = self.activemq(), memory.getLimit()
        await broker.test()
        memory.setLimit(1000)
        self.addCleanup(memory.setLimit, before)
        bodies = ["x" * 10_000] * 5
        problem = await self.problem(publish(broker, place, *bodies), "insufficient_storage")
        self.assertEqual(problem.extra["published"], 0)
        memory.setLimit(before)
        self.assertEqual(await broker.browse(place, 10, None), [])

    async def test_properties_of_all_of_javas_types(self) -> None:
        def thd_fill(session: Any) -> list[Any]:
            message = session.createTextMessage("x")
            message.setByteProperty("byte", -1)
            message.setShortProperty("short", 300)
            message.setIntProperty("int", 70_000)
            message.setFloatProperty("float", 0.5)
            message.setObjectProperty("nothing", None)
            message.setStringProperty("JMSXGroupID", "g")
            return [message]

        await self.foreign(thd_fill)
        batch = await receive(self.activemq(), queue("open.foreign"))
        self.assertEqual(
            dict(batch.messages[0].properties),
            {"byte": -1, "short": 300, "int": 70_000, "float": 0.5, "nothing": None,
             "JMSXGroupID": "g", "JMSXGroupSeq": 0},
        )  # fmt: skip
        await batch.acknowledge()

    async def test_all_or_none_are_published(self) -> None:
        broker, place = self.activemq(), queue("open.whole")
        good = OutgoingMessage("good")
        for bad in (
            OutgoingMessage("x", properties={"JMSReserved": "x", "": 1}),
            OutgoingMessage("x", properties={"big": 2**63}),
            OutgoingMessage("half \ud800"),
            OutgoingMessage("x", properties={"garbled": "𝄞"}),
            OutgoingMessage("x", delay=5.0),
        ):
            problem = await self.problem(broker.publish(place, [good, good, bad]), "bad_request")
            self.assertEqual(problem.extra["published"], 0)
        self.assertIsNone(await broker.receive(Source(place), 1, 0.0, LIMIT))

    async def test_a_delay_is_refused_where_the_broker_would_ignore_it(self) -> None:
        problem = await self.problem(
            self.activemq().publish(queue("open.x"), [OutgoingMessage("x", delay=1.0)]),
            "bad_request",
        )
        self.assertIn("schedulerSupport", problem.hint)

    async def test_a_message_that_the_broker_finds_too_large(self) -> None:
        broker, place = self.activemq(), queue("open.large")
        await self.problem(publish(broker, place, "x" * 1_100_000), "payload_too_large")
        await publish(broker, place, "x" * 900_000)

    async def test_a_message_that_the_profile_finds_too_large_stays_and_holds_up_none_before_it(
        self,
    ) -> None:
        broker, place = self.activemq(max_message=1000), queue("open.limit")
        await publish(self.activemq(), place, "a", "b", "x" * 1001, "c")
        batch = await receive(broker, place)
        self.assertEqual([message.body for message in batch.messages], ["a", "b"])
        await batch.acknowledge()
        problem = await self.problem(receive(broker, place), "payload_too_large")
        self.assertIn("1001 bytes", problem.detail)
        found = await self.activemq().browse(place, 10, None)
        self.assertEqual([len(str(message.body)) for message in found], [1001, 1])

    async def test_deliveries_are_counted(self) -> None:
        broker, place = self.activemq(), queue("open.counted")
        await publish(broker, place, "x")
        for count in range(1, 9):
            batch = await receive(broker, place)
            (message,) = batch.messages
            self.assertEqual((message.deliveries, message.redelivered), (count, count > 1))
            await batch.release()

    async def test_another_consumer_gets_what_a_batch_has_no_room_for(self) -> None:
        mine, other, place = self.activemq(), self.activemq(), queue("open.shared")
        await publish(mine, place, *"abcdef")
        one = await receive(mine, place, 2)
        rest = await receive(other, place)
        self.assertEqual([message.body for message in one.messages], ["a", "b"])
        self.assertEqual([message.body for message in rest.messages], ["c", "d", "e", "f"])
        await one.release()
        await rest.release()

    async def test_what_does_not_fit_into_a_batch_is_not_lost(self) -> None:
        broker, place = self.activemq(), queue("open.mixed")
        bodies = [*"abc", *(letter * 50_000 for letter in "defgh"), *(str(n) for n in range(40))]
        await publish(broker, place, *bodies)
        found: list[str] = []
        while len(found) < len(bodies):
            batch = await broker.receive(Source(place), 100, WAIT, 60_000)
            assert batch is not None
            sizes = [len(str(message.body)) for message in batch.messages]
            self.assertLess(sum(sizes[:-1]), 60_000)
            found += [str(message.body) for message in batch.messages]
            await batch.acknowledge()
        self.assertEqual(found, bodies)

    async def test_a_client_that_can_only_be_asked_for_one_message_at_a_time(self) -> None:
        broker, place = self.activemq(), queue("open.one")
        await publish(broker, place, *"abc")
        provider = broker._links._provider
        assert provider is not None
        assert provider.activemq is not None
        provider.activemq = evolve(provider.activemq, quieten=None)
        batch = await receive(broker, place, 2)
        self.assertEqual([message.body for message in batch.messages], ["a", "b"])
        await batch.acknowledge()
        batch = await receive(broker, place)
        self.assertEqual([message.body for message in batch.messages], ["c"])
        await batch.acknowledge()

    async def test_options_in_a_name_are_refused(self) -> None:
        place = queue("open.x?consumer.prefetchSize=1000")
        await self.problem(publish(self.activemq(), place, "x"), "bad_request")

    async def test_what_the_user_may_not_read(self) -> None:
        broker = self.activemq()
        await publish(broker, queue("closed.x"), "x")
        problem = await self.problem(receive(broker, queue("closed.x")), "target_permission_denied")
        self.assertIn("not authorized", problem.detail)

    async def test_publishing_goes_on_while_every_batch_is_out(self) -> None:
        broker, place = self.activemq(max_sessions=2), queue("open.few")
        both = [Deferred.fromCoroutine(publish(broker, place, each)) for each in "ab"]
        for work in both:
            await work
        first = await receive(broker, place, 1)
        second = Deferred.fromCoroutine(receive(broker, place, 1))
        await publish(broker, place, "c")
        self.assertFalse(second.called)
        await first.acknowledge()
        batch = await second
        self.assertIn(batch.messages[0].body, "ab")
        await batch.acknowledge()

    async def test_idle_connections_are_closed(self) -> None:
        self.patch(jms_java_links, "IDLE_SECONDS", 0.05)
        broker = self.activemq()
        await broker.test()
        transport = self.server.service.getTransportConnectors().get(0)
        while transport.getConnections().size():
            await pause(0.02)
        await self.round_trip(broker)

    async def test_a_durable_subscription_that_another_program_has(self) -> None:
        topic = Destination("topic", "open.t")
        one, other = self.activemq(), self.activemq()
        self.assertIsNone(await one.receive(Source(topic, None, "s"), 1, 0.0, LIMIT))
        await publish(one, topic, "x")
        batch = await one.receive(Source(topic, None, "s"), 1, WAIT, LIMIT)
        assert batch is not None
        await self.problem(other.receive(Source(topic, None, "s"), 1, 0.3, LIMIT), "conflict")
        waiting = Deferred.fromCoroutine(other.receive(Source(topic, None, "s"), 1, WAIT, LIMIT))
        await pause(0.3)
        await batch.release()
        taken = await waiting
        assert taken is not None
        self.assertEqual(taken.messages[0].deliveries, 2)
        await taken.acknowledge()
