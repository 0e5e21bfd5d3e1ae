"""What a connection reports: frozen, in the past tense, in the order of arrival."""

from __future__ import annotations

import msgspec

from .frames import Catalogue, Goaway, Head, Open, Trailers


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


class StreamOpened(Event, frozen=True, gc=False):
    """The peer opened a stream; ``end``: it has no body."""

    stream: int
    head: Open
    end: bool


class HeadReceived(Event, frozen=True, gc=False):
    """The answer to a stream we opened begins."""

    stream: int
    head: Head


class DataReceived(Event, frozen=True, gc=False):
    """Body bytes, not empty. Report them with ``consumed`` once they are really taken."""

    stream: int
    data: bytes


class DataEnded(Event, frozen=True, gc=False):
    """The peer's body is complete."""

    stream: int


class StreamFinished(Event, frozen=True, gc=False):
    """The answer to a stream we opened is complete; the stream is gone."""

    stream: int
    trailers: Trailers


class StreamTerminated(Event, frozen=True, gc=False):
    """A stream ended before its time. ``remote``: by the peer's RESET, else by its violation."""

    stream: int
    reason: str
    message: str
    detail: str
    remote: bool


class CatalogueReceived(Event, frozen=True, gc=False):
    """The agent announced its profiles."""

    catalogue: Catalogue


class GoawayReceived(Event, frozen=True, gc=False):
    """The peer opens no new stream and takes none."""

    goaway: Goaway


class ConnectionFailed(Event, frozen=True, gc=False):
    """The peer broke the protocol. A GOAWAY is queued; send it and close. Nothing follows this."""

    code: str
    message: str
