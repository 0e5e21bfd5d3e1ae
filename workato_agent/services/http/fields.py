"""Header fields on their way to the target and back (RFC 9110 section 7.6.1, RFC 9112).

Hop-by-hop fields end here in both directions, and so does what the agent itself decides: Host,
Authorization and the framing of bodies.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ...requests import Headers

TARGET_STATUS: Final = "x-onprem-target-status"
"""Marks an answer as the target's own, so that its 502 can't be taken for the agent's."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_SENT: Final = _HOP_BY_HOP | {"authorization", "content-length", "expect", "host"}
_NOT_RETURNED: Final = _HOP_BY_HOP | {"content-length", TARGET_STATUS}
_STEERING: Final = frozenset(
    {"connection", "content-length", "expect", "transfer-encoding", "upgrade"}
)
_ANSWER_STEERING: Final = frozenset(
    {"connection", "content-length", "keep-alive", "transfer-encoding"}
)

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_KEEP_ALIVE: Final = re.compile(r"\btimeout\s*=\s*([0-9]{1,9})", re.IGNORECASE)
_CACHED: Final = 1024


@frozen
class Framing:
    """How a request's body is delimited, as its fields say.

    :ivar length: of the body, when the caller named it.
    :ivar chunked: the caller sends a body of unknown length.
    :ivar expect: the caller waits for ``100 Continue``.
    """

    length: int | None = None
    chunked: bool = False
    expect: bool = False


NO_FRAMING: Final = Framing()


@lru_cache(_CACHED)
def _sent_name(name: str) -> str | None:
    """``"Content-Type: "`` for ``content-type``; None for a field that isn't passed on."""
    if name in _NOT_SENT:
        return None
    return "-".join(word.capitalize() for word in name.split("-")) + ": "


@lru_cache(_CACHED)
def valid_name(name: str) -> bool:
    """Whether the text is a token (RFC 9110 section 5.6.2)."""
    return _NAME.fullmatch(name) is not None


def outgoing(headers: Headers, *, upgrading: bool = False) -> tuple[list[str], Framing]:
    """The caller's fields as header lines, and the body's framing.

    Raises Problem ``bad_request`` that names the field: for what could split the request, for a
    framing that isn't plain, and for a WebSocket where none can be.

    :param upgrading: the request is one for a WebSocket, which has no body.
    """
    lines: list[str] = []
    steering: dict[str, str] = {}
    for name, value in headers:
        if len(name) > 256 or not valid_name(name):
            raise _bad_field(name[:64], "has no valid field name")
        if not (value.isascii() and value.isprintable()):
            _check_value(name, value)
        prefix = _sent_name(name)
        if prefix is not None:
            lines.append(prefix + value)
        elif name in _STEERING:
            if name == "content-length" and steering.get(name, value) != value:
                raise _bad_field(name, "is there twice with different values")
            steering[name] = (
                f"{steering[name]},{value}" if name == "connection" and name in steering else value
            )
    if not steering:
        return lines, NO_FRAMING
    named = _named(steering.get("connection", ""))
    if named:
        lines = [line for line in lines if line.partition(":")[0].lower() not in named]
    return lines, _framing(steering, upgrading=upgrading)


def without_body(headers: Headers) -> Headers:
    """The fields that are not about a body, for a request that has none."""
    return tuple(
        (name, value)
        for name, value in headers
        if not name.startswith("content-") and name not in ("transfer-encoding", "expect")
    )


