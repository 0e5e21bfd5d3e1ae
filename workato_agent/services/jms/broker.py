"""What the service asks of a message broker; one implementation for each way of speaking to one.

The vocabulary is JMS 2.0's (Jakarta Messaging 2.0), as far as all of the brokers have it. Delivery
is at least once: a message that has been received belongs to its :class:`Batch` until that is
acknowledged, and goes back to the broker when it is released, closed or lost with its connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from attrs import field, frozen

PropertyValue = bool | int | float | str | None
"""What a message's property may be; whole numbers have at most 64 bits."""


@frozen
class Destination:
    """A queue or a topic."""

    kind: Literal["queue", "topic"]
    name: str


@frozen
class OutgoingMessage:
    """A message to publish. Times in seconds.

    :ivar body: text, or bytes for a message of bytes.
    :ivar priority: 0 to 9; None is the broker's own default (4).
    :ivar ttl: after which the broker drops it; 0: never.
    :ivar delay: before the broker delivers it.
    """

    body: str | bytes = field(repr=False)
    properties: Mapping[str, PropertyValue] = field(factory=dict, repr=False)
    priority: int | None = None
    ttl: float = 0.0
    delay: float = 0.0
    reply_to: Destination | None = None
    correlation_id: str | None = None
    type: str | None = None
    persistent: bool = True


@frozen
class IncomingMessage:
    """A message from the broker.

    :ivar body: None for a message whose kind has no text and no bytes (a JMS MapMessage …).
    :ivar timestamp: seconds since 1970 when it was published, where the broker tells.
    :ivar expires: seconds since 1970, or None for never.
    :ivar redelivered: an earlier delivery was not acknowledged, as far as the broker knows.
    :ivar deliveries: how many there have been with this one, where the broker counts them.
    """

    id: str
    body: str | bytes | None = field(repr=False)
    properties: Mapping[str, PropertyValue] = field(factory=dict, repr=False)
    priority: int | None = None
    timestamp: float | None = None
    expires: float | None = None
    redelivered: bool = False
    deliveries: int | None = None
    reply_to: Destination | None = None
    correlation_id: str | None = None
    type: str | None = None
    persistent: bool | None = None


@frozen
class Source:
    """Where messages are received from.

    :ivar selector: JMS selector (SQL-92 conditional expression); a broker that has none refuses it.
    :ivar subscription: name of a durable subscription of a topic.
    """

    destination: Destination
    selector: str | None = None
    subscription: str | None = None


class Batch(Protocol):
    """Messages that have been received and not yet settled: the broker gives them to nobody else.

    :ivar messages: in the broker's order, one at least.
    """

    @property
    def messages(self) -> tuple[IncomingMessage, ...]: ...

    async def acknowledge(self) -> None:
        """Tell the broker that all have been taken care of; returns when it has confirmed.

        Raises Problem ``conflict`` when the broker has taken them back in the meantime (its
        connection was lost): they will be delivered again.
        """
        ...

    async def release(self) -> None:
        """Give all back, to be delivered again at once. Never raises for a lost connection."""
        ...


class Broker(Protocol):
    """One profile's broker.

    Opens nothing before it is asked and connects again by itself when a connection was lost. Every
    method raises Problem (``target_unreachable``, ``target_login_failed``, ``target_not_found``,
    ``bad_request`` for what this broker can't do …). Cancelling the awaiting Deferred really stops
    the work; a message that was being received then goes back to the broker. The caller of these
    methods sets the deadline by cancelling.
    """

    @property
    def type(self) -> str:
        """For the catalogue: ``activemq``, ``stomp``, ``amqp``, ``sqs``, ``jms``."""
        ...

    async def test(self) -> Mapping[str, object]:
        """Connect and log in. Returns what is known of the broker: ``target`` (product and version,
        as it says itself) and whatever else helps an administrator."""
        ...

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """Publish in order; returns the ids when the broker has confirmed every one.

        After a Problem some of them may have been published; its extra ``published`` says how many
        certainly were, when that is known.
        """
        ...

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        """Up to ``limit`` messages: waits up to ``wait`` seconds for the first one, then takes what
        is there without waiting for more (0.2 s at most). None when nothing has come.

        Several may run at a time, and several batches of one queue may be outstanding. Of a durable
        subscription a broker may allow one at a time: then receiving waits, within ``wait``, for
        the one before to be settled. A durable subscription exists from the first receive on, also
        when that has ended with None; one without a name exists while a receive waits.

        :param max_bytes: no more messages are taken once their bodies have this many bytes; the
            first one may be larger.
        """
        ...

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """Look at a queue's first messages and leave them there."""
        ...

    async def close(self) -> None:
        """Give back what is outstanding and disconnect; ends within seconds, whatever comes."""
        ...
