"""Kafka's properties in a profile: those of the Java client become librdkafka's.

The documented format takes any property of the Java client. What both clients have under one name
is passed on; what has another name or form here is translated; what the agent decides itself, or
what has no meaning without Java, is left out with a remark; what would run code or programs, or
can't be left out without another login than was meant, is an error; and so is a name that neither
client knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..database.properties import Translation, kind_of, near
from .jaas import jaas_properties
from .names import NAMES, Unfit, fitting

Rule = Callable[[Translation, str, str], None]
PEM: Final = "-----BEGIN "
_IDEMPOTENT_ONLY: Final = frozenset({"all", "-1"})


def translate(properties: Iterable[tuple[str, object]], own: Iterable[str]) -> Translation:
    """The properties of a profile: ``keys`` of the result are librdkafka's.

    :param own: keys of a profile that are not properties, for the hint to who misspelt one.
    """
    found = Translation()
    known = {*NAMES, *RULES, *own}
    for name, value in properties:
        if not isinstance(value, str):
            found.fault(name, f"expected text, found {kind_of(value)}")
        elif name in RULES:
            RULES[name](found, name, value)
        elif name in NAMES:
            put(found, name, name, value)
        else:
            meant = near(name, known)
            hint = f"did you mean '{meant}'?" if meant else "see docs/services/kafka.md"
            found.fault(name, "no property that a Kafka client knows", hint)
    _finish(found)
    return found


def put(found: Translation, name: str, to: str, value: str) -> None:
    """Set a property of librdkafka; a value that does not fit is a fault of the key ``name``."""
    try:
        found.keys[to] = fitting(to, value)
    except Unfit as unfit:
        found.fault(name, unfit.expected)


def _renamed(to: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        put(found, name, to, value)

    return rule


def _silent(found: Translation, name: str, value: str) -> None:
    """It concerns the Java client's inner working only."""


def _protected(found: Translation, name: str, value: str) -> None:
    found.remark(f"'{name}' is protected: the agent sets it itself")


