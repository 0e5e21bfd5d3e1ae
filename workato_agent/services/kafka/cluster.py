"""What a cluster consists of: brokers, topics, and how far they reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import define, field, frozen
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._metadata import ClusterMetadata, TopicMetadata
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from .failures import Trouble, problem, unusable
from .settings import KafkaSettings
from .threads import Asked

THREADS: Final = 4
MOST_WAITING: Final = 32
FIRST_LOOK: Final = 0.25
"""Seconds of the first try, each next one is twice as long: between them a call can be given up."""
LONGEST_LOOK: Final = 5.0
BETWEEN: Final = 0.1
TRUSTED: Final = 30.0
"""Seconds for which a topic that was there is taken to be there."""
ANSWER_BEFORE: Final = 0.3
"""Seconds before a call's deadline at which it is answered that the target did not answer."""

_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]

T = TypeVar("T")


@frozen
class Partition:
    """A partition; ``leader`` is the broker that serves it, None while there is none."""

    number: int
    leader: int | None
    replicas: int
    in_sync: int


@define(eq=False)
class Cluster:
    """A cluster as seen by a client that neither reads nor writes.

    Made by the first call and kept. After a failure it is given up: the next call sees the network
    as it is then.

    :param creating: whether brokers that make topics when they are asked for them may do so.
    """

    _reactor: Any
    _pool: ThreadPool
    _settings: KafkaSettings
    _creating: bool = False
    _client: tuple[AdminClient, Trouble] | None = field(default=None, init=False)
    _seen: dict[str, float] = field(factory=dict, init=False)
    _waiting: int = field(default=0, init=False)

    async def facts(self, deadline: float, topic: str | None = None) -> ClusterMetadata:
        """Brokers and topics, or one topic alone. Raises Problem."""

        def thd_facts(client: AdminClient, seconds: float) -> ClusterMetadata:
            if topic is None:
                return client.list_topics(timeout=seconds)
            found = client.list_topics(topic, timeout=seconds)
            error = found.topics[topic].error
            if error is not None and error.code() in self._passing:
                raise KafkaException(error)
            return found

        return await self._ask(thd_facts, deadline)

    async def partitions(self, topic: str, deadline: float) -> list[Partition]:
        """The partitions of a topic. Raises Problem, ``target_not_found`` for an unknown one."""
        found = (await self.facts(deadline, topic)).topics[topic]
        if found.error is not None:
            self._seen.pop(topic, None)
            raise problem(found.error, f"topic {topic}")
        if len(self._seen) > 10_000:
            self._seen.clear()
        self._seen[topic] = self._reactor.seconds()
        return _partitions(found)

    async def expect(self, topic: str, deadline: float) -> None:
        """See to it that the cluster answers and has a topic. Raises Problem."""
        seen = self._seen.get(topic)
        if seen is None or self._reactor.seconds() - seen > TRUSTED:
            await self.partitions(topic, deadline)

    async def reach(self, topic: str, deadline: float) -> None:
        """See to it that every partition of a topic is served now. Raises Problem."""
        missing = [each for each in await self.partitions(topic, deadline) if each.leader is None]
        if missing:
            numbers = ", ".join(str(each.number) for each in missing)
            raise Problem(
                "target_unreachable",
                f"topic {topic}: no broker serves partition {numbers} now",
                hint="brokers of the cluster are down",
            )

    async def watermarks(
        self, topic: str, partitions: list[Partition], deadline: float
    ) -> Mapping[int, tuple[int, int]]:
        """The first offset of each partition, and the one that the next message will have."""
        numbers = [each.number for each in partitions if each.leader is not None]

        def thd_watermarks(client: AdminClient, seconds: float) -> dict[int, tuple[int, int]]:
            ends = [
                client.list_offsets(
                    {TopicPartition(topic, number): spec for number in numbers},
                    request_timeout=max(seconds, 0.1),
                )
                for spec in (_EARLIEST, _LATEST)
            ]
            first, last = (
                {place.partition: each.result(seconds + 1).offset for place, each in end.items()}
                for end in ends
            )
            return {number: (first[number], last[number]) for number in numbers}

        return await self._ask(thd_watermarks, deadline) if numbers else {}

    def forget(self, topic: str) -> None:
        """Something is wrong with a topic: look before it is used again."""
        self._seen.pop(topic, None)

    async def close(self) -> None:
        """Give up the client."""
        self._seen.clear()
        if self._client is not None:
            await deferToThreadPool(self._reactor, self._pool, self._thd_drop)

    async def _ask(self, thd_look: Callable[[AdminClient, float], T], deadline: float) -> T:
        if self._waiting >= MOST_WAITING:
            raise Problem(
                "overloaded",
                f"{MOST_WAITING} calls wait for the cluster to answer",
                hint="the brokers are slow, or hang",
                retry_after=5,
            )
        now = self._reactor.seconds()
        seconds = max(0.1, min(self._settings.timeout, deadline - now - ANSWER_BEFORE))
        asked: Asked[T] = Asked(self._reactor)
        self._waiting += 1
        until = time.monotonic() + seconds
        working = deferToThreadPool(
            self._reactor, self._pool, self._thd_ask, asked, thd_look, until, seconds
        )
        working.addBoth(self._ended)
        # Where all threads are busy, nobody has looked at it by then.
        asked.outcome.addTimeout(seconds + 0.2, self._reactor, self._timed_out)
        return await asked.outcome

    def _ended(self, _: object) -> None:
        self._waiting -= 1

    def _timed_out(self, _: object, seconds: float) -> object:
        raise Problem(
            "target_unreachable",
            f"{', '.join(self._settings.servers)}: no answer within {seconds:.3g} s",
            hint="the brokers are slow, or hang",
        )

    def _thd_ask(
        self,
        asked: Asked[T],
        thd_look: Callable[[AdminClient, float], T],
        until: float,
        seconds: float,
    ) -> None:
        """Try until it succeeds, is of no use, or nobody waits any more."""
        look = FIRST_LOOK
        try:
            client, trouble = self._thd_client()
        except KafkaException as error:
            asked.thd_fail(unusable(error))
            return
        while not asked.cancelled:
            try:
                found = thd_look(client, max(0.05, min(look, until - time.monotonic())))
            except (KafkaException, TimeoutError) as error:
                client.poll(0)
                said = _error_of(error)
                over = trouble.hopeless or time.monotonic() >= until
                if over or not _may_pass(said, trouble, look):
                    if said.code() in _NO_ANSWER:
                        self._thd_drop()
                    asked.thd_fail(self._thd_reason(said, trouble, seconds))
                    return
            else:
                client.poll(0)
                trouble.clear()
                asked.thd_answer(found)
                return
            client.poll(BETWEEN)
            look = min(look * 2, LONGEST_LOOK)

    @property
    def _passing(self) -> tuple[int, ...]:
        """What brokers say of a topic that is not ready yet."""
        if not self._creating:
            return (KafkaError.LEADER_NOT_AVAILABLE,)
        return (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _thd_reason(self, said: KafkaError, trouble: Trouble, seconds: float) -> Problem:
        if said.code() in _NO_ANSWER:
            return trouble.problem(", ".join(self._settings.servers), seconds)
        return problem(said, ", ".join(self._settings.servers))

    def _thd_client(self) -> tuple[AdminClient, Trouble]:
        known = self._client
        if known is None:
            trouble = Trouble()
            settings: dict[str, Any] = {**self._settings.common, "error_cb": trouble.note}
            if not self._creating:
                settings["allow.auto.create.topics"] = "false"
            known = AdminClient(settings), trouble
            self._client = known
        return known

    def _thd_drop(self) -> None:
        """The last one to let go of a client ends its connections, which may take a while."""
        self._client = None


_NO_ANSWER: Final = (
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public names begin so
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
)


def _may_pass(said: KafkaError, trouble: Trouble, look: float) -> bool:
    """Whether a later try may succeed: there was no answer yet, and not every broker refuses."""
    if said.code() == KafkaError._TRANSPORT:  # noqa: SLF001
        # The reason may come a little later than the fact.
        return not trouble.down or (trouble.last is None and look < 0.5)
    if said.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        # One that is being made is there soon.
        return look < 1
    return said.code() in _NO_ANSWER or said.code() == KafkaError.LEADER_NOT_AVAILABLE


def _error_of(error: BaseException) -> KafkaError:
    if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError):
        return error.args[0]
    return KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001


def _partitions(found: TopicMetadata) -> list[Partition]:
    return [
        Partition(
            each.id,
            each.leader if each.leader >= 0 else None,
            len(each.replicas),
            len(each.isrs),
        )
        for _, each in sorted(found.partitions.items())
    ]
