"""The http service over TLS: whom it trusts, and how it names what it refuses."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from attrs import evolve
from OpenSSL.SSL import OP_NO_TLSv1_3
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.web.server import Site

from tests.support.files import Chunks
from tests.support.http import (
    Identity,
    Peer,
    RawTarget,
    TestAuthority,
    answering,
    http_request,
    whole_body,
)
from tests.support.http_app import HttpTestCase
from workato_agent.services.handshakes import ClientCertificate
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings
from workato_tunnel.problems import Problem

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class TLSTestCase(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.authority = TestAuthority(folder)
        self.folder = folder

    def secure(
        self, identity: Identity, host: str = "localhost", **settings: object
    ) -> HttpService:
        """A service in front of the application under TLS, which trusts the test's CA."""
        port = self.listen(Site(self.application), identity.server())
        chosen = HttpSettings(f"https://{host}:{port}", ca=self.authority.pem)
        return self.service(evolve(chosen, **settings))

    async def refusal(self, service: HttpService, reason: str) -> Problem:
        with self.assertRaises(Problem) as caught:
            await self.call(service)
        problem: Problem = caught.exception
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_tls_failed", reason))
        self.assertTrue(problem.hint)
        return problem


class TrustTests(TLSTestCase):
    async def test_a_certificate_of_the_profiles_ca_is_trusted(self) -> None:
        service = self.secure(self.authority.issue("localhost"))
        for _ in range(3):
            seen = await self.echoed(service, "POST", body=Chunks([b"x" * 100_000]))
            self.assertEqual(seen["length"], 100_000)

    async def test_an_address_is_matched_against_the_certificates_addresses(self) -> None:
        await self.echoed(self.secure(self.authority.issue("127.0.0.1"), "127.0.0.1"))
        service = self.secure(self.authority.issue("localhost"), "127.0.0.1")
        problem = await self.refusal(service, "name")
        self.assertIn("localhost", problem.detail)

    async def test_a_certificate_for_another_name_is_refused_by_both_names(self) -> None:
        service = self.secure(self.authority.issue("crm.intra", "*.crm.intra"))
        problem = await self.refusal(service, "name")
        for name in ("crm.intra", "*.crm.intra", "localhost"):
            self.assertIn(name, problem.detail)

    async def test_an_expired_certificate_is_refused_with_its_date(self) -> None:
        identity = self.authority.issue("localhost", since=-30, until=-1)
        problem = await self.refusal(self.secure(identity), "expired")
        self.assertIn("expired on 20", problem.detail)

    async def test_a_certificate_of_the_future_is_refused(self) -> None:
        identity = self.authority.issue("localhost", since=2, until=30)
        await self.refusal(self.secure(identity), "not_yet_valid")

    async def test_an_unknown_issuer_is_refused_by_name(self) -> None:
        other = TestAuthority(self.folder, "Somebody else's CA")
        identity = other.issue("localhost")
        problem = await self.refusal(self.secure(identity), "unknown_issuer")
        self.assertIn("Somebody else", problem.detail)
        await self.refusal(self.secure(identity, ca=None), "unknown_issuer")

    async def test_without_verify_host_the_name_does_not_matter_but_the_issuer_does(self) -> None:
        await self.echoed(self.secure(self.authority.issue("other.example"), verify_host=False))
        other = TestAuthority(self.folder).issue("localhost")
        await self.refusal(self.secure(other, verify_host=False), "unknown_issuer")

    async def test_trust_all_trusts_anyone(self) -> None:
        other = TestAuthority(self.folder).issue("other.example", since=-30, until=-1)
        await self.echoed(self.secure(other, trust_all=True, ca=None))

    async def test_nothing_of_the_request_is_sent_to_who_is_refused(self) -> None:
        target = RawTarget(answering(OK))
        other = TestAuthority(self.folder).issue("localhost")
        settings = HttpSettings(f"https://localhost:{self.listen(target, other.server())}")
        await self.refusal(self.service(settings), "unknown_issuer")
        for peer in target.peers:
            await peer.lost
            self.assertEqual(peer.received, b"")

    async def test_the_name_is_sent_so_that_a_server_of_many_names_can_choose(self) -> None:
        asked: list[bytes | None] = []
        options: CertificateOptions = self.authority.issue("localhost").server()
        context = options.getContext()
        context.set_tlsext_servername_callback(lambda link: asked.append(link.get_servername()))
        port = self.listen(Site(self.application), options)
        settings = HttpSettings(f"https://localhost:{port}", ca=self.authority.pem)
        await self.echoed(self.service(settings))
        self.assertEqual(asked, [b"localhost"])

    def test_a_ca_that_is_none_is_refused_when_the_service_is_built(self) -> None:
        for pem in (
            b"",
            b"hello",
            b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        ):
            settings = HttpSettings("https://localhost", ca=pem)
            self.assertRaises(ValueError, HttpService, reactor, settings)


