"""The services of message brokers' profiles: one builder for each provider.

What speaks to a broker is imported when a profile needs it: Java, AMQP and SQS have extras of their
own, and STOMP is nothing that every agent needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from twisted.python.threadpool import ThreadPool

from .config import aws
from .config.clientcertificates import CertificateAuth
from .config.jms import (
    ActivemqProfile,
    AmqpProfile,
    CustomProfile,
    JmsProfile,
    JndiOptions,
    SqsProfile,
    TlsOptions,
)
from .config.secrets import Secret
from .services.base import ProfileService
from .services.handshakes import ClientCertificate, TlsSettings
from .services.jms.broker import Broker
from .services.jms.service import JmsService
from .services.jms.settings import (
    Address,
    AmqpSettings,
    JavaSettings,
    JmsPolicy,
    JmsSettings,
    JndiSettings,
    SqsSettings,
    StompSettings,
)

PUBLISHING: Final = 1
"""Connections or sessions for publishing, beside those of the batches."""


@frozen
class MessagingContext:
    """What a broker needs beside its profile.

    :ivar agent: the agent's name, with which the ids of receipts begin.
    :ivar classpath: where Java finds a broker's client library.
    :ivar thread_pool: makes the profile's own pool, by its size.
    """

    reactor: Any
    agent: str
    classpath: tuple[Path, ...]
    thread_pool: Callable[[int], ThreadPool]


def messaging_service(context: MessagingContext, profile: JmsProfile) -> ProfileService:
    """The service of one profile; it opens nothing yet. Raises ValueError for the operator."""
    rules, limits = profile.policy, profile.limits
    settings = JmsSettings(
        agent=context.agent,
        ack_timeout=profile.ack_timeout,
        max_batches=limits.batches,
        max_message=limits.message,
        max_batch=limits.batch,
        policy=JmsPolicy(rules.operations, rules.destinations, rules.max_bytes),
    )
    return JmsService(context.reactor, _BROKERS[type(profile)](context, profile), settings)


def _activemq(context: MessagingContext, profile: ActivemqProfile) -> Broker:
    if profile.url.java:
        return _activemq_java(context, profile)
    from .services.jms.brokers.stomp import StompBroker  # noqa: PLC0415

    return StompBroker.of(context.reactor, stomp_settings(profile))


def stomp_settings(profile: ActivemqProfile) -> StompSettings:
    """What a profile with stomp:// means to STOMP."""
    return StompSettings(
        addresses=_addresses(profile),
        tls=_tls(profile),
        username=profile.username,
        password=_revealed(profile.password),
        virtual_host=profile.virtual_host,
        client_id=profile.client_id,
        connect_timeout=profile.timeout,
        heartbeat=profile.heartbeat,
        max_connections=profile.limits.batches + PUBLISHING,
        max_message=profile.limits.message,
    )


def _activemq_java(context: MessagingContext, profile: ActivemqProfile) -> Broker:
    ssl = "Ssl" if profile.encrypted else ""
    settings = JavaSettings(
        type="activemq",
        factory=f"org.apache.activemq.ActiveMQ{ssl}ConnectionFactory",
        properties={"brokerURL": profile.url.text},
        username=profile.username,
        password=_revealed(profile.password),
        tls=_tls(profile),
        client_id=profile.client_id,
        connect_timeout=profile.timeout,
        max_sessions=profile.limits.batches + PUBLISHING,
        max_message=profile.limits.message,
        classpath=context.classpath,
    )
    return _java(context, settings)


def _custom(context: MessagingContext, profile: CustomProfile) -> Broker:
    settings = JavaSettings(
        type="jms",
        factory=profile.factory_class,
        properties=dict(profile.properties),
        jndi=None if profile.jndi is None else _jndi(profile.jndi),
        username=profile.username,
        password=_revealed(profile.password),
        client_id=profile.client_id,
        connect_timeout=profile.timeout,
        max_sessions=profile.limits.batches + PUBLISHING,
        max_message=profile.limits.message,
        classpath=context.classpath,
    )
    return _java(context, settings)


def _java(context: MessagingContext, settings: JavaSettings) -> Broker:
    from .services.jms.brokers.jms_java import JavaBroker  # noqa: PLC0415

    return JavaBroker.of(context.reactor, context.thread_pool(settings.max_sessions + 1), settings)


def _amqp(context: MessagingContext, profile: AmqpProfile) -> Broker:
    if find_spec("proton") is None:
        raise ValueError("AMQP needs a library: pip install 'workato-agent[amqp]'")
    from .services.jms.brokers.amqp import AmqpBroker  # noqa: PLC0415

    settings = AmqpSettings(
        addresses=_addresses(profile),
        tls=_tls(profile),
        username=profile.username,
        password=_revealed(profile.password),
        virtual_host=profile.virtual_host,
        queue_prefix=profile.queue_prefix,
        topic_prefix=profile.topic_prefix,
        container_id=profile.client_id,
        connect_timeout=profile.timeout,
        heartbeat=profile.heartbeat,
        max_receivers=profile.limits.batches,
        max_message=profile.limits.message,
    )
    return AmqpBroker.of(context.reactor, settings)


def _sqs(context: MessagingContext, profile: SqsProfile) -> Broker:
    if not aws.installed():
        raise ValueError("Amazon SQS needs a library: pip install 'workato-agent[aws]'")
    from .services.jms.brokers.sqs import SqsBroker  # noqa: PLC0415

    settings = SqsSettings(
        region=profile.region,
        access_key=profile.access_key,
        secret_key=profile.secret_key.reveal(),
        session_token=_revealed(profile.session_token),
        endpoint=profile.endpoint,
        tls=_tls(profile),
        connect_timeout=profile.timeout,
        max_connections=profile.limits.batches + PUBLISHING,
        # The broker takes a message back by itself a little after the agent would have.
        visibility=profile.ack_timeout + 10,
        max_message=profile.limits.message,
    )
    return SqsBroker.of(context.reactor, settings)


def _jndi(options: JndiOptions) -> JndiSettings:
    return JndiSettings(
        initial_context=options.initial_context,
        url=options.url,
        factory=options.factory,
        username=options.username,
        password=_revealed(options.password),
        environment=dict(options.environment),
        destinations=options.destinations,
    )


def _addresses(profile: ActivemqProfile | AmqpProfile) -> tuple[Address, ...]:
    return tuple(Address(host, port) for host, port in profile.url.addresses)


def _tls(profile: TlsOptions) -> TlsSettings | None:
    if not profile.encrypted:
        return None
    shown = profile.certificate
    return TlsSettings(
        ca=None if profile.ca is None else _read(profile.ca),
        trust_all=profile.trust_all,
        verify_host=profile.verify_host,
        certificate=None if shown is None else _certificate(shown),
    )


def _certificate(shown: CertificateAuth) -> ClientCertificate:
    return ClientCertificate(_read(shown.cert), _read(shown.key), _revealed(shown.password))


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


_BROKERS: Final[Mapping[type[JmsProfile], Callable[[MessagingContext, Any], Broker]]] = {
    ActivemqProfile: _activemq,
    AmqpProfile: _amqp,
    SqsProfile: _sqs,
    CustomProfile: _custom,
}
