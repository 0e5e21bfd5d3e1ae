"""Messages of JMS and of AMQP 1.0, one as the other.

After the JMS mapping of OASIS (AMQP JMS Mapping 1.0, working draft) as Qpid JMS, ActiveMQ and
Artemis have it, so that a JMS client on the other side finds text, bytes, types and headers where
it looks for them.
"""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from attrs import define, field, frozen
from proton import (
    Data,
    Described,
    Message,
    byte,
    decimal32,
    decimal64,
    decimal128,
    symbol,
)

from ..broker import IncomingMessage, OutgoingMessage, PropertyValue
from .amqp_addresses import Dialect
from .amqp_errors import UNREADABLE

GROUP: Final = "JMSXGroupID"
GROUP_SEQUENCE: Final = "JMSXGroupSeq"
_MESSAGE_TYPE: Final = symbol("x-opt-jms-msg-type")
_REPLY_KIND: Final = symbol("x-opt-jms-reply-to")
_DELAY: Final = symbol("x-opt-delivery-delay")
_TEXT: Final = byte(5)
_BYTES: Final = byte(3)
_KINDS: Final[tuple[Literal["queue", "topic"], ...]] = ("queue", "topic")
_OCTETS: Final = "application/octet-stream"

_HEADER: Final = 0x70
_DELIVERY_ANNOTATIONS: Final = 0x71
_MESSAGE_ANNOTATIONS: Final = 0x72
_PROPERTIES: Final = 0x73
_APPLICATION_PROPERTIES: Final = 0x74
_DATA: Final = 0x75
_SEQUENCE: Final = 0x76
_VALUE: Final = 0x77
_FOOTER: Final = 0x78
_NAMES: Final = {
    f"amqp:{name}": code
    for name, code in (
        ("header:list", _HEADER),
        ("delivery-annotations:map", _DELIVERY_ANNOTATIONS),
        ("message-annotations:map", _MESSAGE_ANNOTATIONS),
        ("properties:list", _PROPERTIES),
        ("application-properties:map", _APPLICATION_PROPERTIES),
        ("data:binary", _DATA),
        ("amqp-sequence:list", _SEQUENCE),
        ("amqp-value:*", _VALUE),
        ("footer:map", _FOOTER),
    )
}
_SAME_KIND: Final = frozenset({_DATA, _SEQUENCE})
"""Sections that may come more than once (part 3 section 3.2)."""


class Unreadable(Exception):
    """The bytes are no AMQP message."""


def encode(message: OutgoingMessage, dialect: Dialect, now: float) -> tuple[str, bytes]:
    """The message's id, which is made here, and its bytes."""
    identity = f"ID:{uuid.uuid4()}"
    made = Message()
    made.id = identity
    made.durable = message.persistent
    made.creation_time = now
    if message.priority is not None:
        made.priority = message.priority
    if message.ttl:
        made.ttl = message.ttl
        made.expiry_time = now + message.ttl
    if message.correlation_id is not None:
        made.correlation_id = message.correlation_id
    if message.type is not None:
        made.subject = message.type
    annotations: dict[Any, Any] = {}
    if message.reply_to is not None:
        made.reply_to = dialect.reply_to(message.reply_to)
        annotations[_REPLY_KIND] = byte(_KINDS.index(message.reply_to.kind))
    if message.delay:
        annotations[_DELAY] = round(message.delay * 1000)
    properties = dict(message.properties)
    _set_group(made, properties)
    if properties:
        made.properties = properties
    if isinstance(message.body, bytes):
        made.inferred = True
        made.content_type = _OCTETS
        annotations[_MESSAGE_TYPE] = _BYTES
    else:
        annotations[_MESSAGE_TYPE] = _TEXT
    made.annotations = annotations
    made.body = message.body
    return identity, bytes(made.encode())


def _set_group(made: Message, properties: dict[str, PropertyValue]) -> None:
    group, sequence = properties.get(GROUP), properties.get(GROUP_SEQUENCE)
    if isinstance(group, str):
        made.group_id = group
        del properties[GROUP]
    if isinstance(sequence, int) and 0 <= sequence < 2**32:
        made.group_sequence = sequence
        del properties[GROUP_SEQUENCE]


@define
class Sections:
    """A message's sections as they came. Proton's own Message keeps the last of several bodies."""

    header: list[Any] = field(factory=list)
    annotations: Mapping[Any, Any] = field(factory=dict)
    properties: list[Any] = field(factory=list)
    application: Mapping[Any, Any] = field(factory=dict)
    body: list[tuple[int, Any]] = field(factory=list)


def sections(encoded: bytes) -> Sections:
    """Take a message apart. Raises Unreadable."""
    found = Sections()
    places = {_HEADER: "header", _PROPERTIES: "properties"}
    maps = {_MESSAGE_ANNOTATIONS: "annotations", _APPLICATION_PROPERTIES: "application"}
    for code, value in _walk(encoded):
        if code in places and isinstance(value, list):
            setattr(found, places[code], value)
        elif code in maps and isinstance(value, dict):
            setattr(found, maps[code], value)
        elif code == _VALUE or code in _SAME_KIND:
            if found.body and not (code in _SAME_KIND and found.body[0][0] == code):
                raise Unreadable("sections of a body that do not go together")
            found.body.append((code, value))
        elif code not in (_DELIVERY_ANNOTATIONS, _FOOTER):
            raise Unreadable(f"a section {code:#x} that is not of a message")
    return found


