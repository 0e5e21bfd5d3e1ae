"""Kafka calls on librdkafka's mock cluster, a real process that speaks the protocol."""

from __future__ import annotations

import base64
import json

from tests.support.files import Chunks
from tests.support.kafka_service import JOINED_AGAIN, KafkaCase, values


class Looking(KafkaCase):
    partitions = 3

    async def test_a_profiles_test_names_cluster_and_brokers(self) -> None:
        found = (await self.call("GET", "")).json
        self.assertTrue(found["ok"])
        self.assertEqual([each["port"] for each in found["brokers"]], [self.cluster.port])
        self.assertIn(found["cluster_id"], found["target"])

    async def test_topics_and_how_far_they_reach(self) -> None:
        self.cluster.produce(self.topic, ["a", "b"], partition=1)
        listed = (await self.call("GET", "topics")).json["topics"]
        self.assertIn({"name": self.topic, "partitions": 3}, listed)
        found = (await self.call("GET", f"topics/{self.topic}")).json
        ends = [(each["first_offset"], each["next_offset"]) for each in found["partitions"]]
        self.assertEqual(ends, [(0, 0), (0, 2), (0, 0)])

    async def test_an_unknown_topic_is_not_found_and_not_made(self) -> None:
        for method, path, body in (
            ("GET", "topics/nowhere", b""),
            ("POST", "topics/nowhere/receive", {"group": "g"}),
            ("POST", "topics/nowhere/subscribe", {"group": "g"}),
        ):
            problem = await self.fails("target_not_found", method, path, body)
            self.assertIn("nowhere", problem.detail)
        names = [each["name"] for each in (await self.call("GET", "topics")).json["topics"]]
        self.assertNotIn("nowhere", names)

    async def test_writing_makes_no_topic_where_the_profile_forbids_it(self) -> None:
        service = self.serve(allow__auto__create__topics="false")
        path, body = "topics/nowhere-either/messages", {"value": "x"}
        await self.fails("target_not_found", "POST", path, body, on=service)

    async def test_writing_makes_a_topic_where_the_brokers_do(self) -> None:
        path = "topics/made-by-writing/messages"
        answer = await self.call("POST", path, {"value": "x", "partition": 0})
        self.assertEqual(answer.json, {"partition": 0, "offset": 0})

    async def test_what_is_no_call_is_said_so(self) -> None:
        for method, path in (("GET", "topics/a/b"), ("PUT", "topics/a"), ("POST", "topics/")):
            await self.fails("operation_not_found", method, path)
        await self.fails("bad_request", "GET", "topics/a%20b")


