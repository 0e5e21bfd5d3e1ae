"""The services of Kafka profiles: librdkafka is loaded when there is one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from twisted.python.threadpool import ThreadPool

from .config.kafka import KafkaProfile
from .config.kafka.names import CONSUMER, PRODUCER
from .services.base import ProfileService

if TYPE_CHECKING:
    from .services.kafka.settings import KafkaSettings

_NOT_IDEMPOTENT: Final = {
    "acks": ("0", "1"),
    "retries": ("0",),
    "message.send.max.retries": ("0",),
}
_UNDER_WAY: Final = ("max.in.flight.requests.per.connection", "max.in.flight")
MOST_UNDER_WAY: Final = 5
"""Requests of an idempotent producer that a broker may have at the same time."""
_PRODUCER: Final = frozenset({*PRODUCER, "acks", "message.timeout.ms"})
_CONSUMER: Final = frozenset({*CONSUMER, "partition.assignment.strategy"})


def kafka_service(
    reactor: Any,
    agent: str,
    name: str,
    profile: KafkaProfile,
    thread_pool: Callable[[str, int], ThreadPool],
) -> ProfileService:
    """The service of one profile. Raises ValueError, whose text is for the operator.

    :param thread_pool: makes a pool of the profile's own, by name and size.
    """
    if find_spec("confluent_kafka") is None:
        raise ValueError("its client is not installed: pip install 'workato-agent[kafka]'")
    # Only who has such profiles pays for the library's memory.
    from .services.kafka.cluster import THREADS  # noqa: PLC0415
    from .services.kafka.routes import OPERATIONS  # noqa: PLC0415
    from .services.kafka.service import KafkaService  # noqa: PLC0415

    allowed = profile.policy.operations
    return KafkaService.build(
        reactor,
        kafka_settings(agent, profile),
        thread_pool(f"kafka.{name}.cluster", THREADS),
        thread_pool(f"kafka.{name}", 1 + 2 * profile.max_consumers + 1),
        tuple(each for each in OPERATIONS if allowed is None or each in ("test", *allowed)),
    )


def kafka_settings(agent: str, profile: KafkaProfile) -> KafkaSettings:
    """What a profile means to librdkafka."""
    from .services.kafka.settings import KafkaPolicy, KafkaSettings  # noqa: PLC0415

    properties = profile.properties
    milliseconds = str(max(1, round(profile.timeout * 1000)))
    common = {
        "client.id": "onprem-agent",
        # Neither a log on standard error nor reports to the brokers.
        "log_level": "0",
        "enable.metrics.push": "false",
        "socket.keepalive.enable": "true",
        "socket.connection.setup.timeout.ms": str(max(1000, int(milliseconds))),
        # A broker that comes back is found soon.
        "reconnect.backoff.max.ms": "2000",
        **{key: text for key, text in properties.items() if key not in _PRODUCER | _CONSUMER},
        "bootstrap.servers": ",".join(profile.servers),
        "security.protocol": profile.protocol,
    }
    producer = {
        # Where the Java client's messages of the same key are.
        "partitioner": "murmur2_random",
        "linger.ms": "1",
        "enable.idempotence": str(_idempotent(profile)).lower(),
        "message.timeout.ms": milliseconds,
        "queue.buffering.max.kbytes": "65536",
        **{key: text for key, text in properties.items() if key in _PRODUCER},
    }
    consumer = {
        # What is fetched ahead of callers stays small.
        "queued.max.messages.kbytes": "8192",
        "fetch.max.bytes": str(8 * 2**20),
        **{key: text for key, text in properties.items() if key in _CONSUMER},
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
    }
    rules = profile.policy
    return KafkaSettings(
        agent=agent,
        servers=profile.servers,
        common=common,
        producer=producer,
        consumer=consumer,
        group=profile.group,
        timeout=profile.timeout,
        ack_timeout=profile.ack_timeout,
        max_consumers=profile.max_consumers,
        idle_timeout=profile.idle_timeout,
        policy=KafkaPolicy(rules.topics, rules.groups, rules.max_bytes),
    )


def _idempotent(profile: KafkaProfile) -> bool:
    """As the Java client: unless something is set that excludes it."""
    stated = profile.properties
    under_way = [stated[key] for key in _UNDER_WAY if key in stated]
    return not (
        any(stated.get(key) in texts for key, texts in _NOT_IDEMPOTENT.items())
        or any(int(text) > MOST_UNDER_WAY for text in under_way)
    )
