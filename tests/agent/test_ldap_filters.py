"""Filters of RFC 4515 and their parameters, compared with the bytes of RFC 4511."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ldaptor.protocols import pureber, pureldap
from ldaptor.protocols.pureldap import LDAPFilter_equalityMatch
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.ldap.filters import MAX_DEPTH, MAX_FILTER, MAX_ITEMS, filter_of
from workato_tunnel.problems import Problem

DECODER = pureldap.LDAPBERDecoderContext_Filter(
    fallback=pureber.BERDecoderContext(),
    inherit=pureldap.LDAPBERDecoderContext_Filter(fallback=pureber.BERDecoderContext()),
)


def wire(source: Any, params: Any = None) -> bytes:
    """The filter as it is sent."""
    sent: bytes = filter_of(source, params).node.toWire()
    return sent


def shape(source: Any, params: Any = None) -> str:
    """What a reader of the bytes takes the filter for."""
    node, _ = pureber.berDecodeObject(DECODER, wire(source, params))
    return repr(node)


def equality(name: bytes, value: bytes) -> bytes:
    """``(name=value)``, by hand."""
    inner = b"\x04%c%b\x04%c%b" % (len(name), name, len(value), value)
    return b"\xa3%c%b" % (len(inner), inner)


class Text(SynchronousTestCase):
    def test_each_kind_of_condition(self) -> None:
        self.assertEqual(wire("(cn=Babs)"), equality(b"cn", b"Babs"))
        self.assertEqual(wire("(cn=*)"), b"\x87\x02cn")
        self.assertEqual(wire("(cn;lang-de>=a)")[:1], b"\xa5")
        self.assertEqual(wire("(cn<=a)")[:1], b"\xa6")
        self.assertEqual(wire("(cn~=a)")[:1], b"\xa8")
        pieces = b"\x80\x01a\x81\x01b\x81\x01c\x82\x01d"
        self.assertEqual(wire("(o=a*b*c*d)"), b"\xa4\x11\x04\x01o\x30\x0c" + pieces)
        self.assertEqual(wire("(o=*b*)"), b"\xa4\x08\x04\x01o\x30\x03\x81\x01b")
        both = equality(b"a", b"1") + equality(b"b", b"2")
        self.assertEqual(wire("(&(a=1)(b=2))"), b"\xa0%c%b" % (len(both), both))
        self.assertEqual(wire(" (| (a=1) (b=2) ) "), b"\xa1%c%b" % (len(both), both))
        self.assertEqual(wire("(!(a=1))"), b"\xa2\x08" + equality(b"a", b"1"))
        self.assertEqual(wire("(&)"), b"\xa0\x00")

    def test_matching_rules(self) -> None:
        rule = b"1.2.840.113556.1.4.803"
        found = b"\x81\x16" + rule + b"\x82\x01u\x83\x012"
        self.assertEqual(wire(f"(u:{rule.decode()}:=2)"), b"\xa9%c%b" % (len(found), found))
        self.assertEqual(wire("(:dn:rule:=x)"), b"\xa9\x0c\x81\x04rule\x83\x01x\x84\x01\xff")
        self.assertEqual(wire("(cn:dn:=x)"), b"\xa9\x0a\x82\x02cn\x83\x01x\x84\x01\xff")

    def test_an_escape_is_an_octet(self) -> None:
        self.assertEqual(wire(r"(cn=\c3\a9)"), equality(b"cn", "é".encode()))
        self.assertEqual(wire("(cn=é)"), equality(b"cn", "é".encode()))
        self.assertEqual(wire(r"(cn=\2a\28\29\5c\00\ff)"), equality(b"cn", b"*()\\\0\xff"))
        self.assertEqual(wire("(cn=)"), equality(b"cn", b""))

    def test_what_is_no_filter_is_refused_by_position(self) -> None:
        for text in (
            "",
            "cn=a",
            "(cn=a",
            "(cn=a))",
            "(cn=a)(b=c)",
            "(=a)",
            "(c n=a)",
            "(cn)",
            "()",
            "(cn=(a)",
            r"(cn=\zz)",
            r"(cn=\4)",
            "(cn=a**b)",
            "(cn>=a*)",
            "(cn:=a*b)",
            "(:=a)",
            "(cn:dn=a)",
            "(!(a=b)(c=d))",
            "(!)",
            "(cn=a\0)",
            "(&(a=b)x)",
        ):
            problem = self.assertRaises(Problem, filter_of, text, None)
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "filter"}))
            self.assertTrue(problem.hint)

    def test_size_and_depth_are_bounded(self) -> None:
        for text in (
            "(!" * MAX_DEPTH + "(a=b)" + ")" * MAX_DEPTH,
            "(|" + "(a=b)" * MAX_ITEMS + ")",
            "(a=" + "b" * MAX_FILTER + ")",
        ):
            problem = self.assertRaises(Problem, filter_of, text, None)
            self.assertEqual(problem.code, "bad_request")
        filter_of("(!" * (MAX_DEPTH - 1) + "(a=b)" + ")" * (MAX_DEPTH - 1), None)

    def test_the_attributes_that_it_asks_about(self) -> None:
        found = filter_of("(&(CN;lang-de=a)(!(mail=*))(u:1.2.3:=1)(o=*x))", None)
        self.assertEqual(found.types, {"cn", "mail", "u", "o"})
        self.assertEqual(filter_of("(:rule:=1)", None).types, {None})
        self.assertEqual(filter_of("(cn:dn:=1)", None).types, {None})


class Parameters(SynchronousTestCase):
    def test_a_value_is_never_a_part_of_the_filter(self) -> None:
        for value in (
            "*)(uid=*",
            "*",
            "a*",
            r"\2a",
            ")(|(uid=*))",
            "x)(userPassword=*",
            "\0",
            ":y",
        ):
            self.assertEqual(wire("(uid=:u)", {"u": value}), equality(b"uid", value.encode()))

    def test_whatever_it_is(self) -> None:
        @settings(deadline=None)
        @given(st.text(max_size=60))
        def literally(value: str) -> None:
            source = "(&(objectClass=person)(|(uid=:u)(cn=*:u*)))"
            if not value:
                return
            expected = pureldap.LDAPFilter_and(
                [
                    _equal("objectClass", b"person"),
                    pureldap.LDAPFilter_or(
                        [
                            _equal("uid", value.encode()),
                            pureldap.LDAPFilter_substrings(
                                type="cn",
                                substrings=[pureldap.LDAPFilter_substrings_any(value.encode())],
                            ),
                        ]
                    ),
                ]
            )
            self.assertEqual(wire(source, {"u": value}), expected.toWire())

        literally()

    def test_pieces_between_asterisks(self) -> None:
        found = shape("(cn=:a*:b*:c)", {"a": "x*", "b": "y", "c": "z"})
        for piece in ("initial(value=b'x*'", "any(value=b'y'", "final(value=b'z'"):
            self.assertIn(piece, found)

    def test_an_empty_piece_would_find_more_and_is_refused(self) -> None:
        problem = self.assertRaises(Problem, filter_of, "(cn=:a*)", {"a": ""})
        self.assertEqual(problem.extra, {"field": "params.a"})
        self.assertEqual(wire("(cn=:a)", {"a": ""}), equality(b"cn", b""))

    def test_numbers_truth_and_bytes(self) -> None:
        for value, sent in (
            (7, b"7"),
            (True, b"TRUE"),
            ({"base64": base64.b64encode(b"\0\xff").decode()}, b"\0\xff"),
        ):
            self.assertEqual(wire("(a=:v)", {"v": value}), equality(b"a", sent))
        for value in (None, 1.5, [], ["a"], {"base64": "?"}, {"base64": 1}, {"x": 1}):
            problem = self.assertRaises(Problem, filter_of, "(a=:v)", {"v": value})
            self.assertEqual(problem.code, "bad_request")

    def test_missing_unused_and_half_parameters_are_refused(self) -> None:
        for text, params, field in (
            ("(a=:v)", {}, "params.v"),
            ("(a=:v)", None, "params.v"),
            ("(a=b)", {"v": "x"}, "params.v"),
            ("(a=:v@ex.org)", {"v": "x"}, "filter"),
            ("(a=:)", None, "filter"),
            ("(a=:1)", None, "filter"),
        ):
            problem = self.assertRaises(Problem, filter_of, text, params)
            self.assertEqual(problem.extra, {"field": field})

    def test_a_colon_elsewhere_is_itself(self) -> None:
        self.assertEqual(wire("(a=SMTP:x)"), equality(b"a", b"SMTP:x"))
        self.assertEqual(wire(r"(a=\3av)"), equality(b"a", b":v"))

    def test_half_a_surrogate_pair_is_refused(self) -> None:
        for source, params in (("(a=\ud800)", None), ("(a=:v)", {"v": "\ud800"})):
            problem = self.assertRaises(Problem, filter_of, source, params)
            self.assertEqual(problem.code, "bad_request")


def _equal(name: str, value: bytes) -> Any:
    return LDAPFilter_equalityMatch(
        attributeDesc=pureldap.LDAPAttributeDescription(name),
        assertionValue=pureldap.LDAPAssertionValue(value),
    )


class Objects(SynchronousTestCase):
    def test_they_mean_what_the_text_means(self) -> None:
        for source, text in (
            ({"attribute": "cn", "equals": "a*"}, r"(cn=a\2a)"),
            ({"attribute": "cn", "present": True}, "(cn=*)"),
            ({"attribute": "n", "at_least": 5}, "(n>=5)"),
            ({"attribute": "n", "at_most": 5}, "(n<=5)"),
            ({"attribute": "n", "approximately": "x"}, "(n~=x)"),
            (
                {"attribute": "cn", "starts_with": "a", "contains": "(", "ends_with": "c"},
                r"(cn=a*\28*c)",
            ),
            ({"attribute": "cn", "contains": "b"}, "(cn=*b*)"),
            (
                {
                    "and": [
                        {"attribute": "a", "equals": 1},
                        {"or": []},
                        {"not": {"attribute": "b", "equals": 2}},
                    ]
                },
                "(&(a=1)(|)(!(b=2)))",
            ),
            ({"attribute": "u", "rule": "1.2.3", "value": 2}, "(u:1.2.3:=2)"),
            ({"rule": "r", "value": "v", "dn": True}, "(:dn:r:=v)"),
        ):
            self.assertEqual(wire(source), wire(text))

    def test_others_are_refused_where_they_stand(self) -> None:
        for source, field in (
            ({}, "filter.attribute"),
            ({"and": {}}, "filter.and"),
            ({"and": [1]}, "filter.and[0]"),
            ({"not": {"attribute": "a"}}, "filter.not"),
            ({"attribute": "a)(b", "equals": 1}, "filter.attribute"),
            ({"attribute": "a", "equals": None}, "filter.equals"),
            ({"attribute": "a", "present": False}, "filter.present"),
            ({"attribute": "a", "starts_with": ""}, "filter.starts_with"),
            ({"attribute": "a", "equals": 1, "at_least": 2}, "filter"),
            ({"attribute": "a", "equals": 1, "and": []}, "filter"),
            ({"rule": "r;x", "value": 1}, "filter.rule"),
            ({"rule": "r"}, "filter"),
            ({"rule": "r", "value": 1, "dn": 1}, "filter.dn"),
        ):
            problem = self.assertRaises(Problem, filter_of, source, None)
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": field}))
        problem = self.assertRaises(
            Problem, filter_of, {"attribute": "a", "present": True}, {"v": 1}
        )
        self.assertEqual(problem.extra, {"field": "params"})

    def test_their_depth_is_bounded(self) -> None:
        source: dict[str, Any] = {"attribute": "a", "present": True}
        for _ in range(MAX_DEPTH):
            source = {"not": source}
        self.assertRaises(Problem, filter_of, source, None)
