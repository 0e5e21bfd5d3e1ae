"""Profiles of HTTP applications in config.yml: how the agent shows who it is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from shutil import rmtree

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.configs import ConfigTestCase
from tests.support.http import TestAuthority
from workato_agent.config.http import HttpProfile


class CertificateTests(ConfigTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(rmtree, self.folder)
        self.authority = TestAuthority(self.folder)
        self.own = self.authority.issue("agent")

    def text(self, cert: Path, key: Path, more: str = "", url: str = "https://a") -> str:
        pair = f"{{cert: {cert}, key: {key}{more}}}"
        return f"http: {{a: {{base_url: '{url}', auth: {{certificate: {pair}}}}}}}"

    def refused(self, cert: Path, key: Path, more: str = "") -> tuple[str, str]:
        error = self.faults(self.text(cert, key, more))
        (problem,) = error.problems
        return problem.path.removeprefix("http.a.auth.certificate."), problem.message

    def test_a_pair_that_fits_is_taken(self) -> None:
        profile = self.load(self.text(self.own.certificate, self.own.key)).of(HttpProfile)["a"]
        assert profile.auth is not None
        assert profile.auth.certificate is not None
        self.assertEqual(profile.auth.certificate.key, self.own.key)
        self.assertEqual(profile.remarks(), ())

    def test_it_may_stand_beside_a_bearer_token_and_not_beside_two_kinds(self) -> None:
        pair = f"certificate: {{cert: {self.own.certificate}, key: {self.own.key}}}"
        basic = "basic: {username: u, password: p}"
        text = "http: {a: {base_url: https://a, auth: {%s}}}"
        self.load(text % f"{pair}, bearer: x")
        self.load(text % f"{pair}, {basic}")
        self.assertIn("expected one", self.only_fault(text % f"{pair}, bearer: x, {basic}")[1])

    def test_each_fault_names_its_key(self) -> None:
        other, own = self.authority.issue("other"), self.own
        missing = self.folder / "missing"
        self.assertEqual(self.refused(missing, own.key), ("cert", "there is no such file"))
        self.assertEqual(self.refused(own.certificate, missing), ("key", "there is no such file"))
        self.assertIn("can't be read", self.refused(self.folder, own.key)[1])
        self.assertIn("no certificate", self.refused(own.key, own.key)[1])
        self.assertIn("no private key", self.refused(own.certificate, own.certificate)[1])
        self.assertIn("not the key of", self.refused(own.certificate, other.key)[1])
        more = ", password: hunter2"
        self.assertIn("not encrypted", self.refused(own.certificate, own.key, more)[1])

    def test_an_encrypted_key_needs_its_password(self) -> None:
        key = load_pem_private_key(self.own.key.read_bytes(), None)
        locked = self.folder / "locked.key"
        locked.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
        )
        self.assertIn("is encrypted", self.refused(self.own.certificate, locked)[1])
        wrong = self.refused(self.own.certificate, locked, ", password: hunter2")
        self.assertEqual(wrong, ("key", "can't be decrypted with this password"))
        self.load(self.text(self.own.certificate, locked, ", password: s3cret"))

    def test_plain_http_has_no_use_for_it(self) -> None:
        text = self.text(self.own.certificate, self.own.key, url="http://a")
        self.assertIn("TLS only", self.only_fault(text)[1])

    def test_an_expired_one_is_remarked(self) -> None:
        old = self.authority.issue("agent", since=-30, until=-1)
        config = self.load(self.text(old.certificate, old.key))
        self.assertTrue(any("has expired" in remark for remark in config.remarks))
