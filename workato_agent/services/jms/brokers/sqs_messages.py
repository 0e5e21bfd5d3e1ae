"""Messages of JMS and of Amazon SQS, one as the other.

As Amazon's own JMS library (amazon-sqs-java-messaging-lib) has it, so that its clients on the other
side find text, bytes, properties and headers where they look for them: the kind of message, the
correlation id and the queue for replies are message attributes whose names begin with ``JMS_SQS``,
bytes are base64, properties are attributes whose type tells Java's.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, NoReturn

from workato_tunnel.problems import Problem

from ..broker import Destination, IncomingMessage, OutgoingMessage, PropertyValue

GROUP: Final = "JMSXGroupID"
DEDUPLICATION: Final = "JMS_SQS_DeduplicationId"
SEQUENCE: Final = "JMS_SQS_SequenceNumber"
LONGEST_DELAY: Final = 900
_ATTRIBUTES: Final = 10
_KIND: Final = "JMS_SQSMessageType"
_CORRELATION: Final = "JMS_SQSCorrelationID"
_REPLY: Final = "JMS_SQSReplyToQueueName"
_REPLY_URL: Final = "JMS_SQSReplyToQueueURL"
_TYPE: Final = "JMSType"
_OURS: Final = frozenset({_KIND, _CORRELATION, _REPLY, _REPLY_URL, _TYPE})
_NAME: Final = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_FORBIDDEN: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What is no character of XML, which is all that SQS takes (SendMessage)."""


def encode(message: OutgoingMessage, queue: str, url: str) -> dict[str, Any]:
    """An entry of SendMessageBatch, without its id.

    Raises Problem ``bad_request`` for what SQS can't do.

    :param url: of the queue; that of a queue for replies differs in its last part.
    """
    _check_headers(message)
    properties = dict(message.properties)
    entry: dict[str, Any] = {}
    if queue.endswith(".fifo"):
        entry |= _fifo(properties, message)
    if message.delay:
        entry["DelaySeconds"] = ceil(message.delay)
    attributes = {_KIND: _string("byte" if isinstance(message.body, bytes) else "text")}
    if message.correlation_id is not None:
        attributes[_CORRELATION] = _string(_checked(message.correlation_id, "correlation_id"))
    if message.type is not None:
        attributes[_TYPE] = _string(_checked(message.type, "type"))
    if message.reply_to is not None:
        name = message.reply_to.name
        attributes[_REPLY] = _string(_checked(name, "reply_to"))
        attributes[_REPLY_URL] = _string(f"{url.rpartition('/')[0]}/{name}")
    for name, value in properties.items():
        attributes[_checked_name(name)] = _attribute(name, value)
    if len(attributes) > _ATTRIBUTES:
        _refuse(
            f"SQS takes {_ATTRIBUTES} attributes; the properties and headers of this message are"
            f" {len(attributes)}, of which one tells text from bytes",
            "properties",
        )
    body = message.body
    text = b64encode(body).decode() if isinstance(body, bytes) else _checked(body, "body")
    if not text:
        _refuse("SQS has no messages with an empty body", "body")
    return {**entry, "MessageBody": text, "MessageAttributes": attributes}


def size(entry: Mapping[str, Any]) -> int:
    """Bytes of an entry, as SQS counts them: the body, and names, types and values."""
    total = len(entry["MessageBody"].encode())
    for name, value in entry["MessageAttributes"].items():
        total += len(name) + sum(len(each.encode()) for each in value.values())
    return total


