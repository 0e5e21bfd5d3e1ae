"""One consumer of one group and topic, in a thread of its own.

Everything that concerns the consumer happens in that thread: reading, seeking, committing, and
what the group decides about partitions. The reactor asks (:class:`Take`, :class:`Settle`) and is
answered. Nothing in the thread waits longer than :data:`QUIET_POLL` but for what librdkafka itself
bounds, so that a consumer that is to be closed sees it soon.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence, Set
from typing import Any, Final, Literal

from attrs import define, field
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from .asking import Settle, Settled, Take, Taken, has_left, lost_partitions, too_large
from .failures import Trouble, problem, problem_code, unusable
from .ledger import PartitionLedger, Portion
from .messages import size_of, thd_encoded
from .settings import KafkaSettings
from .threads import Asked, Mailbox

POLL: Final = 0.05
"""Seconds until the thread looks at what else is asked, while somebody waits for messages."""
COMMIT_POLL: Final = 0.002
"""Seconds between two looks whether the brokers have answered a commit."""
SLOW_POLL: Final = 0.25
"""The same once nothing has happened for :data:`QUIET_AFTER`."""
QUIET_POLL: Final = 0.5
"""Seconds between two looks at the group while nobody waits."""
QUIET_AFTER: Final = 1.0
"""Seconds without a reader after which no messages are fetched ahead."""
SPARE: Final = 1000
"""Messages that may be kept which came while nobody waited for them."""
SPARE_BYTES: Final = 1024 * 1024
"""Bytes beyond which no more are taken ahead of what a call can get."""
MOST_SPARE_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may be kept so."""
LOOK_UP: Final = 5.0

Start = Literal["earliest", "latest"]


