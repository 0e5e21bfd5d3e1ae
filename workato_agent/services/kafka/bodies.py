"""The bodies of calls: JSON, checked."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

from ...requests import Body

MAX_BODY: Final = 16 * 1024 * 1024
SMALL: Final = 64 * 1024
"""Bytes of a body that holds no messages."""
MAX_LINE: Final = 16 * 1024 * 1024
MAX_MESSAGES: Final = 10_000
NDJSON: Final = "application/x-ndjson"

Headers = list[tuple[str, bytes | None]]


@frozen
class Message:
    """A message to be written.

    :ivar value: None for a tombstone.
    :ivar timestamp: milliseconds since 1970.
    :ivar size: bytes of it all.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None
    timestamp: int | None

    @property
    def size(self) -> int:
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class _Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: str
    value: str | None = None
    value_base64: str | None = None


class _Message(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    key: str | None = None
    key_base64: str | None = None
    value: str | msgspec.UnsetType | None = msgspec.UNSET
    value_base64: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str | None] | list[_Header] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class _Messages(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    messages: Annotated[list[_Message], msgspec.Meta(max_length=MAX_MESSAGES)]


class ReceiveBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``wait`` in seconds."""

    group: str | None = None
    max: Annotated[int, msgspec.Meta(ge=1, le=MAX_MESSAGES)] = 1
    wait: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 10
    start: Literal["earliest", "latest"] | None = None


class SubscribeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``window``: messages that may wait for their acknowledgement."""

    group: str | None = None
    window: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 500
    start: Literal["earliest", "latest"] | None = None


class SettleBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``through``: of a subscription, this line and all before it."""

    action: Literal["ack", "release"]
    through: bool = False


B = TypeVar("B", bound=msgspec.Struct)


def refuse(detail: str, field: str | None = None) -> Problem:
    """A body that is not what is expected."""
    return Problem(
        "bad_request",
        detail,
        hint="see the calls of Kafka profiles in the documentation",
        extra={} if field is None else {"field": field},
    )


def beyond(limit: int) -> Problem:
    """More than the policy allows."""
    return Problem(
        "payload_too_large",
        f"the messages have more than {limit} bytes, which the policy allows in one call",
        hint="send fewer messages in each call",
        extra={"limit": limit},
    )


def decoded(data: bytes | bytearray, kind: type[B], where: str = "") -> B:
    """A JSON object. Raises Problem ``bad_request`` that names the field."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        path = re.search(r"`\$\.?([^`]*)`$", str(error))
        missing = re.search(r"(?:unknown|required) field `([^`]*)`", str(error))
        field = (path and path[1]) or (missing and missing[1]) or None
        raise refuse(f"{where}{error}", field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(f"{where}the body is not JSON: {error}") from None


def messages_of(data: bytes) -> tuple[list[Message], bool]:
    """The messages of a JSON body, and whether it is one message alone."""
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(f"the body is not a JSON object: {error}") from None
    if "messages" not in keys:
        return [_message(decoded(data, _Message))], True
    found = decoded(data, _Messages).messages
    return [_message(each, f"messages[{index}]") for index, each in enumerate(found)], False


async def message_lines(body: Body) -> AsyncIterator[list[Message]]:
    """The messages of an NDJSON body as it comes, some at a time; each with its line."""
    rest = bytearray()
    number = 0
    async for chunk in body:
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > MAX_LINE:
                limit = f"line {number + 1} is longer than {MAX_LINE} bytes"
                raise Problem("payload_too_large", limit, extra={"limit": MAX_LINE})
            continue
        *lines, rest = rest.split(b"\n")
        found = []
        for line in lines:
            number += 1
            if line.strip():
                found.append(_line(line, number))
        if found:
            yield found
    if rest.strip():
        yield [_line(rest, number + 1)]


def _line(line: bytes | bytearray, number: int) -> Message:
    where = f"line {number}"
    return _message(decoded(line, _Message, f"{where}: "), where)


def _message(body: _Message, where: str = "") -> Message:
    prefix = f"{where}." if where else ""
    if body.key is not None and body.key_base64 is not None:
        raise refuse("a message has a key or a key_base64", f"{prefix}key")
    if (body.value is msgspec.UNSET) == (body.value_base64 is msgspec.UNSET):
        raise refuse(
            "a message has a value (null for a tombstone) or a value_base64", f"{prefix}value"
        )
    value = body.value if isinstance(body.value, str) else None
    encoded = body.value_base64 if isinstance(body.value_base64, str) else None
    return Message(
        _bytes(body.key, body.key_base64, f"{prefix}key"),
        _bytes(value, encoded, f"{prefix}value"),
        _headers(body.headers, f"{prefix}headers"),
        body.partition,
        body.timestamp,
    )


def _headers(headers: dict[str, str | None] | list[_Header] | None, where: str) -> Headers:
    if not headers:
        return []
    if isinstance(headers, dict):
        return [(name, _bytes(value, None, where)) for name, value in headers.items()]
    return [(each.name, _bytes(each.value, each.value_base64, where)) for each in headers]


def _bytes(text: str | None, encoded: str | None, where: str) -> bytes | None:
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise refuse("not base64", f"{where}_base64") from None
    if text is None:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise refuse("a text that is not Unicode", where) from None
