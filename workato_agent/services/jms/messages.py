"""Messages and calls in JSON: strict on the way in, complete on the way out."""

from __future__ import annotations

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from workato_tunnel.problems import Problem

from ...requests import Request
from .broker import Destination, IncomingMessage, OutgoingMessage, PropertyValue
from .routes import parse_reply_to, shown

MOST_MESSAGES: Final = 1000
"""Of one batch, and of one JSON document."""
LONGEST_WAIT: Final = 3600.0
SMALL_BODY: Final = 64 * 1024
_LONGEST_SELECTOR: Final = 8192
_MOST_PROPERTIES: Final = 200
_PROPERTIES_SIZE: Final = 32 * 1024
_LONGEST_TTL: Final = 10 * 365 * 86400
_SETTABLE: Final = frozenset({"JMSXGroupID", "JMSXGroupSeq", "JMS_SQS_DeduplicationId"})
"""Names of JMS's that are the publisher's."""
_NAME: Final = re.compile(r"[^\x00-\x20\x7f]{1,256}")

S = TypeVar("S", bound=Struct)
Short = Annotated[str, Meta(max_length=1024)]
Time = Annotated[float, Meta(ge=0, le=_LONGEST_TTL)]


class MessageDocument(Struct, forbid_unknown_fields=True):
    """A message to publish."""

    body: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    properties: dict[str, bool | int | float | str | None] | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    ttl: Time = 0.0
    delay: Time = 0.0
    reply_to: Short | None = None
    correlation_id: Short | None = None
    type: Short | None = None
    persistent: bool = True


class MessagesDocument(Struct, forbid_unknown_fields=True):
    """Several messages."""

    messages: Annotated[list[MessageDocument], Meta(max_length=MOST_MESSAGES)]


class ReceiveDocument(Struct, forbid_unknown_fields=True):
    """What ``receive`` is asked for."""

    max: Annotated[int, Meta(ge=1, le=MOST_MESSAGES)] = 1
    wait: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)] = 10.0
    selector: Annotated[str, Meta(min_length=1, max_length=_LONGEST_SELECTOR)] | None = None
    subscription: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] | None = None


class SubscribeDocument(Struct, forbid_unknown_fields=True):
    """What ``subscribe`` is asked for."""

    max: Annotated[int, Meta(ge=1, le=MOST_MESSAGES)] = 1
    max_unacknowledged: Annotated[int, Meta(ge=1, le=1000)] = 10
    selector: Annotated[str, Meta(min_length=1, max_length=_LONGEST_SELECTOR)] | None = None
    subscription: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] | None = None


class SettleDocument(Struct, forbid_unknown_fields=True):
    """What is to become of a receipt."""

    action: Literal["ack", "release"]


