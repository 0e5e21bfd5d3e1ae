"""Enrolment against a real gateway's port, and against what pretends to be one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.support.proxy import TestProxy
from tests.support.tunnel import TunnelGateway
from workato_agent.identity.enrolment import EnrolmentError, EnrolmentResult, enrol
from workato_agent.identity.keys import generate_key
from workato_agent.identity.store import load_identity
from workato_agent.tunnel.proxy import ConnectProxy
from workato_gateway.identity.authority import Authority, generate_server_key, pem_of
from workato_gateway.identity.tls import ServerTls, ensure_server_certificate
from workato_tunnel.activation import ActivationCode, EnrolmentAnswer

reactor: Any = _reactor


class EnrolmentCase(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.directory = self.folder / "identity"
        self.gateway = TunnelGateway(self.folder)
        await self.gateway.start()
        self.code = await self.gateway.code()
        self.addCleanup(self.gateway.stop)

    async def enrol(self, code: str | None = None, **options: Any) -> EnrolmentResult:
        directory = options.pop("directory", self.directory)
        return await enrol(code or self.code, directory, reactor=reactor, **options)

    async def refused(self, code: str | None = None, **options: Any) -> str:
        try:
            await self.enrol(code, **options)
        except EnrolmentError as error:
            message = str(error)
            self.assertNotIn((code or self.code)[-20:], message)
            self.assertNotIn("\n", message)
            return message
        return self.fail("enrolled")

    async def impersonate(self, tls: Any, site: Factory | None = None) -> None:
        """Something else answers on the gateway's port from now on."""
        await self.gateway._port.stopListening()
        wrapped = TLSMemoryBIOFactory(tls, False, site or self.gateway.factory.site())
        await self.listen(wrapped)

    async def listen(self, factory: Any) -> None:
        endpoint = TCP4ServerEndpoint(reactor, self.gateway.url.port, interface="127.0.0.1")
        self.gateway._port = await endpoint.listen(factory)

    def server_tls(self, authority: Authority, *hosts: str) -> ServerTls:
        path = self.folder / "other.pem"
        ensure_server_certificate(authority, path, hosts or ("localhost",))
        return ServerTls(path, path)


class EnrolTests(EnrolmentCase):
    async def test_a_code_becomes_an_identity(self) -> None:
        result = await self.enrol()
        identity = load_identity(self.directory)
        self.assertEqual((result.name, result.group), ("one", "g"))
        self.assertEqual(result.gateway_url, self.gateway.url.tunnel)
        self.assertEqual(identity.facts.gateway_url, self.gateway.url.tunnel)
        self.assertEqual(identity.agent_id, result.agent_id)
        self.assertEqual(identity.expires, result.expires)
        self.assertEqual(identity.authorities, (self.gateway.authority.certificate,))

    async def test_a_code_works_once(self) -> None:
        await self.enrol()
        message = await self.refused(directory=self.folder / "second")
        self.assertIn("a code holds for an hour and works once", message)

    async def test_what_is_no_code_never_reaches_the_network(self) -> None:
        await self.gateway._port.stopListening()
        await self.listen(Factory.forProtocol(Protocol))
        for text in ("hello", "onpremcode1_" * 9, self.code[:-4], self.code + "x"):
            self.assertIn("code", await self.refused(text))
        self.assertFalse(self.directory.exists())

    async def test_an_identity_is_not_overwritten_unless_told(self) -> None:
        first = await self.enrol()
        second = await self.gateway.code("two")
        self.assertIn("this is already the agent one", await self.refused(second))
        self.assertEqual(load_identity(self.directory).agent_id, first.agent_id)
        replaced = await self.enrol(second, force=True)
        self.assertEqual(load_identity(self.directory).agent_id, replaced.agent_id)
        self.assertNotEqual(replaced.agent_id, first.agent_id)

    async def test_a_folder_that_is_open_to_others_spends_no_code(self) -> None:
        self.directory.mkdir(0o755)
        self.directory.chmod(0o755)
        self.assertIn(f"chmod 700 {self.directory}", await self.refused())
        self.directory.chmod(0o700)
        await self.enrol()

    async def test_a_file_in_the_place_of_the_folder_spends_no_code(self) -> None:
        self.directory.write_text("x")
        self.assertIn(str(self.directory), await self.refused())
        self.directory.unlink()
        await self.enrol()

    async def test_through_a_proxy_with_credentials(self) -> None:
        proxy = TestProxy(reactor, "user:pw")
        port = await proxy.start()
        self.addCleanup(proxy.stop)
        message = await self.refused(proxy=ConnectProxy("127.0.0.1", port))
        self.assertIn("asks for credentials", message)
        result = await self.enrol(proxy=ConnectProxy("127.0.0.1", port, "user", "pw"))
        self.assertEqual(result.name, "one")

    async def test_a_gateway_that_is_down_is_told(self) -> None:
        await self.gateway._port.stopListening()
        self.gateway._port = None
        message = await self.refused()
        self.assertIn(f"localhost:{self.gateway.url.port}: connection refused", message)

    async def test_an_unknown_name_is_told(self) -> None:
        activation = ActivationCode.parse(self.code)
        code = ActivationCode("no-such-host.invalid:443", activation.secret, activation.ca_sha256)
        self.assertIn("unknown to DNS", await self.refused(code.format()))

    async def test_a_gateway_that_stays_silent_is_given_up(self) -> None:
        await self.gateway._port.stopListening()
        await self.listen(Factory.forProtocol(Protocol))
        self.assertIn("did not answer within 0.3 s", await self.refused(timeout=0.3))


