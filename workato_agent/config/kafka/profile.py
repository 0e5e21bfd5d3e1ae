"""A Kafka cluster, from any properties of a Kafka client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.functional_serializers import PlainSerializer
from pydantic_core import PydanticCustomError

from ..database.properties import SENSITIVE, Translation
from ..fields import PositiveSeconds, Size, Text, refuse, split_url
from ..policies import Policy
from ..profiles import Fault, ProfileConfig, Variant
from .translation import translate

PORT: Final = 9092
SHORTEST: Final = 100
LONGEST: Final = 86_400_000
_EXAMPLE: Final = "kafka://broker-1:9092,kafka://broker-2:9092"
_COVERED: Final = re.compile(rf"{SENSITIVE.pattern}|key\.pem|oauthbearer\.config")
_OWN: Final = ("ack_timeout", "max_consumers", "idle_timeout", "policy")
_TAKEN_FROM: Final = ("url", "bootstrap.servers", "timeout", "security.protocol", "group.id")

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]


def _covered(properties: Mapping[str, str]) -> dict[str, str]:
    return {
        name: "(secret)" if _COVERED.search(name) else value for name, value in properties.items()
    }


def _in_the_file(schema: dict[str, Any]) -> None:
    """In the JSON Schema: the keys of the file, of which any other is a Kafka property."""
    made = ("servers", "protocol", "properties", "group")
    schema["properties"] = {
        **{name: each for name, each in schema["properties"].items() if name not in made},
        "url": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": f"brokers, as {_EXAMPLE}, or kafka+ssl://…",
        },
        "timeout": {"type": "integer", "description": "milliseconds to reach the cluster"},
        "ssl.truststore": {"type": "string", "description": "authorities, PEM"},
        "ssl.keystore.cert": {"type": "string", "description": "the client's certificate, PEM"},
        "ssl.keystore.key": {"type": "string", "description": "its key, PEM"},
        "ssl.key.password": {"type": "string", "description": "of the key"},
    }
    schema["required"] = []
    schema["anyOf"] = [{"required": ["url"]}, {"required": ["bootstrap.servers"]}]
    schema["additionalProperties"] = {
        "type": ["string", "number", "boolean"],
        "description": "a property of Kafka's clients",
    }


class KafkaPolicy(Policy):
    """Policy of a Kafka cluster.

    :ivar topics: patterns of the topics that callers may see and use, ``groups`` of the consumer
        groups in which they may read: ``*`` stands for anything.
    :ivar max_bytes: the most that one call may write or get.
    """

    known_operations: ClassVar[tuple[str, ...]] = ("topics", "produce", "consume")

    topics: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    groups: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    max_bytes: Size | None = None


class KafkaProfile(ProfileConfig):
    """A cluster.

    :ivar servers: ``HOST:PORT`` of brokers to begin with.
    :ivar properties: librdkafka's. May hold secrets.
    :ivar group: the consumer group of callers that name none.
    :ivar timeout: seconds to reach the cluster, and until a message counts as not delivered.
    :ivar ack_timeout: seconds after which messages that were not acknowledged are given out again.
    :ivar max_consumers: consumers that are kept at the same time, one for each group and topic.
    :ivar idle_timeout: seconds after which one that nobody uses leaves its group.
    """

    service: ClassVar[str] = "kafka"
    model_config = ConfigDict(json_schema_extra=_in_the_file)

    servers: tuple[str, ...]
    protocol: Protocol = "plaintext"
    properties: Annotated[
        Mapping[str, str], PlainSerializer(_covered, return_type=dict[str, str])
    ] = Field(default_factory=dict, repr=False)
    group: str | None = None
    timeout: PositiveSeconds = 30
    ack_timeout: PositiveSeconds = 30
    max_consumers: Annotated[int, Field(ge=1, le=200)] = 16
    idle_timeout: PositiveSeconds = 300
    policy: KafkaPolicy = KafkaPolicy()

    @classmethod
    def variant(cls, data: dict[str, object]) -> Variant:
        """Any key that is not ours is a property of Kafka's clients."""
        ours = {key: value for key, value in data.items() if key in _OWN}
        further = [(key, value) for key, value in data.items() if key not in (*_OWN, *_TAKEN_FROM)]
        found = translate(further, (*_OWN, *_TAKEN_FROM))
        keys: dict[str, object] = {}
        for take in (_servers, _protocol, _timeout, _group):
            try:
                take(data, found, keys)
            except PydanticCustomError as error:
                context = error.context or {}
                at = str(context.get("at") or "")
                found.faults.append(Fault(at, error.message(), context.get("hint")))
        return Variant(
            # Without brokers the rest would only be told that they are missing, once more.
            cls if "servers" in keys else None,
            {**ours, **keys, "properties": found.keys},
            tuple(found.faults),
            tuple(found.remarks),
        )

    def remarks(self) -> tuple[str, ...]:
        """Says where a password travels in clear."""
        if self.protocol == "sasl_plaintext" and self.properties["sasl.mechanisms"] == "PLAIN":
            return ("the password travels unencrypted: use kafka+ssl:// where the brokers can",)
        return ()


