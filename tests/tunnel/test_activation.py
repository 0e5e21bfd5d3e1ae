"""Activation codes: what goes in comes out, and what is no code is refused without being shown."""

from __future__ import annotations

import hashlib
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel.activation import (
    PREFIX,
    ActivationCode,
    ActivationCodeError,
    EnrolmentRequest,
    secret_digest,
)

LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
HOSTS = st.one_of(
    st.lists(LABEL, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
)
AUTHORITIES = st.one_of(HOSTS, st.tuples(HOSTS, st.integers(1, 65535)).map("{0[0]}:{0[1]}".format))
CODES = st.builds(
    ActivationCode,
    AUTHORITIES,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
)
CODE = ActivationCode("gw.example:8443", bytes(range(16)), bytes(range(32)))


class Codes(SynchronousTestCase):
    @settings(deadline=None)
    @given(CODES)
    def test_a_code_read_back_is_the_same(self, code: ActivationCode) -> None:
        text = code.format()
        self.assertEqual(ActivationCode.parse(text), code)
        self.assertTrue(set(text) <= set(string.ascii_letters + string.digits + "-_"))
        self.assertLess(len(text), 250)

    @settings(deadline=None)
    @given(CODES, st.integers(0, 200), st.sampled_from(" \n\t\r"))
    def test_blanks_and_line_breaks_do_no_harm(
        self, code: ActivationCode, place: int, blank: str
    ) -> None:
        text = code.format()
        broken = f"{blank}{text[:place]}{blank}{text[place:]}{blank}"
        self.assertEqual(ActivationCode.parse(broken), code)

    @settings(deadline=None)
    @given(CODES, st.data())
    def test_a_mistyped_character_is_noticed(
        self, code: ActivationCode, data: st.DataObject
    ) -> None:
        text = code.format()
        place = data.draw(st.integers(0, len(text) - 2))
        other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_"))
        changed = text[:place] + other + text[place + 1 :]
        if changed == text:
            return
        with self.assertRaises(ActivationCodeError):
            ActivationCode.parse(changed)

    @settings(deadline=None)
    @given(CODES, st.integers(0, 100))
    def test_a_code_cut_short_is_noticed(self, code: ActivationCode, length: int) -> None:
        text = code.format()
        with self.assertRaises(ActivationCodeError):
            ActivationCode.parse(text[: min(length, len(text) - 2)])

    @settings(deadline=None)
    @given(st.one_of(st.text(), st.text(max_size=300).map(lambda text: PREFIX + text)))
    def test_anything_else_is_refused_and_not_repeated(self, text: str) -> None:
        try:
            ActivationCode.parse(text)
        except ActivationCodeError as error:
            rest = text.removeprefix(PREFIX).strip()
            if len(rest) > 12:
                self.assertNotIn(rest, str(error))
        else:
            self.fail("no code, and taken for one")

    def test_the_form_is_stable(self) -> None:
        self.assertEqual(
            CODE.format(),
            "onpremcode1_AAECAwQFBgcICQoLDA0ODwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fZ3cuZXhhb"
            "XBsZTo4NDQz8b3ZYQ",
        )

    def test_it_names_where_to_go(self) -> None:
        self.assertEqual(CODE.tunnel_url, "wss://gw.example:8443/tunnel")
        self.assertEqual(CODE.enrol_url, "https://gw.example:8443/enrol")

    def test_addresses_that_are_more_than_host_and_port_are_refused(self) -> None:
        for authority in ("", "a/b", "user@host", "a b", "a:b", "a:1?x", "::1", "a:123456", "é"):
            with self.assertRaises(ActivationCodeError):
                ActivationCode(authority, b"s" * 16, b"p" * 32)
        for secret, pin in ((b"", b"p" * 32), (b"s" * 16, b"")):
            with self.assertRaises(ActivationCodeError):
                ActivationCode("host", secret, pin)

    def test_the_secret_is_not_shown(self) -> None:
        code = ActivationCode("host", b"secret-secret-16", b"p" * 32)
        self.assertNotIn("secret", repr(code).lower())
        request = EnrolmentRequest(secret=code.secret_text, csr="x", name="n")
        self.assertNotIn(code.secret_text, repr(request))

    def test_the_digest_is_of_the_raw_secret(self) -> None:
        self.assertEqual(secret_digest(CODE.secret_text), hashlib.sha256(CODE.secret).digest())
        for text in ("", "short", CODE.secret_text + "A" * 4, "é" * 22, "*" * 22):
            with self.assertRaises(ActivationCodeError):
                secret_digest(text)
