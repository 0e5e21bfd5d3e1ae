"""The CA: what it signs, what it takes from a request, what its files look like."""

from __future__ import annotations

import base64
import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.stores import NOW, Wall
from workato_gateway.identity.authority import (
    BACKDATED,
    Authority,
    AuthorityError,
    agent_id_of,
    load_chain,
    pem_of,
    read_request,
    serial_text,
    sha256_of,
)
from workato_gateway.identity.tls import (
    ServerTls,
    check_leads_to,
    ensure_server_certificate,
    server_hosts,
)
from workato_tunnel.problems import Problem

DAY = 86400.0
KIND = "CERTIFICATE REQUEST"


def csr(key: object, *, subject: str = "evil", san: str = "urn:onprem:agent:other") -> str:
    """A request that asks for more than it gets."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(san)])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())  # type: ignore[arg-type]
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


class Authorities(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = Wall()
        self.authority = Authority.create("test", self.now)
        self.key = ec.generate_private_key(ec.SECP256R1())

    def agent(self, lifetime: float = 30 * DAY) -> x509.Certificate:
        issued = self.authority.issue_agent(
            self.key.public_key(), agent_id="a1", group="g", lifetime=lifetime
        )
        certificate = x509.load_pem_x509_certificate(issued.pem.encode())
        self.assertEqual(issued.serial, serial_text(certificate))
        self.assertEqual(issued.not_after, certificate.not_valid_after_utc.timestamp())
        return certificate

    def test_the_ca_signs_certificates_and_nothing_below_it_may(self) -> None:
        certificate = self.authority.certificate
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertTrue(constraints.critical and constraints.value.ca)
        self.assertEqual(constraints.value.path_length, 0)
        self.assertEqual(certificate.not_valid_after_utc.timestamp(), NOW + 3650 * DAY)
        certificate.verify_directly_issued_by(certificate)

    def test_an_agents_certificate_says_what_the_gateway_says(self) -> None:
        certificate = self.agent()
        certificate.verify_directly_issued_by(self.authority.certificate)
        self.assertEqual(agent_id_of(certificate), "a1")
        names = {each.oid: each.value for each in certificate.subject}
        self.assertEqual(names, {NameOID.COMMON_NAME: "a1", NameOID.ORGANIZATION_NAME: "g"})
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.CLIENT_AUTH])
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertFalse(constraints.value.ca)
        self.assertEqual(certificate.not_valid_before_utc.timestamp(), NOW - BACKDATED)
        self.assertEqual(certificate.not_valid_after_utc.timestamp(), NOW + 30 * DAY)

    def test_no_certificate_outlives_the_ca(self) -> None:
        self.now.advance(3645 * DAY)
        self.assertEqual(
            self.agent().not_valid_after_utc, self.authority.certificate.not_valid_after_utc
        )

    def test_serials_differ(self) -> None:
        self.assertEqual(len({serial_text(self.agent()) for _ in range(20)}), 20)

    def test_only_one_agent_can_be_meant(self) -> None:
        def certificate(*names: str) -> x509.Certificate:
            uris = [x509.UniformResourceIdentifier(name) for name in names]
            return (
                x509.CertificateBuilder()
                .subject_name(x509.Name([]))
                .issuer_name(x509.Name([]))
                .public_key(self.key.public_key())
                .serial_number(1)
                .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
                .not_valid_after(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
                .add_extension(x509.SubjectAlternativeName(uris), critical=False)
                .sign(self.key, hashes.SHA256())
            )

        self.assertIsNone(agent_id_of(self.authority.certificate))
        self.assertIsNone(agent_id_of(certificate("urn:onprem:agent:a", "urn:onprem:agent:b")))
        self.assertIsNone(agent_id_of(certificate("urn:onprem:agent:")))
        self.assertIsNone(agent_id_of(certificate("urn:other:a")))
        self.assertEqual(agent_id_of(certificate("urn:other:a", "urn:onprem:agent:b")), "b")


class Requests(SynchronousTestCase):
    def refusal(self, pem: str) -> Problem:
        with self.assertRaises(Problem) as caught:
            read_request(pem)
        problem = caught.exception
        self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "csr"}))
        return problem

    def test_good_keys_are_taken_and_nothing_else_of_the_request(self) -> None:
        for key in (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
        ):
            self.assertEqual(read_request(csr(key)), key.public_key())

    def test_weak_or_unusual_keys_are_refused(self) -> None:
        for key in (
            ec.generate_private_key(ec.SECP256K1()),
            rsa.generate_private_key(65537, 1024),  # noqa: S505
            dsa.generate_private_key(2048),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            self.assertIn("key", self.refusal(csr(key)).detail)

    def test_a_request_for_somebody_elses_key_is_refused(self) -> None:
        one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        mine = x509.load_pem_x509_csr(csr(one).encode()).public_bytes(serialization.Encoding.DER)
        points = [
            key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            for key in (one, other)
        ]
        forged = x509.load_der_x509_csr(mine.replace(points[0], points[1]))
        pem = forged.public_bytes(serialization.Encoding.PEM).decode()
        self.assertIn("not signed", self.refusal(pem).detail)

    @settings(deadline=None)
    @given(st.text(max_size=200))
    def test_what_is_no_request_is_refused(self, text: str) -> None:
        self.refusal(text)
        self.refusal(
            f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----"
        )

    @settings(deadline=None, max_examples=300)
    @given(st.data())
    def test_a_damaged_request_is_refused_or_still_its_own(self, data: st.DataObject) -> None:
        body = bytearray(
            x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(serialization.Encoding.DER)
        )
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] ^= data.draw(st.integers(1, 255))
        pem = _armoured(bytes(body))
        try:
            key = read_request(pem)
        except Problem as problem:
            self.assertEqual(problem.code, "bad_request")
        else:
            self.assertIsInstance(key, ec.EllipticCurvePublicKey)


REQUEST = csr(ec.generate_private_key(ec.SECP256R1()))


def _armoured(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {KIND}-----\n{text}-----END {KIND}-----\n"


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.now = Wall()
        self.authority = Authority.create("test", self.now)
        self.certificate, self.key = self.folder / "ca.crt", self.folder / "ca.key"
        self.authority.save(self.certificate, self.key)

    def test_what_is_saved_loads_and_the_key_is_its_owners(self) -> None:
        loaded = Authority.load(self.certificate, self.key, self.now)
        self.assertEqual(loaded.certificate, self.authority.certificate)
        self.assertEqual(self.key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["ca.crt", "ca.key"])
        self.assertNotIn("PRIVATE", repr(loaded))

    def test_files_that_can_not_be_used_are_named(self) -> None:
        other = Authority.create("other")
        other.save(self.folder / "o.crt", self.folder / "o.key")
        (self.folder / "text").write_text("text")
        missing, text = self.folder / "none", self.folder / "text"
        leaf = self.folder / "leaf.pem"
        ensure_server_certificate(self.authority, leaf, ("h",), self.now)
        for certificate, key, told in (
            (missing, self.key, "none: No such file"),
            (self.certificate, missing, "none: No such file"),
            (text, self.key, "text: holds no certificate"),
            (self.certificate, text, "text: is no unencrypted private key"),
            (self.certificate, self.folder / "o.key", "o.key: is not the key of"),
            (leaf, leaf, "leaf.pem: is no CA certificate"),
        ):
            with self.assertRaises(AuthorityError) as caught:
                Authority.load(certificate, key)
            self.assertIn(told, str(caught.exception))

    def server(self, hosts: tuple[str, ...] = ("gw.example", "127.0.0.1")) -> bool:
        return ensure_server_certificate(
            self.authority, self.folder / "server.pem", hosts, self.now
        )

    def test_the_server_certificate_is_for_its_hosts_and_brings_the_ca(self) -> None:
        self.assertTrue(self.server())
        leaf, ca = load_chain(self.folder / "server.pem")
        self.assertEqual(sha256_of(ca), sha256_of(self.authority.certificate))
        leaf.verify_directly_issued_by(ca)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["gw.example"])
        self.assertEqual(
            names.get_values_for_type(x509.IPAddress), [ipaddress.ip_address("127.0.0.1")]
        )
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertEqual((self.folder / "server.pem").stat().st_mode & 0o777, 0o600)
        ServerTls(self.folder / "server.pem", self.folder / "server.pem")

    def test_the_server_certificate_is_renewed_at_two_thirds_of_its_life(self) -> None:
        self.server()
        self.now.advance(243 * DAY)
        self.assertFalse(self.server())
        self.now.advance(DAY)
        self.assertTrue(self.server())
        self.assertFalse(self.server())

    def test_the_server_certificate_is_renewed_for_other_hosts_and_another_ca(self) -> None:
        self.server()
        self.assertTrue(self.server(("gw2.example", "127.0.0.1")))
        self.assertFalse(self.server(("127.0.0.1", "gw2.example")))
        self.authority = Authority.create("test", self.now)
        self.assertTrue(self.server(("gw2.example", "127.0.0.1")))

    def test_a_wildcard_address_is_no_host(self) -> None:
        self.assertEqual(
            server_hosts("gw.example", ("0.0.0.0", "10.1.1.1", "::", "127.0.0.1")),
            ("gw.example", "localhost", "127.0.0.1", "::1", "10.1.1.1"),
        )

    def test_a_tunnel_certificate_of_another_ca_is_refused(self) -> None:
        other = Authority.create("other", self.now)
        path = self.folder / "other.pem"
        ensure_server_certificate(other, path, ("h",), self.now)
        with self.assertRaisesRegex(AuthorityError, "which agents pin"):
            check_leads_to(load_chain(path), self.authority, path)
        self.server()
        own = self.folder / "server.pem"
        check_leads_to(load_chain(own), self.authority, own)

    def test_a_key_of_another_certificate_is_refused(self) -> None:
        self.server()
        (self.folder / "leaf.pem").write_text(pem_of(self.authority.certificate))
        with self.assertRaisesRegex(AuthorityError, "is not the key of"):
            ServerTls(self.folder / "leaf.pem", self.folder / "server.pem")