def _walk(encoded: bytes) -> Iterator[tuple[int, Any]]:
    left = encoded
    while left:
        data = Data()
        try:
            used = data.decode(left)
            data.rewind()
            data.next()
            section = _owned(data.get_object())
        except UNREADABLE as error:
            raise Unreadable(str(error) or type(error).__name__) from None
        if not isinstance(section, Described):
            raise Unreadable("a section without a descriptor")
        descriptor = section.descriptor
        code = _NAMES.get(descriptor, -1) if isinstance(descriptor, str) else int(descriptor)
        yield code, section.value
        left = left[used:]


def _owned(value: Any) -> Any:
    """A copy of what proton lends: its bytes are the decoder's memory, which goes with it."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {_owned(key): _owned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_owned(each) for each in value]
    if isinstance(value, Described):
        return Described(_owned(value.descriptor), _owned(value.value))
    return value


@frozen
class Reader:
    """Makes messages of what a broker sends."""

    dialect: Dialect
    _wall: Callable[[], float] = time.time

    def read(self, encoded: bytes) -> IncomingMessage:
        """Raises Unreadable."""
        found = sections(encoded)
        header = _Fields(found.header)
        fields = _Fields(found.properties)
        count = _whole(header[4]) or 0
        return IncomingMessage(
            id=_text(fields[0]) or "",
            body=_body(found, _text(fields[6])),
            properties=_properties(found.application, fields),
            priority=4 if header[1] is None else _whole(header[1]),
            timestamp=_seconds(fields[9]),
            expires=self._expires(header, fields),
            redelivered=count > 0 if self.dialect.counts else header[3] is not True,
            deliveries=count + 1 if self.dialect.counts else None,
            reply_to=None
            if not isinstance(fields[4], str)
            else self.dialect.destination(fields[4], _kind(found.annotations.get(_REPLY_KIND))),
            correlation_id=_text(fields[5]),
            type=_text(fields[3]),
            persistent=header[0] is True,
        )

    def _expires(self, header: _Fields, fields: _Fields) -> float | None:
        ttl = _whole(header[2])
        if fields[8] is not None:
            return _seconds(fields[8])
        return None if ttl is None else self._wall() + ttl / 1000


class _Fields:
    """A list of AMQP, whose last fields may be left out."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __getitem__(self, index: int) -> Any:
        return self._values[index] if index < len(self._values) else None


def _body(found: Sections, content_type: str | None) -> str | bytes | None:
    if not found.body:
        # A JMS TextMessage or BytesMessage without a body.
        return b"" if found.annotations.get(_MESSAGE_TYPE) == _BYTES else ""
    code, first = found.body[0]
    if code == _VALUE and type(first) is str:
        return first
    if code == _VALUE and isinstance(first, bytes):
        return first
    if code != _DATA:
        return None
    content = b"".join(each for _, each in found.body if isinstance(each, bytes))
    if not _textual(content_type):
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _textual(content_type: str | None) -> bool:
    """Whether bytes are text: as Qpid JMS decides it, for what is in UTF-8."""
    if content_type is None:
        return False
    kind, _, options = content_type.lower().partition(";")
    kind = kind.strip()
    if "charset" in options and "utf-8" not in options and "us-ascii" not in options:
        return False
    return kind.startswith("text/") or kind.endswith(
        ("/json", "+json", "/xml", "+xml", "/javascript", "/ecmascript")
    )


def _properties(application: Mapping[Any, Any], fields: _Fields) -> dict[str, PropertyValue]:
    found = {str(name): _value(value) for name, value in application.items()}
    if isinstance(fields[10], str):
        found[GROUP] = str(fields[10])
        if fields[11] is not None:
            found[GROUP_SEQUENCE] = _whole(fields[11])
    return found


def _value(value: Any) -> PropertyValue:
    """JMS has booleans, numbers and text; what else AMQP has becomes text, or nothing."""
    if value is None or isinstance(value, bool | decimal32 | decimal64 | decimal128):
        return value if isinstance(value, bool) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | uuid.UUID):
        return str(value)
    return b64encode(value).decode() if isinstance(value, bytes) else None


def _text(value: Any) -> str | None:
    """An id: text, a number, a UUID or bytes (part 3 section 3.2.11)."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bytes):
        return f"ID:AMQP_BINARY:{value.hex().upper()}"
    return str(int(value)) if isinstance(value, int) else str(value)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: Any) -> float | None:
    milliseconds = _whole(value)
    return None if milliseconds is None else milliseconds / 1000


def _kind(value: Any) -> Literal["queue", "topic"] | None:
    # Temporary ones (2 and 3) are a queue and a topic too.
    number = _whole(value)
    return _KINDS[number % 2] if number is not None and 0 <= number < 4 else None