@define(eq=False)
class GroupConsumer:
    """See the module.

    :ivar gone: the thread has ended, or ends: who wants more needs another one.
    """

    _reactor: Any
    _pool: ThreadPool
    _settings: KafkaSettings
    group: str
    topic: str
    start: Start
    gone: bool = field(default=False, init=False)
    _mail: Mailbox[Take | Settle] = field(factory=Mailbox, init=False)
    _closing: bool = field(default=False, init=False)
    _running: Deferred[None] | None = field(default=None, init=False)
    _ledgers: dict[int, PartitionLedger] = field(factory=dict, init=False)
    _takes: deque[Take] = field(factory=deque, init=False)
    _spare: deque[tuple[Message, int]] = field(factory=deque, init=False)
    _spare_bytes: int = field(default=0, init=False)
    _commits: dict[tuple[tuple[int, int], ...], list[Settle]] = field(factory=dict, init=False)
    _trouble: Trouble = field(factory=Trouble, init=False)
    _joined: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _assigned_anew: bool = field(default=False, init=False)
    _wanted_at: float = field(default=0.0, init=False)
    _stirred_at: float = field(default=0.0, init=False)
    _log: Logger = field(factory=Logger, init=False)

    def run(self) -> None:
        """Begin: join the group."""
        self._running = deferToThreadPool(self._reactor, self._pool, self._thd_run)
        self._running.addErrback(self._failed)

    async def take(
        self,
        most: int,
        max_bytes: int,
        wait: float,
        time_left: float,
        *,
        separately: bool = False,
        strict: bool = False,
    ) -> Taken:
        """Messages, or none where none came in ``wait`` seconds. Raises Problem.

        Cancelling gives back what may have been taken.

        :param time_left: seconds for all of it, joining the group included.
        """
        now = time.monotonic()
        join_until = now + min(self._settings.timeout, time_left)
        asked: Asked[Taken] = Asked(self._reactor, self._unwanted)
        end = now + time_left
        self._mail.put(Take(asked, most, max_bytes, wait, join_until, end, separately, strict))
        self._check_running(asked)
        return await asked.outcome

    async def settle(self, portions: Sequence[Portion], *, ack: bool) -> Settled:
        """Acknowledge, once the broker has it, or give back. Raises Problem."""
        asked: Asked[Settled] = Asked(self._reactor)
        self._mail.force(Settle(asked, portions, ack))
        self._check_running(asked)
        return await asked.outcome

    def give_back(self, portions: Sequence[Portion]) -> None:
        """As :meth:`settle` without ``ack``, for one who needs no answer."""
        if portions and not self.gone:
            self._mail.force(Settle(Asked(self._reactor), portions, ack=False))

    def stop(self) -> Deferred[None]:
        """Leave the group; what was not acknowledged is delivered to others. Fires when it has."""
        self._closing = self.gone = True
        self._mail.wake()
        ended: Deferred[None] = Deferred()
        if self._running is None:
            ended.callback(None)
        else:
            self._running.chainDeferred(ended)
        return ended

    def _unwanted(self, taken: Taken) -> None:
        self.give_back([portion for each in taken.portions for portion in each])

    def _check_running(self, asked: Asked[Any]) -> None:
        if self.gone:
            asked.thd_fail(has_left())

    def _failed(self, failure: Failure) -> None:
        self._log.failure(
            "The consumer of {topic} for group {group} failed",
            failure=failure,
            event="kafka_consumer_broke",
            topic=self.topic,
            group=self.group,
        )

    # -- in the thread -------------------------------------------------------------------------

    def _thd_run(self) -> None:
        consumer: Consumer | None = None
        settings: dict[str, Any] = {**self._settings.common, **self._settings.consumer}
        try:
            try:
                consumer = Consumer(
                    {
                        **settings,
                        "group.id": self.group,
                        "error_cb": self._trouble.note,
                        "on_commit": self._thd_committed,
                    }
                )
            except KafkaException as error:
                self._thd_end(unusable(error))
                return
            consumer.subscribe(
                [self.topic],
                on_assign=self._thd_assigned,
                on_revoke=self._thd_revoked,
                on_lost=self._thd_revoked,
            )
            while not self._closing:
                self._thd_turn(consumer)
        except KafkaException as error:
            self._thd_end(problem(error.args[0], f"group {self.group}"))
        finally:
            self.gone = True
            self._thd_end(has_left())
            if consumer is not None:
                consumer.close()

    def _thd_turn(self, consumer: Consumer) -> None:
        self._thd_sort(consumer, self._mail.thd_take(self._pause()))
        self._takes = deque(take for take in self._takes if not take.asked.cancelled)
        now = time.monotonic()
        if self._takes:
            self._wanted_at = now
            self._thd_pause(consumer, wanted=False)
        elif now - self._wanted_at > QUIET_AFTER or (self._commits and self._full):
            self._thd_pause(consumer, wanted=True)
        self._thd_poll(consumer)
        self._thd_serve()

    def _pause(self) -> float:
        """Seconds to wait for something that is asked, before librdkafka is."""
        if self._takes:
            return 0.0
        if not self._commits:
            return QUIET_POLL
        # A poll for the answer to a commit would also bring messages that nobody waits for.
        slow = time.monotonic() - self._stirred_at > QUIET_AFTER
        return POLL if slow else COMMIT_POLL

    @property
    def _full(self) -> bool:
        return len(self._spare) >= SPARE or self._spare_bytes >= MOST_SPARE_BYTES

    def _thd_sort(self, consumer: Consumer, mail: Sequence[Take | Settle]) -> None:
        """Take up what is asked; acknowledgements that are there together are one commit."""
        if mail:
            self._stirred_at = time.monotonic()
        acks: list[Settle] = []
        for each in mail:
            if isinstance(each, Take):
                self._takes.append(each)
            elif each.ack:
                acks.append(each)
            else:
                self._thd_give_back(consumer, each)
        if acks:
            self._thd_acknowledge(consumer, acks)

    def _thd_poll(self, consumer: Consumer) -> None:
        """Let librdkafka tell what is new: messages, errors, commits, changes of the group."""
        waiting = 0.0
        if self._takes and self._commits:
            waiting = POLL
        elif self._takes and not self._spare:
            slow = time.monotonic() - self._stirred_at > QUIET_AFTER
            waiting = SLOW_POLL if slow else POLL
        self._thd_keep(consumer.poll(waiting))
        if self._assigned_anew:
            # Of what it has now some may be paused and some not.
            self._assigned_anew = self._paused = False
            consumer.resume(consumer.assignment())
        if self._takes and self._spare and self._spare_bytes < SPARE_BYTES:
            wanted = self._takes[0].max - len(self._spare)
            for message in consumer.consume(wanted, 0.0) if wanted > 0 else ():
                self._thd_keep(message)

    def _thd_keep(self, message: Message | None) -> None:
        if message is None:
            return
        error = message.error()
        if error is None:
            self._trouble.clear()
            size = size_of(message)
            self._spare.append((message, size))
            self._spare_bytes += size
            if self._takes:
                self._stirred_at = time.monotonic()
            return
        code = problem_code(error)
        if error.fatal():
            raise KafkaException(error)
        if code in ("target_permission_denied", "target_not_found", "target_login_failed"):
            self._thd_fail_takes(problem(error, f"topic {self.topic}, group {self.group}"))
        else:
            self._log.info(
                "Consumer of {topic} for group {group}: {error}",
                event="kafka_consumer_told",
                topic=self.topic,
                group=self.group,
                error=error.str(),
            )

    def _thd_serve(self) -> None:
        """Give those who wait what there is, and tell them when there will be nothing."""
        now = time.monotonic()
        while self._takes and self._spare:
            if not self._thd_hand_out(self._takes[0]):
                break
            self._takes.popleft()
        if self._trouble.hopeless:
            self._thd_fail_takes(self._trouble.problem(f"group {self.group}", 0))
        for take in list(self._takes):
            if self._joined and take.until is None:
                take.until = min(now + take.wait, take.end)
            if take.until is None and now >= take.join_until:
                self._takes.remove(take)
                what = f"joining the group {self.group}"
                take.asked.thd_fail(self._trouble.problem(what, self._settings.timeout))
            elif take.until is not None and now >= take.until:
                self._takes.remove(take)
                take.asked.thd_answer(Taken())

    def _thd_hand_out(self, take: Take) -> bool:
        """Answer with the messages that are there; False where none of them is to be had."""
        encoded: list[bytes] = []
        portions: list[Sequence[Portion]] = []
        size = 0
        receipt: object = take
        touched: dict[int, PartitionLedger] = {}
        while self._spare and len(encoded) < take.max:
            message, more = self._spare[0]
            ledger = self._ledgers.get(message.partition() or 0)
            offset = message.offset() or 0
            if ledger is None or not ledger.wants(offset):
                self._thd_drop_first()
                continue
            if size + more > take.max_bytes:
                if encoded:
                    break
                if take.strict:
                    take.asked.thd_fail(too_large(message, more, take.max_bytes))
                    return True
            self._thd_drop_first()
            size += more
            if take.separately:
                receipt = message
                portions.append([Portion(ledger, offset, offset + 1)])
            redelivered = ledger.hand_out(offset, receipt)
            touched[ledger.partition] = ledger
            encoded.append(thd_encoded(message, redelivered=redelivered))
        if not encoded:
            return False
        if not take.separately:
            portions = [
                [portion for ledger in touched.values() for portion in ledger.portions(receipt)]
            ]
        take.asked.thd_answer(Taken(encoded, portions))
        return True

    def _thd_acknowledge(self, consumer: Consumer, acks: Sequence[Settle]) -> None:
        places: dict[int, int] = {}
        waiting = []
        for ack in acks:
            mine = [portion for portion in ack.portions if not portion.ledger.revoked]
            if not mine:
                ack.asked.thd_answer(Settled(committed=False, lost=lost_partitions(ack)))
                continue
            waiting.append(ack)
            for portion in mine:
                portion.ledger.acknowledge(portion)
                if portion.ledger.low is not None:
                    places[portion.ledger.partition] = portion.ledger.low
        if not waiting:
            return
        key = tuple(sorted(places.items()))
        self._commits.setdefault(key, []).extend(waiting)
        offsets = [TopicPartition(self.topic, number, offset) for number, offset in key]
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._thd_tell(key, error.args[0])

    def _thd_committed(
        self, error: KafkaError | None, partitions: Sequence[TopicPartition]
    ) -> None:
        """librdkafka: the broker has answered a commit."""
        key = tuple(sorted((place.partition, place.offset) for place in partitions))
        failed = error or next((each.error for each in partitions if each.error), None)
        if failed is None:
            self._trouble.clear()
        self._thd_tell(key, failed)

    def _thd_tell(self, key: tuple[tuple[int, int], ...], error: KafkaError | None) -> None:
        for ack in self._commits.pop(key, ()):
            if error is not None:
                ack.asked.thd_fail(problem(error, f"committing for group {self.group}"))
                continue
            place = dict(key)
            committed = all(
                place.get(portion.ledger.partition, -1) >= portion.end
                for portion in ack.portions
                if not portion.ledger.revoked
            )
            ack.asked.thd_answer(Settled(committed, lost_partitions(ack)))

    def _thd_give_back(self, consumer: Consumer, settle: Settle) -> None:
        for portion in settle.portions:
            ledger = portion.ledger
            if ledger.revoked:
                continue
            offset = ledger.give_back(portion)
            if offset is not None:
                self._thd_drop_spare({ledger.partition})
                consumer.seek(TopicPartition(self.topic, ledger.partition, offset))
        settle.asked.thd_answer(Settled(committed=False, lost=lost_partitions(settle)))

    def _thd_pause(self, consumer: Consumer, *, wanted: bool) -> None:
        if self._paused != wanted:
            self._paused = wanted
            (consumer.pause if wanted else consumer.resume)(consumer.assignment())

    def _thd_assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """librdkafka: the group gives this consumer partitions."""
        self._trouble.clear()
        self._joined = True
        for place in partitions:
            number = place.partition
            self._ledgers[number] = PartitionLedger(self.topic, number)
        if self.start == "latest" and partitions:
            self._thd_begin_at_the_end(consumer, partitions)
        self._assigned_anew = True

    def _thd_begin_at_the_end(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> None:
        """Where the group has no offset, it begins with what comes next, and that is committed at
        once: else what came before the first acknowledgement would be lost with this consumer."""
        found = consumer.committed(list(partitions), timeout=LOOK_UP)
        fresh = []
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
            if place.offset < 0:
                here = TopicPartition(place.topic, place.partition)
                _, place.offset = consumer.get_watermark_offsets(here, timeout=LOOK_UP)
                fresh.append(place)
        (consumer.incremental_assign if self._settings.cooperative else consumer.assign)(found)
        if fresh:
            consumer.commit(offsets=fresh, asynchronous=True)

    def _thd_revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """librdkafka: partitions are another consumer's now, or soon."""
        numbers = {place.partition for place in partitions}
        for number in numbers:
            ledger = self._ledgers.pop(number, None)
            if ledger is not None:
                ledger.revoked = True
        self._thd_drop_spare(numbers)
        self._joined = bool(self._ledgers)

    def _thd_drop_first(self) -> None:
        self._spare_bytes -= self._spare.popleft()[1]

    def _thd_drop_spare(self, partitions: Set[int]) -> None:
        """What comes again, from its offset or to another consumer."""
        self._spare = deque(each for each in self._spare if each[0].partition() not in partitions)
        self._spare_bytes = sum(size for _, size in self._spare)

    def _thd_fail_takes(self, reason: Problem) -> None:
        while self._takes:
            self._takes.popleft().asked.thd_fail(reason)

    def _thd_end(self, reason: Problem) -> None:
        """Answer all who wait."""
        self._thd_fail_takes(reason)
        for acks in self._commits.values():
            for ack in acks:
                ack.asked.thd_fail(reason)
        self._commits.clear()
        for each in self._mail.thd_take(0):
            each.asked.thd_fail(reason)
