"""Who may be at either end of a tunnel: real TLS sockets, and everybody who should not be there."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from demo.processes import Background, command
from tests.support.premises import self_signed
from tests.support.tunnel import Collector, TunnelGateway, reactor, until
from workato_agent.identity.enrolment import EnrolmentError, enrol
from workato_agent.identity.keys import generate_key, key_to_pem
from workato_agent.identity.renewal import Renewal
from workato_agent.identity.store import Identity, load_identity
from workato_agent.tunnel import client as client_module
from workato_agent.tunnel.client import State, TunnelClient
from workato_gateway.identity.authority import Authority, serial_text
from workato_gateway.identity.enrolment import CODE_LIFETIME, issue_code
from workato_gateway.identity.tls import ServerTls, ensure_server_certificate
from workato_tunnel.activation import ActivationCode
from workato_tunnel.frames import Catalogue, Head, Open, Profile, Trailers
from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

UPGRADE = (
    "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()


class IdentityCase(TestCase):
    timeout = 60
    agent_lifetime = 86400.0

    async def setUp(self) -> None:  # type: ignore[override]
        # Trial's own folders are too deep for the path of a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="identity-"))
        self.addCleanup(rmtree, self.folder)
        self.gateway = TunnelGateway(self.folder, agent_lifetime=self.agent_lifetime)
        await self.gateway.start()
        self.addCleanup(self.gateway.stop)
        self.log: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: LogEvent) -> None:
        self.log.append(formatEvent(event))

    def logged(self, *words: str) -> bool:
        """Whether one line has all the words."""
        return any(all(word in line for word in words) for line in self.log)

    async def identity(self, name: str = "one") -> Identity:
        """Of a newly enrolled agent."""
        await enrol(await self.gateway.code(name), self.folder / name, reactor=reactor, name=name)
        return load_identity(self.folder / name)

    def client(self, accept: Any = None, name: str = "one") -> TunnelClient:
        """The agent's end; it stops before the gateway's does."""
        client = TunnelClient(
            reactor,
            load_identity(self.folder / name),
            self.gateway.url.tunnel,
            accept,
            lambda: Catalogue(profiles=(Profile("http", "app"),)),
        )
        client.startService()
        self.addCleanup(lambda: client.stopService() if client.running else None)
        return client


class Clients(IdentityCase):
    """What the gateway's port does with whoever comes."""

    def knock(self, context: ssl.SSLContext | None) -> str:
        """What a WebSocket handshake gets: the answer's first line, or why there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.gateway.url.port), timeout=5) as plain:
                link = plain
                if context is not None:
                    link = context.wrap_socket(plain, server_hostname="localhost")
                with link:
                    link.sendall(UPGRADE)
                    answer = link.recv(4096)
        except (ssl.SSLError, ConnectionResetError) as error:
            return str(error)
        return answer.partition(b"\r\n")[0].decode("latin-1") or "closed"

    def context(self, certificate: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(
            cadata=self.gateway.authority.certificate.public_bytes(Encoding.PEM).decode()
        )
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def issued(self, authority: Authority, agent_id: str, lifetime: float = 3600.0) -> Path:
        """A certificate and its key in one file, as that authority would make it for an agent."""
        key = generate_key()
        issued = authority.issue_agent(
            key.public_key(), agent_id=agent_id, group="g", lifetime=lifetime
        )
        path = self.folder / f"{issued.serial}.pem"
        path.write_bytes(key_to_pem(key) + issued.pem.encode())
        return path

    def own(self, identity: Identity) -> Path:
        """The agent's own, in one file."""
        path = self.folder / "own.pem"
        path.write_bytes(
            key_to_pem(identity.credentials.key) + identity.certificate.public_bytes(Encoding.PEM)
        )
        return path

    async def outcome(self, context: ssl.SSLContext | None) -> str:
        outcome = await deferToThread(self.knock, context)
        self.assertEqual(len(self.gateway.registry), 0)
        return str(outcome)

    async def test_an_enrolled_agent_gets_in(self) -> None:
        context = self.context(self.own(await self.identity()))
        self.assertIn("101 Switching", await self.outcome(context))

    async def test_plain_text_is_no_way_in(self) -> None:
        outcome = await self.outcome(None)
        self.assertNotIn("HTTP", outcome)

    async def test_without_a_certificate(self) -> None:
        self.assertIn("403", await self.outcome(self.context()))
        self.assertTrue(self.logged("127.0.0.1 refused", "no client certificate"))

    async def test_a_certificate_of_another_authority(self) -> None:
        identity = await self.identity()
        for authority in (Authority.create("Another CA"), Authority.create("test CA")):
            certificate = self.issued(authority, identity.agent_id)
            self.assertRegex(
                await self.outcome(self.context(certificate)),
                "(?i)unknown.ca|decrypt.error|bad.cert",
            )

    async def test_an_expired_certificate(self) -> None:
        identity = await self.identity()
        certificate = self.issued(self.gateway.authority, identity.agent_id, -10.0)
        self.assertIn("expired", await self.outcome(self.context(certificate)))

    async def test_a_certificate_that_the_gateway_has_not_issued(self) -> None:
        identity = await self.identity()
        certificate = self.issued(self.gateway.authority, identity.agent_id)
        self.assertIn("403", await self.outcome(self.context(certificate)))
        self.assertTrue(self.logged("refused", "did not issue the certificate"))

    async def test_the_gateways_own_certificate_is_none_of_an_agent(self) -> None:
        outcome = await self.outcome(self.context(self.folder / "server.pem"))
        self.assertRegex(outcome, "(?i)unsupported.cert|bad.cert|certificate.unknown")

    async def test_agents_that_may_not_be_connected(self) -> None:
        identity = await self.identity()
        context = self.context(self.own(identity))
        agent = identity.agent_id
        store = self.gateway.store
        await store.write(lambda t: t.set_enabled(agent, False))
        self.assertIn("403", await self.outcome(context))
        await store.write(lambda t: t.set_enabled(agent, True))
        await store.write(lambda t: t.set_allowed_networks("g", ["10.0.0.0/8", "fd00::/8"]))
        self.assertIn("403", await self.outcome(context))
        await store.write(lambda t: t.set_allowed_networks("g", ["127.0.0.0/8"]))
        self.assertIn("101", await self.outcome(context))
        await store.write(lambda t: t.revoke_agent(agent, time.time()))
        self.assertIn("403", await self.outcome(context))
        for words in ("disabled", "127.0.0.1 is not in the allowed networks", "was revoked"):
            self.assertTrue(self.logged("refused", words), words)

    async def test_a_certificate_that_a_new_enrolment_replaced(self) -> None:
        context = self.context(self.own(await self.identity()))
        await enrol(await self.gateway.code("one"), self.folder / "again", reactor=reactor)
        self.assertIn("403", await self.outcome(context))
        self.assertTrue(self.logged("refused", "set up anew elsewhere"))


