"""What is known of ActiveMQ's Java client beyond JMS: its URLs, its TLS and how it is torn off."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ...handshakes import TlsSettings
from .jms_java_tls import thd_key_managers, thd_trust_managers

FACTORY: Final = "org.apache.activemq.ActiveMQConnectionFactory"
TLS_FACTORY: Final = "org.apache.activemq.ActiveMQSslConnectionFactory"
URL: Final = "brokerURL"
DEBIAN: Final = "libactivemq-java"
_PLACE: Final = Path("/usr/share/java")
_JARS: Final = (
    "activemq-client.jar",
    "geronimo-jms_1.1_spec.jar",
    "geronimo-j2ee-management-1.1-spec.jar",
    "hawtbuf.jar",
    "slf4j-api.jar",
    "slf4j-nop.jar",
)
SCHEDULED: Final = "AMQ_SCHEDULED_DELAY"
SCHEDULED_BY_BROKER: Final = "scheduledJobId"
CLOSE_MILLISECONDS: Final = 500
_PROBE_MILLISECONDS: Final = 5000
_RECONNECTS: Final = 9
"""With ActiveMQ's growing pauses this rides over some five seconds without a broker."""
_FAILOVER: Final = re.compile(
    r"failover:(?://)?(?:\((?P<list>[^()]*)\)|(?P<bare>[^()?]+))(?:\?(?P<options>.*))?"
)


def debian_jars() -> list[Path]:
    """Debian's jars of the client, where they are installed."""
    return [_PLACE / name for name in _JARS if (_PLACE / name).exists()]


def bounded_url(url: str, seconds: float, tls: TlsSettings | None) -> str:
    """A URL whose client doesn't wait for ever: what it doesn't say itself gets a bound.

    ``failover:`` alone would try for ever to reach a broker, and hold up whoever sends.
    """
    milliseconds = round(seconds * 1000)
    each = {"connectionTimeout": str(milliseconds)}
    if tls is not None and (tls.trust_all or not tls.verify_host):
        each["socket.verifyHostName"] = "false"
    failover = _FAILOVER.fullmatch(url)
    if failover is None:
        path, _, query = url.partition("?")
        return _with(path, query, each)
    options = {
        "timeout": str(milliseconds),
        "startupMaxReconnectAttempts": "1",
        "maxReconnectAttempts": str(_RECONNECTS),
        **{f"nested.{name}": value for name, value in each.items()},
    }
    urls = failover["list"] or failover["bare"]
    return _with(f"failover:({urls})", failover["options"] or "", options)


def _with(path: str, query: str, options: dict[str, str]) -> str:
    stated = {part.partition("=")[0] for part in query.split("&") if part}
    more = [f"{name}={value}" for name, value in options.items() if name not in stated]
    return f"{path}?{'&'.join([query, *more] if query else more)}"


def thd_secured(jpype: Any, factory: Any, tls: TlsSettings) -> None:
    """Have a factory of :data:`TLS_FACTORY` trust and show what the profile says."""
    factory.setKeyAndTrustManagers(
        thd_key_managers(jpype, tls), thd_trust_managers(jpype, tls), None
    )


def thd_tuned(factory: Any, url: str) -> None:
    """The factory's own settings, but for those that its URL has.

    No advisory topics (they need rights and tell us nothing); a login and a close that are bounded.
    Redelivery at once and for ever: the client would hold a message back for a second and move it
    to the dead letter queue after six times, and which message is hopeless is the caller's to say.
    """
    if "jms.watchTopicAdvisories" not in url:
        factory.setWatchTopicAdvisories(False)
    if "jms.closeTimeout" not in url:
        factory.setCloseTimeout(CLOSE_MILLISECONDS)
    if "jms.redeliveryPolicy" not in url:
        policy = factory.getRedeliveryPolicy()
        policy.setMaximumRedeliveries(-1)
        policy.setInitialRedeliveryDelay(0)
        policy.setRedeliveryDelay(0)


@frozen
class Parts:
    """Classes of the client's that the agent uses beside JMS.

    :ivar tcp: the transport over TCP. ``pull``: the request for a message.
    :ivar quieten: the method of a consumer that keeps it from making such requests itself, and its
        argument; None where a client has it no more.
    """

    tcp: Any
    pull: Any
    quieten: tuple[Any, Any] | None

    @classmethod
    def thd_of(cls, jpype: Any, loader: Any) -> Parts:
        """Load them."""
        tcp = jpype.JClass("org.apache.activemq.transport.tcp.TcpTransport", loader=loader)
        pull = jpype.JClass("org.apache.activemq.command.MessagePull", loader=loader)
        consumer = jpype.JClass("org.apache.activemq.ActiveMQMessageConsumer", loader=loader)
        try:
            method = consumer.class_.getDeclaredMethod("setPrefetchSize", jpype.JInt.class_)
        except jpype.JException:
            return cls(tcp, pull, None)
        method.setAccessible(True)
        one = jpype.JArray(jpype.JObject)([jpype.JClass("java.lang.Integer").valueOf(1)])
        return cls(tcp, pull, (method, one))

    def thd_asked(self, session: Any, consumer: Any, place: Any, count: int) -> int:
        """Ask the broker for so many messages at once, instead of for one after the other.

        It answers each request, in order, with a message or with nothing: as many times as this
        returns ``receiveNoWait`` has to be called.
        """
        if self.quieten is None:
            return 1
        method, argument = self.quieten
        method.invoke(consumer, argument)
        for _ in range(count):
            pull = self.pull()
            pull.setConsumerId(consumer.getConsumerId())
            pull.setDestination(place)
            pull.setTimeout(-1)
            session.asyncSendPacket(pull)
        return count

    def thd_tear_off(self, connection: Any) -> None:
        """End a connection whose ``close`` hangs: a broker that reads nothing blocks that too."""
        transport = connection.getTransport()
        under = transport.narrow(self.tcp)
        if under is not None:
            under.stop()
        transport.stop()


def thd_schedules(jpype: Any, connection: Any) -> bool:
    """Whether the broker delays messages. One that has no scheduler delivers them at once, and
    doesn't say so: it is asked with a message to a temporary queue of our own, which comes back
    with the scheduler's mark or without."""
    session = connection.createSession(False, 1)
    queue = session.createTemporaryQueue()
    try:
        message = session.createMessage()
        message.setLongProperty(SCHEDULED, 1)
        consumer = session.createConsumer(queue)
        session.createProducer(queue).send(message)
        answer = consumer.receive(_PROBE_MILLISECONDS)
        return answer is not None and bool(answer.propertyExists(SCHEDULED_BY_BROKER))
    finally:
        with suppress(jpype.JException):
            session.close()
            queue.delete()


def no_scheduler() -> Problem:
    """The broker would deliver a delayed message at once."""
    return Problem(
        "bad_request",
        "this broker doesn't delay messages: its scheduler is off",
        hint='leave delay out, or set schedulerSupport="true" on the broker',
        extra={"field": "delay"},
    )
