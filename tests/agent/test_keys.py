"""Keys, requests and certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.identity.keys import (
    CertificateUnfit,
    certificates_from_pem,
    check_certificate,
    fingerprint,
    generate_key,
    key_from_pem,
    key_to_pem,
    signing_request,
)
from workato_gateway.identity.authority import (
    Authority,
    generate_server_key,
    read_request,
    sha256_of,
)


class KeyTests(SynchronousTestCase):
    def test_a_key_survives_its_file(self) -> None:
        key = generate_key()
        self.assertIsInstance(key.curve, ec.SECP256R1)
        self.assertEqual(key_from_pem(key_to_pem(key)).private_numbers(), key.private_numbers())

    def test_what_is_no_key_is_refused_without_being_quoted(self) -> None:
        for pem in (
            b"",
            b"hunter2",
            b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        ):
            error = self.assertRaises(ValueError, key_from_pem, pem)
            self.assertNotIn("hunter2", str(error))

    def test_an_encrypted_or_rsa_key_is_refused(self) -> None:
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        encrypted = generate_key().private_bytes(
            *formats, serialization.BestAvailableEncryption(b"x")
        )
        plain = rsa.generate_private_key(65537, 2048).private_bytes(
            *formats, serialization.NoEncryption()
        )
        for pem in (encrypted, plain):
            self.assertRaises(ValueError, key_from_pem, pem)

    def test_the_gateway_reads_the_signing_request(self) -> None:
        key = generate_key()
        pem = signing_request(key, "a-name-" * 20)
        self.assertEqual(read_request(pem.decode()), key.public_key())

    def test_agent_and_gateway_agree_on_what_a_code_pins(self) -> None:
        certificate = Authority.create("x").certificate
        self.assertEqual(fingerprint(certificate), sha256_of(certificate))


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = Authority.create("CA")
        self.key = generate_key()

    def issue(self, authority: Authority, lifetime: float = 86400) -> x509.Certificate:
        issued = authority.issue_agent(
            self.key.public_key(), agent_id="a1", group="g", lifetime=lifetime
        )
        return certificates_from_pem(issued.pem.encode())[0]

    def unfit(self, certificate: x509.Certificate, **options: datetime) -> str:
        authorities = [self.authority.certificate]
        error = self.assertRaises(
            CertificateUnfit, check_certificate, certificate, self.key, authorities, **options
        )
        return str(error)

    def test_a_fresh_certificate_is_fit(self) -> None:
        check_certificate(self.issue(self.authority), self.key, [self.authority.certificate])

    def test_another_key_is_seen(self) -> None:
        certificate = self.issue(self.authority)
        self.key = generate_key()
        self.assertIn("another key", self.unfit(certificate))

    def test_another_authority_of_the_same_name_is_seen(self) -> None:
        self.assertIn("not signed by", self.unfit(self.issue(Authority.create("CA"))))

    def test_an_expired_certificate_is_seen(self) -> None:
        later = datetime.now(UTC) + timedelta(days=2)
        self.assertIn("expired", self.unfit(self.issue(self.authority), now=later))

    def test_a_clock_far_behind_is_named(self) -> None:
        before = datetime.now(UTC) - timedelta(days=2)
        self.assertIn("set the clock", self.unfit(self.issue(self.authority), now=before))

    def test_a_clock_a_little_behind_does_no_harm(self) -> None:
        before = datetime.now(UTC) - timedelta(hours=1, minutes=4)
        certificate = self.issue(self.authority)
        check_certificate(certificate, self.key, [self.authority.certificate], now=before)

    def test_a_server_certificate_is_refused(self) -> None:
        public, pem = generate_server_key()
        self.key = key_from_pem(pem)
        issued = self.authority.issue_server(public, ("localhost",))
        self.assertIn("TLS clients", self.unfit(certificates_from_pem(issued.pem.encode())[0]))
