"""Messages as callers get them."""

from __future__ import annotations

import base64
from typing import cast

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message


def thd_document(message: Message, *, redelivered: bool) -> dict[str, object]:
    """A message: texts as they are, other bytes as base64 in members that say so."""
    kind, time = message.timestamp()
    document: dict[str, object] = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": None if kind == TIMESTAMP_NOT_AVAILABLE else time,
    }
    _put(document, "key", message.key())
    _put(document, "value", message.value())
    headers = []
    for name, value in headers_of(message):
        header: dict[str, object] = {"name": name}
        _put(header, "value", value)
        headers.append(header)
    document["headers"] = headers
    if redelivered:
        document["redelivered"] = True
    return document


def thd_encoded(message: Message, *, redelivered: bool) -> bytes:
    """The same as JSON."""
    return msgspec.json.encode(thd_document(message, redelivered=redelivered))


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """Its headers in order; a name may come more than once."""
    # The stubs allow all that may be written; what is read is always of this form.
    return cast("list[tuple[str, bytes | None]]", message.headers() or [])


def size_of(message: Message) -> int:
    """Bytes of its key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in headers_of(message))
    return len(message.key() or b"") + len(message.value() or b"") + headers


def _put(document: dict[str, object], name: str, value: bytes | str | None) -> None:
    if isinstance(value, bytes):
        try:
            document[name] = value.decode()
        except UnicodeDecodeError:
            document[f"{name}_base64"] = base64.b64encode(value).decode("ascii")
    else:
        document[name] = value
