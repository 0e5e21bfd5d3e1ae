"""What a jms profile is made of, once its config has been read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, gt, le, min_len

from ...config.destinationpatterns import DestinationPattern
from ..handshakes import TlsSettings

MIB = 2**20


@frozen
class JmsPolicy:
    """What the customer allows. None allows everything.

    :ivar operations: of :data:`~.routes.OPERATIONS`.
    :ivar destinations: the queues and topics that may be named, in replies too.
    :ivar max_bytes: the largest body of a message that may be published.
    """

    operations: tuple[str, ...] | None = None
    destinations: tuple[DestinationPattern, ...] | None = None
    max_bytes: int | None = None


@frozen
class JmsSettings:
    """What the service needs to know, whatever the broker. Times in seconds.

    :ivar agent: the agent's name, with which the ids of its receipts begin.
    :ivar ack_timeout: after which a batch that nobody settled goes back to the broker.
    :ivar max_batches: received and not settled, of all callers together.
    :ivar max_message: bytes of a message's body, either way.
    :ivar max_batch: bytes of the bodies of one batch (its first message may be larger).
    """

    agent: str
    ack_timeout: float = field(default=30.0, validator=gt(0))
    max_batches: int = field(default=64, validator=ge(1))
    max_message: int = field(default=16 * MIB, validator=ge(1))
    max_batch: int = field(default=64 * MIB, validator=ge(1))
    policy: JmsPolicy = JmsPolicy()


@frozen
class Address:
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class StompSettings:
    """A broker that is spoken to in STOMP 1.2.

    :ivar addresses: tried in order until one answers.
    :ivar tls: None for plain TCP.
    :ivar client_id: what the ids of this agent's durable subscriptions begin with.
    :ivar connect_timeout: name, TCP, TLS and login together.
    :ivar heartbeat: how often each side says that it is there; 0: not at all.
    :ivar max_connections: one is for publishing, each outstanding batch or waiting receive has one.
    :ivar max_message: bytes of a message's body, either way.
    """

    addresses: tuple[Address, ...] = field(validator=min_len(1))
    tls: TlsSettings | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    virtual_host: str | None = None
    client_id: str = "workato-agent"
    connect_timeout: float = field(default=10.0, validator=gt(0))
    heartbeat: float = field(default=15.0, validator=ge(0))
    max_connections: int = field(default=65, validator=ge(2))
    max_message: int = field(default=16 * MIB, validator=ge(1))


@frozen
class AmqpSettings:
    """A broker that is spoken to in AMQP 1.0.

    :ivar addresses: tried in order until one answers.
    :ivar tls: None for plain TCP.
    :ivar virtual_host: of the ``open`` frame; None: the host.
    :ivar container_id: names this agent to the broker, and owns its durable subscriptions.
    :ivar connect_timeout: name, TCP, TLS, SASL and open together.
    :ivar heartbeat: the idle time-out is twice this; 0: none.
    :ivar queue_prefix: of a queue's address; None: as the broker says. ``topic_prefix`` likewise.
    :ivar max_receivers: links that receive at a time.
    """

    addresses: tuple[Address, ...] = field(validator=min_len(1))
    tls: TlsSettings | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    virtual_host: str | None = None
    queue_prefix: str | None = None
    topic_prefix: str | None = None
    container_id: str = "workato-agent"
    connect_timeout: float = field(default=10.0, validator=gt(0))
    heartbeat: float = field(default=15.0, validator=ge(0))
    max_receivers: int = field(default=64, validator=ge(1))
    max_message: int = field(default=16 * MIB, validator=ge(1))


@frozen
class SqsSettings:
    """Amazon SQS.

    :ivar endpoint: instead of the region's own, as ``https://vpce-….amazonaws.com``.
    :ivar tls: None where the endpoint is http.
    :ivar connect_timeout: name, TCP and TLS together; an answer may take three times that.
    :ivar visibility: how long a received message is hidden before it is seen again on its own.
    :ivar poll: whole seconds of one long poll, 20 at most; further ones follow.
    """

    region: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    tls: TlsSettings | None = field(factory=TlsSettings)
    connect_timeout: float = field(default=10.0, validator=gt(0))
    max_connections: int = field(default=64, validator=ge(1))
    visibility: float = field(default=30.0, validator=gt(0))
    poll: int = field(default=20, validator=[ge(1), le(20)])
    max_message: int = field(default=16 * MIB, validator=ge(1))


@frozen
class JndiSettings:
    """Where a ConnectionFactory, and maybe destinations, are looked up.

    :ivar initial_context: class name of the InitialContextFactory.
    :ivar url: java.naming.provider.url.
    :ivar factory: the name under which the ConnectionFactory is bound.
    :ivar environment: further entries of the JNDI environment; may hold secrets.
    :ivar destinations: queues and topics are looked up by name instead of made by the session.
    """

    initial_context: str
    url: str | None = field(repr=False)
    factory: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(factory=dict, repr=False)
    destinations: bool = False


@frozen
class JavaSettings:
    """A broker that is reached through its JMS client library.

    :ivar type: for the catalogue: ``activemq`` or ``jms``.
    :ivar factory: class name of the ConnectionFactory; None with ``jndi``.
    :ivar properties: bean properties set on the factory (``brokerURL`` calls ``setBrokerURL``), in
        order; may hold secrets. For ActiveMQ the URL is among them.
    :ivar tls: own TLS options, for ActiveMQ's ``ssl://`` only; None: what Java trusts.
    :ivar client_id: JMS client id under which durable subscriptions are.
    :ivar connect_timeout: for everything until the connection has started.
    :ivar max_sessions: sessions at a time: one publishes, each outstanding batch has one.
    :ivar classpath: jars of ``server.classpath``.
    """

    type: Literal["activemq", "jms"]
    factory: str | None
    properties: Mapping[str, str] = field(factory=dict, repr=False)
    jndi: JndiSettings | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsSettings | None = None
    client_id: str = "workato-agent"
    connect_timeout: float = field(default=10.0, validator=gt(0))
    max_sessions: int = field(default=65, validator=ge(2))
    max_message: int = field(default=16 * MIB, validator=ge(1))
    classpath: tuple[Path, ...] = ()
