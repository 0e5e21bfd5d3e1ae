"""Kafka with brokers that are down, hang or come back, and callers that leave."""

from __future__ import annotations

import json
import time

from twisted.internet.defer import CancelledError

from tests.support.files import PacedBody
from tests.support.kafka import KafkaCluster
from tests.support.kafka_service import JOINED_AGAIN, KafkaCase, begun, pause, reactor, values
from tests.support.ports import free_port
from tests.support.premises import OddPort
from tests.support.tunnel import until
from workato_agent.requests import Response
from workato_tunnel.problems import Problem

CALLS = (
    ("GET", "", b""),
    ("GET", "topics", b""),
    ("POST", "topics/orders/messages", {"value": "x"}),
    ("POST", "topics/orders/receive", {"group": "g"}),
    ("POST", "topics/orders/subscribe", {"group": "g"}),
)


class Unreachable(KafkaCase):
    async def test_a_port_that_nothing_listens_on_is_told_at_once(self) -> None:
        port = free_port()
        service = self.serve(f"kafka://127.0.0.1:{port}")
        began = time.monotonic()
        for method, path, body in CALLS:
            problem = await self.fails("target_unreachable", method, path, body, on=service)
            self.assertIn(str(port), problem.detail)
            self.assertIn("refused", problem.detail)
        self.assertLess(time.monotonic() - began, 20, "the timeout of each is 30 s")

    async def test_one_of_several_brokers_is_enough(self) -> None:
        dead = ",".join(f"kafka://127.0.0.1:{free_port()}" for _ in range(2))
        for url in (f"{dead},{self.cluster.url}", f"{self.cluster.url},{dead}"):
            service = self.serve(url)
            self.assertTrue((await self.call("GET", "", on=service)).json["ok"])

    async def test_a_name_that_does_not_exist(self) -> None:
        service = self.serve("kafka://kafka.nowhere.invalid", timeout=3000)
        problem = await self.fails("target_unreachable", "GET", "", on=service)
        self.assertIn("kafka.nowhere.invalid", problem.detail)

    async def test_what_is_no_kafka_broker(self) -> None:
        ssh = OddPort(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        self.addCleanup(ssh.stop)
        service = self.serve(f"kafka://127.0.0.1:{ssh.port}", timeout=3000)
        await self.fails("target_wrong_type", "GET", "", on=service)

    async def test_silence_is_told_before_the_calls_deadline(self) -> None:
        silent = OddPort(b"")
        self.addCleanup(silent.stop)
        service = self.serve(f"kafka://127.0.0.1:{silent.port}")
        for method, path, body in CALLS[2:4]:
            began = time.monotonic()
            await self.fails("target_unreachable", method, path, body, on=service, seconds=0.8)
            self.assertLess(time.monotonic() - began, 15)

    async def test_a_full_house_of_hanging_calls_delays_no_other_profile(self) -> None:
        silent = OddPort(b"")
        self.addCleanup(silent.stop)
        stuck = self.serve(f"kafka://127.0.0.1:{silent.port}")
        calls = [begun(self.call("GET", "topics", on=stuck)) for _ in range(32)]
        await self.fails("overloaded", "GET", "topics", on=stuck)
        self.cluster.produce(self.topic, ["a"])
        self.assertEqual(values(await self.receive()), ["a"])
        self.assertFalse(any(call.called for call in calls))
        for call in calls:
            call.addErrback(lambda failure: failure.trap(CancelledError))
            call.cancel()
            await call


class Outages(KafkaCase):
    def start_cluster(self) -> KafkaCluster:
        return self.own_cluster()

    async def test_messages_wait_for_a_broker_that_comes_back_and_come_once(self) -> None:
        self.service = self.serve(enable__idempotence="true")
        await self.produce("first")
        self.cluster.down()
        writing = begun(self.produce("second", "third"))
        await pause(0.2)
        self.assertFalse(writing.called)
        self.cluster.up()
        written = await writing
        self.assertEqual([each["offset"] for each in written["results"]], [1, 2])
        found = [each.value() for each in self.cluster.read(self.topic)]
        self.assertEqual(found, [b"first", b"second", b"third"])

    async def test_a_broker_that_stays_away_is_told(self) -> None:
        service = self.serve(timeout=1500)
        await self.produce("first", on=service)
        receipt = (await self.receive(on=service))["receipt"]
        self.cluster.down()
        path = f"topics/{self.topic}"
        problem = await self.fails(
            "target_unreachable", "POST", f"{path}/messages", {"value": "second"}, on=service
        )
        self.assertIn("refused", problem.detail)
        body = {"group": self.group, "wait": 0.2}
        await self.fails("target_unreachable", "POST", f"{path}/receive", body, on=service)
        acknowledging = begun(self.settle(receipt, on=service))
        await pause(0.3)
        self.assertFalse(acknowledging.called, "nothing is acknowledged before the broker has it")
        self.cluster.up()
        self.assertTrue((await acknowledging)["ok"])

    async def test_a_hanging_broker_is_told_within_the_deadline_and_loses_nothing(self) -> None:
        service = self.serve(ack_timeout="0.5s")
        self.cluster.produce(self.topic, ["a"])
        received = await self.receive(on=service)
        self.cluster.hang()
        self.addCleanup(self.cluster.go_on)
        path = f"topics/{self.topic}/receive"
        began = time.monotonic()
        body = {"group": self.group, "wait": 0.2}
        await self.fails("target_unreachable", "POST", path, body, on=service, seconds=1.2)
        self.assertLess(time.monotonic() - began, 15)
        self.cluster.go_on()
        again = await self.receive(on=service)
        self.assertEqual(values(again), values(received))
        self.assertTrue(again["messages"][0]["redelivered"])

    async def test_the_reactor_runs_while_a_consumer_hangs_and_is_closed(self) -> None:
        self.cluster.produce(self.topic, ["a"])
        await self.receive()
        self.cluster.hang()
        began = time.monotonic()
        closing = begun(self.service.close())
        for _ in range(50):
            await pause(0.01)
        self.assertLess(time.monotonic() - began, 4, "librdkafka waits 5 s to leave the group")
        self.cluster.go_on()
        await closing

    async def test_messages_of_a_dead_cluster_are_given_up_when_the_caller_is(self) -> None:
        service = self.serve(timeout=60_000)
        await self.produce("first", on=service)
        self.cluster.down()
        writing = begun(self.produce("second", on=service))
        await pause(0.2)
        writing.addErrback(lambda failure: failure.trap(CancelledError))
        writing.cancel()
        await until(lambda: not service._writer._under_way)
        self.cluster.up()
        await self.produce("third", on=service)
        found = [each.value() for each in self.cluster.read(self.topic)]
        self.assertEqual(found, [b"first", b"third"])


class Callers(KafkaCase):
    partitions = 2

    async def test_a_long_poll_ends_with_its_caller_and_what_comes_then_is_for_the_next(
        self,
    ) -> None:
        await self.receive(wait=0)
        polling = begun(self.receive(wait=60, seconds=120))
        await pause(0.2)
        polling.addErrback(lambda failure: failure.trap(CancelledError))
        polling.cancel()
        await polling
        self.cluster.produce(self.topic, ["a"])
        self.assertEqual(values(await self.receive()), ["a"])

    async def test_a_consumer_that_nobody_uses_leaves_its_group(self) -> None:
        service = self.serve(idle_timeout="0.2s", **JOINED_AGAIN)
        self.cluster.produce(self.topic, ["a"], partition=0)
        receipt = (await self.receive(on=service))["receipt"]
        await pause(0.5)
        self.assertEqual(len(service._readers._kept), 1, "somebody has a receipt of it")
        await self.settle(receipt, on=service)
        readers = service._readers
        await until(lambda: not readers._kept and not readers._closing)
        self.cluster.produce(self.topic, ["b"], partition=0)
        self.assertEqual(values(await self.receive(on=service)), ["b"])

    async def test_callers_of_one_group_share_its_messages(self) -> None:
        calls = [begun(self.receive(5)) for _ in range(4)]
        await pause(0.2)
        self.cluster.produce(self.topic, [str(n) for n in range(8)], partition=0)
        self.cluster.produce(self.topic, [str(n) for n in range(8, 16)], partition=1)
        found = [value for call in calls for value in values(await call)]
        found += [each["value"] for each in (await self.receive_all(16 - len(found)))[0]]
        self.assertEqual(sorted(found, key=int), [str(n) for n in range(16)])

    async def test_a_receipt_of_a_partition_that_went_elsewhere_is_a_conflict(self) -> None:
        self.service = self.serve(**JOINED_AGAIN)
        for number in range(2):
            self.cluster.produce(self.topic, [f"v{number}"], partition=number)
        _, receipts = await self.receive_all(2)
        other = self.serve(**JOINED_AGAIN)
        joining = begun(self.receive(wait=20, on=other))
        await until(lambda: all(each.portions[0].ledger.revoked for each in self.receipts()), 30)
        for receipt in receipts:
            path = f"receipts/{receipt}"
            problem = await self.fails("conflict", "POST", path, {"action": "ack"})
            self.assertIn("partition", problem.detail)
        first = values(await joining)
        rest = await self.receive_all(1, wait=20)
        self.assertEqual(sorted(first + [each["value"] for each in rest[0]]), ["v0", "v1"])

    async def test_a_group_that_rebalances_one_by_one_keeps_other_receipts(self) -> None:
        strategy = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
        keys = {"partition__assignment__strategy": strategy, **JOINED_AGAIN}
        first = self.service = self.serve(**keys)
        for number in range(2):
            self.cluster.produce(self.topic, [f"v{number}"], partition=number)
        received = [await self.receive(1, wait=20, on=first) for _ in range(2)]
        receipts = {values(each)[0]: each["receipt"] for each in received}
        other = self.serve(**keys)
        (moved,) = values(await self.receive(wait=20, on=other))
        path = f"receipts/{receipts.pop(moved)}"
        await self.fails("conflict", "POST", path, {"action": "ack"}, on=first)
        (kept,) = receipts.values()
        self.assertTrue((await self.settle(kept, on=first))["committed"])

    def receipts(self):  # type: ignore[no-untyped-def]
        return self.service._readers._receipts.values()

    async def test_a_stream_of_messages_waits_for_its_caller_and_ends_with_it(self) -> None:
        body = PacedBody()
        request = self.request(
            "POST", f"topics/{self.topic}/messages", body, content="application/x-ndjson"
        )
        answering = begun(self.service.handle(request))
        await until(lambda: body.waiting is not None)
        body.give(json.dumps({"value": "a", "partition": 0}).encode() + b"\n")
        response: Response = await answering
        assert not isinstance(response.body, bytes)
        self.assertEqual(json.loads(await anext(response.body)), {"partition": 0, "offset": 0})
        await until(lambda: body.waiting is not None)
        body.lose()
        try:
            await anext(response.body)
        except Problem as problem:
            raise AssertionError("a lost body is no problem of its own") from problem
        except Exception as error:  # noqa: BLE001
            self.assertEqual(type(error).__name__, "BodyLost")
        await response.body.aclose()  # type: ignore[attr-defined]


class Subscriptions(KafkaCase):
    async def test_lines_come_as_messages_do_and_are_acknowledged_beside(self) -> None:
        lines = await self.subscribe()
        first = await lines.next()
        self.assertEqual(first["type"], "subscribed")
        self.cluster.produce(self.topic, ["a", "b", "c"])
        messages = await lines.messages(3)
        self.assertEqual([each["value"] for each in messages], ["a", "b", "c"])
        for number, message in enumerate(messages, 1):
            self.assertEqual(message["receipt"], f"{first['subscription']}.{number}")
        settled = await self.settle(messages[1]["receipt"])
        self.assertEqual(settled, {"ok": True, "committed": False})
        await self.settle(messages[0]["receipt"])
        self.assertEqual(self.committed(), [2])

    async def test_through_acknowledges_all_lines_up_to_one(self) -> None:
        self.cluster.produce(self.topic, [str(n) for n in range(50)])
        lines = await self.subscribe()
        messages = await lines.messages(50)
        settled = await self.settle(messages[39]["receipt"], through=True)
        self.assertTrue(settled["committed"])
        self.assertEqual(self.committed(), [40])

    async def test_no_more_lines_come_than_may_wait_for_acknowledgement(self) -> None:
        self.cluster.produce(self.topic, [str(n) for n in range(30)])
        lines = await self.subscribe(window=10)
        messages = await lines.messages(10)
        more = begun(lines.next())
        await pause(0.4)
        self.assertFalse(more.called)
        await self.settle(messages[4]["receipt"], through=True)
        self.assertEqual((await more)["value"], "10")
        messages = await lines.messages(4)
        self.assertEqual([each["value"] for each in messages], ["11", "12", "13", "14"])

    async def test_what_was_read_can_be_acknowledged_after_the_stream_and_the_rest_comes_again(
        self,
    ) -> None:
        service = self.service = self.serve(ack_timeout="0.6s")
        self.cluster.produce(self.topic, ["a", "b", "c"])
        lines = await self.subscribe()
        messages = await lines.messages(3)
        await lines.close()
        await self.settle(messages[0]["receipt"])
        again, _ = await self.receive_all(2, on=service)
        self.assertEqual([each["value"] for each in again], ["b", "c"])
        self.assertTrue(all(each["redelivered"] for each in again))

    async def test_it_ends_in_order_before_the_calls_deadline(self) -> None:
        lines = await self.subscribe(seconds=1.3)
        kinds = []
        while not kinds or kinds[-1] != "end":
            kinds.append((await lines.next())["type"])
        self.assertEqual(kinds, ["subscribed", "alive", "end"])
        with self.assertRaises(StopAsyncIteration):
            await lines.next()

    async def test_a_subscription_that_was_never_read_holds_nothing(self) -> None:
        body = {"group": self.group}
        request = self.request("POST", f"topics/{self.topic}/subscribe", body)
        response = await self.service.handle(request)
        await response.body.aclose()  # type: ignore[union-attr]
        (kept,) = self.service._readers._kept.values()
        self.assertEqual((kept.users, kept.idle is not None), (0, True))
        self.assertGreater(kept.idle.getTime(), reactor.seconds())  # type: ignore[union-attr]
