"""What a profile of the ``kafka`` section says to its service."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from attrs import frozen


@frozen
class KafkaPolicy:
    """What the customer allows.

    :ivar topics: patterns of topics, ``groups`` of consumer groups; None: any.
    :ivar max_bytes: of one call's messages.
    """

    topics: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    max_bytes: int | None = None

    def allows_topic(self, name: str) -> bool:
        """Whether callers may know of a topic."""
        return _matches(self.topics, name)

    def allows_group(self, name: str) -> bool:
        """Whether callers may read in a group."""
        return _matches(self.groups, name)


def _matches(patterns: tuple[str, ...] | None, name: str) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


@frozen
class KafkaSettings:
    """A cluster. Times in seconds.

    :ivar agent: this agent's name, with which the ids of receipts begin.
    :ivar servers: ``HOST:PORT``.
    :ivar common: properties of librdkafka for every client; ``producer`` and ``consumer`` those of
        one kind. May hold secrets.
    :ivar group: of callers that name none.
    :ivar timeout: to reach the cluster.
    """

    agent: str
    servers: tuple[str, ...]
    common: Mapping[str, str]
    producer: Mapping[str, str]
    consumer: Mapping[str, str]
    group: str | None = None
    timeout: float = 30.0
    ack_timeout: float = 30.0
    max_consumers: int = 16
    idle_timeout: float = 300.0
    policy: KafkaPolicy = KafkaPolicy()

    def __repr__(self) -> str:
        return f"KafkaSettings({', '.join(self.servers)})"

    @property
    def cooperative(self) -> bool:
        """Whether partitions come and go one by one when a group is rebalanced."""
        strategy = self.consumer.get("partition.assignment.strategy", "")
        return "cooperative" in strategy or self.consumer.get("group.protocol") == "consumer"
