"""What a service sees of a call: no frames, no sockets, HTTP semantics (RFC 9110)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from attrs import define, field, frozen

Headers = tuple[tuple[str, str], ...]
"""Header fields in order; names in lower case, values as latin-1 text."""


class Body(Protocol):
    """A request's body, read at the pace of the reader: what is not read is not sent for.

    Iterating gives non-empty chunks of at most 64 KiB and ends with the body. Raises
    :class:`BodyLost` when the caller goes away before the end, so a cut body never looks whole.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises Problem ``payload_too_large`` past ``limit`` bytes."""
        ...


class BodyLost(Exception):
    """The body will not come to its end: the caller left or the tunnel broke."""


@define
class Usage:
    """What a call used, for the audit and the response's trailers. The service counts, nobody else.

    ``rows``: rows sent or changed, where the service has rows.
    """

    rows: int | None = None


@frozen
class Request:
    """One call, as the dispatcher hands it to a service.

    :ivar path: what follows the profile in the URL, percent-encoded as it came, no leading slash.
        ``""`` with GET is the profile's test.
    :ivar query: the raw query string, without ``?``; ``timeout`` has been taken out.
    :ivar caller: the owner of the caller's token.
    :ivar deadline: absolute, in the reactor's seconds (``IReactorTime.seconds()``).
    :ivar trace: W3C ``traceparent``.
    """

    service: str
    profile: str
    method: str
    path: str
    query: str
    headers: Headers
    body: Body
    caller: str
    deadline: float
    trace: str
    request_id: str
    usage: Usage = field(factory=Usage)

    def header(self, name: str) -> str | None:
        """The first field of that (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@frozen
class Response:
    """A service's answer.

    :ivar body: whole, or an async iterator of chunks (any size, the dispatcher cuts them). The
        dispatcher takes the next chunk only when there is credit for it, and closes the iterator
        (``aclose``) when the call ends early. An exception raised by it after the head has gone out
        ends the stream with RESET, so a cut body never looks complete.
    """

    status: int
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] = b""


Handler = Callable[[Request], Awaitable[Response]]
