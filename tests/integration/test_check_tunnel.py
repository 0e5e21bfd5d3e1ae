"""What ``workato-agent check`` finds on the way to the gateway: real TLS, real proxies, and what
stands in the way."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.commands import Outcome, run_apart
from tests.support.folders import folder_for
from tests.support.identities import make_identity
from tests.support.ports import free_port
from tests.support.tinyproxy import Tinyproxy
from tests.support.tunnel import TunnelGateway, reactor, until
from workato_agent.config import parse_config
from workato_agent.identity.enrolment import enrol
from workato_agent.identity.tls import PinnedAuthorities
from workato_agent.status import StatusSocket
from workato_agent.tunnel import diagnosis, probes
from workato_agent.tunnel.client import State as TunnelState
from workato_agent.tunnel.diagnosis import State, Step, diagnose
from workato_gateway.identity.authority import Authority
from workato_gateway.identity.tls import ServerTls, ensure_server_certificate

DAY = 86_400.0


class TunnelCheck(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = folder_for(self)
        self.gateway = TunnelGateway(self.folder)
        await self.gateway.start()
        self.addCleanup(self.gateway.stop)

    async def enrolled(self) -> None:
        await enrol(
            await self.gateway.code("one"), self.folder / "one", reactor=reactor, name="one"
        )

    def write(self, **sections: dict[str, Any]) -> Path:
        identity = {"identity": str(self.folder / "one")}
        config = {**sections, "gateway": identity | sections.get("gateway", {})}
        file = self.folder / "config.yml"
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        return file

    async def check(self, timeout: float = 5.0, **sections: dict[str, Any]) -> dict[str, Step]:
        """The steps by name."""
        file = self.write(**sections)
        config = parse_config(file.read_text(), file)
        return {step.name: step for step in await diagnose(reactor, config, timeout=timeout)}

    def assert_failed(self, steps: dict[str, Step], name: str, *words: str) -> None:
        """The step failed, is the last one, and its line says all that."""
        step = steps[name]
        self.assertIs(step.state, State.FAILED, steps)
        self.assertEqual(list(steps)[-1], name)
        for word in words:
            self.assertIn(word, f"{step.detail} ({step.hint})")

    async def listen(self, factory: Any) -> int:
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def show_certificate(self, path: Path) -> None:
        """The gateway shows this one from now on."""
        await self.gateway.stop_listening()
        await self.gateway.listen(
            ServerTls(path, path, (self.gateway.authority.certificate,)),
        )


class Direct(TunnelCheck):
    async def test_an_open_way_is_good_all_along(self) -> None:
        await self.enrolled()
        steps = await self.check()
        self.assertEqual(
            [(step.name, str(step.state)) for step in steps.values()],
            [
                ("identity", "ok"),
                ("certificate", "ok"),
                ("agent", "skipped"),
                ("dns", "ok"),
                ("tcp", "ok"),
                ("tls", "ok"),
                ("clock", "ok"),
                ("admission", "ok"),
            ],
        )
        self.assertIn("agent one of group g", steps["identity"].detail)
        self.assertIn("24.0 hours left", steps["certificate"].detail)
        self.assertIn("test CA", steps["tls"].detail)

    async def test_a_running_agent_keeps_its_session(self) -> None:
        client = await self.gateway.agent(None)  # type: ignore[arg-type]  # no calls come
        self.addCleanup(client.stopService)
        await until(lambda: client.state is TunnelState.CONNECTED)
        session, live = client.session, self.gateway.live
        for _ in range(3):
            steps = await self.check()
            self.assertIs(steps["admission"].state, State.OK)
        self.assertIs(client.session, session)
        self.assertIs(self.gateway.live, live)
        self.assertIs(client.state, TunnelState.CONNECTED)
        self.assertEqual(client.reconnections, 0)
        assert session is not None
        self.assertTrue(session.available)
        await until(lambda: len(self.gateway.factory._sockets) == 1)

    async def test_the_running_agent_is_asked(self) -> None:
        await self.enrolled()
        status: dict[str, object] = {"connected": True, "tunnel": {"for": 12.3}}
        path = self.folder / "one" / "status.sock"
        agent = StatusSocket(path, lambda: status, reactor)
        agent.startService()
        self.addCleanup(agent.stopService)
        steps = await self.check()
        self.assertEqual(steps["agent"].detail, "running and connected for 12 s")
        status |= {"connected": False, "tunnel": {"state": "waiting", "problem": "no route"}}
        steps = await self.check()
        self.assertIs(steps["agent"].state, State.WARNING)
        self.assertIn("waiting, no route", steps["agent"].detail)

    async def test_a_name_that_is_unknown(self) -> None:
        await self.enrolled()
        steps = await self.check(gateway={"url": "wss://no-such-host.invalid/tunnel"})
        self.assert_failed(steps, "dns", "no-such-host.invalid has no address", "section proxy")

    async def test_a_closed_port(self) -> None:
        await self.enrolled()
        steps = await self.check(gateway={"url": f"wss://127.0.0.1:{free_port()}/tunnel"})
        self.assertNotIn("dns", steps)
        self.assert_failed(steps, "tcp", "refuses the connection", "that the gateway runs")

    async def test_a_firewall_that_drops(self) -> None:
        await self.enrolled()
        # A listener whose queue is full answers no SYN.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                self.addCleanup(each.close)
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            port = full.getsockname()[1]
            steps = await self.check(0.5, gateway={"url": f"wss://127.0.0.1:{port}/tunnel"})
        self.assert_failed(steps, "tcp", "no answer within 0.5 s", "a firewall drops")

    async def test_a_port_that_never_says_a_word(self) -> None:
        await self.enrolled()
        port = await self.listen(Factory.forProtocol(Protocol))
        steps = await self.check(0.5, gateway={"url": f"wss://127.0.0.1:{port}/tunnel"})
        self.assertIs(steps["tcp"].state, State.OK)
        self.assert_failed(steps, "tls", "no TLS handshake within 0.5 s", "gateway.url")

    async def test_a_port_that_speaks_no_tls(self) -> None:
        await self.enrolled()

        class Plain(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = await self.listen(Factory.forProtocol(Plain))
        steps = await self.check(gateway={"url": f"wss://127.0.0.1:{port}/tunnel"})
        self.assert_failed(steps, "tls", "does not speak TLS")

    async def test_a_proxy_that_inspects_is_named(self) -> None:
        await self.enrolled()
        other = Authority.create("Corporate Inspection CA")
        path = self.folder / "other.pem"
        ensure_server_certificate(other, path, ("localhost",))
        await self.show_certificate(path)
        steps = await self.check()
        self.assert_failed(
            steps,
            "tls",
            "not signed by the pinned CA",
            "if CN=Corporate Inspection CA belongs to a proxy that inspects TLS",
            "exempted",
        )

    async def test_a_name_that_the_certificate_does_not_show(self) -> None:
        await self.enrolled()
        path = self.folder / "other.pem"
        ensure_server_certificate(self.gateway.authority, path, ("gateway.example",))
        await self.show_certificate(path)
        steps = await self.check()
        self.assert_failed(steps, "tls", "made out for gateway.example", "set gateway.url")

    async def test_an_expired_certificate_of_the_gateway(self) -> None:
        await self.enrolled()
        path = self.folder / "old.pem"
        past = attrs.evolve(self.gateway.authority, now=lambda: time.time() - 500 * DAY)
        ensure_server_certificate(past, path, ("localhost",))
        await self.show_certificate(path)
        steps = await self.check()
        self.assert_failed(steps, "tls", "expired at", "gateway's certificate renewed")

    async def test_a_clock_that_is_wrong_is_blamed_for_what_looks_expired(self) -> None:
        await self.enrolled()
        path = self.folder / "old.pem"
        past = attrs.evolve(self.gateway.authority, now=lambda: time.time() - 500 * DAY)
        ensure_server_certificate(past, path, ("localhost",))
        await self.show_certificate(path)
        self.patch(probes, "time", _Clock(400 * DAY))
        steps = await self.check()
        self.assert_failed(steps, "tls", "set the clock of this machine: it is 400 days ahead of")

    async def test_clocks_that_differ_are_a_warning(self) -> None:
        await self.enrolled()
        self.patch(probes, "time", _Clock(-600.0))
        steps = await self.check()
        self.assertIs(steps["clock"].state, State.WARNING)
        self.assertIn("10 min behind the gateway's", steps["clock"].detail)
        self.assertIs(steps["admission"].state, State.OK)

    async def test_a_gateway_that_refuses_the_agent_says_why(self) -> None:
        make_identity(self.folder / "one", self.gateway.authority)
        steps = await self.check(gateway={"url": self.gateway.url.tunnel})
        self.assertIs(steps["tls"].state, State.OK)
        self.assert_failed(steps, "admission", "knows no such agent", "workato-agent enrol --force")

    async def test_a_certificate_that_the_gateway_does_not_take(self) -> None:
        identity = make_identity(self.folder / "one", Authority.create("another"))
        self.assertIsInstance(identity.trust, PinnedAuthorities)
        ca = self.folder / "gateway-ca.pem"
        ca.write_text((self.folder / "server.pem").read_text())
        steps = await self.check(gateway={"url": self.gateway.url.tunnel, "ca": str(ca)})
        self.assertIs(steps["tls"].state, State.OK)
        self.assert_failed(steps, "admission", "certificate", "enrol again")

    async def test_another_server_behind_the_right_certificate(self) -> None:
        await self.enrolled()
        steps = await self.check(
            gateway={"url": self.gateway.url.tunnel.replace("/tunnel", "/other")}
        )
        self.assert_failed(steps, "admission", "HTTP 404", "wss://HOST[:PORT]/tunnel")

    async def test_an_own_certificate_that_ends_soon(self) -> None:
        identity = make_identity(self.folder / "one", self.gateway.authority, lifetime=3600.0)
        written = time.time() - 3600.0
        os.utime(identity.directory / "certificate.pem", (written, written))
        later = diagnosis.datetime.now(diagnosis.UTC) + diagnosis.timedelta(seconds=1800)
        self.patch(diagnosis, "datetime", _Moment(later))
        steps = await self.check(gateway={"url": f"wss://127.0.0.1:{free_port()}/tunnel"})
        self.assertIs(steps["certificate"].state, State.WARNING)
        self.assertIn("0.5 hours left", steps["certificate"].detail)

    async def test_an_own_certificate_that_has_ended(self) -> None:
        make_identity(self.folder / "one", self.gateway.authority, lifetime=-60.0)
        steps = await self.check(gateway={"url": self.gateway.url.tunnel})
        self.assertIs(steps["certificate"].state, State.FAILED)
        self.assertIn("workato-agent enrol --force", str(steps["certificate"].hint))
        self.assert_failed(steps, "admission", "expired")

    async def test_no_identity(self) -> None:
        steps = await self.check()
        self.assertIs(steps["identity"].state, State.FAILED)
        self.assertIn("workato-agent enrol", steps["identity"].detail)
        self.assertEqual(list(steps), ["identity", "agent"])

    async def test_no_identity_yet_and_the_way_is_looked_at_all_the_same(self) -> None:
        steps = await self.check(gateway={"url": self.gateway.url.tunnel})
        self.assertIs(steps["identity"].state, State.FAILED)
        self.assertIs(steps["tcp"].state, State.OK)
        self.assertIs(steps["tls"].state, State.SKIPPED)
        self.assertIn("issued by CN=test CA", steps["tls"].detail)
        self.assertIs(steps["clock"].state, State.OK)

    async def test_an_identity_that_can_not_be_looked_at(self) -> None:
        steps = await self.check(gateway={"identity": str(self.folder / ("x" * 300))})
        self.assertIs(steps["identity"].state, State.FAILED)
        self.assertIn("File name too long", steps["identity"].detail)

    async def test_an_identity_open_to_others(self) -> None:
        await self.enrolled()
        (self.folder / "one" / "key.pem").chmod(0o644)
        steps = await self.check()
        self.assertIn("chmod 600", steps["identity"].detail)


class Proxied(TunnelCheck):
    def proxy(self, more: str = "") -> int:
        proxy = Tinyproxy(self.folder, more)
        self.addCleanup(proxy.stop)
        return proxy.port

    async def test_the_way_through_a_proxy(self) -> None:
        await self.enrolled()
        keys = {"host": "127.0.0.1", "port": self.proxy(), "username": "user", "password": "p-w"}
        steps = await self.check(proxy=keys)
        self.assertNotIn("dns", steps)
        self.assertNotIn("tcp", steps)
        self.assertIn("lets us through", steps["proxy"].detail)
        self.assertIs(steps["admission"].state, State.OK)

    async def test_a_proxy_that_wants_credentials(self) -> None:
        await self.enrolled()
        steps = await self.check(proxy={"host": "127.0.0.1", "port": self.proxy()})
        self.assert_failed(steps, "proxy", "set proxy.username and proxy.password")

    async def test_a_proxy_that_refuses_credentials(self) -> None:
        await self.enrolled()
        keys = {"host": "127.0.0.1", "port": self.proxy(), "username": "user", "password": "x-y-z"}
        steps = await self.check(proxy=keys)
        self.assert_failed(steps, "proxy", "refuses the credentials")
        self.assertNotIn("x-y-z", repr(steps))

    async def test_a_proxy_that_forbids_the_way(self) -> None:
        await self.enrolled()
        keys = {"host": "127.0.0.1", "username": "user", "password": "p-w"}
        steps = await self.check(proxy=keys | {"port": self.proxy("ConnectPort 443")})
        self.assert_failed(steps, "proxy", "it forbids the way to localhost", "admin")

    async def test_a_proxy_that_is_not_there(self) -> None:
        await self.enrolled()
        steps = await self.check(proxy={"host": "127.0.0.1", "port": free_port()})
        self.assert_failed(steps, "proxy", "connection refused", "check section proxy")

    async def test_a_proxy_that_never_answers(self) -> None:
        await self.enrolled()
        port = await self.listen(Factory.forProtocol(Protocol))
        steps = await self.check(0.5, proxy={"host": "127.0.0.1", "port": port})
        self.assert_failed(steps, "proxy", "no answer within 0.5 s")


class Commands(TunnelCheck):
    """The command itself, in a process of its own."""

    def run_check(self, *arguments: str, **sections: Any) -> Deferred[Outcome]:
        file = self.write(**sections)
        return deferToThread(run_apart, "check", "--config", file, *arguments)

    async def test_all_good(self) -> None:
        await self.enrolled()
        outcome = await self.run_check(files={"here": {"base": str(self.folder)}})
        self.assertEqual(outcome.status, 0, outcome.out + outcome.err)
        names = [line.split()[1] for line in outcome.out.splitlines()]
        self.assertEqual(names[0], "tunnel/identity")
        self.assertEqual(names[-2:], ["tunnel/admission", "files/here"])

    async def test_the_tunnel_alone_as_json(self) -> None:
        await self.enrolled()
        outcome = await self.run_check("tunnel", "--json", files={"gone": {"base": "none"}})
        self.assertEqual(outcome.status, 0, outcome.out + outcome.err)
        document = json.loads(outcome.out)
        self.assertIs(document["ok"], True)
        self.assertEqual(document["profiles"], [])
        admission = document["tunnel"][-1]
        self.assertEqual((admission["name"], admission["state"]), ("admission", "ok"))

    async def test_a_tunnel_that_fails_is_the_exit_status(self) -> None:
        outcome = await self.run_check(files={"here": {"base": str(self.folder)}})
        self.assertEqual(outcome.status, 1, outcome.out + outcome.err)
        self.assertTrue(outcome.out.startswith("FAILED  tunnel/identity"), outcome.out)
        self.assertIn("ok      files/here", outcome.out)

    async def test_without_connecting_no_secret_is_fetched(self) -> None:
        outcome = await self.run_check(
            "--no-connect",
            secrets={"provider": "vault", "url": "http://127.0.0.1:1", "token": "t"},
            http={"a": {"base_url": "https://a", "auth": {"bearer": {"secret": "kv/a#b"}}}},
        )
        self.assertEqual(outcome.status, 0, outcome.out + outcome.err)


class _Clock:
    """The module ``time``, that many seconds off."""

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def time(self) -> float:
        return time.time() + self._offset


class _Moment:
    """The class ``datetime`` at one moment."""

    def __init__(self, moment: Any) -> None:
        self._moment = moment

    def now(self, zone: object) -> Any:
        return self._moment
