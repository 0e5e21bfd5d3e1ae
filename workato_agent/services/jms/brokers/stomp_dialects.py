"""What ActiveMQ and RabbitMQ make of STOMP: destinations, headers, what they can't do. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, NoReturn, Protocol
from urllib.parse import quote, unquote

from workato_tunnel.problems import Problem

from ..broker import Destination, IncomingMessage, OutgoingMessage, PropertyValue, Source
from .stomp_frames import Frame

Headers = list[tuple[str, str]]

_ID: Final = "workato_message_id"
"""ActiveMQ tells a publisher no id, so messages carry the one that publishing them told."""
_RESERVED: Final = frozenset(
    "destination receipt transaction content-length content-type content-encoding correlation-id"
    " reply-to type priority persistent expires expiration message-id amqp-message-id subscription"
    " ack id timestamp redelivered selector transformation login passcode session user-id app-id"
    f" cluster-id originaldestination brokerid {_ID}".split()
)
_SERVERS_OWN: Final = frozenset({"amq_scheduled_delay", "scheduledjobid", "breadcrumbid"})
_STANDARD: Final = (_RESERVED | _SERVERS_OWN) - {"app-id", "breadcrumbid"}
"""Headers of a MESSAGE that are no properties, in lower case."""


class Dialect(Protocol):
    """One server's STOMP."""

    name: ClassVar[str]
    type: ClassVar[str]
    selectors: ClassVar[bool]
    browsing: ClassVar[bool]
    transactions: ClassVar[bool]
    """SENDs in a transaction are one write; else each is confirmed by itself."""
    shared_durable: ClassVar[bool]
    """Several consumers may share a durable subscription."""
    stray_error: ClassVar[re.Pattern[str] | None]
    """The ERROR for a message that came while its subscription was being ended; None if there is
    none. The connection stays, and the message with it."""
    returns_on_unsubscribe: ClassVar[bool]
    """Ending a subscription gives back what it was sent; else NACK does."""

    def login(self, client_id: str | None) -> Headers:
        """Headers of CONNECT beside the common ones."""
        ...

    def destination(self, destination: Destination) -> str:
        """As a header has it."""
        ...

    def message(self, message: OutgoingMessage, message_id: str, now: float) -> Headers:
        """Headers of SEND without destination and length. Raises Problem ``bad_request``."""
        ...

    def subscription(self, source: Source, prefetch: int) -> Headers:
        """Headers of SUBSCRIBE without id. Raises Problem ``bad_request``."""
        ...

    def received(self, frame: Frame) -> IncomingMessage:
        """A MESSAGE."""
        ...

    def sized(self, message: OutgoingMessage) -> bool:
        """Whether a SEND has its content-length."""
        ...


class ActivemqDialect:
    """Apache ActiveMQ 5 ("Classic"): https://activemq.apache.org/components/classic/stomp."""

    name: ClassVar[str] = "ActiveMQ"
    type: ClassVar[str] = "activemq"
    selectors: ClassVar[bool] = True
    browsing: ClassVar[bool] = True
    transactions: ClassVar[bool] = True
    shared_durable: ClassVar[bool] = False
    returns_on_unsubscribe: ClassVar[bool] = True
    stray_error: ClassVar[re.Pattern[str] | None] = None

    def login(self, client_id: str | None) -> Headers:
        return [] if client_id is None else [("client-id", client_id)]

    def destination(self, destination: Destination) -> str:
        return f"/{destination.kind}/{destination.name}"

    def message(self, message: OutgoingMessage, message_id: str, now: float) -> Headers:
        if isinstance(message.body, str) and "\0" in message.body:
            _refuse("body", "over STOMP a text message holds no NUL", "send it as body_base64")
        headers = _common(self, message)
        headers.append((_ID, message_id))
        if message.ttl:
            headers.append(("expires", str(int(now * 1000) + _milliseconds(message.ttl))))
        if message.delay:
            headers.append(("AMQ_SCHEDULED_DELAY", str(_milliseconds(message.delay))))
        return headers + _properties(message.properties)

    def subscription(self, source: Source, prefetch: int) -> Headers:
        headers = [
            ("destination", self.destination(source.destination)),
            ("ack", "client-individual"),
            ("activemq.prefetchSize", str(prefetch)),
        ]
        if source.selector is not None:
            headers.append(("selector", source.selector))
        if source.subscription is not None:
            headers.append(("activemq.subscriptionName", source.subscription))
        return headers

    def received(self, frame: Frame) -> IncomingMessage:
        headers = frame.headers
        # A text message has no content-length, whatever it holds.
        text = "content-length" not in headers
        expires = _number(headers.get("expires"))
        return IncomingMessage(
            id=headers.get(_ID) or headers.get("message-id", ""),
            body=_java_text(frame.body) if text else frame.body,
            properties=_found(headers),
            priority=_whole(headers.get("priority")),
            timestamp=_seconds(headers.get("timestamp")),
            expires=expires / 1000 if expires else None,
            redelivered=headers.get("redelivered") == "true",
            reply_to=_destination(headers.get("reply-to"), str),
            correlation_id=headers.get("correlation-id"),
            type=headers.get("type"),
            persistent=headers.get("persistent") == "true",
        )

    def sized(self, message: OutgoingMessage) -> bool:
        return isinstance(message.body, bytes)


