"""A request on its way to the wire, and the response that comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from attrs import frozen

from .streaming import IncomingBody, Upload


@frozen
class Outgoing:
    """A request as it goes to the wire. ``head`` ends with the empty line.

    :ivar passage: the head asks for a WebSocket, and this is what is sent once the target agrees.
    :ivar opening: the head as it is for a request without the body; None where there is none.
    :ivar hold: the connection stays with the caller after it, until he lets go of it.
    """

    method: str
    head: bytes
    upload: Upload | None = None
    passage: AsyncIterator[bytes] | None = None
    opening: bytes | None = None
    hold: bool = False


@frozen
class Incoming:
    """A final response. ``fields`` are those to pass on, without Content-Length.

    :ivar length: its Content-Length, which after HEAD or 304 is not that of ``body``.
    """

    status: int
    fields: list[tuple[str, str]]
    length: int | None
    body: bytes | IncomingBody