class ImpostorTests(EnrolmentCase):
    """The code's secret must not reach any of these: the code still works afterwards."""

    def setUp(self) -> Any:
        self.received: list[bytes] = []
        return super().setUp()

    async def assert_secret_kept(self) -> None:
        self.assertEqual(self.received, [])
        agents = await self.gateway.store.read(lambda t: t.agent_named("g", "one"))
        self.assertIsNone(agents.serial)

    def site(self) -> Site:
        received = self.received

        class Greedy(Resource):
            isLeaf = True  # noqa: N815

            def render_POST(self, request: Any) -> bytes:  # noqa: N802
                received.append(request.content.read())
                return b"{}"

        return Site(Greedy())

    async def test_another_ca_is_refused(self) -> None:
        await self.impersonate(self.server_tls(Authority.create("test CA")), self.site())
        self.assertIn("does not come from the CA that the code was made for", await self.refused())
        await self.assert_secret_kept()

    async def test_the_real_ca_sent_along_with_a_foreign_certificate_is_refused(self) -> None:
        foreign = Authority.create("test CA")
        public, key_pem = generate_server_key()
        path = self.folder / "forged.pem"
        leaf = foreign.issue_server(public, ("localhost",)).pem
        real = pem_of(self.gateway.authority.certificate)
        for chain in (leaf + real, leaf + pem_of(foreign.certificate) + real, leaf):
            path.write_bytes(key_pem + chain.encode())
            await self.impersonate(ServerTls(path, path), self.site())
            self.assertIn("the certificate of localhost", await self.refused())
        await self.assert_secret_kept()

    async def test_a_self_signed_certificate_is_refused(self) -> None:
        key = generate_key()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        when = self.gateway.authority.certificate
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(when.not_valid_before_utc)
            .not_valid_after(when.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(key, when.signature_hash_algorithm)  # type: ignore[arg-type]
        )
        await self.impersonate(_Plain(key, [certificate]), self.site())
        self.assertIn("does not come from the CA", await self.refused())
        await self.assert_secret_kept()

    async def test_another_name_is_refused(self) -> None:
        tls = self.server_tls(self.gateway.authority, "other.example")
        await self.impersonate(tls, self.site())
        message = await self.refused()
        self.assertIn("certificate of localhost is made out for other.example", message)
        await self.assert_secret_kept()

    async def test_an_agent_of_the_same_ca_is_no_gateway(self) -> None:
        key = generate_key()
        issued = self.gateway.authority.issue_agent(
            key.public_key(), agent_id="localhost", group="g", lifetime=9e5
        )
        chain = [x509.load_pem_x509_certificate(issued.pem.encode())]
        chain.append(self.gateway.authority.certificate)
        await self.impersonate(_Plain(key, chain), self.site())
        self.assertIn("not meant for servers", await self.refused())
        await self.assert_secret_kept()

    async def test_an_expired_certificate_is_refused_with_a_word_on_clocks(self) -> None:
        for shift, words in ((-2 * 365, "expired at"), (2, "valid only from")):
            authority = self.gateway.authority
            then = Authority(
                authority.certificate,
                authority._key,
                lambda shift=shift: time.time() + shift * 86400,
            )
            await self.impersonate(self.server_tls(then), self.site())
            (self.folder / "other.pem").unlink()
            message = await self.refused()
            self.assertIn(words, message)
            self.assertIn("clock", message)
        await self.assert_secret_kept()

    async def test_a_port_without_tls_is_told(self) -> None:
        await self.gateway._port.stopListening()
        await self.listen(Factory.forProtocol(_PlainHttp))
        self.assertIn("does not speak TLS", await self.refused())
        await self.assert_secret_kept()