class RabbitmqDialect:
    """RabbitMQ's STOMP plugin: https://www.rabbitmq.com/docs/stomp."""

    name: ClassVar[str] = "RabbitMQ"
    type: ClassVar[str] = "rabbitmq"
    selectors: ClassVar[bool] = False
    browsing: ClassVar[bool] = False
    transactions: ClassVar[bool] = False
    shared_durable: ClassVar[bool] = True
    returns_on_unsubscribe: ClassVar[bool] = False
    stray_error: ClassVar[re.Pattern[str] | None] = re.compile(r"no current subscription with tag")

    def login(self, client_id: str | None) -> Headers:
        return []

    def destination(self, destination: Destination) -> str:
        return f"/{destination.kind}/{quote(destination.name, safe='')}"

    def message(self, message: OutgoingMessage, message_id: str, now: float) -> Headers:
        if message.delay:
            _refuse("delay", "RabbitMQ has no delayed delivery", "leave the delay out")
        headers = _common(self, message)
        headers.append(("amqp-message-id", message_id))
        headers.append(("timestamp", str(int(now))))
        text = isinstance(message.body, str)
        kind = "text/plain;charset=utf-8" if text else "application/octet-stream"
        headers.append(("content-type", kind))
        if message.ttl:
            headers.append(("expiration", str(_milliseconds(message.ttl))))
        return headers + _properties(message.properties)

    def subscription(self, source: Source, prefetch: int) -> Headers:
        if source.selector is not None:
            hint = "leave the selector out: RabbitMQ would ignore it and give you everything"
            _refuse("selector", "RabbitMQ has no selectors", hint)
        headers = [
            ("destination", self.destination(source.destination)),
            ("ack", "client-individual"),
            ("prefetch-count", str(prefetch)),
        ]
        if source.subscription is not None:
            headers += [
                ("durable", "true"),
                ("auto-delete", "false"),
                ("exclusive", "false"),
                ("x-queue-name", f"stomp-subscription-{source.subscription}"),
            ]
        return headers

    def received(self, frame: Frame) -> IncomingMessage:
        headers = frame.headers
        return IncomingMessage(
            id=headers.get("amqp-message-id") or headers.get("message-id", ""),
            body=_by_type(frame.body, headers.get("content-type")),
            properties=_found(headers),
            priority=_whole(headers.get("priority")),
            timestamp=_number(headers.get("timestamp")),
            redelivered=headers.get("redelivered") == "true",
            reply_to=_destination(headers.get("reply-to"), unquote),
            correlation_id=headers.get("correlation-id"),
            type=headers.get("type"),
            persistent=headers.get("persistent") in ("true", "1"),
        )

    def sized(self, message: OutgoingMessage) -> bool:
        return True


_DIALECTS: Final = (ActivemqDialect(), RabbitmqDialect())


def dialect_of(server: str | None) -> Dialect:
    """By the ``server`` header of CONNECTED. Raises Problem ``target_wrong_type``."""
    for dialect in _DIALECTS:
        if server is not None and server.startswith(f"{dialect.name}/"):
            return dialect
    shown = f"{server!r}" if server else "one that doesn't say what it is"
    raise Problem(
        "target_wrong_type",
        f"the broker speaks STOMP, but is {shown}; how such a broker gives messages back is not "
        "known here",
        hint="over STOMP this version knows ActiveMQ (Classic) and RabbitMQ; provider amqp may "
        "reach it",
    )


def _common(dialect: Dialect, message: OutgoingMessage) -> Headers:
    headers: Headers = []
    if message.persistent:
        headers.append(("persistent", "true"))
    if message.priority is not None:
        headers.append(("priority", str(message.priority)))
    if message.correlation_id is not None:
        headers.append(("correlation-id", message.correlation_id))
    if message.type is not None:
        headers.append(("type", message.type))
    if message.reply_to is not None:
        headers.append(("reply-to", dialect.destination(message.reply_to)))
    for name, value in headers:
        _no_nul(name, value)
    return headers


def _properties(properties: Mapping[str, PropertyValue]) -> Headers:
    headers: Headers = []
    for name, value in properties.items():
        if _taken(name):
            _refuse(f"properties.{name}", "this name means something to the broker itself")
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif value is None:
            _refuse(f"properties.{name}", "STOMP has no null", "leave the property out")
        else:
            text = value if isinstance(value, str) else repr(value)
        _no_nul(f"properties.{name}", name + text)
        headers.append((name, text))
    return headers


def _taken(name: str) -> bool:
    if name in ("JMSXGroupID", "JMSXGroupSeq"):
        return False
    folded = name.lower()
    return folded in _RESERVED or folded.startswith(("jms", "amq"))


def _no_nul(field: str, text: str) -> None:
    if "\0" in text:
        _refuse(field, "STOMP's headers hold no NUL")


def _refuse(field: str, detail: str, hint: str | None = None) -> NoReturn:
    raise Problem("bad_request", f"{field}: {detail}", hint=hint, extra={"field": field})


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _found(headers: Mapping[str, str]) -> dict[str, PropertyValue]:
    return {name: value for name, value in headers.items() if name.lower() not in _STANDARD}


def _number(text: str | None) -> float | None:
    if text is None or re.fullmatch(r"[0-9]{1,18}", text) is None:
        return None
    return float(text)


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _seconds(text: str | None) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _text(body: bytes) -> str | bytes:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body


def _java_text(body: bytes) -> str | bytes:
    """ActiveMQ passes a Java client's text on in Java's modified UTF-8: NUL in two bytes, and
    characters beyond 16 bits as two surrogates."""
    found = _text(body)
    if isinstance(found, str):
        return found
    try:
        text = body.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return body


def _by_type(body: bytes, content_type: str | None) -> str | bytes:
    """Text unless it says or shows that it isn't."""
    if content_type is not None and content_type.startswith("application/octet-stream"):
        return body
    return _text(body)


def _destination(text: str | None, decode: Callable[[str], str]) -> Destination | None:
    if text is None:
        return None
    kind, _, name = text.removeprefix("/").partition("/")
    if kind == "topic" and name:
        return Destination("topic", decode(name))
    return Destination("queue", decode(name)) if kind == "queue" and name else None