def _servers(data: Mapping[str, object], found: Translation, keys: dict[str, object]) -> None:
    url, servers = data.get("url"), data.get("bootstrap.servers")
    if url is None and servers is None:
        refuse("missing: the brokers' addresses", f"url: {_EXAMPLE}", at="url")
    if url is not None and servers is not None:
        refuse("given as url as well", "keep one of the two", at="bootstrap.servers")
    at = "url" if url is not None else "bootstrap.servers"
    value = url if url is not None else servers
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        refuse("expected text", f"for example {_EXAMPLE}", at=at)
    words = [word.strip() for part in parts for word in str(part).split(",") if word.strip()]
    if not words:
        refuse("names no broker", f"for example {_EXAMPLE}", at=at)
    schemes: list[str] = []
    addresses = []
    for word in words:
        scheme, separator, rest = word.partition("://")
        if not separator:
            scheme, rest = (schemes[-1] if schemes else "kafka"), word
        if at != "url" and separator:
            refuse("expected HOST:PORT,HOST:PORT", f"or url: {_EXAMPLE}", at=at)
        schemes.append(scheme)
        addresses.append(_address(scheme, rest, at))
    if len(set(schemes)) > 1:
        refuse("kafka:// and kafka+ssl:// can't be mixed", "give all brokers one of them", at=at)
    keys["servers"] = tuple(addresses)
    found.flags["tls"] = "true" if schemes[0] == "kafka+ssl" else ""


def _address(scheme: str, rest: str, at: str) -> str:
    try:
        parts = split_url(f"{scheme}://{rest}", ("kafka", "kafka+ssl"), _EXAMPLE)
    except PydanticCustomError as error:
        refuse(error.message(), (error.context or {}).get("hint"), at=at)
    if parts.username is not None or parts.password is not None:
        refuse("expected no credentials here", "say them with sasl.jaas.config", at=at)
    if parts.path.strip("/") or parts.query or parts.fragment:
        refuse("expected nothing behind the port", f"for example {_EXAMPLE}", at=at)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or PORT}"


def _protocol(data: Mapping[str, object], found: Translation, keys: dict[str, object]) -> None:
    stated = data.get("security.protocol")
    tls = bool(found.flags.get("tls"))
    mechanism = found.keys.get("sasl.mechanisms")
    if stated is None:
        protocol = ("sasl_" if mechanism else "") + ("ssl" if tls else "plaintext")
    else:
        protocol = stated.strip().lower() if isinstance(stated, str) else ""
        if protocol not in ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"):
            refuse(
                "expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
                at="security.protocol",
            )
        if tls and not protocol.endswith("ssl"):
            refuse("the url says kafka+ssl://", "say SSL or SASL_SSL", at="security.protocol")
    if protocol.startswith("sasl"):
        _login(found, mechanism)
    elif mechanism:
        hint = "say SASL_SSL or SASL_PLAINTEXT, or remove sasl.mechanism"
        refuse("there is a sasl.mechanism, which this does not use", hint, at="security.protocol")
    keys["protocol"] = protocol


def _login(found: Translation, mechanism: object) -> None:
    if not mechanism:
        refuse("missing: how to log in", "for example sasl.mechanism: PLAIN", at="sasl.mechanism")
    if mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        for name in ("sasl.username", "sasl.password"):
            if not found.keys.get(name) and not found.faults:
                hint = "sasl.jaas.config with username and password, or this property"
                refuse(f"{mechanism} needs a user name and a password", hint, at=name)


def _timeout(data: Mapping[str, object], found: Translation, keys: dict[str, object]) -> None:
    stated = data.get("timeout")
    if stated is None:
        return
    text = stated.strip() if isinstance(stated, str) else ""
    if not text.isdecimal() or not SHORTEST <= int(text) <= LONGEST:
        refuse(f"expected milliseconds, from {SHORTEST} to {LONGEST}", at="timeout")
    keys["timeout"] = int(text) / 1000


def _group(data: Mapping[str, object], found: Translation, keys: dict[str, object]) -> None:
    stated = data.get("group.id")
    if stated is None:
        return
    if not isinstance(stated, str) or not stated.strip():
        refuse("expected the name of a consumer group", at="group.id")
    keys["group"] = stated