class Writing(KafkaCase):
    partitions = 2

    async def test_a_message_with_everything(self) -> None:
        body = {
            "key": "k1",
            "value": "välue",
            "headers": {"trace": "t1", "none": None},
            "partition": 1,
            "timestamp": 1_700_000_000_000,
        }
        answer = await self.call("POST", f"topics/{self.topic}/messages", body)
        self.assertEqual(answer.json, {"partition": 1, "offset": 0})
        (message,) = self.cluster.read(self.topic, 2)
        self.assertEqual((message.key(), message.value()), (b"k1", "välue".encode()))
        self.assertEqual(message.headers(), [("trace", b"t1"), ("none", None)])
        self.assertEqual(message.timestamp()[1], 1_700_000_000_000)

    async def test_bytes_and_tombstones(self) -> None:
        data = base64.b64encode(b"\0\xff").decode()
        headers = [{"name": "a", "value": "1"}, {"name": "a", "value_base64": data}]
        body = {
            "messages": [
                {"key_base64": data, "value_base64": data, "headers": headers, "partition": 0},
                {"key": "gone", "value": None, "partition": 0},
            ]
        }
        answer = await self.call("POST", f"topics/{self.topic}/messages", body)
        self.assertEqual([each["offset"] for each in answer.json["results"]], [0, 1])
        first, second = self.cluster.read(self.topic, 2)
        self.assertEqual((first.key(), first.value()), (b"\0\xff", b"\0\xff"))
        self.assertEqual(first.headers(), [("a", b"1"), ("a", b"\0\xff")])
        self.assertEqual((second.key(), second.value()), (b"gone", None))

    async def test_lines_are_answered_in_their_order_while_more_come(self) -> None:
        service = self.serve(enable__idempotence="true")
        lines = [json.dumps({"value": f"v{n}", "partition": 0}).encode() for n in range(3000)]
        data = b"\n".join(lines)
        chunks = Chunks([data[start : start + 1000] for start in range(0, len(data), 1000)])
        answer = await self.call(
            "POST",
            f"topics/{self.topic}/messages",
            chunks,
            content="application/x-ndjson",
            on=service,
        )
        self.assertEqual([each["offset"] for each in answer.lines], list(range(3000)))
        found = [each.value().decode() for each in self.cluster.read(self.topic, 2)]
        self.assertEqual(found, [f"v{n}" for n in range(3000)])

    async def test_a_malformed_line_is_named_and_what_came_before_is_written(self) -> None:
        path, kind = f"topics/{self.topic}/messages", "application/x-ndjson"
        body = Chunks([b'{"value": "a"}\n', b'{"value": 7}\n', b'{"value": "c"}\n'])
        problem = await self.fails("bad_request", "POST", path, body, content=kind)
        self.assertIn("line 2", problem.detail)
        found = [each.value() for each in self.cluster.read(self.topic, 2)]
        self.assertEqual(found, [b"a"])

    async def test_bad_messages_are_refused_by_field_before_any_is_written(self) -> None:
        path = f"topics/{self.topic}/messages"
        for message, field in (
            ({}, "value"),
            ({"value": "a", "value_base64": "YQ=="}, "value"),
            ({"value_base64": "%"}, "value_base64"),
            ({"value": "a", "key": "k", "key_base64": "aw=="}, "key"),
            ({"value": "a", "partition": -1}, "partition"),
            ({"value": "a", "header": {}}, "header"),
            ({"value": "a", "headers": {"x": 1}}, "headers[...]"),
        ):
            problem = await self.fails("bad_request", "POST", path, message)
            self.assertEqual(problem.extra["field"], field)
            body = {"messages": [{"value": "good"}, message]}
            problem = await self.fails("bad_request", "POST", path, body)
            self.assertTrue(str(problem.extra["field"]), problem)
        await self.fails("bad_request", "POST", path, b"[")
        many = {"messages": [{"value": ""}] * 10_001}
        await self.fails("bad_request", "POST", path, many)
        self.assertEqual(self.cluster.read(self.topic, 2), [])

    async def test_too_large_and_unknown_partitions_are_told_for_each_message(self) -> None:
        path = f"topics/{self.topic}/messages"
        large = {"value": "x" * 1_100_000}
        await self.fails("payload_too_large", "POST", path, large)
        await self.fails("target_not_found", "POST", path, {"value": "a", "partition": 9})
        body = {"messages": [{"value": "a", "partition": 0}, large]}
        problem = await self.fails("payload_too_large", "POST", path, body)
        first, second = problem.extra["results"]  # type: ignore[misc]
        self.assertEqual(
            (first, second["code"]), ({"partition": 0, "offset": 0}, "payload_too_large")
        )

    async def test_what_the_brokers_refuse(self) -> None:
        path = f"topics/{self.topic}/messages"
        await self.produce("first")
        self.cluster.errors(0, 29)
        await self.fails("target_permission_denied", "POST", path, {"value": "a"})

    async def test_the_policy_bounds_what_one_call_writes(self) -> None:
        service = self.serve(policy={"max_bytes": 10})
        path = f"topics/{self.topic}/messages"
        body = {"messages": [{"value": "12345"}, {"value": "123456"}]}
        await self.fails("payload_too_large", "POST", path, body, on=service)
        lines = b'{"value": "12345"}\n{"value": "123456"}\n'
        kind = "application/x-ndjson"
        await self.fails("payload_too_large", "POST", path, lines, on=service, content=kind)
        self.assertEqual(self.cluster.read(self.topic, 2), [])


