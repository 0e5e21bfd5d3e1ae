"""Response heads: which fields leave, and how the body's end is marked (RFC 9112, 6). No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import client
from typing import Final

from attrs import define, field

Headers = Iterable[tuple[str, str]]

SERVER: Final = "onprem-gateway"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {client.responses.get(status, '')}\r\n"
    for status in range(200, 600)
}
_FIELDS: Final = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t \x21-\x7e\x80-\xff]*\r\n)*")
_OURS: Final = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)


class MalformedResponse(ValueError):
    """A response that can't be said in HTTP: an impossible status, a field with a line break."""


@define
class DateField:
    """The value of ``Date``, made once a second."""

    wall_clock: Callable[[], float] = time.time
    _second: int = field(init=False, default=-1)
    _text: str = field(init=False, default="")

    def __call__(self) -> str:
        second = int(self.wall_clock())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text


class ResponseHead:
    """A response's head, ready to be written.

    :ivar data: the bytes of the head.
    :ivar bodiless: nothing may follow it (HEAD, 204, 304), whatever it says about a length.
    :ivar length: the body's declared length; None: chunked, or ended by the connection's end.
    :ivar chunked: the body goes out in chunks.
    :ivar persistent: the connection outlives the response.
    """

    __slots__ = ("bodiless", "chunked", "data", "length", "persistent")

    def __init__(
        self,
        status: int,
        headers: Headers,
        *,
        date: str,
        request_id: str,
        trace: str,
        to_head: bool,
        modern: bool,
        persistent: bool,
    ) -> None:
        """Raises MalformedResponse.

        :param to_head: it answers HEAD.
        :param modern: the caller speaks HTTP/1.1.
        :param persistent: both sides are ready to keep the connection.
        """
        try:
            text = _STATUS_LINES[status]
        except KeyError:
            raise MalformedResponse(f"status {status} is no final status of HTTP") from None
        passed, length = _passed_on(headers, date)
        self.bodiless = to_head or status == 204 or status == 304
        self.length = None if length is None or status == 204 else _declared(length)
        self.chunked = modern and self.length is None and not self.bodiless
        self.persistent = persistent and (modern or self.bodiless or self.length is not None)
        if self.length is not None:
            text += f"content-length: {self.length}\r\n"
        elif self.chunked:
            text += "transfer-encoding: chunked\r\n"
        if not self.persistent:
            text += "connection: close\r\n"
        elif not modern:
            text += "connection: keep-alive\r\n"
        if trace:
            text += f"traceparent: {trace}\r\n"
        self.data = f"{text}{passed}x-request-id: {request_id}\r\n\r\n".encode("latin-1")


class SwitchingHead(ResponseHead):
    """The head of 101: what follows is WebSocket, and the connection ends with it."""

    __slots__ = ()

    def __init__(self, headers: Headers, *, date: str, request_id: str, trace: str) -> None:
        """Raises MalformedResponse."""
        passed, _ = _passed_on(headers, date)
        self.bodiless = self.chunked = self.persistent = False
        self.length = None
        self.data = (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            f"{passed}traceparent: {trace}\r\nx-request-id: {request_id}\r\n\r\n"
        ).encode("latin-1")


def _passed_on(headers: Headers, date: str) -> tuple[str, str | None]:
    """The lines of the fields that leave as they are, with Date and Server; the declared length.

    Raises MalformedResponse.
    """
    text = ""
    count = 2
    server = SERVER
    length: str | None = None
    for name, value in headers:
        key = name.lower()
        if key not in _OURS:
            text += f"{key}: {value}\r\n"
            count += 1
        elif key == "content-length":
            if length not in (None, value):
                raise MalformedResponse("two different lengths are declared")
            length = value
        elif key == "date":
            date = value
        elif key == "server":
            server = value
    text += f"date: {date}\r\nserver: {server}\r\n"
    if text.count("\n") != count or not _FIELDS.fullmatch(text):
        raise MalformedResponse("a header field holds what HTTP does not allow")
    return text, length


def _declared(length: str) -> int:
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise MalformedResponse("the declared length is not a number of bytes")
    return int(length)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. ``data`` is not empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
