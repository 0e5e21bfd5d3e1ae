"""TLS and logins of Kafka profiles, by a gate in front of the mock cluster that asks for them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions

from tests.support.certificates import write_certificates
from tests.support.kafka_gate import KafkaGate
from tests.support.kafka_service import KafkaCase, values
from workato_tunnel.problems import Problem

PASSWORD = "s3cret-kafka;pass=word"
JAAS = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required username="app" password="{}";'
)


class SecurityCase(KafkaCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        write_certificates(self.folder, "app")

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    async def gate(self, *, tls: bool, clients: bool = False, **logins: str) -> KafkaGate:
        options = None
        if tls:
            key = crypto.load_privatekey(crypto.FILETYPE_PEM, self.text("server.key").encode())
            shown = crypto.load_certificate(crypto.FILETYPE_PEM, self.text("server.crt").encode())
            known = crypto.load_certificate(crypto.FILETYPE_PEM, self.text("ca.crt").encode())
            options = CertificateOptions(
                key, shown, caCerts=[known] if clients else None, verify=clients,
                requireCertificate=clients,
            )  # fmt: skip
        gate = KafkaGate(self.cluster.port, logins, options)
        await gate.start()
        self.addCleanup(gate.stop)
        return gate

    async def works(self, url: str, **keys: Any) -> None:
        """The profile can be tested, writes and reads."""
        service = self.serve(url, **keys)
        self.assertTrue((await self.call("GET", "", on=service)).json["ok"])
        await self.produce("a", on=service)
        received = await self.receive(on=service)
        self.assertEqual(values(received), ["a"])

    async def refused(self, code: str, url: str, **keys: Any) -> Problem:
        service = self.serve(url, **keys)
        path = f"topics/{self.topic}"
        for method, place, body in (
            ("GET", "", b""),
            ("POST", f"{path}/messages", {"value": "x"}),
            ("POST", f"{path}/receive", {"group": self.group}),
        ):
            problem = await self.fails(code, method, place, body, on=service)
            self.assertNotIn("s3cret", str(problem.members("r")))
        return problem


class Logins(SecurityCase):
    async def test_a_password_in_javas_form(self) -> None:
        gate = await self.gate(tls=False, app=PASSWORD)
        keys = {"sasl__mechanism": "PLAIN", "sasl__jaas__config": JAAS.format(PASSWORD)}
        await self.works(f"kafka://127.0.0.1:{gate.port}", **keys)

    async def test_a_wrong_password_is_told_in_the_brokers_words(self) -> None:
        gate = await self.gate(tls=False, app="another")
        keys = {"sasl__mechanism": "PLAIN", "sasl__jaas__config": JAAS.format(PASSWORD)}
        url = f"kafka://127.0.0.1:{gate.port}"
        problem = await self.refused("target_login_failed", url, **keys)
        self.assertIn("Invalid username or password", problem.detail)

    async def test_a_login_where_none_is_known(self) -> None:
        keys = {"sasl__mechanism": "PLAIN", "sasl__username": "app", "sasl__password": PASSWORD}
        await self.refused("target_login_failed", self.cluster.url, timeout=3000, **keys)


class Tls(SecurityCase):
    async def test_a_truststore_a_client_certificate_and_its_keys_password(self) -> None:
        gate = await self.gate(tls=True, clients=True)
        key: Any = serialization.load_pem_private_key(self.text("client.key").encode(), None)
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"key-password"),
        ).decode()
        keys = {
            "ssl__truststore": self.text("ca.crt"),
            "ssl__keystore__cert": self.text("client.crt"),
            "ssl__keystore__key": sealed,
            "ssl__key__password": "key-password",
        }
        await self.works(f"kafka+ssl://127.0.0.1:{gate.port}", **keys)

    async def test_a_key_that_its_password_does_not_open_is_the_profiles_fault(self) -> None:
        key: Any = serialization.load_pem_private_key(self.text("client.key").encode(), None)
        encryption = serialization.BestAvailableEncryption(b"key-password")
        form = serialization.PrivateFormat.PKCS8
        sealed = key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()
        keys = {
            "ssl__keystore__cert": self.text("client.crt"),
            "ssl__keystore__key": sealed,
            "ssl__key__password": "s3cret-wrong",
        }
        problem = await self.refused("target_tls_failed", "kafka+ssl://127.0.0.1:1", **keys)
        self.assertIn("config.yml", problem.hint)

    async def test_a_login_over_tls(self) -> None:
        gate = await self.gate(tls=True, app=PASSWORD)
        keys = {
            "security__protocol": "SASL_SSL",
            "sasl__mechanism": "PLAIN",
            "sasl__username": "app",
            "sasl__password": PASSWORD,
            "ssl__truststore__certificates": self.text("ca.crt"),
        }
        await self.works(f"kafka+ssl://127.0.0.1:{gate.port}", **keys)

    async def test_an_unknown_authority_and_a_missing_certificate(self) -> None:
        stranger = self.folder / "stranger"
        stranger.mkdir()
        write_certificates(stranger, "app")
        gate = await self.gate(tls=True)
        unknown = {"ssl__truststore": (stranger / "ca.crt").read_text()}
        url = f"kafka+ssl://127.0.0.1:{gate.port}"
        problem = await self.refused("target_tls_failed", url, **unknown)
        self.assertIn("certificate", problem.detail)

    async def test_tls_where_there_is_none_and_none_where_there_is(self) -> None:
        gate = await self.gate(tls=True)
        plain = f"kafka://127.0.0.1:{gate.port}"
        service = self.serve(plain)
        problem = await self.fails("target_unreachable", "GET", "", on=service)
        self.assertIn("kafka+ssl", problem.hint)
        keys = {"ssl__truststore": self.text("ca.crt")}
        url = f"kafka+ssl://127.0.0.1:{self.cluster.port}"
        await self.fails("target_tls_failed", "GET", "", on=self.serve(url, **keys))
