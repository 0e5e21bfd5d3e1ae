"""Redirects that the http service follows for the caller."""

from __future__ import annotations

from attrs import evolve

from tests.support.http import Peer, RawTarget, answering
from tests.support.http_app import HttpTestCase, sized
from workato_agent.services.http.credentials import Bearer
from workato_agent.services.http.service import HttpService

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def redirect(location: str, status: int = 302, body: bytes = b"moved") -> bytes:
    """A response."""
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class RedirectTests(HttpTestCase):
    def following(self, *answers: bytes, allowed: tuple[str, ...] = ()) -> HttpService:
        """A service in front of a target that gives these answers, and the last one for ever."""
        waiting = list(answers)

        def script(peer: Peer) -> None:
            peer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])

        def admits(method: str, path: str) -> bool:
            return not allowed or f"{method} {path}" in allowed

        self.target = RawTarget(script)
        settings = evolve(self.settings, auth=Bearer("t0ken"), redirects=True, admits=admits)
        return self.serve_raw(self.target, settings)

    def lines(self) -> list[bytes]:
        """The request lines that the target has seen, over one connection."""
        (peer,) = self.target.peers
        heads = bytes(peer.received).split(b"\r\n\r\n")
        return [head.partition(b"\r\n")[0] for head in heads if b"HTTP/1.1" in head]

    async def test_a_redirect_within_the_application_is_followed(self) -> None:
        service = self.following(redirect("/y?z=1"), redirect("w", 308), OK)
        response, body = await self.call(service, headers=(("x-own", "1"),))
        self.assertEqual((response.status, body), (200, b"ok"))
        self.assertEqual(
            self.lines(),
            [b"GET /x HTTP/1.1", b"GET /y?z=1 HTTP/1.1", b"GET /w HTTP/1.1"],
        )
        received = bytes(self.target.peers[0].received)
        self.assertEqual(received.count(b"X-Own: 1"), 3)
        self.assertEqual(received.count(b"Authorization: Bearer t0ken"), 3)

    async def test_the_sixth_is_the_callers(self) -> None:
        response, body = await self.call(self.following(redirect("/x")))
        self.assertEqual((response.status, body), (302, b"moved"))
        self.assertEqual(len(self.lines()), 6)

    async def test_one_that_leads_elsewhere_is_relayed_as_it_is_and_nobody_is_asked(self) -> None:
        other = RawTarget(answering(OK))
        for location in (
            f"http://127.0.0.1:{self.listen(other)}/x",
            f"//127.0.0.1:{self.listen(other)}/x",
            f"http://localhost:{self.listen(other)}/",
        ):
            response, _ = await self.call(self.following(redirect(location)))
            self.assertEqual(response.status, 302)
            self.assertIn(("location", location), response.headers)
            self.assertEqual(len(self.lines()), 1)
        self.assertEqual(other.peers, [])

    async def test_after_a_post_303_is_read_and_the_others_are_relayed(self) -> None:
        service = self.following(redirect("/done", 303), OK)
        arguments = sized(b"abc")
        arguments["headers"] = (*arguments["headers"], ("content-type", "a/b"))  # type: ignore[misc]
        response, _ = await self.call(service, "POST", **arguments)  # type: ignore[arg-type]
        self.assertEqual(response.status, 200)
        _, onward = bytes(self.target.peers[0].received).split(b"abc")
        self.assertTrue(onward.startswith(b"GET /done HTTP/1.1\r\n"))
        self.assertNotIn(b"Content-", onward)
        for status in (301, 302, 307, 308):
            service = self.following(redirect("/done", status), OK)
            response, _ = await self.call(service, "POST", **sized(b"abc"))  # type: ignore[arg-type]
            self.assertEqual(response.status, status)

    async def test_a_get_with_a_body_is_not_sent_on(self) -> None:
        service = self.following(redirect("/y"), OK)
        response, _ = await self.call(service, "GET", **sized(b"abc"))  # type: ignore[arg-type]
        self.assertEqual(response.status, 302)

    async def test_the_policy_holds_for_where_it_leads(self) -> None:
        service = self.following(redirect("/y"), redirect("/z"), OK, allowed=("GET y",))
        response, _ = await self.call(service)
        self.assertEqual(response.status, 302)
        self.assertIn(("location", "/z"), response.headers)

    async def test_the_body_of_a_redirect_is_read_away_while_it_is_short(self) -> None:
        head = b"HTTP/1.1 302 Moved\r\nLocation: /y\r\nTransfer-Encoding: chunked\r\n\r\n"
        service = self.following(head + b"3\r\nabc\r\n0\r\n\r\n", OK)
        self.assertEqual((await self.call(service))[0].status, 200)
        self.assertEqual(len(self.target.peers), 1)
        service = self.following(head + b"30000\r\n" + b"x" * 0x30000 + b"\r\n", OK)
        self.assertEqual((await self.call(service))[0].status, 200)
        self.assertEqual(len(self.target.peers), 2)

    async def test_without_being_told_the_agent_follows_none(self) -> None:
        response, _ = await self.call(self.serve_raw(RawTarget(answering(redirect("/y")))))
        self.assertEqual(response.status, 302)
