"""Distinguished names: read, compared, and written so that they lead where they say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.config.distinguishednames import MAX_NAME, Name, Pair, Part
from workato_agent.services.ldap.guard import Guard
from workato_agent.services.ldap.settings import LdapPolicy
from workato_tunnel.problems import Problem

BASE = Name.parse("ou=People,dc=ex,dc=org")

TYPES = st.sampled_from(["cn", "ou", "uid", "DC", "2.5.4.3"])
VALUES = st.text(max_size=12) | st.binary(max_size=6)


def _pair(kind: str, value: str | bytes) -> Pair:
    if isinstance(value, bytes):
        try:
            return Pair(kind, value.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return Pair(kind, value)


PAIRS = st.builds(_pair, TYPES, VALUES)
NAMES = st.lists(
    st.builds(Part, st.lists(PAIRS, min_size=1, max_size=2).map(tuple)), max_size=4
).map(lambda parts: Name(tuple(parts)))


class Reading(SynchronousTestCase):
    def text(self, name: str) -> str:
        return Name.parse(name).text

    def test_what_is_written_is_read_as_the_same(self) -> None:
        @settings(deadline=None)
        @given(NAMES)
        def same(name: Name) -> None:
            self.assertEqual(Name.parse(name.text).parts, name.parts)

        same()

    def test_examples_of_the_standard(self) -> None:
        for text in (
            "UID=jsmith,DC=example,DC=net",
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            r"CN=James \"Jim\" Smith\, III,DC=example,DC=net",
            r"CN=Before\0dAfter,DC=example,DC=net",
            "1.3.6.1.4.1.1466.0=#04024869",
        ):
            self.assertEqual(self.text(text), text)
        self.assertEqual(self.text(r"CN=Lu\C4\8Di\C4\87"), "CN=Lučić")

    def test_spaces_around_and_escapes_of_either_kind(self) -> None:
        self.assertEqual(self.text(" cn = Ann Lee , dc = org "), "cn=Ann Lee,dc=org")
        self.assertEqual(self.text(r"cn=\20a\20,o=x"), r"cn=\ a\ ,o=x")
        self.assertEqual(self.text(r"cn=a\2cdc\3dx"), r"cn=a\,dc\=x")
        self.assertEqual(self.text(r"cn=a\2Cb"), self.text(r"cn=a\,b"))
        self.assertEqual(self.text(r"cn=\ff\fe"), r"cn=\ff\fe")
        self.assertEqual(self.text("cn="), "cn=")
        self.assertEqual(self.text(""), "")

    def test_what_is_none_is_refused_by_position(self) -> None:
        for text in (
            "ann",
            "cn=a,",
            "cn=a;dc=b",
            'cn="a"',
            "cn=<a>",
            "=a",
            "cn=a\0",
            r"cn=a\x",
            "cn=a\\",
            "cn=#zz",
            "cn=#0",
            "1.=a",
            ",cn=a",
            "cn=a,,dc=b",
            "cn=a++cn=b",
        ):
            with self.assertRaises(ValueError, msg=text) as caught:
                Name.parse(text)
            self.assertIn("character", str(caught.exception))

    def test_the_length_is_bounded(self) -> None:
        for text in ("cn=" + "a" * MAX_NAME, ",".join(["c=a"] * 65)):
            self.assertRaises(ValueError, Name.parse, text)


class Comparing(SynchronousTestCase):
    def below(self, text: str) -> str | None:
        found = Name.parse(text).below(BASE)
        return None if found is None else found.text

    def test_case_spaces_and_the_order_of_pairs_do_not_count(self) -> None:
        self.assertEqual(self.below("uid=a,OU=people,DC=EX,dc=Org"), "uid=a")
        self.assertEqual(self.below("uid=a, ou=  People ,dc=ex,dc=org"), "uid=a")
        self.assertEqual(self.below("ou=people,dc=ex,dc=org"), "")
        base = Name.parse("cn=x+sn=y")
        self.assertIsNotNone(Name.parse("uid=a,sn=Y+cn=X").below(base))

    def test_others_are_not_below(self) -> None:
        for text in ("dc=ex,dc=org", "uid=a,ou=people,dc=ex,dc=com", r"uid=a\,ou=people,dc=ex", ""):
            self.assertIsNone(self.below(text))


class Confined(SynchronousTestCase):
    """Whatever a caller names, what is sent ends with the config's own text."""

    def setUp(self) -> None:
        self.guard = Guard("ad", BASE, LdapPolicy())
        inner = Name.parse("ou=Eng,ou=People,dc=ex,dc=org")
        self.narrow = Guard("ad", BASE, LdapPolicy(bases=(inner,)))

    def test_names_are_relative_unless_they_end_with_the_base(self) -> None:
        for text, sent in (
            ("", BASE.text),
            ("uid=a", f"uid=a,{BASE.text}"),
            ("uid=a,OU=PEOPLE,DC=EX,DC=ORG", f"uid=a,{BASE.text}"),
            ("cn=admin,dc=ex,dc=org", f"cn=admin,dc=ex,dc=org,{BASE.text}"),
            (r"uid=a\,ou=people\,dc=ex", rf"uid=a\,ou\=people\,dc\=ex,{BASE.text}"),
        ):
            self.assertEqual(self.guard.entry(text, "dn").text, sent)

    def test_no_name_leads_outside(self) -> None:
        @settings(deadline=None)
        @given(st.text(max_size=40) | NAMES.map(lambda name: name.text))
        def inside(text: str) -> None:
            try:
                sent = self.guard.entry(text, "dn").text
            except Problem as problem:
                self.assertEqual(problem.code, "bad_request")
            else:
                self.assertTrue(sent == BASE.text or sent.endswith("," + BASE.text))
                self.assertIsNotNone(Name.parse(sent).below(BASE))

        inside()

    def test_bases_of_the_policy_are_subtrees(self) -> None:
        allowed = self.narrow.entry("uid=a,ou=eng", "dn").text
        self.assertEqual(allowed, "uid=a,ou=Eng,ou=People,dc=ex,dc=org")
        for text in ("", "uid=a", "ou=engineers", r"uid=a\,ou=eng", "ou=eng,ou=eng2"):
            problem = self.assertRaises(Problem, self.narrow.entry, text, "dn")
            self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "bases"}))

    def test_nothing_is_renamed_out_of_it(self) -> None:
        new = Name.parse("ou=Staff,dc=ex,dc=org")
        problem = self.assertRaises(Problem, self.guard.renamed, new)
        self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "base"}))
        new = Name.parse("uid=b,ou=people,dc=ex,dc=org")
        problem = self.assertRaises(Problem, self.narrow.renamed, new)
        self.assertEqual(problem.extra, {"rule": "bases"})

    def test_a_new_rdn_is_one_part(self) -> None:
        self.assertEqual(self.guard.part("uid=b+cn=c", "new_rdn").text, "uid=b+cn=c")
        for text in ("", "uid=b,ou=x", "b"):
            problem = self.assertRaises(Problem, self.guard.part, text, "new_rdn")
            self.assertEqual(problem.extra["field"], "new_rdn")
