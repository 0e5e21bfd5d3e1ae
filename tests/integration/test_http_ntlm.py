"""The http service in front of applications that ask for NTLM."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

from attrs import evolve
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.server import Site

from tests.support.files import Chunks, PacedBody
from tests.support.http import Identity, Peer, RawTarget, TestAuthority, http_request, whole_body
from tests.support.http_app import HttpTestCase, sized
from tests.support.ntlm import DOMAIN, PASSWORD, USER, WindowsApplication
from workato_agent.services.http.credentials import Ntlm
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings
from workato_agent.services.http.streaming import IncomingBody
from workato_tunnel.problems import Problem

ACCOUNT = Ntlm(USER, PASSWORD, DOMAIN)
EMPTY = hashlib.sha256(b"").hexdigest()
ASKING = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"


class NtlmTestCase(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.windows = WindowsApplication()
        self.addCleanup(self.windows.close)

    def login(self, account: Ntlm = ACCOUNT, **settings: object) -> HttpService:
        """A service that logs in to the application."""
        port = self.listen(Site(self.windows))
        chosen = HttpSettings(f"http://127.0.0.1:{port}", auth=account, read_timeout=20.0)
        return self.service(evolve(chosen, **settings))

    def certificates(self) -> tuple[TestAuthority, Identity]:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        authority = TestAuthority(folder)
        return authority, authority.issue("localhost")

    def stages(self) -> list[str]:
        return [each.stage for each in self.windows.seen]


class LoginTests(NtlmTestCase):
    async def test_the_account_opens_the_door(self) -> None:
        response, body = await self.call(self.login())
        self.assertEqual((response.status, body), (200, f"{DOMAIN}\\{USER} 0 {EMPTY}".encode()))
        self.assertIn(("x-onprem-target-status", "1"), response.headers)
        self.assertEqual(self.stages(), ["negotiate", "authenticate"])

    async def test_the_domain_may_be_in_the_name(self) -> None:
        await self.call(self.login(Ntlm(f"{DOMAIN}\\{USER}", PASSWORD)))
        self.assertEqual(self.windows.logins, 1)

    async def test_a_wrong_password_is_the_targets_own_401(self) -> None:
        service = self.login(Ntlm(USER, "wrong-secret", DOMAIN))
        for _ in range(2):
            response, body = await self.call(service)
            self.assertEqual((response.status, body), (401, b"who are you"))
            self.assertIn(("x-onprem-target-status", "1"), response.headers)
        self.assertEqual((self.windows.logins, self.windows.refused), (0, 2))
        with self.assertRaises(Problem) as caught:
            await self.call(service, path="")
        self.assertEqual(caught.exception.code, "target_login_failed")
        self.assertNotIn("wrong-secret", str(caught.exception.members("r")))
        self.assertNotIn("wrong-secret", repr(ACCOUNT))

    async def test_the_profiles_test_logs_in(self) -> None:
        _, body = await self.call(self.login(), path="")
        self.assertTrue(json.loads(body)["ok"])

    async def test_a_connection_is_logged_in_once(self) -> None:
        service = self.login()
        for number in range(10):
            body = b"x" * number
            arguments = sized(body) if number % 2 else {}
            response, _ = await self.call(service, "POST" if number % 2 else "GET", **arguments)
            self.assertEqual(response.status, 200)
        self.assertEqual(self.windows.logins, 1)
        self.assertEqual(self.stages(), ["negotiate", "authenticate", *["known"] * 9])
        self.assertEqual(service._client.pool.counts, (0, 1, 0))

    async def test_callers_at_the_same_time_have_connections_of_their_own(self) -> None:
        service = self.login()
        calls = [Deferred.fromCoroutine(self.call(service)) for _ in range(2)]
        for response, _ in await gatherResults(calls):
            self.assertEqual(response.status, 200)
        self.assertEqual((self.windows.logins, self.windows.connections), (2, 2))

    async def test_callers_in_line_use_the_connection_that_is_logged_in(self) -> None:
        service = self.login(max_connections=1)
        calls = [Deferred.fromCoroutine(self.call(service)) for _ in range(6)]
        for response, _ in await gatherResults(calls):
            self.assertEqual(response.status, 200)
        self.assertEqual((self.windows.logins, self.windows.connections), (1, 1))

    async def test_the_workstation_is_told_and_covered_by_the_integrity_code(self) -> None:
        await self.call(self.login(evolve(ACCOUNT, workstation="AGENT7")))
        self.assertEqual(self.windows.workstations, ["AGENT7"])
        self.assertEqual(self.windows.logins, 1)

    async def test_over_tls_the_login_is_bound_to_the_certificate(self) -> None:
        authority, identity = self.certificates()
        certificate = load_pem_x509_certificate(identity.certificate.read_bytes())
        right = b"tls-server-end-point:" + certificate.fingerprint(SHA256())
        port = self.listen(Site(self.windows), identity.server())
        settings = HttpSettings(f"https://localhost:{port}", auth=ACCOUNT, ca=authority.pem)
        for binding, status in ((right, 200), (right[:-1] + b"x", 401)):
            self.windows.binding = binding
            response, _ = await self.call(self.service(settings))
            self.assertEqual(response.status, status)


class BodyTests(NtlmTestCase):
    async def test_a_streamed_body_is_sent_once_after_an_empty_request(self) -> None:
        service = self.login()
        chunks = [bytes([number]) * 65_536 for number in range(80)]
        digest = hashlib.sha256(b"".join(chunks)).hexdigest()
        for arguments in (sized(*chunks), {"body": Chunks(chunks)}):
            _, body = await self.call(service, "POST", **arguments)
            self.assertEqual(body, f"{DOMAIN}\\{USER} {80 * 65_536} {digest}".encode())
        opening, real, again = self.windows.seen
        self.assertEqual((opening.stage, opening.method, opening.length), ("negotiate", "POST", 0))
        self.assertEqual(opening.headers["content-length"], "0")
        self.assertNotIn("transfer-encoding", opening.headers)
        self.assertEqual((real.stage, real.sha256), ("authenticate", digest))
        self.assertEqual((again.stage, again.sha256), ("known", digest))
        self.assertNotIn("authorization", again.headers)

    async def test_nothing_of_the_body_is_taken_before_the_challenge(self) -> None:
        service = self.login(Ntlm(USER, "wrong", DOMAIN))
        response, _ = await self.call(service, "PUT", **sized(b"abc"))  # type: ignore[arg-type]
        self.assertEqual(response.status, 401)
        self.assertEqual([each.length for each in self.windows.seen], [0, 3])

    async def test_100_continue_is_asked_for_with_the_body_only(self) -> None:
        headers = (("content-length", "3"), ("expect", "100-continue"))
        response, _ = await self.call(self.login(), "PUT", headers=headers, body=[b"abc"])
        self.assertEqual(response.status, 200)
        self.assertEqual(["expect" in each.headers for each in self.windows.seen], [False, True])

    async def test_the_bodies_of_401s_are_read_away(self) -> None:
        self.windows.padding = 300_000
        response, _ = await self.call(self.login(), "POST", **sized(b"abc"))  # type: ignore[arg-type]
        self.assertEqual(response.status, 200)
        self.assertEqual(self.windows.connections, 1)


class DriverTests(NtlmTestCase):
    def test_without_pyspnego_the_profile_says_what_to_install(self) -> None:
        before = sys.modules.pop("spnego", None)
        self.addCleanup(sys.modules.__setitem__, "spnego", before)
        sys.modules["spnego"] = None  # type: ignore[assignment]
        settings = HttpSettings("http://127.0.0.1:1", auth=ACCOUNT)
        error = self.assertRaises(ValueError, HttpService, reactor, settings)
        self.assertIn("workato-agent[ntlm]", str(error))
        HttpService(reactor, evolve(settings, auth=None))  # type: ignore[arg-type]


class WebSocketTests(NtlmTestCase):
    async def test_a_websocket_is_asked_for_once_the_connection_is_logged_in(self) -> None:
        challenge = b64encode(b"NTLMSSP\0\x02\0\0\0" + bytes(40))

        def script(peer: Peer) -> None:
            peer.answered += 1
            peer.write(
                ASKING.replace(b"NTLM", b"NTLM " + challenge)
                if peer.answered == 1
                else b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nbytes"
                if peer.answered == 2
                else b""
            )

        target = RawTarget(script)
        service = self.serve_raw(target, evolve(self.settings, auth=ACCOUNT))
        body = PacedBody()
        request = http_request("GET", "x", headers=(("upgrade", "websocket"),), body=body)
        response = await service.handle(request)
        assert isinstance(response.body, IncomingBody)
        self.assertEqual((response.status, await anext(response.body)), (101, b"bytes"))
        opening, asking, _ = bytes(target.peers[0].received).split(b"\r\n\r\n")
        self.assertNotIn(b"Upgrade", opening)
        self.assertIn(b"Upgrade: websocket", asking)
        self.assertEqual(service._client.pool.counts, (1, 0, 0))
        await response.body.aclose()
        await target.peers[0].lost
        self.assertEqual(service._client.pool.counts, (0, 0, 0))


class TargetTests(NtlmTestCase):
    async def test_a_target_that_asks_each_time_is_answered_each_time(self) -> None:
        self.windows.lasting = False
        service = self.login()
        for _ in range(3):
            response, _ = await self.call(service)
            self.assertEqual(response.status, 200)
        response, body = await self.call(service, "POST", **sized(b"abc"))  # type: ignore[arg-type]
        self.assertEqual(response.status, 200)
        self.assertIn(b" 3 ", body)
        self.assertEqual(self.windows.logins, 4)

    async def test_one_page_that_is_forbidden_does_not_end_the_login(self) -> None:
        service = self.login()
        await self.call(service)
        response, _ = await self.call(service, path="forbidden")
        self.assertEqual(response.status, 401)
        before = self.windows.logins
        for _ in range(3):
            response, _ = await self.call(service)
            self.assertEqual(response.status, 200)
        self.assertLessEqual(self.windows.logins, before + 1)

    async def test_a_target_that_asks_nobody_gets_the_request(self) -> None:
        service = self.service(
            evolve(
                self.settings,
                base_url=f"http://127.0.0.1:{self.listen(Site(self.application))}",
                auth=ACCOUNT,
            )
        )
        self.assertEqual((await self.echoed(service))["length"], 0)
        seen = await self.echoed(service, "POST", **sized(b"abc"))
        self.assertEqual(seen["length"], 3)
        self.assertNotIn("authorization", dict(seen["headers"]))  # type: ignore[call-overload]
        self.assertEqual(service._client.pool.counts, (0, 1, 0))

    async def test_a_target_without_ntlm_is_heard(self) -> None:
        for asks in (ASKING, ASKING.replace(b"NTLM", b'Basic realm="x"')):
            service = self.serve_raw(
                RawTarget(lambda peer, asks=asks: peer.write(asks)),  # type: ignore[misc]
                evolve(self.settings, auth=ACCOUNT),
            )
            response, _ = await self.call(service, "POST", **sized(b"abc"))  # type: ignore[arg-type]
            self.assertEqual(response.status, 401)
            self.assertEqual(service._client.pool.counts, (0, 1, 0))

    async def refusal(self, script: object) -> Problem:
        target = RawTarget(script)  # type: ignore[arg-type]
        service = self.serve_raw(target, evolve(self.settings, auth=ACCOUNT))
        with self.assertRaises(Problem) as caught:
            await self.call(service)
        self.assertEqual(service._client.pool.counts, (0, 0, 0))
        problem: Problem = caught.exception
        return problem

    async def test_a_challenge_that_is_none_fails_the_login(self) -> None:
        for token in (b"x", b"NTLMSSP\0\x02\0\0\0"):
            asks = ASKING.replace(b"NTLM", b"NTLM " + b64encode(token))
            problem = await self.refusal(lambda peer, asks=asks: peer.write(asks))
            self.assertEqual(problem.code, "target_login_failed")

    async def test_a_target_that_closes_after_its_challenge_fails_the_login(self) -> None:
        def script(peer: Peer) -> None:
            token = b64encode(b"NTLMSSP\0\x02\0\0\0" + bytes(40))
            close = b"Connection: close\r\nContent-Length"
            peer.write(ASKING.replace(b"NTLM", b"NTLM " + token).replace(b"Content-Length", close))
            peer.close()

        problem = await self.refusal(script)
        self.assertEqual(problem.code, "target_login_failed")
        self.assertIn("closed the connection", problem.detail)

    async def test_cancelling_within_the_login_closes_the_connection(self) -> None:
        target = RawTarget(lambda _peer: None)
        service = self.serve_raw(target, evolve(self.settings, auth=ACCOUNT))
        call = Deferred.fromCoroutine(self.call(service))
        await deferLater(reactor, 0.2, lambda: None)  # type: ignore[arg-type]
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        await target.peers[0].lost
        self.assertEqual(service._client.pool.counts, (0, 0, 0))

    async def test_an_answer_that_streams_gives_the_connection_back_at_its_end(self) -> None:
        self.windows.lasting = True
        service = self.service(
            evolve(
                self.settings,
                base_url=f"http://127.0.0.1:{self.listen(Site(self.application))}",
                auth=ACCOUNT,
            )
        )
        response = await service.handle(http_request(path="chunked"))
        self.assertEqual(await whole_body(response), b"one two three")
        self.assertEqual(service._client.pool.counts, (0, 1, 0))