def _framing(steering: dict[str, str], *, upgrading: bool) -> Framing:
    if not upgrading and "websocket" in steering.get("upgrade", "").lower():
        raise _bad_field("upgrade", "asks for a WebSocket, which only a plain GET can")
    if upgrading and (named := steering.keys() & {"content-length", "transfer-encoding"}):
        raise _bad_field(min(named), "announces a body, which a WebSocket's request has not")
    length = steering.get("content-length")
    coding = steering.get("transfer-encoding")
    expect = steering.get("expect")
    if coding is not None and coding.strip().lower() != "chunked":
        raise _bad_field("transfer-encoding", "names a coding other than chunked")
    if coding is not None and length is not None:
        raise _bad_field("content-length", "stands beside transfer-encoding")
    if length is not None and not _LENGTH.fullmatch(length):
        raise _bad_field("content-length", "is no length")
    if expect is not None and expect.strip().lower() != "100-continue":
        raise _bad_field("expect", "expects something other than 100-continue")
    return Framing(
        length=None if length is None else int(length),
        chunked=coding is not None,
        expect=expect is not None,
    )


def _check_value(name: str, value: str) -> None:
    if _CONTROL.search(value):
        raise _bad_field(name, "holds a control character")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise _bad_field(name, "holds a character outside latin-1") from error


def _bad_field(name: str, what: str) -> Problem:
    return Problem("bad_request", f"The header field {name!r} {what}", extra={"field": name})


def _named(connection: str) -> frozenset[str]:
    """The fields that a Connection field names, which are hop-by-hop too."""
    if not connection:
        return frozenset()
    tokens = {token.strip().lower() for token in connection.split(",")}
    return frozenset(tokens - {"", "close", "keep-alive", "upgrade", "te"})


@frozen
class Answer:
    """What the fields of a response say.

    :ivar fields: those to pass on, without Content-Length.
    :ivar length: its Content-Length.
    :ivar chunked: delimited by chunks.
    :ivar close: Connection names ``close``; ``persist``: it names ``keep-alive`` (HTTP/1.0).
    :ivar kept: seconds for which the target says it keeps the idle connection.
    """

    fields: list[tuple[str, str]]
    length: int | None = None
    chunked: bool = False
    close: bool = False
    persist: bool = False
    kept: int | None = None


class MalformedFields(Exception):
    """A response whose fields leave open where its body ends."""


@lru_cache(_CACHED)
def _known_name(name: bytes) -> tuple[str, bool]:
    lower = name.decode("latin-1").lower()
    return lower, lower in _NOT_RETURNED


def incoming(raw: list[tuple[bytes, bytes]]) -> Answer:
    """The target's fields as the caller gets them. Raises MalformedFields."""
    fields: list[tuple[str, str]] = []
    steering: dict[str, str] | None = None
    for name, value in raw:
        lower, dropped = (
            _known_name(name) if len(name) <= 256 else (name.decode("latin-1").lower(), False)
        )
        text = value.decode("latin-1").strip(" \t")
        if not (text.isascii() and text.isprintable()) and _CONTROL.search(text):
            raise MalformedFields("a control character in a field")
        if not dropped:
            fields.append((lower, text))
        elif lower in _ANSWER_STEERING:
            if steering is None:
                steering = {}
            if lower in steering:
                if lower in ("content-length", "transfer-encoding"):
                    raise MalformedFields(f"{lower} twice")
                text = f"{steering[lower]},{text}"
            steering[lower] = text
    if steering is None:
        return Answer(fields)
    return _answer(fields, steering)


def _answer(fields: list[tuple[str, str]], steering: dict[str, str]) -> Answer:
    length = steering.get("content-length")
    coding = steering.get("transfer-encoding")
    if length is not None and (coding is not None or not _LENGTH.fullmatch(length)):
        raise MalformedFields("no usable content-length")
    if coding is not None and coding.lower() != "chunked":
        raise MalformedFields("a transfer-encoding other than chunked")
    connection = steering.get("connection")
    close = persist = False
    kept = None
    if connection is not None:
        tokens = {token.strip().lower() for token in connection.split(",")}
        close, persist = "close" in tokens, "keep-alive" in tokens
        named = _named(connection)
        if named:
            fields = [pair for pair in fields if pair[0] not in named]
    if "keep-alive" in steering:
        match = _KEEP_ALIVE.search(steering["keep-alive"])
        kept = int(match[1]) if match else None
    return Answer(
        fields, None if length is None else int(length), coding is not None, close, persist, kept
    )
