"""A whole agent in this process, against a gateway's tunnel port: calls, status, stop."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.folders import folder_for
from tests.support.ports import free_port
from tests.support.proxy import TestProxy
from tests.support.tunnel import Collector, TunnelGateway, until
from workato_agent.app import Agent, StartError, agent_version
from workato_agent.calls import ServedProfile
from workato_agent.config import parse_config
from workato_agent.config.errors import ConfigError
from workato_agent.config.profiles import ProfileConfig
from workato_agent.identity.enrolment import enrol
from workato_agent.served import CLOSE_TIMEOUT, Entry, ServedProfiles, Update, serve_profiles
from workato_agent.status import read_status
from workato_gateway.identity.authority import Authority, pem_of
from workato_tunnel.frames import Open

reactor: Any = _reactor


class AgentCase(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = folder_for(self)
        (self.folder / "data").mkdir()
        (self.folder / "data" / "a.txt").write_text("hello")
        (self.folder / "data" / "big").write_bytes(os.urandom(8_000_000))
        self.gateway = TunnelGateway(self.folder)
        await self.gateway.start()
        self.addCleanup(self.gateway.stop)
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        self.agents: list[Agent] = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self.stop_agents()))

    async def stop_agents(self) -> None:
        for agent in self.agents:
            if agent.running:
                await agent.stopService()

    async def enrol(self) -> None:
        await enrol(await self.gateway.code(), self.folder / "id", reactor=reactor)

    def make(self, extra: str = "", gateway: str = "", drain: float = 3) -> Agent:
        text = (
            f"gateway: {{ identity: {self.folder}/id, drain: {drain} {gateway} }}\n"
            f"files: {{ hr: {{ base: {self.folder}/data, policy: {{ operations: [read] }} }} }}\n"
            f"status: {{ socket: {self.folder}/s }}\n{extra}"
        )
        agent = Agent(parse_config(text, self.folder / "config.yml"), reactor)
        self.agents.append(agent)
        return agent

    async def started(self, extra: str = "", drain: float = 3) -> Agent:
        await self.enrol()
        agent = self.make(extra, drain=drain)
        agent.startService()
        await until(lambda: self.gateway.registry.group("g") and agent.connected)
        return agent

    def call(self, path: str, **fields: Any) -> Collector:
        collector = Collector()
        head = Open("files", "hr", path=path, **fields)
        self.stream = self.gateway.live.open_stream(head, collector, end=True)
        return collector


class AgentTests(AgentCase):
    async def test_a_call_is_answered_and_audited(self) -> None:
        agent = await self.started()
        answer = await self.call("content/a.txt", caller="me", request_id="r1").done
        self.assertEqual(bytes(answer.data), b"hello")
        await agent.stopService()
        (line,) = [
            line
            for line in (self.folder / "id/audit/audit.jsonl").read_text().splitlines()
            if '"kind":"call"' in line
        ]
        for part in ('"caller":"me"', '"operation":"read"', '"code":"ok"', '"bytes_out":5'):
            self.assertIn(part, line)
        self.assertNotIn("a.txt", line)

    async def test_the_policy_is_enforced(self) -> None:
        await self.started()
        answer = await self.call("content/a.txt", method="DELETE").done
        assert answer.head
        self.assertEqual(answer.head.status, 403)
        self.assertIn(b'"rule":"operations"', bytes(answer.data))
        self.assertTrue((self.folder / "data" / "a.txt").exists())

    async def test_the_gateway_is_told_what_there_is(self) -> None:
        agent = await self.started()
        await until(lambda: self.gateway.live.catalogue.profiles)
        catalogue = self.gateway.live.catalogue
        (profile,) = catalogue.profiles
        self.assertEqual((profile.service, profile.name, profile.type), ("files", "hr", "local"))
        self.assertEqual(profile.operations, ("test", "read"))
        self.assertEqual(catalogue.config_hash, agent.config.config_hash)
        self.assertEqual((catalogue.pid, catalogue.version), (os.getpid(), agent_version()))
        self.assertNotEqual("", catalogue.host and catalogue.os and catalogue.user)

    async def test_status_and_metrics_tell_of_it(self) -> None:
        port = free_port()
        await self.started(f"metrics: {{ listen: '127.0.0.1:{port}' }}")
        await self.call("content/a.txt").done
        status: Any = await deferToThread(read_status, self.folder / "s")
        self.assertEqual((status["connected"], status["tunnel"]["state"]), (True, "connected"))
        self.assertEqual(status["profiles"], [{"service": "files", "name": "hr", "type": "local"}])
        self.assertEqual(status["calls_in_flight"], 0)
        self.assertAlmostEqual(status["certificate"]["days_left"], 1.0, delta=0.1)

        def thd_get() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/metrics")
            try:
                return connection.getresponse().read().decode()
            finally:
                connection.close()

        text = await deferToThread(thd_get)
        self.assertIn('workato_agent_calls_total{code="ok",profile="hr",service="files"} 1.0', text)
        self.assertIn("workato_agent_tunnel_connected 1.0", text)

    async def test_through_a_proxy(self) -> None:
        proxy = TestProxy(reactor, "user:pw")
        port = await proxy.start()
        self.addCleanup(proxy.stop)
        section = f"proxy: {{ host: 127.0.0.1, port: {port}, username: user, password: pw }}"
        agent = await self.started(section)
        answer = await self.call("content/big").done
        self.assertEqual(bytes(answer.data), (self.folder / "data" / "big").read_bytes())
        self.assertEqual(len(proxy.requests), 1)
        await agent.stopService()
        await until(lambda: not proxy.connections)

    async def test_another_ca_than_the_pinned_one_can_be_named(self) -> None:
        ca = self.folder / "other-ca.pem"
        ca.write_text(pem_of(Authority.create("other").certificate))
        await self.enrol()
        agent = self.make(gateway=f", ca: {ca}")
        agent.startService()
        await until(lambda: agent.tunnel.problem)
        self.assertIn("not signed by the pinned CA", agent.tunnel.problem)
        self.assertFalse(agent.connected)

    async def test_the_system_does_not_trust_the_gateways_own_ca(self) -> None:
        await self.enrol()
        agent = self.make(gateway=", ca: system")
        agent.startService()
        await until(lambda: agent.tunnel.problem)
        self.assertIn("system's trust store", agent.tunnel.problem)


class StopTests(AgentCase):
    async def test_calls_in_flight_end_before_the_agent_does(self) -> None:
        agent = await self.started()
        answer = self.call("content/big")
        self.stream.pauseProducing()
        await until(lambda: answer.head)
        self.assertEqual(agent.dispatcher.in_flight, 1)
        stopped = agent.stopService()
        await until(lambda: not self.gateway.live.connected)
        self.stream.resumeProducing()
        await answer.done
        self.assertEqual(bytes(answer.data), (self.folder / "data" / "big").read_bytes())
        self.assertIsNone(answer.reset)
        await stopped
        self.assertEqual(agent.dispatcher.in_flight, 0)

    async def test_calls_that_do_not_end_are_cut_and_never_look_whole(self) -> None:
        agent = await self.started(drain=0.2)
        answer = self.call("content/big")
        self.stream.pauseProducing()
        await until(lambda: answer.head)
        await agent.stopService()
        self.stream.resumeProducing()
        await answer.done
        self.assertIsNotNone(answer.reset)

    async def test_it_stops_before_it_has_ever_been_connected(self) -> None:
        await self.enrol()
        await self.gateway._port.stopListening()
        self.gateway._port = None
        agent = self.make()
        agent.startService()
        await until(lambda: agent.tunnel.problem)
        await agent.stopService()

    async def test_two_agents_on_one_identity_do_not_both_start(self) -> None:
        first = await self.started()
        second = self.make()
        error = self.assertRaises(StartError, second.startService)
        self.assertIn("another agent", str(error))
        self.assertTrue(first.connected)
        answer = await self.call("content/a.txt").done
        self.assertEqual(bytes(answer.data), b"hello")

    async def test_what_fails_to_start_leaves_nothing_open(self) -> None:
        await self.enrol()
        blocker = self.folder / "s"
        blocker.mkdir()
        agent = self.make()
        self.assertRaises(StartError, agent.startService)
        blocker.rmdir()
        await agent.audit.stop()
        again = self.make()
        again.startService()
        await until(lambda: again.connected)


class ServingTests(SynchronousTestCase):
    def test_every_profile_that_can_not_work_is_named(self) -> None:
        config = parse_config(
            "http:\n  a: { base_url: 'http://x', auth: { bearer: 'two words' } }\n"
            "  b: { base_url: 'http://x', auth: { bearer: '' } }\n"
            "database:\n  m: { adapter: sqlite, database: ':memory:' }\n",
            Path("config.yml"),
        )
        error = self.assertRaises(ConfigError, serve_profiles, config, reactor)
        self.assertEqual(
            [problem.path for problem in error.problems], ["database.m", "http.a", "http.b"]
        )
        self.assertNotIn("two words", str(error))

    def test_a_service_that_fails_or_hangs_delays_no_other_at_the_end(self) -> None:
        closed: list[str] = []

        class Slow:
            type, operations = "x", ()

            def __init__(self, name: str) -> None:
                self.name = name

            async def close(self) -> None:
                if self.name == "fails":
                    raise OSError("stuck")
                if self.name == "hangs":
                    await Deferred()
                closed.append(self.name)

        clock = Clock()
        names = tuple(("files", name) for name in ("fails", "hangs", "ends"))
        entries = {
            name: Entry(ProfileConfig(), ServedProfile(Slow(name[1]), print)) for name in names
        }
        profiles = ServedProfiles(clock)
        profiles.apply(Update(entries, names, (), ()))
        closing = Deferred.fromCoroutine(profiles.close())
        self.assertEqual(closed, ["ends"])
        clock.advance(CLOSE_TIMEOUT)
        self.successResultOf(closing)
        self.assertEqual(len(self.flushLoggedErrors()), 2)
