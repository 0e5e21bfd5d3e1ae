"""What brokers do differently in AMQP 1.0, which leaves addresses and much else to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from attrs import frozen

from workato_tunnel.problems import Problem

from ..broker import Destination, Source

DELAYED: Final = "DELAYED_DELIVERY"
_TOPIC: Final = "a queue that is bound to the exchange amq.topic gets a topic's messages"


@frozen
class Peer:
    """What a broker says of itself when a connection opens.

    :ivar capabilities: those it offers.
    :ivar prefixes: of addresses, by kind, where it says or the profile does.
    """

    product: str = ""
    version: str = ""
    container: str = ""
    capabilities: frozenset[str] = frozenset()
    prefixes: Mapping[str, str] = {}

    @classmethod
    def of(cls, connection: Any, prefixes: Mapping[str, str | None]) -> Peer:
        """From proton's connection, which the broker has opened."""
        told = connection.remote_properties
        properties = told if isinstance(told, dict) else {}
        offered = connection.remote_offered_capabilities
        found = {}
        for kind, given in prefixes.items():
            prefix = properties.get(f"{kind}-prefix") if given is None else given
            found[kind] = prefix if isinstance(prefix, str) else ""
        return cls(
            product=_word(properties.get("product")),
            version=_word(properties.get("version")),
            container=_word(connection.remote_container),
            capabilities=frozenset(str(each) for each in offered or ()),
            prefixes=found,
        )

    @property
    def rabbitmq(self) -> bool:
        """Whether it is RabbitMQ, of any version."""
        return self.product == "RabbitMQ"

    def dialect(self) -> Dialect:
        """How it wants to be spoken to."""
        if not self.rabbitmq:
            return Dialect(self)
        major = self.version.partition(".")[0]
        return Rabbitmq4(self) if major.isdigit() and int(major) >= 4 else Rabbitmq3(self)

    def __str__(self) -> str:
        return f"{self.product} {self.version}".strip() or self.container or "AMQP 1.0"


def _word(value: object) -> str:
    return "".join(c for c in value if c.isprintable())[:100] if isinstance(value, str) else ""


@frozen
class Dialect:
    """A broker that keeps to the standard: ActiveMQ, Artemis, Qpid, Azure Service Bus.

    Queues and topics have plain names and are told apart by capabilities (AMQP's JMS mapping), or
    by prefixes that the broker names.

    :ivar drains: unsent credit can be called back.
    :ivar confirms: a disposition that is not settled is answered by one that is.
    :ivar counts: messages carry how often they have been delivered.
    :ivar shares: sessions on one connection do each other no harm.
    """

    peer: Peer
    drains = True
    confirms = True
    counts = True
    shares = True

    def targets(self, destination: Destination) -> tuple[str, ...]:
        """Addresses to publish to: each is tried when the one before was not found, or is what
        it can't be used as (``conflict``)."""
        return (self._plain(destination),)

    def sources(self, source: Source) -> tuple[str, ...]:
        """Addresses to receive from, as :meth:`targets`. Raises Problem for what can't be had."""
        return (self._plain(source.destination),)

    def reply_to(self, destination: Destination) -> str:
        """The address of a destination for replies."""
        return self._plain(destination)

    def destination(self, address: str, kind: Literal["queue", "topic"] | None) -> Destination:
        """What an address in a message is. ``kind``, where the message tells."""
        for each in ("topic", "queue"):
            prefix = self.peer.prefixes.get(each)
            if prefix and address.startswith(prefix):
                return Destination(_kind(each), address[len(prefix) :])
        return Destination(kind or "queue", address)

    def check(self, *, selector: bool, durable: bool, browse: bool) -> None:
        """Raises Problem for what this broker is known not to have."""

    def _plain(self, destination: Destination) -> str:
        return self.peer.prefixes.get(destination.kind, "") + destination.name


@frozen
class Rabbitmq4(Dialect):
    """RabbitMQ 4: queues must exist, topics are the exchange amq.topic (its address format v2)."""

    def targets(self, destination: Destination) -> tuple[str, ...]:
        return (self.reply_to(destination),)

    def sources(self, source: Source) -> tuple[str, ...]:
        if source.destination.kind == "topic":
            raise _unable("topics can be published to only over AMQP 1.0", _TOPIC, "topic")
        return (self.reply_to(source.destination),)

    def reply_to(self, destination: Destination) -> str:
        name = quote(destination.name, safe="")
        return f"/queues/{name}" if destination.kind == "queue" else f"/exchanges/amq.topic/{name}"

    def destination(self, address: str, kind: Literal["queue", "topic"] | None) -> Destination:
        return _parsed(address, {"/queues/": "queue", "/exchanges/amq.topic/": "topic"}, kind)

    def check(self, *, selector: bool, durable: bool, browse: bool) -> None:
        if selector:
            raise _unable("RabbitMQ has no JMS selectors", "select after receiving", "selector")
        if durable:
            raise _unable("RabbitMQ has no durable subscriptions", _TOPIC, "subscription")
        if browse:
            raise _unable("RabbitMQ has no browsing", "its management shows a queue's messages")


@frozen
class Rabbitmq3(Rabbitmq4):
    """RabbitMQ 3 with its plugin for AMQP 1.0, which has gaps.

    Tried on 3.10: it sends selectors, durability and browsing back as if it had them, and has none;
    a receiver of a topic leaves a queue behind for good, in which messages pile up; ``drain`` with
    unused credit ends the session with an internal error, so does a disposition that isn't settled,
    and with it the connection; the outcome ``modified`` is unknown; the end of a session is now and
    then not answered, and a link that has been detached goes on consuming. So there a receiver has
    a connection of its own, and sessions that publish are not ended.

    A queue is declared when there is none, durable, as STOMP does; one that exists is used as it
    is, of whatever kind. Publishing to ``/amq/queue`` is not told when there is no such queue: a
    message is accepted and lost. So that comes after the declaring has shown that there is one.
    """

    drains = False
    confirms = False
    counts = False
    shares = False

    def targets(self, destination: Destination) -> tuple[str, ...]:
        name = quote(destination.name, safe="")
        if destination.kind == "topic":
            return (f"/topic/{name}",)
        return (f"/queue/{name}", f"/amq/queue/{name}")

    def sources(self, source: Source) -> tuple[str, ...]:
        # Its own check, then those of version 3: consuming says whether there is a queue.
        return super().sources(source) and self.targets(source.destination)[::-1]

    def reply_to(self, destination: Destination) -> str:
        return f"/{destination.kind}/{quote(destination.name, safe='')}"

    def destination(self, address: str, kind: Literal["queue", "topic"] | None) -> Destination:
        known = {"/queue/": "queue", "/amq/queue/": "queue", "/topic/": "topic"}
        return _parsed(address, known, kind)


def _parsed(
    address: str, known: Mapping[str, str], kind: Literal["queue", "topic"] | None
) -> Destination:
    for prefix, each in known.items():
        if address.startswith(prefix):
            return Destination(_kind(each), unquote(address[len(prefix) :]))
    return Destination(kind or "queue", address)


def _kind(text: str) -> Literal["queue", "topic"]:
    return "topic" if text == "topic" else "queue"


def _unable(detail: str, hint: str, field: str | None = None) -> Problem:
    return Problem("bad_request", detail, hint=hint, extra={"field": field} if field else None)
