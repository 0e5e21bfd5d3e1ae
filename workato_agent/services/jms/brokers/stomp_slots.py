"""Subscriptions of a STOMP consumer, and what is in them."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from attrs import define, field

from ..broker import IncomingMessage
from .stomp_frames import Frame


class State(Enum):
    """Of a slot."""

    OPEN = auto()
    FILLED = auto()
    TAKEN = auto()
    CLOSED = auto()


@define(eq=False)
class Slot:
    """A subscription with room for ``room`` messages; more than one where only one may exist.

    :ivar frames: that have come and nobody has taken; the last at ``since``.
    :ivar taken: messages that callers have.
    """

    id: str
    room: int
    state: State = State.OPEN
    frames: deque[Frame] = field(factory=deque)
    taken: int = 0
    since: float = 0.0


@define(eq=False)
class Receiver:
    """A caller who waits or gathers.

    :ivar limit: messages that it takes at most, ``demand``: for which it wants slots now.
    """

    limit: int
    demand: int


@define(eq=False)
class Taken:
    """A message that a caller has."""

    slot: Slot
    ack: str
    message: IncomingMessage