class Agents(IdentityCase):
    """Whom the agent takes for its gateway, and what it says of others."""

    async def impersonate(self, tls: ServerTls) -> None:
        """Another certificate is shown on the gateway's port from now on."""
        await self.gateway._port.stopListening()
        await self.gateway.listen(tls)

    def certified(self, authority: Authority, *names: str) -> ServerTls:
        path = self.folder / f"{names[0]}.pem"
        path.unlink(missing_ok=True)
        ensure_server_certificate(authority, path, names)
        return ServerTls(path, path, (self.gateway.authority.certificate,))

    async def refuses(self, *words: str) -> None:
        """The agent's client says why it does not connect, in its problem and in its log."""
        client = self.client()
        await until(lambda: client.problem)
        self.assertIn(client.state, (State.WAITING, State.CONNECTING))
        for word in words:
            self.assertIn(word, client.problem)
        self.assertTrue(self.logged(f"No tunnel to localhost:{client.port}", client.problem))
        self.assertIsNone(client.session)
        await client.stopService()
        self.assertEqual(len(self.gateway.registry), 0)

    async def test_a_gateway_of_another_name(self) -> None:
        await self.identity()
        await self.impersonate(self.certified(self.gateway.authority, "gw.elsewhere"))
        await self.refuses("localhost", "made out for gw.elsewhere")

    async def test_a_gateway_of_another_authority(self) -> None:
        await self.identity()
        for name in ("Another CA", "test CA"):
            await self.impersonate(self.certified(Authority.create(name), "localhost"))
            await self.refuses("localhost", "not signed by the pinned CA")

    async def test_a_gateway_that_signed_for_itself(self) -> None:
        await self.identity()
        path = self_signed(self.folder / "self.pem", "localhost")
        await self.impersonate(ServerTls(path, path))
        await self.refuses("not signed by the pinned CA")

    async def test_another_agent_is_no_gateway(self) -> None:
        await self.identity()
        key = generate_key()
        issued = self.gateway.authority.issue_agent(
            key.public_key(), agent_id="two", group="g", lifetime=3600.0
        )
        path = self.folder / "two.pem"
        path.write_bytes(key_to_pem(key) + issued.pem.encode())
        await self.impersonate(ServerTls(path, path))
        await self.refuses("not meant for servers")

    async def test_a_port_without_tls(self) -> None:
        await self.identity()
        await self.gateway._port.stopListening()
        factory = Factory.forProtocol(_Greeter)
        endpoint = TCP4ServerEndpoint(reactor, self.gateway.url.port, interface="127.0.0.1")
        self.gateway._port = await endpoint.listen(factory)
        await self.refuses("does not speak TLS")

    async def test_a_running_agent_tells_it_in_its_log_and_status(self) -> None:
        await self.identity()
        await self.impersonate(self.certified(self.gateway.authority, "gw.elsewhere"))
        config = self.folder / "config.yml"
        config.write_text(f"gateway: {{ identity: {self.folder}/one }}\n")
        argv = [command("twistd"), "-n", "--pidfile=", "workato-agent", f"--config={config}"]
        agent = Background.start("agent", argv, cwd=self.folder)
        self.addCleanup(agent.stop)
        await until(lambda: "made out for gw.elsewhere" in agent.output(), 20)
        argv = [command("workato-agent"), "status", "--json", f"--config={config}"]
        printed = await deferToThread(subprocess.check_output, argv, cwd=self.folder)
        self.assertIn("made out for gw.elsewhere", printed.decode())
        self.assertFalse(json.loads(printed)["connected"])


