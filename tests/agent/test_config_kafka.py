"""Profiles of the ``kafka`` section: the Java client's properties, and what becomes of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from jsonschema import Draft202012Validator
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.config.errors import ConfigError
from workato_agent.config.jsonschema import config_schema
from workato_agent.config.kafka import KafkaProfile
from workato_agent.config.load import parse_config
from workato_agent.config.schema import AgentConfig
from workato_agent.serving import ProfileParts, build_service
from workato_agent.serving_kafka import kafka_settings

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PASSWORD = 'pa"ss\\word;x=1'
JAAS = (
    "org.apache.kafka.common.security.scram.ScramLoginModule required\n"
    '  username="app"\n  password="pa\\"ss\\\\word;x=1";'
)


def parse(text: str, environ: dict[str, str] | None = None) -> AgentConfig:
    return parse_config(text, Path("/etc/agent/config.yml"), environ or {})


def load(**keys: object) -> tuple[KafkaProfile, tuple[str, ...]]:
    """A profile with these keys (``__`` stands for a dot), and the remarks."""
    profile = {key.replace("__", "."): value for key, value in keys.items()}
    config = parse(json.dumps({"kafka": {"k": {"url": "kafka://b", **profile}}}))
    return config.of(KafkaProfile)["k"], config.remarks


class Loading(SynchronousTestCase):
    def test_a_config_of_the_documented_format(self) -> None:
        text = f"""
kafka:
  my_kafka:
    timeout: 5000
    url: kafka+ssl://kafka-1:9093,kafka+ssl://kafka-2
    ssl.truststore: |
      {PEM.replace(chr(10), chr(10) + "      ").rstrip()}
    ssl.keystore.cert: {{env: CERT}}
    ssl.keystore.key: {{env: KEY}}
    ssl.key.password: {{env: KEY_PASSWORD}}
    key.serializer: org.apache.kafka.common.serialization.StringSerializer
    value.deserializer: org.apache.kafka.common.serialization.StringDeserializer
    enable.auto.commit: true
    auto.offset.reset: latest
    acks: all
    max.request.size: 2000000
    metadata.max.age.ms: 60000