class Reading(KafkaCase):
    async def test_messages_come_with_all_they_have_and_are_committed_once_acknowledged(
        self,
    ) -> None:
        self.cluster.produce(self.topic, ["a"], key=b"k", headers=[("h", b"1")], timestamp=17)
        self.cluster.produce(self.topic, ["b"], key=b"\xff")
        (first, second), receipts = await self.receive_all(2)
        self.assertEqual(
            first,
            {
                "topic": self.topic,
                "partition": 0,
                "offset": 0,
                "timestamp": 17,
                "key": "k",
                "value": "a",
                "headers": [{"name": "h", "value": "1"}],
            },
        )
        self.assertEqual(second["key_base64"], "/w==")
        self.assertTrue(all(receipt.startswith("agent-1~") for receipt in receipts))
        self.assertEqual(self.committed(), [-1001])
        for receipt in receipts:
            settled = await self.settle(receipt)
            self.assertEqual(settled, {"ok": True, "committed": True})
        self.assertEqual(self.committed(), [2])

    async def test_max_bounds_a_call_and_the_next_one_goes_on(self) -> None:
        self.cluster.produce(self.topic, [f"v{n}" for n in range(10)])
        first = await self.receive(4)
        second = await self.receive(100)
        self.assertEqual(values(first) + values(second), [f"v{n}" for n in range(10)])
        settled = await self.settle(second["receipt"])
        self.assertFalse(settled["committed"], "the first four are still with a caller")
        self.assertTrue((await self.settle(first["receipt"]))["committed"])
        self.assertEqual(self.committed(), [10])

    async def test_nothing_within_the_wait_is_an_empty_answer(self) -> None:
        received = await self.receive(wait=0.1)
        self.assertEqual(received, {"messages": [], "receipt": None})

    async def test_released_messages_come_again_and_say_so(self) -> None:
        self.cluster.produce(self.topic, [f"v{n}" for n in range(600)])
        first, second = await self.receive(2), await self.receive(3)
        await self.settle(first["receipt"], "release")
        messages, receipts = await self.receive_all(3)
        self.assertEqual([each["value"] for each in messages], ["v0", "v1", "v5"])
        marks = [each.get("redelivered", False) for each in messages]
        self.assertEqual(marks, [True, True, False])
        await self.fails("not_found", "POST", f"receipts/{first['receipt']}", {"action": "ack"})
        for receipt in (*receipts, second["receipt"]):
            await self.settle(receipt)
        self.assertEqual(self.committed(), [6])

    async def test_what_is_not_acknowledged_in_time_comes_again(self) -> None:
        service = self.serve(ack_timeout="0.3s")
        self.cluster.produce(self.topic, ["a", "b"])
        first = await self.receive(on=service)
        again = await self.receive(on=service)
        self.assertEqual(values(again), ["a", "b"])
        self.assertTrue(again["messages"][0]["redelivered"])
        path = f"receipts/{first['receipt']}"
        await self.fails("not_found", "POST", path, {"action": "ack"}, on=service)

    async def test_a_receipt_is_its_callers_alone_and_can_be_acknowledged_twice(self) -> None:
        self.cluster.produce(self.topic, ["a"])
        receipt = (await self.receive())["receipt"]
        path = f"receipts/{receipt}"
        for action in ("ack", "release"):
            await self.fails("not_found", "POST", path, {"action": action}, caller="bob")
        self.assertTrue((await self.settle(receipt))["ok"])
        self.assertTrue((await self.settle(receipt))["ok"])
        await self.fails("conflict", "POST", path, {"action": "release"})
        await self.fails("not_found", "POST", path, {"action": "ack"}, caller="bob")
        await self.fails("bad_request", "POST", path, {"action": "forget"})

    async def test_latest_begins_with_what_comes_after_the_first_call_even_if_nobody_reads_it(
        self,
    ) -> None:
        self.cluster.produce(self.topic, ["before"])
        first, self.service = self.serve(**JOINED_AGAIN), self.serve(**JOINED_AGAIN)
        empty = await self.receive(wait=0, start="latest", on=first)
        self.assertEqual(empty["messages"], [])
        await first.close()
        self.cluster.produce(self.topic, ["after"])
        received = await self.receive(start="latest")
        self.assertEqual(values(received), ["after"])
        path, body = f"topics/{self.topic}/receive", {"group": self.group, "start": "earliest"}
        await self.fails("conflict", "POST", path, body)

    async def test_groups_and_topics_are_the_policys_to_allow(self) -> None:
        rules = {"topics": ["Reading.test_groups_*"], "groups": ["etl-*"]}
        service = self.serve(policy=rules, group__id="etl-main")
        self.cluster.create("closed")
        self.cluster.produce(self.topic, ["a"])
        path = f"topics/{self.topic}/receive"
        problem = await self.fails("policy_denied", "POST", path, {"group": "app"}, on=service)
        self.assertEqual(problem.extra["rule"], "groups")
        problem = await self.fails("policy_denied", "GET", "topics/closed", on=service)
        self.assertEqual(problem.extra["rule"], "topics")
        listed = (await self.call("GET", "topics", on=service)).json["topics"]
        self.assertEqual([each["name"] for each in listed], [self.topic])
        received = (await self.call("POST", path, {"wait": 10}, on=service)).json
        self.assertEqual(values(received), ["a"])

    async def test_a_group_has_to_be_named(self) -> None:
        path = f"topics/{self.topic}/receive"
        problem = await self.fails("bad_request", "POST", path, {})
        self.assertEqual(problem.extra["field"], "group")

    async def test_the_policys_max_bytes_holds_for_an_answer(self) -> None:
        service = self.serve(policy={"max_bytes": 10})
        self.cluster.produce(self.topic, ["123456", "789012", "x" * 11])
        for value in ("123456", "789012"):
            received = await self.receive(on=service)
            self.assertEqual(values(received), [value])
        path, body = f"topics/{self.topic}/receive", {"group": self.group}
        problem = await self.fails("payload_too_large", "POST", path, body, on=service)
        self.assertIn("offset 2", problem.detail)

    async def test_consumers_are_bounded_and_unused_ones_make_room(self) -> None:
        service = self.serve(max_consumers=1)
        self.cluster.produce(self.topic, ["a"])
        receipt = (await self.receive(on=service))["receipt"]
        path, other = f"topics/{self.topic}/receive", {"group": "another", "wait": 10}
        await self.fails("overloaded", "POST", path, other, on=service)
        await self.settle(receipt, on=service)
        received = (await self.call("POST", path, other, on=service)).json
        self.assertEqual(values(received), ["a"])