class _Greeter(Protocol):
    """A server that speaks something else."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()


class Codes(IdentityCase):
    async def test_codes_that_open_nothing(self) -> None:
        good = await self.gateway.code("one")
        used = ActivationCode.parse(good)
        await enrol(good, self.folder / "first", reactor=reactor)
        past = time.time() - CODE_LIFETIME - 1
        issued = await self.gateway.store.write(
            lambda t: issue_code(t, group="g", name="two", created_by="test", now=past)
        )
        expired = self.gateway.enrolment.code_text(issued)
        wrong = ActivationCode(
            used.authority, os.urandom(len(used.secret)), used.ca_sha256
        ).format()
        for code, reason in ((good, "used before"), (expired, "expired"), (wrong, "unknown code")):
            with self.assertRaises(EnrolmentError) as raised:
                await enrol(code, self.folder / "second", reactor=reactor)
            self.assertIn("activation code is not valid", str(raised.exception))
            self.assertIn("an hour and works once", str(raised.exception))
            self.assertTrue(self.logged("enrolment from 127.0.0.1 refused", reason), reason)
            self.assertFalse((self.folder / "second" / "agent.key").exists())
        for secret in (good, expired, wrong):
            self.assertFalse(self.logged(secret[-20:]))


class Renewals(IdentityCase):
    agent_lifetime = 5.0

    async def test_the_next_socket_shows_the_new_certificate_and_no_call_is_lost(self) -> None:
        self.patch(client_module, "RESUME_DELAY", 0.1)
        identity = await self.identity()
        first = serial_text(identity.certificate)
        client = TunnelClient(
            reactor,
            identity,
            self.gateway.url.tunnel,
            _echo,
            lambda: Catalogue(profiles=(Profile("http", "app"),)),
        )
        client.startService()
        self.addCleanup(client.stopService)
        await until(lambda: client.state is State.CONNECTED and len(self.gateway.registry))
        live = self.gateway.live
        self.assertEqual(live.certificate_serial, first)
        collector = Collector()
        stream = live.open_stream(Open("http", "app"), collector)
        stream.write(b"before, ")
        renewal = Renewal(reactor, identity, lambda: client.session)
        renewal.startService()
        self.addCleanup(renewal.stopService)
        await until(lambda: renewal.renewals)
        second = serial_text(identity.certificate)
        self.assertNotEqual(second, first)
        self.assertEqual(serial_text(load_identity(self.folder / "one").certificate), second)
        self.assertEqual(live.certificate_serial, first, "the socket that is up stays")
        stream.write(b"after, ")
        _cut(client)
        await until(lambda: client.reconnections == 1 and client.state is State.CONNECTED)
        self.assertIs(self.gateway.live, live)
        await until(lambda: live.certificate_serial == second)
        stream.write(b"and over a new socket")
        stream.half_close()
        await collector.done
        self.assertIsNone(collector.reset)
        self.assertEqual(bytes(collector.data), b"before, after, and over a new socket")


def _echo(stream: StreamTransport, head: Open) -> StreamReceiver:
    class Echo(Collector):
        def data_received(self, data: bytes) -> None:
            stream.write(data)

        def end_received(self) -> None:
            stream.finish(Trailers())
            stream.release()

    stream.send_head(Head(200))
    return Echo()


def _cut(client: TunnelClient) -> None:
    """Kill the TCP connection, as a broken network does."""
    transport: Any = client._socket.transport  # type: ignore[union-attr]
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    transport.abortConnection()
