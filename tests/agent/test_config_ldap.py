"""Profiles of directories in config.yml."""

from __future__ import annotations

import subprocess
import sys

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet import reactor

from tests.support.certificates import write_certificates
from tests.support.configs import ConfigTestCase
from workato_agent import serving_ldap
from workato_agent.config.ldap import LdapProfile
from workato_agent.serving_ldap import ldap_service, ldap_settings


class LdapConfigCase(ConfigTestCase):
    def profile(self, text: str) -> LdapProfile:
        return self.load(f"ldap: {{a: {{{text}}}}}").of(LdapProfile)["a"]

    def fault(self, text: str) -> tuple[str, str]:
        path, message = self.only_fault(f"ldap: {{a: {{{text}}}}}")
        return path.removeprefix("ldap.a").removeprefix("."), message


class Documented(LdapConfigCase):
    """The format of the Workato agent's documentation."""

    def setUp(self) -> None:
        super().setUp()
        write_certificates(self.folder, "agent")

    def test_its_example_loads_as_it_is(self) -> None:
        config = self.load(
            f"""
            ldap:
              active_directory_main:
                url: ldaps://acme.ldap.com:636
                username: Administrator
                password: foobar
                base: dc=acme,dc=com
                timeout: 20
                ssl:
                  cert: {self.folder.absolute()}/ca.crt
                  trustAll: true
            """
        )
        settings = ldap_settings(config.of(LdapProfile)["active_directory_main"])
        (server,) = settings.servers
        self.assertEqual((server.host, server.port, server.secure), ("acme.ldap.com", 636, True))
        self.assertEqual((settings.username, settings.password), ("Administrator", "foobar"))
        self.assertEqual((settings.base.text, settings.connect_timeout), ("dc=acme,dc=com", 20))
        self.assertTrue(settings.tls.trust_all)
        self.assertEqual(settings.tls.ca, (self.folder / "ca.crt").read_bytes())
        self.assertNotIn("foobar", repr(settings) + repr(config))

    def test_several_urls_and_the_users_other_name(self) -> None:
        profile = self.profile(
            "url: 'ldaps://a, ldap://b:3389,ldap://[::1]', userDN: 'cn=x', password: p"
        )
        self.assertEqual(
            [str(server) for server in ldap_settings(profile).servers],
            ["a:636", "b:3389", "[::1]:389"],
        )
        self.assertEqual(profile.username, "cn=x")

    def test_certificates_may_stand_in_the_file_itself(self) -> None:
        pem, key = ((self.folder / name).read_text() for name in ("client.crt", "client.key"))
        indented = [text.replace("\n", "\n                    ") for text in (pem, key)]
        config = self.load(
            f"""
            ldap:
              a:
                url: ldaps://a
                base: dc=x
                ssl:
                  pem: |
                    {indented[0]}
                  key: |
                    {indented[1]}
            """
        )
        shown = ldap_settings(config.of(LdapProfile)["a"]).tls.certificate
        assert shown is not None
        self.assertEqual(shown.chain.decode().strip(), pem.strip())
        self.assertNotIn(key.splitlines()[1], repr(config))


class Certificates(LdapConfigCase):
    def setUp(self) -> None:
        super().setUp()
        write_certificates(self.folder, "agent")

    def test_files_are_read_and_their_change_is_a_change(self) -> None:
        text = "url: ldaps://a, base: dc=x, ssl: {cert: ca.crt, pem: client.crt, key: client.key}"
        first, again = self.profile(text), self.profile(text)
        self.assertEqual(first, again)
        write_certificates(self.folder, "agent")
        self.assertNotEqual(first, self.profile(text))

    def test_each_fault_names_its_key(self) -> None:
        for text, path, message in (
            ("cert: none.crt", "ssl.cert", "there is no such file"),
            ("cert: client.key", "ssl.cert", "no certificate"),
            ("cert: .", "ssl.cert", "can't be read"),
            ("pem: client.crt", "ssl", "go together"),
            ("key: client.key", "ssl", "go together"),
            ("pem: client.crt, key: server.key", "ssl.key", "not the key of"),
            ("pem: client.crt, key: client.crt", "ssl.key", "no private key"),
        ):
            found = self.fault(f"url: ldaps://a, ssl: {{{text}}}")
            self.assertEqual(found[0], path)
            self.assertIn(message, found[1])

    def test_an_encrypted_key_takes_its_password(self) -> None:
        key = load_pem_private_key((self.folder / "client.key").read_bytes(), None)
        locked = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret")
        )
        (self.folder / "locked.key").write_bytes(locked)
        text = "url: ldaps://a, base: dc=x, ssl: {pem: client.crt, key: locked.key, password: %s}"
        profile = self.profile(text % "s3cret")
        ldap_service(reactor, "a", profile)
        path, message = self.fault(text % "wr0ng")
        self.assertEqual(path, "ssl.key")
        self.assertNotIn("wr0ng", message)


