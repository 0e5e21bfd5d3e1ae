"""Profiles of the ``jms`` section: message brokers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic.functional_serializers import PlainSerializer

from .clientcertificates import CertificateAuth
from .database.odbc import Properties
from .database.properties import kind_of, near
from .destinationpatterns import DestinationPattern
from .errors import suggestion
from .fields import (
    ConfigPath,
    Model,
    PositiveSeconds,
    Seconds,
    Size,
    Text,
    authority_digest,
    authority_file,
    refuse,
    split_url,
)
from .jmsurls import BrokerUrl, activemq_url, amqp_urls
from .policies import Policy
from .profiles import Fault, ProfileConfig, Variant
from .secrets import Secret

_CLASS: Final = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*")
_VM: Final = re.compile(r"(?i)(^|[:(,/])vm:(//|\()")


def _pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            return DestinationPattern.parse(value)
        except ValueError:
            refuse("expected a pattern of queues or topics", "for example orders.* or queue:orders")
    return value if isinstance(value, DestinationPattern) else refuse("expected text")


_as_text = PlainSerializer(lambda value: value.text, return_type=str)

DestinationPatternField = Annotated[
    DestinationPattern,
    PlainValidator(_pattern, json_schema_input_type=str),
    _as_text,
]


def _class_name(value: object) -> object:
    if isinstance(value, str) and _CLASS.fullmatch(value.strip()) is None:
        refuse(
            "expected the name of a Java class", "for example com.ibm.mq.jms.MQConnectionFactory"
        )
    return value.strip() if isinstance(value, str) else value


ClassName = Annotated[Text, BeforeValidator(_class_name, json_schema_input_type=str)]
Name = Annotated[Text, Field(max_length=200, pattern=r"^[A-Za-z0-9_.:-]+$")]


class JmsPolicy(Policy):
    """Policy of a broker. Acknowledging belongs to ``receive`` and ``subscribe``.

    :ivar destinations: patterns of the queues and topics that may be named, in replies too.
    :ivar max_bytes: the largest body of a message that may be published.
    """

    known_operations: ClassVar[tuple[str, ...]] = ("publish", "receive", "browse", "subscribe")

    destinations: Annotated[tuple[DestinationPatternField, ...], Field(min_length=1)] | None = None
    max_bytes: Size | None = None


class JmsLimits(Model):
    """What a profile may take of the agent and of the broker.

    :ivar batches: received and not settled at a time.
    :ivar message: bytes of a message's body. ``batch``: of the bodies of one batch.
    """

    batches: Annotated[int, Field(ge=1, le=1000)] = 64
    message: Annotated[Size, Field(ge=1, le=2**30)] = 16 * 2**20
    batch: Annotated[Size, Field(ge=1, le=2**30)] = 64 * 2**20


class JmsProfile(ProfileConfig):
    """What profiles of every broker have.

    :ivar ack_timeout: seconds until messages that nobody acknowledged go back to the broker.
    :ivar timeout: seconds to connect and log in.
    """

    service: ClassVar[str] = "jms"

    provider: str
    ack_timeout: PositiveSeconds = 30
    timeout: PositiveSeconds = 10
    limits: JmsLimits = JmsLimits()
    policy: JmsPolicy = JmsPolicy()


class TlsOptions(JmsProfile):
    """TLS, where the URL asks for it.

    :ivar ca: PEM file to trust instead of the system's store.
    :ivar trust_all: verify nothing. ``verify_host``: verify the certificate's name.
    :ivar certificate: what the agent shows to the broker.
    """

    ca: ConfigPath | None = None
    trust_all: bool = Field(False, alias="trustAll")
    verify_host: bool = Field(True, alias="verifyHost")
    certificate: CertificateAuth | None = None
    # A reload sees by it that the file of the same name holds other authorities.
    _trusted: bytes = PrivateAttr(b"")

    @field_validator("ca")
    @classmethod
    def _ca(cls, value: Path | None) -> Path | None:
        return authority_file(value)

    @model_validator(mode="after")
    def _look_at_ca(self) -> TlsOptions:
        self._trusted = authority_digest(self.ca)
        return self

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        raise NotImplementedError

    def remarks(self) -> tuple[str, ...]:
        """Says where verification is off, and that the agent's certificate has expired."""
        if not self.encrypted:
            return ()
        found = []
        if self.trust_all:
            found.append("trustAll is on: its certificate is not verified at all")
        elif not self.verify_host:
            found.append("verifyHost is off: its certificate's name is not verified")
        if self.certificate is not None and self.certificate.expired():
            found.append(f"the client certificate {self.certificate.cert} has expired")
        return tuple(found)

    @model_validator(mode="after")
    def _tls_where_it_is_used(self) -> TlsOptions:
        if not self.encrypted:
            for key, value in (("ca", self.ca), ("certificate", self.certificate)):
                if value is not None:
                    refuse(
                        "is for TLS, and the URL asks for none", "see the schemes of url", at=key
                    )
        return self


