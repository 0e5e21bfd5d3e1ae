"""Messages of JMS to and from those of the agent. An ObjectMessage is never deserialised."""

from __future__ import annotations

import re
from typing import Any, Final

from workato_tunnel.problems import Problem

from ..broker import Destination, IncomingMessage, OutgoingMessage, PropertyValue
from .jms_java_provider import Api, Provider
from .jms_java_text import text_of

PERSISTENT: Final = 2
NOT_PERSISTENT: Final = 1
DEFAULT_PRIORITY: Final = 4
_DELIVERIES: Final = "JMSXDeliveryCount"
_LARGEST: Final = 2**63
_GARBLED: Final = re.compile("[\\0\U00010000-\U0010ffff]")


def thd_outgoing(provider: Provider, session: Any, message: OutgoingMessage) -> Any:
    """A message of the session's, but for what its producer sets. Raises Problem."""
    if isinstance(message.body, str):
        made = session.createTextMessage(_text(message.body, "body"))
    else:
        made = session.createBytesMessage()
        made.writeBytes(message.body)
    for name, value in message.properties.items():
        _set_property(provider, made, name, value)
    if message.reply_to is not None:
        made.setJMSReplyTo(thd_destination(provider, session, message.reply_to))
    if message.correlation_id is not None:
        made.setJMSCorrelationID(_text(message.correlation_id, "correlation_id"))
    if message.type is not None:
        made.setJMSType(_text(message.type, "type"))
    return made


def _set_property(provider: Provider, message: Any, name: str, value: PropertyValue) -> None:
    """Set it with the Java type that its value has here: Boolean, Long, Double or String."""
    if isinstance(value, bool):
        message.setBooleanProperty(name, value)
    elif isinstance(value, int):
        if not -_LARGEST <= value < _LARGEST:
            raise _unfit("properties", f"the property {name} has more than 64 bits")
        message.setLongProperty(name, provider.jpype.JLong(value))
    elif isinstance(value, float):
        message.setDoubleProperty(name, value)
    elif value is None:
        message.setObjectProperty(name, None)
    else:
        if provider.activemq is not None and _GARBLED.search(name + value):
            raise _unfit(
                "properties",
                f"ActiveMQ's client garbles NUL and characters beyond U+FFFF in the text of a "
                f"property: {name!a}",
            )
        message.setStringProperty(name, _text(value, "properties"))


def thd_incoming(api: Api, message: Any) -> IncomingMessage:
    """A message that has been received or looked at, with its body."""
    properties = _properties(message)
    deliveries = properties.pop(_DELIVERIES, None)
    if deliveries is None and message.propertyExists(_DELIVERIES):
        deliveries = message.getIntProperty(_DELIVERIES)
    timestamp, expires = int(message.getJMSTimestamp()), int(message.getJMSExpiration())
    return IncomingMessage(
        id=_string(message.getJMSMessageID()) or "",
        body=_body(api, message),
        properties=properties,
        priority=int(message.getJMSPriority()),
        timestamp=timestamp / 1000 if timestamp > 0 else None,
        expires=expires / 1000 if expires > 0 else None,
        redelivered=bool(message.getJMSRedelivered()),
        deliveries=int(deliveries) if isinstance(deliveries, int) else None,
        reply_to=_destination(api, message.getJMSReplyTo()),
        correlation_id=_string(message.getJMSCorrelationID()),
        type=_string(message.getJMSType()),
        persistent=int(message.getJMSDeliveryMode()) == PERSISTENT,
    )


def size(message: IncomingMessage | OutgoingMessage) -> int:
    """Bytes of its body."""
    body = message.body
    if isinstance(body, str):
        return len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass"))
    return 0 if body is None else len(body)


def thd_destination(provider: Provider, session: Any, destination: Destination) -> Any:
    """A queue or topic of the session's, or what JNDI has by that name. Raises Problem."""
    name = _text(destination.name, "destination")
    if provider.looks_up:
        return _looked_up(provider, destination)
    if provider.activemq is not None and "?" in name:
        raise _unfit("destination", "options in the name of a queue or topic are not taken")
    if destination.kind == "queue":
        return session.createQueue(name)
    return session.createTopic(name)


def _looked_up(provider: Provider, destination: Destination) -> Any:
    """What JNDI has by a caller's name, which must not be a URL: that would be fetched from
    wherever it points to, and what comes from there is made into objects."""
    if ":" in destination.name:
        raise _unfit("destination", "a queue or topic that JNDI looks up has no colon in its name")
    found = provider.thd_look_up(destination.name)
    wanted = provider.api.queue if destination.kind == "queue" else provider.api.topic
    if not isinstance(found, wanted):
        raise Problem(
            "target_not_found",
            f"what JNDI has as {destination.name} is no {destination.kind}",
            hint="queues and topics are named as the naming service has them",
        )
    return found


def _properties(message: Any) -> dict[str, PropertyValue]:
    found: dict[str, PropertyValue] = {}
    names = message.getPropertyNames()
    while names.hasMoreElements():
        name = names.nextElement()
        found[text_of(name)] = _value(message.getObjectProperty(name))
    return found


def _value(value: Any) -> PropertyValue:
    """A property's value; what isn't of JMS (ActiveMQ's lists and maps) as Java's text of it."""
    if value is None:
        return None
    name = str(value.getClass().getName())
    if name == "java.lang.Boolean":
        return bool(value.booleanValue())
    if name in ("java.lang.Byte", "java.lang.Short", "java.lang.Integer", "java.lang.Long"):
        return int(value.longValue())
    if name in ("java.lang.Float", "java.lang.Double"):
        return float(value.doubleValue())
    return text_of(value.toString())


def _body(api: Api, message: Any) -> str | bytes | None:
    if isinstance(message, api.text_message):
        return _string(message.getText())
    if isinstance(message, api.bytes_message):
        length = int(message.getBodyLength())
        content = api.bytes_of(length)
        message.readBytes(content)
        return bytes(content)
    return None


def _destination(api: Api, found: Any) -> Destination | None:
    """A destination's name; a library's class may be both kinds, so ActiveMQ's is asked first."""
    if found is None:
        return None
    if hasattr(found, "isQueue") and hasattr(found, "isTopic"):
        is_queue = bool(found.isQueue())
    else:
        is_queue = isinstance(found, api.queue)
    if is_queue:
        return Destination("queue", text_of(found.getQueueName()))
    return Destination("topic", text_of(found.getTopicName()))


def _string(value: Any) -> str | None:
    return None if value is None else text_of(value)


def _text(text: str, where: str) -> str:
    """The text, if Java can send it: half of a surrogate pair is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _unfit(where, "half of a surrogate pair is no character") from None
    return text


def _unfit(where: str, detail: str) -> Problem:
    return Problem("bad_request", detail, extra={"field": where})
