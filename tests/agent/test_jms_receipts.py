"""What becomes of receipts."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.support.messaging import JmsCase
from workato_agent.services.jms import receipts
from workato_agent.services.jms.broker import Batch, Source
from workato_agent.services.jms.memory import MemoryBatch, MemoryBroker


class HeldBatch:
    """A batch whose acknowledgement the test confirms."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.messages = batch.messages
        self.confirming: Deferred[None] = Deferred()
        self.asked = 0

    async def acknowledge(self) -> None:
        self.asked += 1
        await self.confirming
        await self._batch.acknowledge()

    async def release(self) -> None:
        await self._batch.release()


class Receipts(JmsCase):
    def test_acknowledged_messages_are_gone(self) -> None:
        self.publish("a", "b")
        receipt = self.receive()["receipt"]
        self.assertRegex(receipt, r"^agent-1~[A-Za-z0-9_-]{32}$")
        self.assertEqual(self.settle(receipt), {"outcome": "acknowledged", "count": 2})
        self.clock.advance(100)
        self.assertEqual(self.waiting(), [])

    def test_released_messages_come_again_marked(self) -> None:
        self.publish("a")
        receipt = self.receive()["receipt"]
        self.assertEqual(self.settle(receipt, "release"), {"outcome": "released", "count": 1})
        again = self.receive()
        self.assertTrue(again["messages"][0]["redelivered"])
        self.assertNotEqual(again["receipt"], receipt)

    def test_what_is_not_acknowledged_in_time_goes_back(self) -> None:
        self.publish("a")
        receipt = self.receive()["receipt"]
        self.clock.advance(29)
        self.assertEqual(self.waiting(), [])
        self.clock.advance(1)
        self.assertEqual(self.waiting(), ["a"])
        problem = self.problem("POST", f"receipts/{receipt}", {"action": "ack"}, code="conflict")
        self.assertEqual(problem.extra["outcome"], "expired")
        self.assertEqual(self.settle(receipt, "release"), {"outcome": "released", "count": 1})

    def test_a_caller_who_lost_the_answer_asks_again(self) -> None:
        self.publish("a", "b")
        first, second = self.receive(1)["receipt"], self.receive(1)["receipt"]
        for _ in range(3):
            self.assertEqual(self.settle(first), {"outcome": "acknowledged", "count": 1})
            self.assertEqual(self.settle(second, "release"), {"outcome": "released", "count": 1})
            self.clock.advance(150)
        problem = self.problem("POST", f"receipts/{first}", {"action": "release"}, code="conflict")
        self.assertEqual(problem.extra["outcome"], "acknowledged")
        problem = self.problem("POST", f"receipts/{second}", {"action": "ack"}, code="conflict")
        self.assertEqual(problem.extra["outcome"], "released")

    def test_outcomes_are_forgotten_in_the_end(self) -> None:
        self.publish("a", "b")
        first = self.receive(1)["receipt"]
        self.settle(first)
        self.clock.advance(receipts.REMEMBERED)
        self.settle(self.receive(1)["receipt"])
        self.problem("POST", f"receipts/{first}", {"action": "ack"}, code="not_found")

    def test_so_many_outcomes_are_kept_and_no_more(self) -> None:
        self.patch(receipts, "MOST_REMEMBERED", 3)
        self.publish(*"abcde")
        seen = [self.receive(1)["receipt"] for _ in range(4)]
        for receipt in seen:
            self.settle(receipt)
        self.problem("POST", f"receipts/{seen[0]}", {"action": "ack"}, code="not_found")
        self.settle(seen[1])

    def test_a_receipt_is_its_owners(self) -> None:
        self.publish("a")
        receipt = self.receive()["receipt"]
        for _ in range(2):
            for action in ("ack", "release"):
                self.problem(
                    "POST",
                    f"receipts/{receipt}",
                    {"action": action},
                    code="not_found",
                    caller="mallory",
                )
            self.settle(receipt)

    def test_what_is_no_receipt(self) -> None:
        for path in ("receipts/agent-1~x", "receipts/%00", "receipts/"):
            self.problem("POST", path, {"action": "ack"}, code="not_found")
        self.problem("POST", "receipts/x", {"action": "nack"}, code="bad_request")
        self.problem("POST", "receipts/x", code="bad_request")

    def test_a_broker_that_took_them_back_is_told(self) -> None:
        self.publish("a")
        receipt = self.receive()["receipt"]
        self.server.crash()
        self.server.restart()
        for _ in range(2):
            problem = self.problem(
                "POST", f"receipts/{receipt}", {"action": "ack"}, code="conflict"
            )
            self.assertEqual(problem.extra["outcome"], "lost")
        self.assertEqual(self.waiting(), ["a"])


class SlowBroker(JmsCase):
    """Confirming takes a while."""

    def setUp(self) -> None:
        super().setUp()
        self.held: list[HeldBatch] = []
        receive = MemoryBroker.receive

        async def holding(
            broker: MemoryBroker, source: Source, limit: int, wait: float, max_bytes: int
        ) -> Batch | None:
            batch = await receive(broker, source, limit, wait, max_bytes)
            assert isinstance(batch, MemoryBatch)
            self.held.append(HeldBatch(batch))
            return self.held[-1]

        self.patch(MemoryBroker, "receive", holding)
        self.publish("a")
        self.receipt = self.receive()["receipt"]

    def test_both_who_ask_get_the_one_answer(self) -> None:
        path, body = f"receipts/{self.receipt}", {"action": "ack"}
        calls = [self.start("POST", path, body) for _ in range(2)]
        for call in calls:
            self.assertNoResult(call)
        self.held[0].confirming.callback(None)
        for call in calls:
            self.assertEqual(
                self.read(self.successResultOf(call)), {"outcome": "acknowledged", "count": 1}
            )
        self.assertEqual(self.held[0].asked, 1)

    def test_a_caller_who_leaves_does_not_undo_it(self) -> None:
        call = self.start("POST", f"receipts/{self.receipt}", {"action": "ack"})
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.clock.advance(100)
        self.held[0].confirming.callback(None)
        self.assertEqual(self.settle(self.receipt), {"outcome": "acknowledged", "count": 1})
        self.assertEqual(self.held[0].asked, 1)

    def test_one_who_wants_it_released_meanwhile_hears_that_it_is_acknowledged(self) -> None:
        ack = self.start("POST", f"receipts/{self.receipt}", {"action": "ack"})
        release = self.start("POST", f"receipts/{self.receipt}", {"action": "release"})
        self.held[0].confirming.callback(None)
        self.successResultOf(ack)
        self.failureResultOf(release)

    def test_closing_waits_a_little_for_it(self) -> None:
        call = self.start("POST", f"receipts/{self.receipt}", {"action": "ack"})
        closing = Deferred.fromCoroutine(self.service.close())
        self.assertNoResult(closing)
        self.clock.advance(2)
        self.successResultOf(closing)
        self.failureResultOf(call)