def _ignored(why: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        found.remark(f"'{name}' is left out: {why}")

    return rule


def _refused(message: str, hint: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        found.fault(name, message, hint)

    return rule


def _kept(found: Translation, name: str, value: str) -> None:
    """For :func:`_finish`."""
    found.flags[name] = value.strip()


def _pem(to: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        if PEM not in value:
            found.fault(name, "expected PEM text", "for example {file: ca.pem}, or the text itself")
        else:
            found.keys[to] = value

    return rule


def _jaas(found: Translation, name: str, value: str) -> None:
    try:
        found.keys.update(jaas_properties(value))
    except ValueError as error:
        found.fault(name, str(error))


def _sizes_in_kib(to: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        if value.strip().isdecimal():
            put(found, name, to, str(max(1, int(value) // 1024)))
        else:
            found.fault(name, "expected a number of bytes")

    return rule


def _socket_size(to: str) -> Rule:
    def rule(found: Translation, name: str, value: str) -> None:
        put(found, name, to, "0" if value.strip() == "-1" else value)

    return rule


def _acks(found: Translation, name: str, value: str) -> None:
    value = value.strip().lower()
    if value not in ("all", "-1", "0", "1"):
        found.fault(name, "expected all, 1 or 0")
        return
    found.keys["acks"] = value
    if value not in _IDEMPOTENT_ONLY:
        found.remark(f"acks={value}: messages count as written before every replica has them")


def _delivery(found: Translation, name: str, value: str) -> None:
    value = value.strip()
    if not value.isdecimal() or not 1 <= int(value) <= 86_400_000:
        found.fault(name, "expected milliseconds, from 1 to 86400000")
    else:
        found.keys["message.timeout.ms"] = value


def _endpoint_identification(found: Translation, name: str, value: str) -> None:
    put(found, name, name, value.strip() or "none")


_ASSIGNORS: Final = {
    "org.apache.kafka.clients.consumer.RangeAssignor": "range",
    "org.apache.kafka.clients.consumer.RoundRobinAssignor": "roundrobin",
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor": "cooperative-sticky",
    "range": "range",
    "roundrobin": "roundrobin",
    "cooperative-sticky": "cooperative-sticky",
}


def _strategy(found: Translation, name: str, value: str) -> None:
    words = [_ASSIGNORS.get(word.strip()) for word in value.split(",")]
    known = [word for word in words if word is not None]
    if len(known) < len(words):
        found.fault(name, f"expected some of {', '.join(sorted(set(_ASSIGNORS.values())))}")
    elif "cooperative-sticky" in known and len(set(known)) > 1:
        # As Java's default: its consumers agree on what all of them know.
        found.keys[name] = ",".join(word for word in known if word != "cooperative-sticky")
    else:
        found.keys[name] = ",".join(known)


def _mechanism(found: Translation, name: str, value: str) -> None:
    value = value.strip().upper()
    if value == "GSSAPI":
        found.fault(name, "Kerberos is not served by this version", "use PLAIN, SCRAM-SHA-… or TLS")
    elif value not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"):
        found.fault(name, "expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    else:
        found.keys["sasl.mechanisms"] = value


def _finish(found: Translation) -> None:
    """What several properties say together only."""
    _store(found, "truststore", ("ssl.ca.location",))
    _store(found, "keystore", ("ssl.key.location", "ssl.certificate.location"))
    if found.keys.get("enable.ssl.certificate.verification") == "false":
        found.remark("enable.ssl.certificate.verification is off: anybody could be the broker")
    if found.keys.get("ssl.endpoint.identification.algorithm") == "none":
        found.remark("ssl.endpoint.identification.algorithm: the broker's name is not verified")


def _store(found: Translation, store: str, locations: tuple[str, ...]) -> None:
    name = f"ssl.{store}.location"
    path = found.flags.get(name)
    kind = found.flags.get(f"ssl.{store}.type", "").upper()
    password = found.flags.get(f"ssl.{store}.password")
    if path is None:
        if password is not None:
            found.remark(f"'ssl.{store}.password' is left out: there is no {name}")
        return
    if kind == "PEM":
        for location in locations:
            found.keys[location] = path
    elif store == "keystore" and (kind == "PKCS12" or path.lower().endswith((".p12", ".pfx"))):
        found.keys[name] = path
        if password is not None:
            found.keys["ssl.keystore.password"] = password
    else:
        wanted = "ssl.truststore" if store == "truststore" else "ssl.keystore.key and .cert"
        hint = f"export it to PEM, for {wanted} ({name} with ssl.{store}.type: PEM works too)"
        found.fault(name, "Java key stores are not read by this agent", hint)


def _several(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_CODE: Final = _refused("this would load code into the agent or run a program", "remove it")
_LOGIN: Final = _refused(
    "a Java class has no meaning here, and without it the login may be another one",
    "remove it, and say by sasl.mechanism and sasl.jaas.config how to log in",
)
_NO_JAVA: Final = _ignored("a Java class has no meaning here")

RULES: Final[dict[str, Rule]] = {
    **_several(
        "key.serializer value.serializer key.deserializer value.deserializer auto.offset.reset "
        "enable.auto.commit auto.commit.interval.ms enable.auto.offset.store auto.commit.enable",
        _protected,
    ),
    "ssl.truststore": _pem("ssl.ca.pem"),
    "ssl.truststore.certificates": _pem("ssl.ca.pem"),
    "ssl.keystore.key": _pem("ssl.key.pem"),
    "ssl.keystore.cert": _pem("ssl.certificate.pem"),
    "ssl.keystore.certificate.chain": _pem("ssl.certificate.pem"),
    "sasl.jaas.config": _jaas,
    "sasl.mechanism": _mechanism,
    "sasl.mechanisms": _mechanism,
    "acks": _acks,
    "request.required.acks": _acks,
    "delivery.timeout.ms": _delivery,
    "message.timeout.ms": _delivery,
    "partition.assignment.strategy": _strategy,
    "ssl.endpoint.identification.algorithm": _endpoint_identification,
    **_several(
        "ssl.truststore.location ssl.truststore.type ssl.truststore.password "
        "ssl.keystore.location ssl.keystore.type ssl.keystore.password",
        _kept,
    ),
    "max.request.size": _renamed("message.max.bytes"),
    "fetch.max.wait.ms": _renamed("fetch.wait.max.ms"),
    "compression.gzip.level": _renamed("compression.level"),
    "compression.lz4.level": _renamed("compression.level"),
    "compression.zstd.level": _renamed("compression.level"),
    "sasl.oauthbearer.client.credentials.scope": _renamed("sasl.oauthbearer.scope"),
    "buffer.memory": _sizes_in_kib("queue.buffering.max.kbytes"),
    "send.buffer.bytes": _socket_size("socket.send.buffer.bytes"),
    "receive.buffer.bytes": _socket_size("socket.receive.buffer.bytes"),
    **_several(
        "plugin.library.paths ssl.engine.location ssl.engine.id ssl.providers "
        "sasl.kerberos.kinit.cmd config.providers offset.store.path offset.store.method",
        _CODE,
    ),
    **_several(
        "sasl.login.class sasl.login.callback.handler.class sasl.client.callback.handler.class "
        "ssl.engine.factory.class security.providers",
        _LOGIN,
    ),
    **_several("interceptor.classes partitioner.class metric.reporters", _NO_JAVA),
    "group.instance.id": _ignored("one id can't serve several consumers"),
    **_several(
        "sasl.kerberos.service.name sasl.kerberos.principal sasl.kerberos.keytab "
        "sasl.kerberos.min.time.before.relogin sasl.kerberos.ticket.renew.jitter "
        "sasl.kerberos.ticket.renew.window.factor",
        _ignored("Kerberos is not served by this version"),
    ),
    "transactional.id": _ignored("messages are produced without transactions"),
    "transaction.timeout.ms": _ignored("messages are produced without transactions"),
    **_several(
        "debug statistics.interval.ms log_level log.queue log.thread.name log.connection.close "
        "enabled_events builtin.features enable.partition.eof delivery.report.only.error "
        "max.poll.records enable.random.seed",
        _ignored("the agent sets it itself"),
    ),
    **_several(
        "max.block.ms partitioner.ignore.keys partitioner.adaptive.partitioning.enable "
        "partitioner.availability.timeout.ms default.api.timeout.ms exclude.internal.topics "
        "metrics.num.samples metrics.recording.level metrics.sample.window.ms "
        "auto.include.jmx.reporter metadata.max.idle.ms ssl.protocol ssl.provider "
        "ssl.enabled.protocols ssl.keymanager.algorithm ssl.trustmanager.algorithm "
        "ssl.secure.random.implementation sasl.login.refresh.window.factor "
        "sasl.login.refresh.window.jitter sasl.login.refresh.min.period.seconds "
        "sasl.login.refresh.buffer.seconds sasl.login.connect.timeout.ms "
        "sasl.login.read.timeout.ms sasl.login.retry.backoff.ms "
        "sasl.login.retry.backoff.max.ms",
        _silent,
    ),
}
"""Properties of either client that are not passed on as they are."""
