"""How far a group may commit, whatever callers acknowledge and in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.kafka.ledger import PartitionLedger, Portion


class Ledger(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = PartitionLedger("orders", 0)

    def hand_out(self, *offsets: int) -> list[Portion]:
        receipt = object()
        for offset in offsets:
            self.assertTrue(self.ledger.wants(offset))
            self.ledger.hand_out(offset, receipt)
        return self.ledger.portions(receipt)

    def acknowledge(self, portions: list[Portion]) -> int | None:
        for portion in portions:
            self.ledger.acknowledge(portion)
        return self.ledger.low

    def give_back(self, portions: list[Portion]) -> list[int | None]:
        return [self.ledger.give_back(portion) for portion in portions]

    def test_nothing_is_committed_before_it_is_acknowledged(self) -> None:
        first = self.hand_out(5, 6, 7)
        self.assertEqual(self.ledger.low, 5)
        self.assertEqual(self.acknowledge(first), 8)

    def test_an_earlier_receipt_holds_back_a_later_one(self) -> None:
        first, second, third = self.hand_out(0, 1), self.hand_out(2, 3), self.hand_out(4)
        self.assertEqual(self.acknowledge(second), 0)
        self.assertEqual(self.acknowledge(first), 4)
        self.assertEqual(self.acknowledge(third), 5)

    def test_offsets_that_do_not_exist_hold_back_nothing(self) -> None:
        first, second = self.hand_out(0, 3, 9), self.hand_out(20)
        self.assertEqual(self.acknowledge(first), 10)
        self.assertEqual(self.acknowledge(second), 21)

    def test_what_comes_back_is_read_from_its_beginning_and_told(self) -> None:
        first, second = self.hand_out(0, 1, 2), self.hand_out(3, 4)
        self.assertEqual(self.give_back(first), [0])
        again = object()
        read = [offset for offset in range(6) if self.ledger.wants(offset)]
        self.assertEqual(read, [0, 1, 2, 5])
        self.assertEqual([self.ledger.hand_out(n, again) for n in read], [True] * 3 + [False])
        portions = self.ledger.portions(again)
        self.assertEqual([(each.start, each.end) for each in portions], [(0, 3), (5, 6)])
        self.assertEqual(self.acknowledge(portions), 3)
        self.assertEqual(self.acknowledge(second), 6)

    def test_a_part_may_go_out_again_while_the_rest_waits(self) -> None:
        first = self.hand_out(0, 1, 2, 3)
        self.give_back(first)
        again = self.hand_out(0, 1)
        self.assertEqual(self.acknowledge(again), 2)
        self.assertTrue(self.ledger.wants(2))
        self.assertFalse(self.ledger.wants(1))
        self.assertEqual(self.acknowledge(self.hand_out(2, 3)), 4)

    def test_what_expired_while_it_was_back_holds_back_nothing(self) -> None:
        first = self.hand_out(0, 1, 2, 3)
        self.give_back(first)
        self.assertEqual(self.acknowledge(self.hand_out(2, 3)), 4)

    def test_an_acknowledgement_can_be_repeated_and_not_undone(self) -> None:
        first, second = self.hand_out(0), self.hand_out(1)
        self.acknowledge(second)
        self.acknowledge(second)
        self.assertEqual(self.give_back(second), [None])
        self.assertEqual(self.give_back(first), [0])
        self.assertEqual(self.ledger.low, 0)

    @settings(max_examples=60)
    @given(st.data())
    def test_no_order_of_events_loses_a_message_or_gives_one_to_two(
        self, data: st.DataObject
    ) -> None:
        """Against a plain model: a state for each offset, read in order from a position."""
        ledger = PartitionLedger("orders", 0)
        total, position, low = 40, 0, 0
        out: dict[int, list[Portion]] = {}
        owner: dict[int, int] = {}
        acknowledged: set[int] = set()
        for number in range(60):
            deed = data.draw(st.sampled_from(("read", "read", "acknowledge", "give back")))
            if deed == "read":
                receipt, size = object(), data.draw(st.integers(1, 8))
                while size and position < total:
                    free = position not in owner and position not in acknowledged
                    self.assertEqual(ledger.wants(position), free)
                    if free:
                        ledger.hand_out(position, receipt)
                        owner[position] = number
                        size -= 1
                    position += 1
                out[number] = ledger.portions(receipt)
            elif out:
                key = data.draw(st.sampled_from(sorted(out)))
                mine = [offset for offset, whose in owner.items() if whose == key]
                portions = out.pop(key)
                spans = [n for each in portions for n in range(each.start, each.end)]
                self.assertEqual(sorted(mine), spans)
                for portion in portions:
                    if deed == "acknowledge":
                        ledger.acknowledge(portion)
                    else:
                        back = ledger.give_back(portion)
                        assert back is not None
                        position = min(position, back)
                for offset in mine:
                    del owner[offset]
                if deed == "acknowledge":
                    acknowledged.update(mine)
            while low in acknowledged:
                low += 1
            self.assertEqual(ledger.low or 0, low)