class _PlainHttp(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@implementer(IOpenSSLServerConnectionCreator)
class _Plain:
    """A server's TLS with any certificate."""

    def __init__(self, key: Any, chain: list[x509.Certificate]) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_privatekey(crypto.PKey.from_cryptography_key(key))
        self._context.use_certificate(crypto.X509.from_cryptography(chain[0]))
        for each in chain[1:]:
            self._context.add_extra_chain_cert(crypto.X509.from_cryptography(each))

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: N803
        return SSL.Connection(self._context, None)


class OddAnswerTests(EnrolmentCase):
    async def answers(self, answer: Callable[[Any], bytes]) -> str:
        class Odd(Resource):
            isLeaf = True  # noqa: N815

            def render_POST(self, request: Any) -> bytes:  # noqa: N802
                return answer(request)

        await self.impersonate(self.server_tls(self.gateway.authority), Site(Odd()))
        message = await self.refused()
        self.assertEqual([path.name for path in self.directory.iterdir()], [])
        await deferLater(reactor, 0.02)  # a connection that is cut takes a turn to be gone
        return message

    def answer(self, csr: str, **changes: str) -> bytes:
        key = x509.load_pem_x509_csr(csr.encode()).public_key()
        issued = self.gateway.authority.issue_agent(
            key,  # type: ignore[arg-type]
            agent_id="a",
            group="g",
            lifetime=86400,
        )
        values = {
            "agent_id": "a",
            "group": "g",
            "name": "n",
            "certificate": issued.pem,
            "ca": pem_of(self.gateway.authority.certificate),
            "tunnel_url": self.gateway.url.tunnel,
        }
        return msgspec.json.encode(EnrolmentAnswer(**(values | changes)))

    async def changed(self, **changes: str) -> str:
        return await self.answers(
            lambda request: self.answer(
                msgspec.json.decode(request.content.read())["csr"], **changes
            )
        )

    async def test_another_ca_in_the_answer_is_refused(self) -> None:
        other = pem_of(Authority.create("x").certificate)
        self.assertIn("another CA than the code", await self.changed(ca=other))
        both = pem_of(self.gateway.authority.certificate) + other
        self.assertIn("another CA than the code", await self.changed(ca=both))

    async def test_a_certificate_for_another_key_is_refused(self) -> None:
        issued = self.gateway.authority.issue_agent(
            generate_key().public_key(), agent_id="a", group="g", lifetime=86400
        )
        self.assertIn("another key", await self.changed(certificate=issued.pem))

    async def test_malformed_certificates_are_refused(self) -> None:
        self.assertIn("malformed certificate", await self.changed(certificate="x"))
        self.assertIn("malformed certificate", await self.changed(ca=""))

    async def test_a_tunnel_in_plain_text_is_refused(self) -> None:
        self.assertIn("not wss://", await self.changed(tunnel_url="ws://localhost/tunnel"))

    async def test_an_answer_of_another_shape_is_refused(self) -> None:
        for body in (b"", b"<html>", b"[]", b'{"agent_id": 1}', b"\xff"):
            self.assertIn("no identity", await self.answers(lambda _, body=body: body))

    async def test_an_endless_answer_is_refused(self) -> None:
        self.assertIn("too long", await self.answers(lambda _: b"x" * 1_000_000))

    async def test_a_status_without_a_problem_is_told(self) -> None:
        def teapot(request: Any) -> bytes:
            request.setResponseCode(418)
            return b"<html>"

        self.assertIn("answered HTTP 418", await self.answers(teapot))
