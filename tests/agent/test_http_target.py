"""Where a call goes: base URLs, and paths that can't leave them."""

from __future__ import annotations

import posixpath
import unicodedata
from urllib.parse import unquote, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.http.target import climbs, parse_base_url, request_target
from workato_tunnel.problems import Problem

BASE = parse_base_url("https://crm.intra/api/v1")
ROOT = parse_base_url("http://crm.intra:8080")

HOSTILE = (
    "..",
    "../admin",
    "a/../../admin",
    "%2e%2e/admin",
    "%2E%2e%2Fadmin",
    "..%2fadmin",
    "a%2f..%2f..%2fadmin",
    "..%5cadmin",
    "..\\admin",
    "%252e%252e%252fadmin",
    "%25252e%25252e/admin",
    "..;/admin",
    "..;a=b/admin",
    "%2e%2e%3b/admin",
    "%c0%ae%c0%ae/admin",
    "%c0%ae%c0%ae%c0%afadmin",
    "%e0%80%ae%e0%80%ae/admin",
    "%u002e%u002e/admin",
    "%u002e%u002e%u2215admin",
    "%ef%bc%8e%ef%bc%8e/admin",
    "%e2%80%a5/admin",
    "..%00/admin",
    "%00../admin",
    "..%20/admin",
    "..%09/admin",
    "%e2%80%8b../admin",
    "..%0d%0a/admin",
)


class BaseURLTests(SynchronousTestCase):
    def test_the_scheme_decides_on_port_and_tls(self) -> None:
        plain, secure = parse_base_url("http://a.b"), parse_base_url("https://a.b")
        self.assertEqual((plain.port, plain.secure, plain.authority), (80, False, "a.b"))
        self.assertEqual((secure.port, secure.secure, secure.authority), (443, True, "a.b"))

    def test_an_unusual_port_is_part_of_the_authority(self) -> None:
        self.assertEqual(parse_base_url("https://a.b:8443").authority, "a.b:8443")
        self.assertEqual(parse_base_url("http://a.b:80").authority, "a.b")

    def test_an_ipv6_address_keeps_its_brackets_in_the_authority_only(self) -> None:
        origin = parse_base_url("http://[::1]:8080/x/")
        self.assertEqual((origin.host, origin.authority), ("::1", "[::1]:8080"))
        self.assertEqual((str(origin), origin.base_path), ("[::1]:8080", "/x"))

    def test_what_is_no_base_url_is_refused_by_name(self) -> None:
        for url, words in (
            ("ftp://a.b", "http://"),
            ("crm.intra", "http://"),
            ("http://", "host"),
            ("http://user:pw@a.b", "auth"),
            ("http://a.b/?x=1", "query"),
            ("http://a.b/#x", "query"),
            ("http://a.b:99999", "URL"),
            ("http://a.b:0", "port 0"),
            ("http://a b", "space"),
            ("http://a.b/\r\nX: y", "space"),
            ("http://ä.de", "non-ASCII"),
            ("http://a.b/x/../y", "dot segment"),
            ("http://[::zz]", "IPv6|URL"),
        ):
            with self.subTest(url=url):
                error = self.assertRaises(ValueError, parse_base_url, url)
                self.assertTrue(any(word in str(error) for word in words.split("|")), str(error))


class RequestTargetTests(SynchronousTestCase):
    def test_the_path_goes_on_the_base_as_it_came(self) -> None:
        for path, target in (
            ("", "/api/v1"),
            ("/", "/api/v1/"),
            ("users", "/api/v1/users"),
            ("users/", "/api/v1/users/"),
            ("a%20b/%C3%A9;x=1", "/api/v1/a%20b/%C3%A9;x=1"),
            ("group%2Fproject", "/api/v1/group%2Fproject"),
            ("a//b", "/api/v1/a//b"),
            ("v1..v2", "/api/v1/v1..v2"),
            ("...", "/api/v1/..."),
            ("%zz", "/api/v1/%zz"),
            ("100%25", "/api/v1/100%25"),
        ):
            with self.subTest(path=path):
                self.assertEqual(request_target(BASE, path, ""), target)

    def test_without_a_base_path_the_root_is_a_slash(self) -> None:
        self.assertEqual(request_target(ROOT, "", ""), "/")
        self.assertEqual(request_target(ROOT, "/", "a=b"), "/?a=b")

    def test_the_query_is_untouched(self) -> None:
        self.assertEqual(request_target(ROOT, "x", "a=../..&b=?/%00"), "/x?a=../..&b=?/%00")

    def test_nothing_in_a_path_becomes_another_origin(self) -> None:
        for path in (
            "/evil.example/x",
            "http://evil.example/x",
            "@evil.example",
            ":99@evil.example",
        ):
            with self.subTest(path=path):
                target = request_target(BASE, path, "")
                self.assertTrue(target.startswith("/api/v1/"))
                self.assertEqual(urlsplit("https://crm.intra" + target).hostname, "crm.intra")

    def test_every_known_way_to_write_a_parent_segment_is_refused(self) -> None:
        for path in HOSTILE:
            with self.subTest(path=path):
                problem = self.assertRaises(Problem, request_target, BASE, path, "")
                self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "path"}))

    def test_what_a_request_line_cannot_carry_is_refused(self) -> None:
        for path in ("a b", "a\r\nX: y", "a\x00", "a?b", "a#b", "ä", "a\t", "\x7f"):
            with self.subTest(path=path):
                self.assertRaises(Problem, request_target, BASE, path, "")
        for query in ("a b", "a\r\nX: y", "a#b", "ä"):
            with self.subTest(query=query):
                problem = self.assertRaises(Problem, request_target, BASE, "x", query)
                self.assertEqual(problem.extra, {"field": "query"})

    @given(
        st.lists(
            st.sampled_from(
                [
                    *("..", ".", "/", "\\", "%", "2e", "2E", "2f", "5c", "25", ";", "a", "~"),
                    *("%2e", "%2f", "%252e", "%c0%ae", "%00", "%20", "%ef%bc%8e", "%u002e", "//"),
                ]
            ),
            max_size=12,
        ).map("".join)
    )
    @example("%25" * 40 + "2e")
    def test_no_path_climbs_however_often_it_is_decoded(self, path: str) -> None:
        try:
            target = request_target(BASE, path, "")
        except Problem:
            return
        self.assertTrue(target.startswith("/api/v1"))
        for _ in range(4):
            for reading in (
                target,
                target.replace("\\", "/"),
                unicodedata.normalize("NFKC", target),
            ):
                without = "/".join(segment.split(";")[0] for segment in reading.split("/"))
                for read in (reading, without):
                    resolved = posixpath.normpath(read)
                    self.assertTrue(resolved.startswith("/api/v1"), (path, resolved))
            target = unquote(target)

    @given(st.text(max_size=40))
    def test_any_text_is_a_target_or_a_problem(self, path: str) -> None:
        try:
            target = request_target(ROOT, path, path)
        except Problem as problem:
            self.assertEqual(problem.code, "bad_request")
        else:
            self.assertTrue(target.isascii() and target.isprintable() and " " not in target)

    def test_endless_encoding_counts_as_climbing(self) -> None:
        self.assertTrue(climbs("%" + "25" * 30 + "41"))
