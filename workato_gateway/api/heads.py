"""Request heads (RFC 9112): from the bytes of one head to what the gateway decides by.

llhttp judges the grammar. What it lets through and a relay must not (two ways to read where a
message ends, a target with a fragment, a version we do not speak) is refused here.
"""

from __future__ import annotations

from typing import Final

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from workato_tunnel.problems import Problem

from .problems import refusal

MAX_FIELDS: Final = 100
MAX_REQUEST_LINE: Final = 16 * 1024

SINGLE: Final = frozenset(
    {
        "authorization",
        "content-length",
        "host",
        "traceparent",
        "x-agent",
        "x-request-id",
        "x-timeout",
    }
)
"""Fields that may come once. What a second one means is not agreed; smuggling lives on that."""

CONTROL: Final = SINGLE | {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
}
"""Fields that end at the gateway: hop by hop (RFC 9110, 7.6.1), or carried by the tunnel itself."""

_NAMES: Final = {
    spelling.encode("ascii"): name
    for name in (
        *CONTROL,
        "accept",
        "accept-encoding",
        "accept-language",
        "content-type",
        "cookie",
        "if-match",
        "if-none-match",
        "range",
        "tracestate",
        "user-agent",
    )
    for spelling in (name, name.title())
}
"""The usual spellings, so that decoding them costs one look."""


class RequestHead:
    """One request's head.

    :ivar target: the request target in origin form (``/path?query``) or ``*``.
    :ivar fields: what may be passed on, in order; names in lower case, values as latin-1 text.
    :ivar control: the fields of :data:`CONTROL`; a list sent in several fields is joined.
    :ivar length: the body's Content-Length, None when there is none.
    :ivar chunked: the body is chunked. With neither there is no body.
    :ivar size: bytes of the head as it came.
    :ivar modern: HTTP/1.1, so chunked answers are understood and connections persist by default.
    :ivar upgrade: the caller asks to go on as WebSocket on this connection (RFC 6455).
    """

    __slots__ = (
        "chunked",
        "control",
        "fields",
        "keep_alive",
        "length",
        "method",
        "modern",
        "size",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: str,
        target: str,
        modern: bool,
        fields: list[tuple[str, str]],
        control: dict[str, str],
    ) -> None:
        self.method = method
        self.target = target
        self.modern = modern
        self.fields = fields
        self.control = control
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = modern
        self.size = 0
        self.upgrade = False

    @property
    def has_body(self) -> bool:
        """Whether a body follows that is not known to be empty."""
        return self.chunked or bool(self.length)

    @property
    def expects_continue(self) -> bool:
        """The caller waits for ``100 Continue`` before it sends the body (RFC 9110, 10.1.1)."""
        return self.modern and self.control.get("expect", "").lower() == "100-continue"


