"""Writing: one producer for a profile, served by one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from attrs import define, field, frozen
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from . import bodies
from .failures import Trouble, problem, unusable
from .settings import KafkaSettings
from .threads import Asked, Mailbox

POLL: Final = 0.1
"""Seconds until the thread looks at what else is asked, while it waits for brokers."""
IDLE: Final = 60.0
_LAST_TRY: Final = 2.0


@frozen
class Written:
    """Where a message is."""

    partition: int
    offset: int


Result = Written | Problem
"""What became of a message."""


@define(eq=False)
class Batch:
    """Messages of one call for one topic, on their way."""

    topic: str
    messages: Sequence[bodies.Message]
    asked: Asked[list[Result]]
    results: list[Result | None] = field(factory=list, init=False)
    missing: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.results = [None] * len(self.messages)
        self.missing = len(self.messages)

    def thd_settle(self, index: int, result: Result) -> None:
        """One of them is written, or will not be."""
        self.results[index] = result
        self.missing -= 1
        if not self.missing:
            self.asked.thd_answer([each for each in self.results if each is not None])


@define(eq=False)
class Writer:
    """The producer of a profile: every message is acknowledged by all replicas that are in sync,
    once and in order, unless the profile says otherwise (``acks``, ``enable.idempotence``)."""

    _reactor: Any
    _pool: ThreadPool
    _settings: KafkaSettings
    _mail: Mailbox[Batch] = field(factory=Mailbox, init=False)
    _running: Any = field(default=None, init=False)
    _closing: bool = field(default=False, init=False)
    _under_way: set[Batch] = field(factory=set, init=False)
    _log: Logger = field(factory=Logger, init=False)

    async def write(self, topic: str, messages: Sequence[bodies.Message]) -> list[Result]:
        """Write messages; what became of each, in their order, when all of it is known.

        Cancelling gives up what no broker has been sent, if nobody else is writing; the rest ends
        within the profile's ``timeout`` whether somebody waits or not.
        """
        if self._closing:
            raise Problem("agent_inactive", "the profile is being closed", retry_after=1)
        batch = Batch(topic, messages, Asked(self._reactor))
        self._mail.put(batch)
        if self._running is None:
            self._start()
        return await batch.asked.outcome

    async def close(self) -> None:
        """Give up what is under way."""
        self._closing = True
        self._mail.wake()
        if self._running is not None:
            await self._running

    def _start(self) -> None:
        self._running = deferToThreadPool(self._reactor, self._pool, self._thd_run)
        self._running.addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure):
            self._log.failure(
                "The Kafka producer failed", failure=result, event="kafka_producer_broke"
            )
        waiting = self._mail.thd_take(0)
        for batch in waiting:
            if self._closing or isinstance(result, Failure):
                batch.asked.outcome.cancel()
            else:
                self._mail.force(batch)
        if waiting and not self._closing and not isinstance(result, Failure):
            self._start()

    # -- in the thread -------------------------------------------------------------------------

    def _thd_run(self) -> None:
        trouble = Trouble()
        producer = None
        until = time.monotonic() + IDLE
        try:
            while not self._closing:
                batches = self._mail.thd_take(0 if self._under_way else 1.0)
                self._under_way.update(batches)
                if producer is None and batches:
                    producer = self._thd_producer(trouble)
                for batch in batches:
                    assert producer is not None  # noqa: S101
                    self._thd_produce(producer, batch, trouble)
                if self._under_way:
                    assert producer is not None  # noqa: S101
                    until = time.monotonic() + IDLE
                    self._thd_wait(producer)
                elif time.monotonic() > until:
                    return
                if trouble.fatal is not None:
                    # It can't be used any more: the next call makes another.
                    self._thd_fail_all(problem(trouble.fatal))
                    return
        except KafkaException as error:
            self._thd_fail_all(unusable(error))
        finally:
            if producer is not None:
                producer.purge(in_queue=True, in_flight=True, blocking=False)
                producer.flush(_LAST_TRY)
            self._thd_fail_all(
                Problem(
                    "tunnel_lost",
                    "the profile was closed before the brokers acknowledged the messages",
                )
            )

    def _thd_producer(self, trouble: Trouble) -> Producer:
        return Producer(
            {**self._settings.common, **self._settings.producer, "error_cb": trouble.note}
        )

    def _thd_produce(self, producer: Producer, batch: Batch, trouble: Trouble) -> None:
        for index, message in enumerate(batch.messages):
            settle = partial(self._thd_delivered, batch, index, trouble)
            while True:
                if batch.asked.cancelled or self._closing:
                    batch.thd_settle(index, Problem("tunnel_lost", "the call was given up"))
                    break
                try:
                    _thd_hand_over(producer, batch.topic, message, settle)
                except BufferError:
                    producer.poll(POLL)
                    continue
                except KafkaException as error:
                    batch.thd_settle(index, problem(error.args[0], f"topic {batch.topic}"))
                break
            if index % 500 == 499:
                producer.poll(0)
        if not batch.missing:
            self._under_way.discard(batch)

    def _thd_delivered(
        self, batch: Batch, index: int, trouble: Trouble, error: KafkaError | None, sent: Message
    ) -> None:
        if error is None:
            trouble.clear()
            batch.thd_settle(index, Written(sent.partition() or 0, sent.offset() or 0))
        elif error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001
            batch.thd_settle(index, trouble.problem(f"topic {batch.topic}", self._settings.timeout))
        else:
            batch.thd_settle(index, problem(error, f"topic {batch.topic}"))
        if not batch.missing:
            self._under_way.discard(batch)

    def _thd_wait(self, producer: Producer) -> None:
        producer.poll(POLL)
        if self._under_way and all(batch.asked.cancelled for batch in self._under_way):
            producer.purge(in_queue=True, in_flight=False, blocking=False)

    def _thd_fail_all(self, reason: Problem) -> None:
        for batch in self._under_way:
            batch.asked.thd_fail(reason)
        self._under_way.clear()


def _thd_hand_over(producer: Producer, topic: str, message: bodies.Message, settle: Any) -> None:
    more: dict[str, Any] = {}
    if message.partition is not None:
        more["partition"] = message.partition
    if message.timestamp is not None:
        more["timestamp"] = message.timestamp
    if message.headers:
        more["headers"] = message.headers
    producer.produce(topic, message.value, message.key, on_delivery=settle, **more)
