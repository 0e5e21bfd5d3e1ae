"""What directories answer, read from bytes; and bytes that no directory sends."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from ldaptor.protocols import pureber, pureldap
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.ldap.replies import (
    PAGED,
    Entry,
    Malformed,
    Reference,
    Result,
    id_of,
    length_of,
    reply_of,
)

VALUE = st.binary(max_size=300)
ATTRIBUTES = st.lists(
    st.tuples(st.sampled_from(["cn", "mail;lang-de", "jpegPhoto"]), st.lists(VALUE, max_size=3)),
    max_size=4,
)


def message(operation: Any, *, ident: int = 7, controls: Any = None) -> bytes:
    """ldaptor's encoding."""
    wire: bytes = pureldap.LDAPMessage(operation, controls=controls, id=ident).toWire()
    return wire


class Reading(SynchronousTestCase):
    def test_entries_as_ldaptor_writes_them(self) -> None:
        @settings(deadline=None)
        @given(st.text(max_size=30), ATTRIBUTES, st.integers(1, 2**31 - 1))
        def same(dn: str, attributes: list[tuple[str, list[bytes]]], ident: int) -> None:
            data = message(pureldap.LDAPSearchResultEntry(dn, attributes), ident=ident)
            self.assertEqual(length_of(data), len(data))
            self.assertEqual(id_of(data), ident)
            expected = tuple((name, tuple(values)) for name, values in attributes)
            self.assertEqual(reply_of(data), Entry(dn, expected))

        same()

    def test_results_with_referrals_and_controls(self) -> None:
        done = pureldap.LDAPSearchResultDone(10, "dc=x", "elsewhere")
        inner = done.toWire()[2:] + b"\xa3\x0d\x04\x0bldap://a/b1"
        operation = bytes((0x65, len(inner))) + inner
        body = b"\x02\x01\x07" + operation
        reply = reply_of(bytes((0x30, len(body))) + body)
        self.assertEqual(reply, Result(10, "dc=x", "elsewhere", ("ldap://a/b1",)))

        value = pureber.BERSequence([pureber.BERInteger(0), pureber.BEROctetString(b"\0more")])
        data = message(pureldap.LDAPSearchResultDone(0), controls=[(PAGED, None, value.toWire())])
        reply = reply_of(data)
        assert isinstance(reply, Result)
        self.assertEqual((reply.code, reply.cookie), (0, b"\0more"))
        reply = reply_of(message(pureldap.LDAPSearchResultDone(0)))
        assert isinstance(reply, Result)
        self.assertEqual(reply.cookie, b"")

    def test_extended_responses_and_references(self) -> None:
        reply = reply_of(
            message(pureldap.LDAPExtendedResponse(0, responseName="1.2", response="x"))
        )
        self.assertEqual(reply, Result(0, name=b"1.2", value=b"x"))
        reference = b"\x30\x0d\x02\x01\x07\x73\x08\x04\x06ldap:/"
        self.assertEqual(reply_of(reference), Reference(("ldap:/",)))
        self.assertIsNone(reply_of(b"\x30\x05\x02\x01\x07\x79\x00"))

    def test_a_large_group_takes_no_longer_than_its_size(self) -> None:
        members = [b"uid=user%d,ou=people,dc=example,dc=org" % number for number in range(50_000)]
        data = message(pureldap.LDAPSearchResultEntry("cn=all", [("member", members)]))
        began = time.process_time()
        reply = reply_of(data)
        self.assertLess(time.process_time() - began, 1.0)
        assert isinstance(reply, Entry)
        self.assertEqual(len(reply.attributes[0][1]), 50_000)


class Hostile(SynchronousTestCase):
    def test_anything_is_a_reply_or_malformed(self) -> None:
        @settings(deadline=None)
        @given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: b"\x30" + data))
        @example(b"\x30\x80\x02\x01\x01\x64\x00\x00\x00")
        @example(b"\x30\x84\xff\xff\xff\xff\x02")
        @example(b"\x30\x03\x02\x01\x07")
        @example(b"\x30\x05\x02\x01\x07\x99\x00")
        def read(data: bytes) -> None:
            for reader in (length_of, id_of, reply_of):
                try:
                    reader(data)
                except Malformed as error:
                    self.assertTrue(str(error))

        read()

    def test_a_message_that_is_cut_or_changed_is_malformed_or_another(self) -> None:
        whole = message(pureldap.LDAPSearchResultEntry("cn=a", [("cn", [b"a", b"b"])]))
        for cut in range(2, len(whole)):
            body = whole[2:cut]
            with self.assertRaises(Malformed):
                reply_of(bytes((0x30, len(body))) + body)

        @settings(deadline=None)
        @given(st.integers(0, len(whole) - 1), st.integers(0, 255))
        def changed(index: int, octet: int) -> None:
            data = bytearray(whole)
            data[index] = octet
            try:
                reply_of(bytes(data))
            except Malformed as error:
                self.assertTrue(str(error))

        changed()

    def test_the_length_is_known_as_soon_as_it_can_be(self) -> None:
        self.assertIsNone(length_of(b""))
        self.assertIsNone(length_of(b"\x30"))
        self.assertIsNone(length_of(b"\x30\x82\x01"))
        self.assertEqual(length_of(b"\x30\x82\x01\x00"), 260)
        self.assertEqual(length_of(b"\x30\x84\x7f\xff\xff\xff"), 6 + 0x7FFFFFFF)
        for data in (b"HTTP/1.1 400", b"\x30\x80", b"\x30\x85\0\0\0\0\0", b"\x16\x03\x01"):
            self.assertRaises(Malformed, length_of, data)