class HeadParser:
    """Parses head after head of one connection."""

    def __init__(self) -> None:
        self._parser: HttpRequestParser | None = None
        self._target = b""
        self._fields: list[tuple[str, str]] = []
        self._control: dict[str, str] = {}
        self._repeated: str | None = None
        self._count = 0
        self._complete = False

    def parse(self, data: bytes) -> RequestHead:
        """The head in ``data``, which ends with the first empty line.

        Raises Problem (400, 431, 501, 505): after it nothing on the connection can be trusted.
        """
        self._target = b""
        self._fields = []
        self._control = {}
        self._repeated = None
        self._count = 0
        self._complete = False
        parser = self._parser
        if parser is None:
            parser = self._parser = HttpRequestParser(self)
        line_end = data.find(b"\r\n")
        version = data[line_end - 9 : line_end]
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self._parser = None
        except HttpParserInvalidMethodError as error:
            if not data.partition(b" ")[0].isalpha():
                raise malformed("this does not begin like a request") from error
            raise refusal(501, "Method not known", "the method is not one of HTTP's") from error
        except HttpParserError as error:
            raise malformed(str(error)) from error
        if version not in (b" HTTP/1.1", b" HTTP/1.0"):
            raise refusal(
                505, "HTTP version not supported", "only HTTP/1.1 and 1.0 are spoken here"
            )
        if not self._complete:
            raise malformed("the head has no end")
        if data.count(b" ", 0, line_end) != 2:
            raise malformed("the request line is METHOD SP TARGET SP VERSION")
        if self._count > MAX_FIELDS:
            raise head_too_large(f"there are at most {MAX_FIELDS} header fields")
        if self._repeated is not None:
            raise malformed(f"the field {self._repeated} is there twice")
        head = RequestHead(
            data[: data.find(b" ")].decode("ascii"),
            _origin_form(self._target.decode("ascii")),
            version == b" HTTP/1.1",
            self._fields,
            self._control,
        )
        head.size = len(data)
        self._check(head)
        if head.has_body:
            # The body never passes llhttp (bodies.py), so its parser would wait for it for ever.
            self._parser = None
        return head

    def _check(self, head: RequestHead) -> None:
        """Framing, persistence and Host."""
        control = head.control
        coding = control.get("transfer-encoding")
        if coding is not None:
            if not head.modern:
                raise malformed("Transfer-Encoding in HTTP/1.0")
            if coding.lower() != "chunked":
                raise refusal(
                    501, "Transfer coding not supported", "Transfer-Encoding may only be chunked"
                )
            head.chunked = True
        length = control.get("content-length")
        if length is not None:
            if coding is not None:
                raise malformed("Content-Length beside Transfer-Encoding")
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise malformed("Content-Length is not a number of bytes")
            head.length = int(length)
            head.fields.append(("content-length", str(head.length)))
        if head.modern and "host" not in control:
            raise malformed("HTTP/1.1 needs a Host field")
        connection = control.get("connection")
        if connection is not None:
            options = {option.strip() for option in connection.lower().split(",")}
            head.keep_alive = "close" not in options and (head.modern or "keep-alive" in options)
            head.upgrade = (
                "upgrade" in options
                and control.get("upgrade", "").lower() == "websocket"
                and head.modern
                and head.method == "GET"
                and not head.has_body
            )
            named = options - {"close", "keep-alive", "upgrade", ""}
            if named:
                head.fields[:] = [f for f in head.fields if f[0] not in named]
        expect = control.get("expect")
        if expect is not None and head.modern and expect.lower() != "100-continue":
            raise refusal(417, "Expectation failed", "Expect may only be 100-continue")

    def on_url(self, url: bytes) -> None:
        """httptools: the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one field."""
        self._count += 1
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        if key not in CONTROL:
            self._fields.append((key, text))
        elif key not in self._control:
            self._control[key] = text
        elif key in SINGLE:
            self._repeated = key
        else:
            self._control[key] += f", {text}"

    def on_headers_complete(self) -> None:
        """httptools: the head's end."""
        self._complete = True


def malformed(reason: str) -> Problem:
    """The request can't be read as HTTP/1.1."""
    return refusal(
        400, "The request is malformed", reason, "See RFC 9112; the connection is closed."
    )


def head_too_large(detail: str) -> Problem:
    """The head is beyond a limit (RFC 6585, 5)."""
    return refusal(
        431, "Request header fields too large", detail, "Send fewer or shorter header fields."
    )


def target_too_long() -> Problem:
    """The request line is beyond its limit."""
    return refusal(
        414, "Request target too long", f"the request line is limited to {MAX_REQUEST_LINE} bytes"
    )


def _origin_form(target: str) -> str:
    if "#" in target:
        raise malformed("a request target has no fragment")
    if target.startswith("/") or target == "*":
        return target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise malformed("the request target is neither a path nor a URL")
    slash = rest.find("/")
    mark = rest.find("?")
    if slash < 0 or 0 <= mark < slash:
        return "/" + (rest[mark:] if mark >= 0 else "")
    return rest[slash:]