def document(kind: type[S], body: bytes) -> S:
    """Decode a body; an empty one stands for ``{}``. Raises Problem ``bad_request``."""
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _malformed(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("bad_request", f"the body is no JSON: {error}") from None


def one_or_several(body: bytes) -> tuple[list[MessageDocument], bool]:
    """The messages of a JSON document, and whether it was a list of them."""
    try:
        several = "messages" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise Problem("bad_request", f"the body is no JSON object: {error}") from None
    if several:
        return document(MessagesDocument, body).messages, True
    return [document(MessageDocument, body)], False


def outgoing(found: MessageDocument, place: str = "") -> OutgoingMessage:
    """A message to publish. Raises Problem ``bad_request``.

    :param place: where it stands, as ``messages[3].``.
    """
    return OutgoingMessage(
        body=_body(found, place),
        properties=_properties(found.properties or {}, place),
        priority=found.priority,
        ttl=found.ttl,
        delay=found.delay,
        reply_to=_reply_to(found.reply_to, f"{place}reply_to"),
        correlation_id=found.correlation_id,
        type=found.type,
        persistent=found.persistent,
    )


def _body(found: MessageDocument, place: str) -> str | bytes:
    text, encoded = found.body, found.body_base64
    if isinstance(text, str) and isinstance(encoded, str):
        raise _bad(f"{place}body_base64", "given beside body", "send one of the two")
    if isinstance(text, str):
        return text
    if not isinstance(encoded, str):
        hint = "send text as body, bytes as body_base64"
        raise _bad(f"{place}body", "missing: a message has a body", hint)
    try:
        return base64.b64decode(encoded, validate=True)
    except Base64Error as error:
        raise _bad(f"{place}body_base64", f"is no Base64: {error}") from None


def _properties(properties: Mapping[str, PropertyValue], place: str) -> Mapping[str, PropertyValue]:
    size = 0
    for name, value in properties.items():
        field = f"{place}properties.{name[:100]}"
        if _NAME.fullmatch(name) is None:
            raise _bad(field, "a name has 1 to 256 characters, without spaces and controls")
        if name.upper().startswith("JMS") and name not in _SETTABLE:
            raise _bad(field, "names that begin with JMS belong to the broker")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _bad(field, "a whole number has at most 64 bits", "send it as text")
        size += len(name) + (len(value) if isinstance(value, str) else 8)
    if len(properties) > _MOST_PROPERTIES or size > _PROPERTIES_SIZE:
        raise _bad(
            f"{place}properties",
            f"more than {_MOST_PROPERTIES} properties, or {_PROPERTIES_SIZE} characters",
            "what is large belongs into the body",
        )
    return properties


def _reply_to(text: str | None, field: str) -> Destination | None:
    return None if text is None else parse_reply_to(text, field)


def incoming(message: IncomingMessage) -> dict[str, object]:
    """A message as callers see it."""
    body = message.body
    found: dict[str, object] = {"id": message.id}
    if isinstance(body, bytes):
        found["body_base64"] = base64.b64encode(body).decode("ascii")
    else:
        found["body"] = body
    found["properties"] = dict(message.properties)
    found["redelivered"] = message.redelivered
    further = {
        "deliveries": message.deliveries,
        "priority": message.priority,
        "persistent": message.persistent,
        "timestamp": _moment(message.timestamp),
        "expires": _moment(message.expires),
        "reply_to": None if message.reply_to is None else shown(message.reply_to),
        "correlation_id": message.correlation_id,
        "type": message.type,
    }
    found.update((name, value) for name, value in further.items() if value is not None)
    return found


def _moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None for a time that no calendar has."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def browse_parameters(request: Request) -> tuple[int, str | None]:
    """``max`` and ``selector`` of a query. Raises Problem ``bad_request``."""
    most, selector = 100, None
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name == "max" and re.fullmatch(r"[0-9]{1,4}", value) and 1 <= int(value) <= 1000:
            most = int(value)
        elif name == "max":
            raise _bad("max", f"expected a number from 1 to {MOST_MESSAGES}")
        elif name == "selector" and 0 < len(value) <= _LONGEST_SELECTOR:
            selector = value
        else:
            raise _bad(name[:100], "no parameter of browse", "it has max and selector")
    return most, selector


def encoded(value: Any) -> bytes:
    """As JSON. Text that UTF-8 can't say has its surrogates replaced."""
    return _encode(value)


_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode


def _bad(field: str, what: str, hint: str | None = None) -> Problem:
    return Problem("bad_request", f"{field}: {what}", hint=hint, extra={"field": field})


def _malformed(text: str) -> Problem:
    """msgspec's words, with the field that they name."""
    what, _, where = text.partition(" - at `")
    field = where.rstrip("`").removeprefix("$.").removeprefix("$")
    unknown = re.search(r"unknown field `([^`]*)`", what)
    if unknown is not None:
        field = f"{field}.{unknown[1]}" if field else unknown[1]
    detail = f"{field}: {what}" if field else what
    return Problem("bad_request", detail, extra={"field": field} if field else None)
