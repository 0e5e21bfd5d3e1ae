"""What is asked of a consumer's thread, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen
from confluent_kafka import Message

from workato_tunnel.problems import Problem

from .ledger import Portion
from .threads import Asked


@frozen
class Taken:
    """Messages that a caller gets, as JSON, with what has to be acknowledged."""

    messages: Sequence[bytes] = ()
    portions: Sequence[Sequence[Portion]] = ()

    def __len__(self) -> int:
        return len(self.messages)


@define(eq=False)
class Take:
    """Wanted: messages. Times are of ``time.monotonic()``.

    :ivar wait: seconds to wait for the first one, once the group has been joined.
    :ivar join_until: when joining has taken too long; ``end``: when waiting has, in any case.
    :ivar separately: whether each message has portions of its own; else all of them together.
    :ivar strict: whether one message larger than ``max_bytes`` is refused; else it comes alone.
    """

    asked: Asked[Taken]
    max: int
    max_bytes: int
    wait: float
    join_until: float
    end: float
    separately: bool = False
    strict: bool = False
    until: float | None = None


@frozen
class Settled:
    """What became of an acknowledgement.

    :ivar committed: the group's offsets are beyond all of it; False while something before it is
        still with a caller.
    :ivar lost: partitions that this consumer has no more, whose part is delivered again.
    """

    committed: bool
    lost: Sequence[int] = ()


@define(eq=False)
class Settle:
    """Wanted: an acknowledgement, or the opposite."""

    asked: Asked[Settled]
    portions: Sequence[Portion]
    ack: bool


def lost_partitions(settle: Settle) -> tuple[int, ...]:
    """Partitions of a receipt that this consumer has no more."""
    lost = {each.ledger.partition for each in settle.portions if each.ledger.revoked}
    return tuple(sorted(lost))


def has_left() -> Problem:
    """The consumer is not there any more."""
    return Problem(
        "conflict",
        "this agent's consumer has left the group",
        hint="receive again: what was not acknowledged is delivered again",
    )


def too_large(message: Message, size: int, limit: int) -> Problem:
    """A message that the policy lets nobody have."""
    return Problem(
        "payload_too_large",
        f"the message at offset {message.offset()} of partition {message.partition()} has {size}"
        f" bytes, more than the policy's max_bytes, {limit}",
        hint="it holds up its partition for this group; the customer sets max_bytes",
        extra={"limit": limit},
    )
