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
from workato_agent.config.ntlm import NtlmProfile
from workato_agent.services.http.credentials import Ntlm
from workato_agent.services.http.settings import HttpSettings
from workato_agent.serving import ntlm_settings


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

    def test_other_files_of_the_same_names_are_another_config(self) -> None:
        ca = self.folder / "ca.pem"
        ca.write_bytes(self.authority.pem)
        own = self.own
        pair = f"auth: {{certificate: {{cert: {own.certificate}, key: {own.key}}}}}"
        text = f"http: {{a: {{base_url: https://a, ca: {ca}, {pair}}}}}"
        first = self.load(text).of(HttpProfile)["a"]
        self.assertEqual(self.load(text).of(HttpProfile)["a"], first)
        renewed = self.authority.issue("agent")
        own.certificate.write_bytes(renewed.certificate.read_bytes())
        own.key.write_bytes(renewed.key.read_bytes())
        second = self.load(text).of(HttpProfile)["a"]
        self.assertNotEqual(second, first)
        ca.write_bytes(TestAuthority(self.folder).pem)
        self.assertNotEqual(self.load(text).of(HttpProfile)["a"], second)

    def test_plain_http_has_no_use_for_it(self) -> None:
        text = self.text(self.own.certificate, self.own.key, url="http://a")
        self.assertIn("TLS only", self.only_fault(text)[1])

    def test_an_expired_one_is_remarked(self) -> None:
        old = self.authority.issue("agent", since=-30, until=-1)
        config = self.load(self.text(old.certificate, old.key))
        self.assertTrue(any("has expired" in remark for remark in config.remarks))


class NtlmTests(ConfigTestCase):
    def account(self, text: str) -> tuple[str, str, str | None, str | None]:
        profile = self.load(f"ntlm: {{a: {{base_url: 'http://a', {text}}}}}").of(NtlmProfile)["a"]
        account = profile.account()
        return (
            account.username,
            account.password.reveal(),
            account.domain,
            account.workstation,
        )

    def test_an_account_is_one_text_or_its_parts(self) -> None:
        for text, expected in (
            ("auth: 'scott:tiger@SALES/WS'", ("scott", "tiger", "SALES", "WS")),
            ("auth: 'scott:tiger@SALES'", ("scott", "tiger", "SALES", None)),
            ("auth: 'scott:tiger'", ("scott", "tiger", None, None)),
            ("auth: 'scott:ti:g@er@SALES/WS'", ("scott", "ti:g@er", "SALES", "WS")),
            ("auth: 'scott%40x.y:100%25%20/@d'", ("scott@x.y", "100% /", "d", None)),
            ("auth: 'scott:p%zz@'", ("scott", "p%zz", None, None)),
            ("auth: {username: scott, password: p}", ("scott", "p", None, None)),
            ("username: 'SALES\\scott', password: p@q", ("SALES\\scott", "p@q", None, None)),
            (
                "username: scott, password: p, domain: d, workstation: w",
                ("scott", "p", "d", "w"),
            ),
        ):
            with self.subTest(text):
                self.assertEqual(self.account(text), expected)

    def test_faults_are_named_and_show_no_password(self) -> None:
        for text, expected in (
            ("auth: hunter2", "expected user:password@domain/workstation"),
            ("auth: ':hunter2@d'", "expected user:password@domain/workstation"),
            ("auth: 'u:hunter2@d', username: u", "keep auth or username and password"),
            ("password: hunter2", "expected auth, or username and password"),
            ("username: u", "expected auth, or username and password"),
            ("username: 'd\\u', domain: d, password: hunter2", "has a domain already"),
            ("auth: {username: u, passwrd: hunter2}", "missing"),
            ("auth: 'u:p', cm_max_total: 0", "expected at least 1"),
            ("auth: 'u:p', http_socket_timeout: -1", "expected at least 0"),
            ("auth: 'u:p', pool: {max: 1}", "unknown key"),
        ):
            with self.subTest(text):
                error = self.faults(f"ntlm: {{a: {{base_url: 'http://a', {text}}}}}")
                self.assertIn(expected, str(error))
                self.assertNotIn("hunter2", str(error))
        config = self.load("ntlm: {a: {base_url: http://a, auth: 'u:hunter2@d'}}")
        self.assertNotIn("hunter2", repr(config))

    def test_it_stands_among_the_profiles_of_http_where_names_are_unique(self) -> None:
        one = "ntlm: {b: {base_url: http://a, auth: 'u:p', methods: [GET], paths: [/x/**]}}\n"
        config = self.load(one + "http: {a: {base_url: http://a}}")
        self.assertEqual(set(config.profiles["http"]), {"a", "b"})
        for text in (
            one + "http: {b: {base_url: http://a}}",
            "http: {b: {base_url: http://a}}\n" + one,
        ):
            (problem,) = self.faults(text).problems
            self.assertIn("of this name already", problem.message)
            self.assertEqual(problem.line, 2)

    def test_it_may_be_the_auth_of_an_http_profile(self) -> None:
        for auth in ("u:p@d", "{username: u, password: p, domain: d}"):
            text = f"http: {{a: {{base_url: http://a, auth: {{ntlm: {auth}}}}}}}"
            profile = self.load(text).of(HttpProfile)["a"]
            assert profile.auth is not None
            assert profile.auth.ntlm is not None
            self.assertEqual(profile.auth.ntlm.domain, "d")
        text = "http: {a: {base_url: http://a, auth: {ntlm: 'u:p', bearer: x}}}"
        self.assertIn("expected one of", self.only_fault(text)[1])

    def test_the_numbers_of_the_documented_format_have_their_documented_values(self) -> None:
        def settings(text: str) -> HttpSettings:
            config = self.load(f"ntlm: {{a: {{base_url: 'http://a', auth: 'u:p@d/w'{text}}}}}")
            return ntlm_settings(config.of(NtlmProfile)["a"])

        plain = settings("")
        self.assertEqual((plain.max_connections, plain.wait_timeout), (5, 10))
        self.assertEqual((plain.connect_timeout, plain.read_timeout), (10, 10))
        self.assertEqual(plain.auth, Ntlm("u", "p", "d", "w"))
        own = settings(
            ", cm_max_total: 3, http_connect_timeout: 0, http_connection_request_timeout: 2500,"
            " http_socket_timeout: 0, trustAll: true, verifyHost: false"
        )
        self.assertEqual((own.max_connections, own.wait_timeout), (3, 2.5))
        self.assertEqual((own.connect_timeout, own.read_timeout), (86_400, 0))
        self.assertEqual((own.trust_all, own.verify_host), (True, False))