def decode(message: Mapping[str, Any], queue: str) -> IncomingMessage:
    """A message of ReceiveMessage's answer."""
    system = _mapping(message.get("Attributes"))
    attributes = {
        name: _value(_mapping(each))
        for name, each in _mapping(message.get("MessageAttributes")).items()
    }
    count = _number(system.get("ApproximateReceiveCount"))
    sent = _number(system.get("SentTimestamp"))
    reply, correlation, kind = (
        _text(attributes.get(each)) for each in (_REPLY, _CORRELATION, _TYPE)
    )
    properties = {name: value for name, value in attributes.items() if name not in _OURS}
    for name, told in (
        (GROUP, "MessageGroupId"),
        (DEDUPLICATION, "MessageDeduplicationId"),
        (SEQUENCE, "SequenceNumber"),
    ):
        if isinstance(system.get(told), str):
            properties[name] = system[told]
    return IncomingMessage(
        id=str(message.get("MessageId", "")),
        body=_body(str(message.get("Body", "")), attributes.get(_KIND)),
        properties=properties,
        timestamp=None if sent is None else sent / 1000,
        redelivered=count is not None and count > 1,
        deliveries=None if count is None else int(count),
        reply_to=None if reply is None else Destination("queue", reply),
        correlation_id=correlation,
        type=kind,
        persistent=True,
    )


def _check_headers(message: OutgoingMessage) -> None:
    if message.ttl:
        _refuse("SQS has no time to live for one message: the queue keeps all as long", "ttl")
    if message.priority is not None:
        _refuse("SQS has no priorities", "priority")
    if message.delay > LONGEST_DELAY:
        _refuse(f"SQS delays a message by {LONGEST_DELAY} s at most", "delay")
    if message.reply_to is not None and message.reply_to.kind != "queue":
        _refuse("SQS has queues only", "reply_to")


def _fifo(properties: dict[str, PropertyValue], message: OutgoingMessage) -> dict[str, str]:
    if message.delay:
        _refuse("a FIFO queue has no delay for one message, but one for all", "delay")
    group, own = properties.pop(GROUP, None), properties.pop(DEDUPLICATION, None)
    if not isinstance(group, str) or not group:
        _refuse(f"a FIFO queue needs a group: give the property {GROUP} as text", "properties")
    if own is None:
        return {"MessageGroupId": group}
    if not isinstance(own, str) or not own:
        _refuse(f"expected the property {DEDUPLICATION} as text", "properties")
    return {"MessageGroupId": group, "MessageDeduplicationId": own}


def _string(text: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": text}


def _attribute(name: str, value: PropertyValue) -> dict[str, str]:
    # bool is an int.
    if isinstance(value, bool):
        return {"DataType": "Number.Boolean", "StringValue": "1" if value else "0"}
    if isinstance(value, int):
        return {"DataType": "Number.long", "StringValue": str(value)}
    if isinstance(value, float):
        return {"DataType": "Number.double", "StringValue": repr(value)}
    if not value:
        _refuse(f"SQS has no attributes without a value, as the property {name} is", "properties")
    return _string(_checked(value, "properties"))


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None or len(name) > 256:
        _refuse(
            f"the property {name[:100]!r}: SQS takes letters, digits, _ - and . in names",
            "properties",
        )
    if name in _OURS:
        _refuse(f"the property {name} is a header's place", "properties")
    return name


def _checked(text: str, field: str) -> str:
    found = _FORBIDDEN.search(text)
    if found is not None:
        _refuse(f"SQS takes no character U+{ord(found[0]):04X} in text", field)
    return text


def _body(text: str, kind: PropertyValue) -> str | bytes | None:
    if kind == "byte":
        try:
            return b64decode(text, validate=True)
        except (Base64Error, ValueError):
            return text
    # A Java object, serialised: nobody but Java reads it.
    return None if kind == "object" else text


def _value(attribute: Mapping[str, Any]) -> PropertyValue:
    """An attribute by its type: ``Number`` alone is told by its text, ``Binary`` is base64."""
    kind, text = str(attribute.get("DataType", "")), attribute.get("StringValue")
    if kind.startswith("Binary"):
        return str(attribute.get("BinaryValue", ""))
    if not isinstance(text, str):
        return None
    if kind == "Number.Boolean":
        return text in ("1", "true")
    if kind.startswith("Number"):
        number = _number(text)
        if number is None:
            return text
        return float(number) if kind in ("Number.double", "Number.float") else number
    return text


def _number(text: object) -> int | float | None:
    if not isinstance(text, str):
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: PropertyValue) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse(detail: str, field: str) -> NoReturn:
    raise Problem("bad_request", detail, extra={"field": field})