class ClientCertificateTests(TLSTestCase):
    """The application demands a certificate of the test's CA."""

    def demanding(self, own: Identity | None, *, newest: bool = True) -> HttpService:
        options = self.authority.issue("localhost").server(self.authority.pem)
        context = options.getContext()
        if not newest:
            context.set_options(OP_NO_TLSv1_3)
        port = self.listen(Site(self.application), options)
        settings = HttpSettings(f"https://localhost:{port}", ca=self.authority.pem)
        if own is None:
            return self.service(settings)
        return self.service(evolve(settings, certificate=pair(own)))

    async def test_the_profiles_certificate_opens_the_door(self) -> None:
        for newest in (True, False):
            service = self.demanding(self.authority.issue("agent"), newest=newest)
            for _ in range(2):
                await self.echoed(service)

    async def test_the_target_sees_the_certificate_with_its_chain(self) -> None:
        chains: list[list[str]] = []

        def script(peer: Peer) -> None:
            link = peer.transport.getHandle()  # type: ignore[union-attr]
            chain = [link.get_peer_certificate(), *link.get_peer_cert_chain()]
            chains.append([each.get_subject().CN for each in chain])
            peer.write(OK)

        own = self.authority.issue("agent")
        own.certificate.write_bytes(own.certificate.read_bytes() + self.authority.pem)
        target = RawTarget(script)
        options = self.authority.issue("localhost").server(self.authority.pem)
        settings = HttpSettings(
            f"https://localhost:{self.listen(target, options)}",
            ca=self.authority.pem,
            certificate=pair(own),
        )
        await self.call(self.service(settings))
        self.assertEqual(chains, [["agent", "Test CA"]])

    async def test_without_it_or_with_a_foreign_one_the_target_refuses(self) -> None:
        foreign = TestAuthority(self.folder, "Somebody else's CA").issue("agent")
        for own in (None, foreign):
            for newest in (True, False):
                problem = await self.refusal(self.demanding(own, newest=newest), "handshake")
                self.assertIn("alert", problem.detail)
                self.assertIn("certificate", problem.hint or "")

    async def test_a_pair_that_does_not_fit_is_no_service(self) -> None:
        one, other = self.authority.issue("agent"), self.authority.issue("agent")
        shown = evolve(pair(one), key=other.key.read_bytes())
        settings = HttpSettings("https://localhost:1", certificate=shown)
        self.assertRaises(ValueError, HttpService, reactor, settings)
        self.assertNotIn("PRIVATE", repr(settings))


def pair(identity: Identity) -> ClientCertificate:
    """What a profile shows."""
    return ClientCertificate(identity.certificate.read_bytes(), identity.key.read_bytes())


class HandshakeTests(TLSTestCase):
    async def test_a_port_without_tls_is_named_as_such(self) -> None:
        target = RawTarget(lambda peer: peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        settings = HttpSettings(f"https://127.0.0.1:{self.listen(target)}")
        problem = await self.refusal(self.service(settings), "no_tls")
        self.assertIn("http://", problem.hint or "")

    async def test_tls_behind_a_plain_base_url_is_no_http(self) -> None:
        target = RawTarget(answering(OK))
        port = self.listen(target, self.authority.issue("localhost").server())
        with self.assertRaises(Problem) as caught:
            await self.call(self.service(HttpSettings(f"http://127.0.0.1:{port}")))
        self.assertIn(caught.exception.code, ("target_wrong_type", "target_unreachable"))

    async def test_a_port_that_never_answers_the_handshake_times_out(self) -> None:
        target = RawTarget(lambda _peer: None)
        settings = HttpSettings(f"https://127.0.0.1:{self.listen(target)}", connect_timeout=0.3)
        await self.refusal(self.service(settings), "timeout")
        await target.peers[0].lost

    async def test_a_target_that_hangs_up_in_the_handshake(self) -> None:
        for hang_up in (Peer.close, Peer.reset):
            settings = HttpSettings(f"https://127.0.0.1:{self.listen(RawTarget(hang_up))}")
            await self.refusal(self.service(settings), "handshake")

    async def test_cancelling_in_the_handshake_closes_the_connection(self) -> None:
        target = RawTarget(lambda _peer: None)
        service = self.service(HttpSettings(f"https://127.0.0.1:{self.listen(target)}"))
        call = Deferred.fromCoroutine(self.call(service))
        await deferLater(reactor, 0.2, lambda: None)  # type: ignore[arg-type]
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        await target.peers[0].lost


class StreamTests(TLSTestCase):
    def raw(self, target: RawTarget) -> HttpService:
        port = self.listen(target, self.authority.issue("localhost").server())
        return self.service(HttpSettings(f"https://localhost:{port}", ca=self.authority.pem))

    async def test_a_connection_is_kept(self) -> None:
        target = RawTarget(answering(OK))
        service = self.raw(target)
        for _ in range(5):
            await self.call(service)
        self.assertEqual(len(target.peers), 1)

    async def test_a_body_without_length_ends_with_the_tls_goodbye_only(self) -> None:
        for polite in (True, False):

            def script(peer: Peer, polite: bool = polite) -> None:
                peer.write(b"HTTP/1.1 200 OK\r\n\r\nsome")
                transport = peer.transport
                if not polite:
                    transport = transport.transport  # type: ignore[union-attr]
                transport.loseConnection()  # type: ignore[union-attr]

            response = await self.raw(RawTarget(script)).handle(http_request(path="x"))
            if polite:
                self.assertEqual(await whole_body(response), b"some")
            else:
                with self.assertRaises(Problem) as caught:
                    await whole_body(response)
                self.assertEqual(caught.exception.extra["reason"], "cut")

    async def test_small_packets_are_not_held_back(self) -> None:
        for service in (
            self.raw(RawTarget(answering(OK))),
            self.serve_raw(RawTarget(answering(OK))),
        ):
            await self.call(service)
            (connection,) = service._client.pool._idle
            wire = connection.transport
            handle = getattr(wire, "transport", wire).getHandle()  # type: ignore[union-attr]
            self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def test_the_profile_test_works_over_tls(self) -> None:
        service = self.secure(self.authority.issue("localhost"))
        _, body = await self.call(service, path="")
        self.assertTrue(json.loads(body)["ok"])
