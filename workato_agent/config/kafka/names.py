"""The properties of librdkafka that a profile may set, and which values each takes.

From librdkafka's ``CONFIGURATION.md`` (2.16), so that a config is checked with the line of its
fault and without the library. What the agent decides itself is not here: see :mod:`.translation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

_INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    "api.version.request.timeout.ms": (1, 300_000),
    "batch.num.messages": (1, 1_000_000),
    "batch.size": (1, 2_147_483_647),
    "broker.address.ttl": (0, 86_400_000),
    "compression.level": (-1, 12),
    "connections.max.idle.ms": (0, 2_147_483_647),
    "coordinator.query.interval.ms": (1, 3_600_000),
    "fetch.error.backoff.ms": (0, 300_000),
    "fetch.max.bytes": (0, 2_147_483_135),
    "fetch.message.max.bytes": (1, 1_000_000_000),
    "fetch.min.bytes": (0, 2_147_483_647),
    "fetch.queue.backoff.ms": (0, 300_000),
    "fetch.wait.max.ms": (0, 300_000),
    "heartbeat.interval.ms": (1, 3_600_000),
    "linger.ms": (0, 900_000),
    "max.in.flight": (1, 1_000_000),
    "max.in.flight.requests.per.connection": (1, 1_000_000),
    "max.partition.fetch.bytes": (1, 1_000_000_000),
    "max.poll.interval.ms": (1, 86_400_000),
    "message.copy.max.bytes": (0, 1_000_000_000),
    "message.max.bytes": (1_000, 1_000_000_000),
    "message.send.max.retries": (0, 2_147_483_647),
    "metadata.max.age.ms": (1, 86_400_000),
    "metadata.recovery.rebootstrap.trigger.ms": (0, 2_147_483_647),
    "queue.buffering.backpressure.threshold": (1, 1_000_000),
    "queue.buffering.max.kbytes": (1, 2_147_483_647),
    "queue.buffering.max.messages": (0, 2_147_483_647),
    "queue.buffering.max.ms": (0, 900_000),
    "queued.max.messages.kbytes": (1, 2_097_151),
    "queued.min.messages": (1, 10_000_000),
    "receive.message.max.bytes": (1_000, 2_147_483_647),
    "reconnect.backoff.max.ms": (0, 3_600_000),
    "reconnect.backoff.ms": (0, 3_600_000),
    "request.timeout.ms": (1, 900_000),
    "retries": (0, 2_147_483_647),
    "retry.backoff.max.ms": (1, 300_000),
    "retry.backoff.ms": (1, 300_000),
    "sasl.oauthbearer.assertion.claim.exp.seconds": (1, 2_147_483_647),
    "sasl.oauthbearer.assertion.claim.nbf.seconds": (0, 2_147_483_647),
    "session.timeout.ms": (1, 3_600_000),
    "socket.connection.setup.timeout.ms": (1_000, 2_147_483_647),
    "socket.max.fails": (0, 1_000_000),
    "socket.receive.buffer.bytes": (0, 100_000_000),
    "socket.send.buffer.bytes": (0, 100_000_000),
    "socket.timeout.ms": (10, 300_000),
    "sticky.partitioning.linger.ms": (0, 900_000),
    "topic.metadata.propagation.max.ms": (0, 3_600_000),
    "topic.metadata.refresh.fast.interval.ms": (1, 60_000),
    "topic.metadata.refresh.interval.ms": (-1, 3_600_000),
}
_BOOLEANS: Final = frozenset(
    {
        "allow.auto.create.topics",
        "check.crcs",
        "enable.idempotence",
        "enable.metrics.push",
        "enable.ssl.certificate.verification",
        "sasl.oauthbearer.assertion.claim.jti.include",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "topic.metadata.refresh.sparse",
    }
)
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "broker.address.family": ("any", "v4", "v6"),
    "client.dns.lookup": ("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "compression.codec": ("none", "gzip", "snappy", "lz4", "zstd"),
    "compression.type": ("none", "gzip", "snappy", "lz4", "zstd"),
    "group.protocol": ("classic", "consumer"),
    "isolation.level": ("read_uncommitted", "read_committed"),
    "metadata.recovery.strategy": ("none", "rebootstrap"),
    "partitioner": (
        "random",
        "consistent",
        "consistent_random",
        "murmur2",
        "murmur2_random",
        "fnv1a",
        "fnv1a_random",
    ),
    "sasl.oauthbearer.assertion.algorithm": ("RS256", "ES256"),
    "sasl.oauthbearer.grant.type": (
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ),
    "sasl.oauthbearer.method": ("default", "oidc"),
    "ssl.endpoint.identification.algorithm": ("none", "https"),
}
_TEXTS: Final = frozenset(
    {
        "client.id",
        "client.rack",
        "group.remote.assignor",
        "https.ca.location",
        "https.ca.pem",
        "sasl.mechanisms",
        "sasl.oauthbearer.assertion.claim.aud",
        "sasl.oauthbearer.assertion.claim.iss",
        "sasl.oauthbearer.assertion.claim.sub",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.sub.claim.name",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.password",
        "sasl.username",
        "ssl.ca.certificate.stores",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.curves.list",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.sigalgs.list",
        "topic.blacklist",
    }
)

CONSUMER: Final = frozenset(
    {
        "check.crcs",
        "coordinator.query.interval.ms",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.protocol",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "isolation.level",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "session.timeout.ms",
    }
)
"""Those that mean something to consumers only."""
PRODUCER: Final = frozenset(
    {
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "enable.idempotence",
        "linger.ms",
        "message.send.max.retries",
        "partitioner",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
    }
)
"""Those that mean something to producers only."""
NAMES: Final = frozenset((*_INTEGERS, *_BOOLEANS, *_CHOICES, *_TEXTS))


@frozen
class Unfit(Exception):
    """A value that a property does not take; ``expected`` says what it takes."""

    expected: str


def fitting(name: str, value: str) -> str:
    """The value of a property as librdkafka takes it. Raises Unfit, which quotes nothing."""
    value = value.strip() if name not in _TEXTS else value
    if name in _INTEGERS:
        least, most = _INTEGERS[name]
        if not value.lstrip("-").isdecimal() or not least <= int(value) <= most:
            raise Unfit(f"expected a whole number from {least} to {most}")
    elif name in _BOOLEANS:
        value = value.lower()
        if value not in ("true", "false"):
            raise Unfit("expected true or false")
    elif name in _CHOICES:
        value = value.lower() if value.lower() in _CHOICES[name] else value
        if value not in _CHOICES[name]:
            raise Unfit(f"expected one of {', '.join(_CHOICES[name])}")
    return value
