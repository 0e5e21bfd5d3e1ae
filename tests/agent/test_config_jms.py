"""Profiles of the jms section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import write_certificates
from tests.support.folders import folder_for
from workato_agent.config import AgentConfig, parse_config
from workato_agent.config.errors import ConfigError
from workato_agent.config.jms import (
    ActivemqProfile,
    AmqpProfile,
    CustomProfile,
    JmsProfile,
    SqsProfile,
)


def parsed(folder: Path, **profile: Any) -> AgentConfig:
    """The config of one profile."""
    return parse_config(json.dumps({"jms": {"q": profile}}), folder / "config.yml", {})


class JmsConfig(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)

    def profile(self, **keys: Any) -> Any:
        return parsed(self.folder, **keys).of(JmsProfile)["q"]

    def fault(self, **keys: Any) -> str:
        error = self.assertRaises(ConfigError, parsed, self.folder, **keys)
        return str(error)

    def test_activemq(self) -> None:
        for url, java, encrypted, addresses in (
            ("tcp://localhost:61616", True, False, (("localhost", 61616),)),
            ("ssl://broker", True, True, (("broker", 61617),)),
            ("nio://broker:1?wireFormat.maxInactivityDuration=0", True, False, (("broker", 1),)),
            ("stomp://broker", False, False, (("broker", 61613),)),
            ("stomp+ssl://[::1]", False, True, (("::1", 61614),)),
            (
                "failover:(tcp://a:1,tcp://b:2)?randomize=false",
                True,
                False,
                (("a", 1), ("b", 2)),
            ),
            ("failover://(ssl://a:1)", True, True, (("a", 1),)),
            ("failover:tcp://a:1,tcp://b:2", True, False, (("a", 1), ("b", 2))),
            ("failover:(stomp+ssl://a:1,stomp+ssl://b:2)", False, True, (("a", 1), ("b", 2))),
        ):
            found = self.profile(provider="activemq", url=url)
            self.assertIsInstance(found, ActivemqProfile)
            self.assertEqual(
                (found.url.text, found.url.java, found.encrypted, found.url.addresses),
                (url, java, encrypted, addresses),
            )

    def test_urls_that_are_refused(self) -> None:
        for url, words in (
            ("vm://localhost", "vm://"),
            ("VM:(broker:(tcp://localhost))", "vm://"),
            ("failover:(vm://localhost)", "vm://"),
            ("failover:(tcp://a,vm://localhost)", "vm://"),
            ("http://broker", "tcp://"),
            ("broker:61616", "expected a URL"),
            ("tcp://user:s3cret@broker", "without credentials"),
            ("tcp://broker?jms.password=s3cret", "without credentials"),
            ("failover:(tcp://a,stomp://b)", "same protocol"),
            ("failover:(tcp://a", "failover"),
            ("stomp://broker?x=y", "options"),
            ("failover:(stomp://broker)?randomize=false", "options"),
            ("tcp://bro ker", "spaces"),
            ("tcp://broker:99999", "malformed"),
        ):
            told = self.fault(provider="activemq", url=url)
            self.assertIn("jms.q.url", told)
            self.assertIn(words, told)
            self.assertNotIn("s3cret", told)

    def test_stomp_is_no_java(self) -> None:
        self.assertFalse(self.profile(provider="stomp", url="stomp://broker").url.java)
        self.assertIn("expected stomp://", self.fault(provider="stomp", url="tcp://broker"))

    def test_amqp(self) -> None:
        found = self.profile(
            provider="amqp", url="amqps://a,amqps://b:1", username="u", password="p"
        )
        self.assertIsInstance(found, AmqpProfile)
        self.assertEqual(found.url.addresses, (("a", 5671), ("b", 1)))
        for url in (
            "amqp://h/vhost",
            "amqp://h?x=y",
            "amqp://u:p@h",
            "tcp://h",
            "amqp://a,amqps://b",
        ):
            self.assertIn("jms.q.url", self.fault(provider="amqp", url=url))

    def test_sqs(self) -> None:
        for provider in ("sqs", "amazon-sqs"):
            found = self.profile(
                provider=provider, region="eu-west-1", accessKey="AK", secretKey="s3cret"
            )
            self.assertIsInstance(found, SqsProfile)
            self.assertEqual((found.access_key, found.secret_key.reveal()), ("AK", "s3cret"))
            self.assertNotIn("s3cret", repr(found))
        told = self.fault(provider="sqs", region="EU", endpoint="ftp://x")
        for key in ("region", "accessKey", "secretKey", "endpoint"):
            self.assertIn(f"jms.q.{key}", told)

    def test_custom(self) -> None:
        found = self.profile(
            **{"class": "org.apache.qpid.jms.JmsConnectionFactory"},
            provider="custom",
            remoteURI="amqps://bus",
            username="u",
            password="s3cret",
            sslKeyStorePassword="s3cret",
            port=1414,
        )
        self.assertIsInstance(found, CustomProfile)
        self.assertEqual(
            found.properties,
            {"remoteURI": "amqps://bus", "sslKeyStorePassword": "s3cret", "port": "1414"},
        )
        self.assertNotIn("s3cret", repr(found))
        self.assertNotIn("s3cret", str(found.model_dump(mode="json")))

    def test_custom_by_jndi(self) -> None:
        found = self.profile(
            provider="custom",
            jndi={
                "initial_context": "com.sun.jndi.fscontext.RefFSContextFactory",
                "url": "file:/etc/mq",
                "factory": "QCF",
                "environment": {"java.naming.security.protocol": "ssl"},
                "destinations": True,
            },
        )
        self.assertEqual((found.factory_class, found.jndi.factory), (None, "QCF"))

    def test_what_is_wrong_with_custom(self) -> None:
        name = {"class": "org.x.Factory"}
        jndi = {"initial_context": "a.B", "factory": "f"}
        self.assertIn("class or jndi", self.fault(provider="custom"))
        self.assertIn("class or jndi", self.fault(provider="custom", jndi=jndi, **name))
        self.assertIn("Java class", self.fault(provider="custom", **{"class": "no class"}))
        self.assertIn("did you mean 'username'", self.fault(provider="custom", usernme="u", **name))
        self.assertIn("expected text", self.fault(provider="custom", remoteURI=["a"], **name))
        told = self.fault(provider="custom", brokerURL="vm://localhost", **name)
        self.assertIn("jms.q.brokerURL: vm://", told)
        told = self.fault(provider="custom", jndi={**jndi, "url": "vm://localhost"})
        self.assertIn("jms.q.jndi: vm://", told)

    def test_providers(self) -> None:
        self.assertIn("provider: missing", self.fault(url="tcp://broker"))
        self.assertIn("did you mean 'activemq'", self.fault(provider="activemqq"))
        self.assertIn("expected one of", self.fault(provider="rabbit"))

    def test_all_faults_at_once_with_their_lines(self) -> None:
        text = (
            "jms:\n"
            "  a: {provider: activemq, url: 'vm://x', nonsense: 1}\n"
            "  b: {provider: sqs}\n"
            "  c:\n"
            "    provider: activemq\n"
            "    url: stomp://x\n"
            "    password: p\n"
            "    ack_timeout: 0\n"
            "    limits: {batches: 0, message: x}\n"
            "    policy: {operations: [read], destinations: [''], windows: [x]}\n"
        )
        error = self.assertRaises(ConfigError, parse_config, text, self.folder / "config.yml", {})
        found = {(problem.line, problem.path) for problem in error.problems}
        self.assertEqual(
            found,
            {
                (2, "jms.a.url"),
                (2, "jms.a.nonsense"),
                (3, "jms.b.region"),
                (3, "jms.b.accessKey"),
                (3, "jms.b.secretKey"),
                (8, "jms.c.ack_timeout"),
                (9, "jms.c.limits.batches"),
                (9, "jms.c.limits.message"),
                (10, "jms.c.policy.operations[0]"),
                (10, "jms.c.policy.destinations[0]"),
                (10, "jms.c.policy.windows[0]"),
            },
        )
        self.assertIn("username", self.fault(provider="activemq", url="stomp://x", password="p"))

    def test_tls(self) -> None:
        write_certificates(self.folder, "agent")
        certificate = {"cert": "client.crt", "key": "client.key"}
        found = self.profile(
            provider="activemq", url="stomp+ssl://x", ca="ca.crt", certificate=certificate
        )
        self.assertEqual(found.ca, self.folder / "ca.crt")
        self.assertEqual(found.remarks(), ())
        off = self.profile(provider="amqp", url="amqps://x", trustAll=True)
        self.assertIn("trustAll", off.remarks()[0])
        off = self.profile(provider="amqp", url="amqps://x", verifyHost=False)
        self.assertIn("verifyHost", off.remarks()[0])
        told = self.fault(provider="activemq", url="stomp://x", ca="ca.crt")
        self.assertIn("for TLS", told)
        told = self.fault(provider="activemq", url="stomp+ssl://x", ca="nothing.crt")
        self.assertIn("no such file", told)

    def test_a_reload_sees_other_authorities_in_the_file_of_the_same_name(self) -> None:
        write_certificates(self.folder, "agent")
        keys = {"provider": "amqp", "url": "amqps://x", "ca": "ca.crt"}
        before, same = self.profile(**keys), self.profile(**keys)
        self.assertEqual(before, same)
        write_certificates(self.folder, "agent")
        self.assertNotEqual(before, self.profile(**keys))

    def test_policy(self) -> None:
        found = self.profile(
            provider="activemq",
            url="stomp://x",
            policy={
                "operations": ["publish", "browse"],
                "destinations": ["orders.*", "topic:prices"],
                "max_bytes": "1MiB",
            },
            ack_timeout="2m",
            limits={"batches": 3, "message": "1MiB", "batch": "2MiB"},
        )
        self.assertEqual(found.ack_timeout, 120)
        patterns = found.policy.destinations
        self.assertTrue(patterns[0].matches("queue", "orders.new"))
        self.assertTrue(patterns[0].matches("topic", "orders."))
        self.assertFalse(patterns[1].matches("queue", "prices"))
        self.assertFalse(patterns[0].matches("queue", "orders.a,b"))