class Faults(LdapConfigCase):
    def test_each_says_what_was_expected(self) -> None:
        for text, path, message in (
            ("base: dc=x", "url", "missing"),
            ("url: 'http://a'", "url", "ldap:// or ldaps://"),
            ("url: 'ldap://a,b'", "url", "ldap:// or ldaps://"),
            ("url: 'ldap://u:hunter2@a'", "url", "without credentials"),
            ("url: 'ldap://a/dc=x'", "url", "base is a key"),
            ("url: 'ldap://a:99999'", "url", "malformed"),
            ("url: 'ldap://bücher.intra'", "url", "ASCII"),
            ("url: 'ldap://a,'", "url", "ldap:// or ldaps://"),
            (f"url: '{','.join(['ldap://a'] * 17)}'", "url", "more than 16"),
            ("url: ldap://a, base: acme", "base", "is no DN"),
            ("url: ldap://a, username: u", "", "go together"),
            ("url: ldap://a, password: p", "", "go together"),
            ("url: ldap://a, username: u, password: ''", "password", "is empty"),
            ("url: ldaps://a, startTls: true", "startTls", "ldap:// only"),
            ("url: ldap://a, policy: {bases: [x]}", "policy.bases[0]", "is no DN"),
            ("url: ldap://a, policy: {read_attributes: ['a b']}", "policy.read_attributes[0]",
             "name of an attribute"),
            ("url: ldap://a, policy: {operations: [serch]}", "policy.operations[0]", "'search'"),
            ("url: ldap://a, page_size: 0", "page_size", ""),
        ):  # fmt: skip
            found = self.fault(text)
            self.assertEqual(found[0], path, found)
            self.assertIn(message, found[1])
            self.assertNotIn("hunter2", found[1])

    def test_the_policy_is_passed_on(self) -> None:
        profile = self.profile(
            "url: ldap://a, base: 'dc=x,dc=y', policy: {operations: [search], bases: ['ou=p',"
            " 'ou=q,DC=X,DC=Y'], read_attributes: [CN], write_attributes: [mail],"
            " max_entries: 5, max_bytes: 1KiB}"
        )
        policy = ldap_settings(profile).policy
        assert policy.bases is not None
        self.assertEqual([base.text for base in policy.bases], ["ou=p,dc=x,dc=y", "ou=q,dc=x,dc=y"])
        self.assertEqual((policy.readable, policy.writable), ({"cn"}, {"mail"}))
        self.assertEqual((policy.max_entries, policy.max_bytes), (5, 1024))
        service = ldap_service(reactor, "a", profile)
        self.assertEqual((service.type, service.operations), ("ldap", ("test", "search")))


class Installed(LdapConfigCase):
    def test_a_profile_without_ldaptor_names_the_extra(self) -> None:
        profile = self.profile("url: ldaps://a, base: dc=x")
        self.patch(serving_ldap, "find_spec", lambda _name: None)
        error = self.assertRaises(ValueError, ldap_service, reactor, "a", profile)
        self.assertIn("workato-agent[ldap]", str(error))

    def test_an_agent_without_such_profiles_does_not_load_it(self) -> None:
        code = "import workato_agent.served, sys; sys.exit('ldaptor' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Remarks(LdapConfigCase):
    def test_what_is_open_or_not_secured_is_said(self) -> None:
        for text, expected in (
            ("url: ldaps://a, base: dc=x", ()),
            ("url: ldap://a, startTls: true, base: dc=x", ()),
            ("url: 'ldap://127.0.0.1,ldap://localhost', base: dc=x", ()),
            ("url: 'ldaps://a,ldap://b', base: dc=x", ("unencrypted",)),
            ("url: ldaps://a, base: dc=x, ssl: {trustAll: true}", ("trustAll",)),
            ("url: ldaps://a, base: dc=x, ssl: {verifyHost: false}", ("verifyHost",)),
            ("url: ldaps://a", ("without base",)),
            ("url: ldaps://a, policy: {bases: [dc=x]}", ()),
        ):
            remarks = self.profile(text).remarks()
            self.assertEqual(len(remarks), len(expected), remarks)
            for remark, words in zip(remarks, expected, strict=True):
                self.assertIn(words, remark)
