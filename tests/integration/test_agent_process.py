"""``twistd workato-agent`` as a process of its own, also behind a real HTTP proxy."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.tinyproxy import Tinyproxy
from tests.support.tunnel import Collector, TunnelGateway, until
from workato_agent.identity.enrolment import EnrolmentError, enrol
from workato_agent.tunnel.proxy import ConnectProxy
from workato_tunnel.frames import Open

reactor: Any = _reactor
ROOT = Path(__file__).resolve().parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class ProcessCase(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        # Trial's own folders are too deep for the path of a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="agent-"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "data").mkdir()
        self.content = os.urandom(20_000_000)
        (self.folder / "data" / "big").write_bytes(self.content)
        self.gateway = TunnelGateway(self.folder)
        await self.gateway.start()
        self.addCleanup(self.gateway.stop)

    async def start(self, extra: str = "", proxy: ConnectProxy | None = None) -> None:
        """Enrol, start the agent's process and wait for its tunnel."""
        await enrol(await self.gateway.code(), self.folder / "id", reactor=reactor, proxy=proxy)
        config = self.folder / "config.yml"
        config.write_text(
            f"gateway: {{ identity: {self.folder}/id, drain: 10 }}\n"
            f"files: {{ hr: {{ base: {self.folder}/data }} }}\n{extra}"
        )
        self.command = [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "workato-agent"]
        self.command += ["--config", str(config)]
        self.run_agent()
        await until(lambda: self.gateway.registry.group("g"), 20)

    def run_agent(self) -> None:
        self.log = self.folder / "agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        self.addCleanup(self.end, self.process)

    async def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        await deferToThread(process.wait, 10)
        await until(lambda: not self.gateway.factory._sockets)

    def call(self, path: str = "content/big") -> Collector:
        collector = Collector()
        head = Open("files", "hr", path=path)
        self.stream = self.gateway.live.open_stream(head, collector, end=True)
        return collector


class SignalTests(ProcessCase):
    async def test_sigterm_lets_the_call_in_flight_end_and_exits_with_0(self) -> None:
        await self.start()
        answer = self.call()
        self.stream.pauseProducing()
        await until(lambda: answer.head)
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: not self.gateway.live.connected)
        self.stream.resumeProducing()
        await answer.done
        self.assertEqual(bytes(answer.data), self.content)
        self.assertIsNone(answer.reset)
        self.assertEqual(await deferToThread(self.process.wait, 10), 0)
        self.assertNotIn("Traceback", self.log.read_text())

    async def test_a_second_sigterm_cuts_the_wait_short(self) -> None:
        await self.start()
        answer = self.call()
        self.stream.pauseProducing()
        await until(lambda: answer.head)
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: not self.gateway.live.connected)
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(await deferToThread(self.process.wait, 5), 0)
        self.stream.resumeProducing()
        await answer.done
        self.assertIsNotNone(answer.reset)

    async def test_as_many_files_as_the_system_allows_may_be_open(self) -> None:
        await self.start()
        limits = Path(f"/proc/{self.process.pid}/limits").read_text()  # noqa: ASYNC240
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        soft, hard = line.split()[3:5]
        self.assertEqual(soft, hard)

    async def test_after_kill_9_the_next_one_starts(self) -> None:
        await self.start()
        self.process.kill()
        await deferToThread(self.process.wait, 10)
        before = self.gateway.live
        self.run_agent()
        await until(
            lambda: [live for live in self.gateway.registry.group("g") if live is not before], 20
        )


class ProxyTests(ProcessCase):
    async def test_all_of_it_through_a_proxy_with_credentials(self) -> None:
        proxy = Tinyproxy(self.folder)
        self.addCleanup(proxy.stop)
        for credentials in ((), ("user", "wrong")):
            route = ConnectProxy("127.0.0.1", proxy.port, *credentials)
            with self.assertRaises(EnrolmentError) as raised:
                await enrol(
                    await self.gateway.code(), self.folder / "id", reactor=reactor, proxy=route
                )
            self.assertIn("credentials", str(raised.exception))
        section = f"proxy: {{ host: 127.0.0.1, port: {proxy.port}, username: user, password: p-w }}"
        await self.start(section, ConnectProxy("127.0.0.1", proxy.port, "user", "p-w"))
        answer = self.call()
        await answer.done
        self.assertEqual(bytes(answer.data), self.content)
        self.assertIn(f"CONNECT localhost:{self.gateway.url.port}".encode(), proxy.log())
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(await deferToThread(self.process.wait, 10), 0)

    async def test_a_proxy_that_forbids_the_way_is_told(self) -> None:
        proxy = Tinyproxy(self.folder, "ConnectPort 443")
        self.addCleanup(proxy.stop)
        route = ConnectProxy("127.0.0.1", proxy.port, "user", "p-w")
        with self.assertRaises(EnrolmentError) as raised:
            await enrol(await self.gateway.code(), self.folder / "id", reactor=reactor, proxy=route)
        self.assertIn("forbids the way to localhost", str(raised.exception))