class _Login(TlsOptions):
    """A user of the broker."""

    username: Text | None = Field(None, validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None

    @model_validator(mode="after")
    def _both(self) -> _Login:
        if self.password is not None and self.username is None:
            refuse("missing: expected the name that goes with the password", at="username")
        return self


def _activemq(value: object) -> BrokerUrl:
    if isinstance(value, str):
        return activemq_url(value.strip())
    return value if isinstance(value, BrokerUrl) else refuse("expected text")


def _amqp(value: object) -> BrokerUrl:
    if isinstance(value, str):
        return amqp_urls(value.strip())
    return value if isinstance(value, BrokerUrl) else refuse("expected text")


ActivemqUrl = Annotated[BrokerUrl, PlainValidator(_activemq, json_schema_input_type=str), _as_text]
AmqpUrls = Annotated[BrokerUrl, PlainValidator(_amqp, json_schema_input_type=str), _as_text]


class ActivemqProfile(_Login):
    """ActiveMQ: ``tcp://``, ``ssl://`` through its Java client, ``stomp://`` without Java.

    :ivar client_id: what the JMS client ids of durable subscriptions begin with.
    :ivar heartbeat: seconds between signs of life, both ways; STOMP only.
    :ivar virtual_host: STOMP's ``host``, which RabbitMQ looks at; left out it is ``/``.
    """

    provider: Literal["activemq", "stomp"]
    url: ActivemqUrl
    client_id: Name = "workato-agent"
    heartbeat: Seconds = 15
    virtual_host: Text | None = None

    @property
    def encrypted(self) -> bool:
        return self.url.encrypted

    @model_validator(mode="after")
    def _protocol(self) -> ActivemqProfile:
        if self.provider == "stomp" and self.url.java:
            refuse(
                "expected stomp:// or stomp+ssl://", "provider activemq takes tcp:// too", at="url"
            )
        if self.url.java and self.virtual_host is not None:
            refuse("is for stomp:// only", at="virtual_host")
        return self


class AmqpProfile(_Login):
    """A broker of AMQP 1.0.

    :ivar url: one, or several with commas between, tried in order.
    :ivar client_id: the container id, which owns durable subscriptions.
    :ivar virtual_host: left out it is the host of the URL.
    :ivar queue_prefix: of a queue's address, where the broker has one and doesn't tell it.
        ``topic_prefix``: likewise.
    """

    provider: Literal["amqp"]
    url: AmqpUrls
    client_id: Name = "workato-agent"
    heartbeat: Seconds = 15
    virtual_host: Text | None = None
    queue_prefix: str | None = None
    topic_prefix: str | None = None

    @property
    def encrypted(self) -> bool:
        return self.url.encrypted


class SqsProfile(TlsOptions):
    """Amazon SQS.

    :ivar endpoint: a VPC endpoint's URL, or that of a service that speaks SQS.
    """

    provider: Literal["amazon-sqs", "sqs"]
    region: Annotated[Text, Field(pattern=r"^[a-z0-9-]+$")]
    access_key: Text = Field(alias="accessKey")
    secret_key: Secret = Field(alias="secretKey")
    session_token: Secret | None = Field(None, alias="sessionToken")
    endpoint: Text | None = None

    @field_validator("endpoint")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None:
            parts = split_url(
                value, ("http", "https"), "https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com"
            )
            if parts.username is not None or parts.query or parts.fragment or parts.path.strip("/"):
                refuse("expected a URL of scheme, host and port alone")
            return value.rstrip("/")
        return value

    @property
    def encrypted(self) -> bool:
        return self.endpoint is None or self.endpoint.startswith("https:")


class JndiOptions(Model):
    """Where the ConnectionFactory is looked up.

    :ivar initial_context: class of the InitialContextFactory.
    :ivar url: ``java.naming.provider.url``.
    :ivar factory: the ConnectionFactory's name there.
    :ivar environment: further entries of the JNDI environment.
    :ivar destinations: look queues and topics up by name as well.
    """

    initial_context: ClassName
    url: Text | None = None
    factory: Text
    username: Text | None = None
    password: Secret | None = None
    environment: Properties = Field(default_factory=dict, repr=False)
    destinations: bool = False


def _further_keys(schema: dict[str, Any]) -> None:
    """In the JSON Schema: any other key is a property of the factory."""
    schema["properties"].pop("factory_class", None)
    schema["properties"]["class"] = {"type": "string", "description": "of the ConnectionFactory"}
    schema["additionalProperties"] = {
        "type": ["string", "number", "boolean"],
        "description": "a property that is set on the ConnectionFactory",
    }


class CustomProfile(JmsProfile):
    """Any broker with a JMS client library, through Java.

    :ivar factory_class: the ConnectionFactory. ``jndi``: where to look it up instead.
    :ivar properties: set on the factory: in the file, any other key of the profile.
    """

    model_config = ConfigDict(json_schema_extra=_further_keys)

    provider: Literal["custom"]
    factory_class: ClassName | None = Field(None, alias="class")
    jndi: JndiOptions | None = None
    username: Text | None = Field(None, validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    client_id: Name = "workato-agent"
    properties: Properties = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _one_factory(self) -> CustomProfile:
        if (self.factory_class is None) == (self.jndi is None):
            refuse("expected class or jndi, one of the two", "class: the ConnectionFactory's name")
        urls = [*self.properties.items()]
        if self.jndi is not None:
            urls += [
                ("jndi", self.jndi.url or ""),
                *(("jndi", v) for v in self.jndi.environment.values()),
            ]
        for key, value in urls:
            if _VM.search(value):
                refuse("vm:// is a broker inside a Java program: the agent has none", at=key)
        return self


_MODELS: Final[dict[str, type[JmsProfile]]] = {
    "activemq": ActivemqProfile,
    "stomp": ActivemqProfile,
    "amqp": AmqpProfile,
    "amazon-sqs": SqsProfile,
    "sqs": SqsProfile,
    "custom": CustomProfile,
}


class AnyJms(JmsProfile):
    """A profile of the ``jms`` section before its provider is known."""

    @classmethod
    def variant(cls, data: dict[str, object]) -> Variant:
        """The provider's model; further keys of ``custom`` become properties."""
        stated = data.get("provider")
        if "provider" not in data:
            return Variant(
                None, data, (Fault("provider", "missing: this key is required", _known()),)
            )
        name = stated.strip().lower() if isinstance(stated, str) else ""
        if name not in _MODELS:
            hint = suggestion(name, _MODELS) if name else None
            fault = Fault("provider", f"expected one of {', '.join(_MODELS)}", hint)
            return Variant(None, data, (fault,))
        if name == "custom":
            return _custom({**data, "provider": name})
        return Variant(_MODELS[name], {**data, "provider": name})

    @classmethod
    def variants(cls) -> tuple[type[ProfileConfig], ...]:
        """One model for each kind of provider."""
        return tuple(dict.fromkeys(_MODELS.values()))


def _known() -> str:
    return f"providers: {', '.join(_MODELS)}"


def _custom(data: dict[str, object]) -> Variant:
    names = {
        "class", "user", *CustomProfile.model_fields,
    } - {"factory_class", "properties"}  # fmt: skip
    own = {key: value for key, value in data.items() if key in names}
    faults: list[Fault] = []
    properties: dict[str, str] = {}
    stated = data.get("properties")
    if isinstance(stated, dict):
        stated_properties = stated
    else:
        stated_properties = {}
        if stated is not None:
            faults.append(Fault("properties", "expected a mapping of the factory's properties"))
    further = {k: v for k, v in data.items() if k not in names and k != "properties"}
    for key, value in {**stated_properties, **further}.items():
        if key in further and (meant := near(key, names)) is not None:
            faults.append(Fault(key, "unknown key", f"did you mean '{meant}'?"))
        elif isinstance(value, str):
            properties[key] = value
        else:
            faults.append(Fault(key, f"expected text, found {kind_of(value)}"))
    return Variant(CustomProfile, {**own, "properties": properties}, tuple(faults))
