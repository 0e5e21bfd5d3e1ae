"""Redirects of a target: which are followed, and that none leads away from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.configs import ConfigTestCase
from workato_agent.config.http import HttpProfile
from workato_agent.policy import permits
from workato_agent.services.http.messages import Incoming
from workato_agent.services.http.redirects import Hop, next_hop
from workato_agent.services.http.target import parse_base_url


def answer(location: str | None, status: int = 302) -> Incoming:
    """A redirect without a body."""
    fields = [] if location is None else [("location", location)]
    return Incoming(status, fields, 0, b"")


class NextHopTests(SynchronousTestCase):
    origin = parse_base_url("http://App.intra:8080/api")

    def hop(self, location: str | None, method: str = "GET", status: int = 302) -> Hop | None:
        return next_hop(self.origin, method, "/api/a/b?q=1", answer(location, status))

    def test_within_the_application_it_is_followed(self) -> None:
        for location, path, query in (
            ("/api/x", "x", ""),
            ("x?y=%2F&z", "a/x", "y=%2F&z"),
            ("../c#part", "c", ""),
            ("?q=2", "a/b", "q=2"),
            ("http://app.INTRA:8080/api/x/", "x/", ""),
            ("HTTP://app.intra:8080/api", "", ""),
            ("//app.intra:8080/api/", "/", ""),
            ("/api/a%2Fb", "a%2Fb", ""),
        ):
            with self.subTest(location):
                hop = self.hop(location)
                assert hop is not None
                self.assertEqual((hop.method, hop.path, hop.query), ("GET", path, query))
                self.assertTrue(hop.target.startswith("/api"))

    def test_the_usual_port_may_be_left_out(self) -> None:
        for base, location in (
            ("https://a", "https://a:443/x"),
            ("https://a:443", "https://a/x"),
            ("http://a", "http://a:80/x"),
        ):
            self.assertIsNotNone(next_hop(parse_base_url(base), "GET", "/", answer(location)))

    def test_elsewhere_it_is_not(self) -> None:
        for location in (
            None,
            "",
            "http://other.intra:8080/api/x",
            "http://app.intra/api/x",
            "http://app.intra:8081/api/x",
            "https://app.intra:8080/api/x",
            "//other/api/x",
            "///other/api/x",
            "http://app.intra:8080@other/api/x",
            "http://user@app.intra:8080/api/x",
            "http://app.intra:8080.other/api/x",
            "http://app.intra:99999/api/x",
            "http://[::1/api/x",
            "ftp://app.intra:8080/api/x",
            "javascript:alert(1)",
            "/login",
            "/apix",
            "/api/%2e%2e/x",
            "/api/..;/x",
            "\\\\other\\x",
            "/\\other/x",
            "/api/x y",
            "/api/\x00",
            "/api/é",
            "../../../x",
        ):
            with self.subTest(location):
                self.assertIsNone(self.hop(location))

    def test_two_locations_are_none(self) -> None:
        both = Incoming(302, [("location", "/api/x"), ("location", "/api/x")], 0, b"")
        self.assertIsNone(next_hop(self.origin, "GET", "/api/", both))

    def test_the_method_stays_and_303_reads(self) -> None:
        expected: dict[tuple[str, int], str | None] = {}
        for status in (301, 302, 303, 307, 308):
            expected["GET", status] = "GET"
            expected["HEAD", status] = "HEAD"
            expected["POST", status] = "GET" if status == 303 else None
            expected["DELETE", status] = "GET" if status == 303 else None
        for status in (200, 201, 300, 304, 305, 306, 400):
            expected["GET", status] = None
        for (method, status), onward in expected.items():
            hop = self.hop("/api/x", method, status)
            self.assertEqual(hop and hop.method, onward, (method, status))

    @given(st.text(alphabet="/\\.:@#?%2eEfF;hntp[]0189ao ", max_size=40))
    def test_whatever_it_says_the_target_is_a_path_below_the_base(self, location: str) -> None:
        hop = self.hop(location)
        if hop is not None:
            self.assertRegex(hop.target, r"\A/api([/?]|\Z)")
            self.assertNotRegex(hop.target, r"[\s#]|/\.\.(/|\Z)")


class PolicyTests(ConfigTestCase):
    def test_a_redirect_is_bound_by_the_rules_of_calls(self) -> None:
        text = "http: {a: {base_url: http://a, redirects: true, %s}}"
        for rules, allowed, denied in (
            ("timeout: 1", ("GET", "x"), None),
            ("methods: [POST]", ("POST", "x"), ("GET", "x")),
            ("paths: [/x/**]", ("GET", "x/y"), ("GET", "z")),
            ("paths: [/x/**]", ("GET", "x"), ("GET", "x/%2e%2e/z")),
            ("policy: {operations: [head]}", ("HEAD", "x"), ("GET", "x")),
        ):
            policy = self.load(text % rules).of(HttpProfile)["a"].policy
            self.assertTrue(permits(policy, *allowed))
            if denied is not None:
                self.assertFalse(permits(policy, *denied))