"""
        environ = {"CERT": PEM, "KEY": f"{PEM}key", "KEY_PASSWORD": "s3cret"}
        config = parse(text, environ)
        profile = config.of(KafkaProfile)["my_kafka"]
        self.assertEqual(profile.servers, ("kafka-1:9093", "kafka-2:9092"))
        self.assertEqual((profile.protocol, profile.timeout), ("ssl", 5.0))
        self.assertEqual(
            dict(profile.properties),
            {
                "ssl.ca.pem": PEM,
                "ssl.certificate.pem": PEM,
                "ssl.key.pem": f"{PEM}key",
                "ssl.key.password": "s3cret",
                "acks": "all",
                "message.max.bytes": "2000000",
                "metadata.max.age.ms": "60000",
            },
        )
        for name in ("key.serializer", "value.deserializer", "enable.auto.commit",
                     "auto.offset.reset"):  # fmt: skip
            remark = f"kafka.my_kafka: '{name}' is protected: the agent sets it itself"
            self.assertIn(remark, config.remarks)
        self.assertEqual(len(config.remarks), 4)

    def test_a_java_login(self) -> None:
        profile, remarks = load(
            security__protocol="SASL_SSL", sasl__mechanism="scram-sha-512", sasl__jaas__config=JAAS
        )
        self.assertEqual(profile.protocol, "sasl_ssl")
        self.assertEqual(
            dict(profile.properties),
            {
                "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": "app",
                "sasl.password": PASSWORD,
            },
        )
        self.assertEqual(remarks, ())
        profile, remarks = load(
            sasl__mechanism="PLAIN", sasl__username="app", sasl__password=PASSWORD
        )
        self.assertEqual(profile.protocol, "sasl_plaintext")
        self.assertIn("unencrypted", remarks[0])

    def test_a_client_that_gets_its_tokens_elsewhere(self) -> None:
        module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
        profile, _ = load(
            url="kafka+ssl://b",
            sasl__mechanism="OAUTHBEARER",
            sasl__jaas__config=f"{module} required clientId='me' clientSecret='s' scope='kafka';",
            sasl__oauthbearer__token__endpoint__url="https://login.intra/token",
        )
        self.assertEqual(profile.properties["sasl.oauthbearer.method"], "oidc")
        self.assertEqual(profile.properties["sasl.oauthbearer.client.id"], "me")

    def test_what_is_called_otherwise_here(self) -> None:
        strategy = (
            "org.apache.kafka.clients.consumer.RangeAssignor,"
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
        )
        profile, remarks = load(
            fetch__max__wait__ms="100",
            buffer__memory="33554432",
            receive__buffer__bytes="-1",
            delivery__timeout__ms="9000",
            partition__assignment__strategy=strategy,
            interceptor__classes="a.B",
            metrics__num__samples="2",
            debug="all",
            acks="1",
            group__id="reports",
        )
        self.assertEqual(profile.group, "reports")
        self.assertEqual(
            dict(profile.properties),
            {
                "fetch.wait.max.ms": "100",
                "queue.buffering.max.kbytes": "32768",
                "socket.receive.buffer.bytes": "0",
                "message.timeout.ms": "9000",
                "partition.assignment.strategy": "range",
                "acks": "1",
            },
        )
        self.assertEqual(len(remarks), 3)

    def test_every_fault_with_its_line(self) -> None:
        faults = {
            "fech.min.bytes: 1": "did you mean 'fetch.min.bytes'?",
            "some.thing: 1": "no property that a Kafka client knows",
            "fetch.min.bytes: many": "expected a whole number",
            "socket.keepalive.enable: maybe": "expected true or false",
            "compression.type: brotli": "expected one of none, gzip",
            "acks: some": "expected all, 1 or 0",
            "plugin.library.paths: /tmp/x.so": "load code",
            "ssl.engine.location: /tmp/x.so": "load code",
            "sasl.kerberos.kinit.cmd: rm": "run a program",
            "sasl.mechanism: GSSAPI": "Kerberos is not served",
            "sasl.login.callback.handler.class: a.B": "a Java class has no meaning",
            "ssl.truststore: /etc/ca.pem": "expected PEM text",
            "ssl.truststore.location: /etc/ca.jks": "Java key stores are not read",
            "sasl.jaas.config: com.Module required;": "expected PlainLoginModule",
            "timeout: 5s": "expected milliseconds, from 100",
            "security.protocol: TLS": "expected PLAINTEXT, SSL",
            "ack_timeout: soon": "expected a time",
            "policy: {operations: [write]}": "there is no operation 'write'",
            "linger.ms: {a: 1}": "expected text, found a mapping",
        }
        for fault, message in faults.items():
            with self.assertRaises(ConfigError) as caught:
                parse(f"kafka:\n  k:\n    url: kafka://b\n    {fault}\n")
            (problem,) = caught.exception.problems
            self.assertEqual(problem.line, 4, fault)
            self.assertIn(message, f"{problem.message} {problem.hint}")

    def test_addresses(self) -> None:
        for url, message in (
            ("http://b", "kafka:// or kafka+ssl://"),
            ("kafka://a,kafka+ssl://b", "can't be mixed"),
            ("kafka://user:s3cret@b", "expected no credentials"),
            ("kafka://b:9092/x", "expected nothing behind the port"),
            ("kafka://b:99999", "malformed"),
            (",", "names no broker"),
        ):
            with self.assertRaises(ConfigError) as caught:
                load(url=url)
            (problem,) = caught.exception.problems
            self.assertEqual(problem.path, "kafka.k.url")
            self.assertIn(message, problem.message)
            self.assertNotIn("s3cret", str(caught.exception))
        config = parse("kafka: {k: {bootstrap.servers: 'a:1,[::1]:2'}}")
        self.assertEqual(config.of(KafkaProfile)["k"].servers, ("a:1", "[::1]:2"))
        for text in ("k: {}", "k: {url: 'kafka://b', bootstrap.servers: b}"):
            with self.assertRaises(ConfigError):
                parse(f"kafka: {{{text}}}")

    def test_a_login_without_credentials_or_against_the_protocol(self) -> None:
        for keys, path in (
            ({"security__protocol": "SASL_SSL"}, "sasl.mechanism"),
            ({"sasl__mechanism": "PLAIN"}, "sasl.username"),
            ({"security__protocol": "SSL", "sasl__mechanism": "PLAIN"}, "security.protocol"),
            ({"url": "kafka+ssl://b", "security__protocol": "PLAINTEXT"}, "security.protocol"),
        ):
            with self.assertRaises(ConfigError) as caught:
                load(**keys)
            self.assertEqual([each.path for each in caught.exception.problems], [f"kafka.k.{path}"])

    def test_secrets_are_in_no_error_repr_or_hash(self) -> None:
        def config(password: str, more: str = "") -> AgentConfig:
            jaas = JAAS.replace("x=1", password)
            profile = {"url": "kafka://b", "sasl.mechanism": "PLAIN", "sasl.jaas.config": jaas}
            return parse(json.dumps({"kafka": {"k": profile}}))

        one, two = config("hidden"), config("secret")
        self.assertEqual(one.config_hash, two.config_hash)
        self.assertNotEqual(one.profiles, two.profiles)
        self.assertNotIn("hidden", repr(one))
        settings = kafka_settings("a", one.of(KafkaProfile)["k"])
        self.assertNotIn("hidden", repr(settings))
        with self.assertRaises(ConfigError) as caught:
            load(sasl__mechanism="PLAIN", sasl__jaas__config='Plain required password="hidden";')
        self.assertNotIn("hidden", str(caught.exception))

    def test_editors_know_the_section(self) -> None:
        validator = Draft202012Validator(config_schema())
        profile: dict[str, object] = {"url": "kafka://b", "fetch.min.bytes": 5, "timeout": 1000}
        self.assertEqual(list(validator.iter_errors({"kafka": {"k": profile}})), [])
        self.assertNotEqual(list(validator.iter_errors({"kafka": {"k": {"timeout": 1}}})), [])
        profile["policy"] = {"topics": "orders"}
        self.assertNotEqual(list(validator.iter_errors({"kafka": {"k": profile}})), [])


class Serving(SynchronousTestCase):
    def test_librdkafka_takes_what_the_config_makes_of_a_profile(self) -> None:
        profile, _ = load(
            acks="1", retries="0", compression__type="lz4", session__timeout__ms="7000"
        )
        settings = kafka_settings("a", profile)
        self.assertEqual(settings.producer["enable.idempotence"], "false")
        self.assertEqual(settings.producer["message.timeout.ms"], "30000")
        self.assertEqual(settings.consumer["enable.auto.commit"], "false")
        common: dict[str, object] = {**settings.common, "bootstrap.servers": "127.0.0.1:1"}
        Producer({**common, **settings.producer})
        AdminClient({**common})
        Consumer({**common, **settings.consumer, "group.id": "g"}).close()

    def test_who_is_not_idempotent_by_the_profiles_own_words(self) -> None:
        for keys, expected in (
            ({}, "true"),
            ({"acks": "all"}, "true"),
            ({"acks": "0"}, "false"),
            ({"retries": "0"}, "false"),
            ({"max__in__flight__requests__per__connection": "5"}, "true"),
            ({"max__in__flight__requests__per__connection": "6"}, "false"),
            ({"enable__idempotence": "false"}, "false"),
        ):
            profile, _ = load(**keys)
            settings = kafka_settings("a", profile)
            self.assertEqual(settings.producer["enable.idempotence"], expected)
            Producer({**settings.common, **settings.producer, "bootstrap.servers": "127.0.0.1:1"})

    def test_operations_are_those_that_the_policy_allows(self) -> None:
        profile, _ = load(policy={"operations": ["consume"]})
        service = build_service(ProfileParts(Clock()), "k", profile)
        self.assertEqual((service.type, service.operations), ("kafka", ("test", "consume")))

    def test_without_the_client_the_error_names_the_extra(self) -> None:
        profile, _ = load()
        with (
            mock.patch.dict(sys.modules, {"confluent_kafka": None}),
            self.assertRaisesRegex(ValueError, r"workato-agent\[kafka\]"),
        ):
            build_service(ProfileParts(Clock()), "k", profile)
