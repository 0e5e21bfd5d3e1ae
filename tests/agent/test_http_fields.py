"""Header fields: what passes, what ends at the agent, what is refused; and credentials."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.http.credentials import Basic, Bearer
from workato_agent.services.http.fields import Framing, MalformedFields, incoming, outgoing
from workato_agent.services.http.settings import HttpSettings
from workato_tunnel.problems import Problem


class OutgoingTests(SynchronousTestCase):
    def test_end_to_end_fields_pass_in_their_order(self) -> None:
        lines, _ = outgoing((("accept", "*/*"), ("cookie", "a=b"), ("x-a", "1"), ("x-a", "2")))
        self.assertEqual(lines, ["Accept: */*", "Cookie: a=b", "X-A: 1", "X-A: 2"])

    def test_hop_by_hop_fields_and_the_callers_authorization_end_here(self) -> None:
        for name in (
            "authorization",
            "connection",
            "host",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
            "http2-settings",
        ):
            with self.subTest(name=name):
                lines, _ = outgoing(((name, "x"), ("accept", "*/*")))
                self.assertEqual(lines, ["Accept: */*"])

    def test_fields_that_connection_names_end_here(self) -> None:
        headers = (("x-hop", "1"), ("connection", "close, X-Hop"), ("connection", "x-other"))
        lines, _ = outgoing((*headers, ("x-other", "2"), ("x-kept", "3")))
        self.assertEqual(lines, ["X-Kept: 3"])

    def test_connection_cannot_take_the_bodys_framing_away(self) -> None:
        _, framing = outgoing((("connection", "content-length"), ("content-length", "5")))
        self.assertEqual(framing, Framing(length=5))

    def test_framing_is_read_off_the_fields(self) -> None:
        for headers, framing in (
            ((), Framing()),
            ((("content-length", "0"),), Framing(length=0)),
            ((("content-length", "7"), ("content-length", "7")), Framing(length=7)),
            ((("transfer-encoding", "chunked"),), Framing(chunked=True)),
            ((("content-length", "7"), ("expect", "100-continue")), Framing(length=7, expect=True)),
        ):
            with self.subTest(headers=headers):
                self.assertEqual(outgoing(headers), ([], framing))

    def test_what_could_split_or_confuse_the_request_is_refused_by_name(self) -> None:
        for name, value in (
            ("x-a", "1\r\nX-B: 2"),
            ("x-a", "1\n2"),
            ("x-a", "1\r2"),
            ("x-a", "\x00"),
            ("x-a", "\u20ac"),
            ("content-length", "-1"),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
            ("content-length", "1_0"),
            ("content-length", ""),
            ("transfer-encoding", "gzip, chunked"),
            ("transfer-encoding", "xchunked"),
            ("expect", "the-unexpected"),
            ("upgrade", "WebSocket"),
            ("x a", "1"),
            ("x-a:", "1"),
            ("", "1"),
        ):
            with self.subTest(name=name, value=value):
                problem = self.assertRaises(Problem, outgoing, ((name, value),))
                self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": name}))

    def test_two_framings_at_once_are_refused(self) -> None:
        both = (("content-length", "1"), ("transfer-encoding", "chunked"))
        self.assertRaises(Problem, outgoing, both)
        self.assertRaises(Problem, outgoing, (("content-length", "1"), ("content-length", "2")))

    def test_latin_1_values_and_tabs_pass(self) -> None:
        lines, _ = outgoing((("x-a", "\xe9\tx"),))
        self.assertEqual(lines, ["X-A: \xe9\tx"])

    @given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=5))
    def test_whatever_the_fields_no_line_break_gets_through(
        self, headers: list[tuple[str, str]]
    ) -> None:
        try:
            lines, _ = outgoing(tuple(headers))
        except Problem as problem:
            self.assertEqual(problem.code, "bad_request")
            return
        octets = "\r\n".join(lines).encode("latin-1")
        self.assertEqual(octets.count(b"\n"), max(len(lines) - 1, 0))


class IncomingTests(SynchronousTestCase):
    def test_end_to_end_fields_pass_in_lower_case(self) -> None:
        answer = incoming([(b"Server", b"x"), (b"Set-Cookie", b"a"), (b"SET-COOKIE", b"b ")])
        self.assertEqual(answer.fields, [("server", "x"), ("set-cookie", "a"), ("set-cookie", "b")])

    def test_hop_by_hop_fields_and_a_forged_mark_end_here(self) -> None:
        answer = incoming(
            [
                (b"Connection", b"keep-alive, X-Hop"),
                (b"X-Hop", b"1"),
                (b"Keep-Alive", b"timeout=5, max=100"),
                (b"Transfer-Encoding", b"chunked"),
                (b"Trailer", b"x"),
                (b"Upgrade", b"h2c"),
                (b"Proxy-Authenticate", b"Basic"),
                (b"X-Onprem-Target-Status", b"0"),
                (b"X-Kept", b"1"),
            ]
        )
        self.assertEqual(answer.fields, [("x-kept", "1")])
        self.assertEqual((answer.chunked, answer.kept), (True, 5))

    def test_the_length_is_told_apart(self) -> None:
        answer = incoming([(b"Content-Length", b"12"), (b"Connection", b"Close")])
        self.assertEqual((answer.length, answer.close, answer.fields), (12, True, []))

    def test_framing_that_two_readers_could_read_differently_is_refused(self) -> None:
        for raw in (
            [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
            [(b"Content-Length", b"1"), (b"Content-Length", b"1")],
            [(b"Content-Length", b"1,1")],
            [(b"Content-Length", b"-1")],
            [(b"Transfer-Encoding", b"gzip")],
            [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
            [(b"Transfer-Encoding", b"gzip, chunked")],
            [(b"X-A", b"a\x01b")],
            [(b"X-A", b"a\nb")],
        ):
            with self.subTest(raw=raw):
                self.assertRaises(MalformedFields, incoming, raw)


class CredentialTests(SynchronousTestCase):
    def test_basic_is_sent_as_utf_8(self) -> None:
        self.assertEqual(Basic("test", "123\xa3").authorization(), "Basic dGVzdDoxMjPCow==")

    def test_bearer_is_sent_as_it_is(self) -> None:
        self.assertEqual(Bearer("a.b-c_d==").authorization(), "Bearer a.b-c_d==")

    def test_what_a_scheme_cannot_carry_is_refused(self) -> None:
        self.assertRaises(ValueError, Basic, "a:b", "x")
        self.assertRaises(ValueError, Basic, "a", "x\r\n")
        for token in ("", "a b", "a\r\nb", "\xe9"):
            self.assertRaises(ValueError, Bearer, token)

    def test_no_repr_and_no_error_shows_a_secret(self) -> None:
        settings = HttpSettings("http://a.b", auth=Basic("scott", "tiger"))
        self.assertNotIn("tiger", repr(settings))
        self.assertNotIn("scott", repr(settings))
        self.assertNotIn("s3cret", repr(HttpSettings("http://a.b", auth=Bearer("s3cret"))))
        self.assertNotIn("s3cr\n", str(self.assertRaises(ValueError, Bearer, "s3cr\n")))
