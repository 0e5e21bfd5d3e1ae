"""The status socket: who may ask, who may take it over."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from workato_agent.status import StatusSocket, StatusSocketError, StatusUnavailable, read_status
from workato_agent.status_port import PortFile


class Serving(TestCase):
    def setUp(self) -> None:
        self.path = Path(mkdtemp()) / "status.sock"

    def serve(self, provider: object = lambda: {"connected": True}) -> StatusSocket:
        assert callable(provider)
        service = StatusSocket(self.path, provider, reactor)  # type: ignore[arg-type]
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def ask(self) -> dict[str, object]:
        return await deferToThread(read_status, self.path)

    async def test_a_question_is_answered_with_the_state_of_the_moment(self) -> None:
        state = {"calls": 1}
        self.serve(lambda: state)
        self.assertEqual(await self.ask(), {"calls": 1})
        state["calls"] = 2
        self.assertEqual(await self.ask(), {"calls": 2})

    async def test_the_socket_is_its_owners_alone(self) -> None:
        self.serve()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_without_unix_sockets_a_port_and_a_secret_do(self) -> None:
        for size in (1, 100_000):
            state = {"profiles": ["x" * size]}
            service = StatusSocket(self.path, state.copy, reactor, unix=False)
            service.startService()
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
            self.assertEqual(await self.ask(), state)
            await service.stopService()
            self.assertFalse(self.path.exists())

    async def test_who_does_not_show_the_secret_learns_nothing(self) -> None:
        service = StatusSocket(self.path, lambda: {"connected": True}, reactor, unix=False)
        service.startService()
        self.addCleanup(service.stopService)
        file = PortFile.read(self.path)

        def thd_answer(shown: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", file.port), 10) as link:
                link.sendall(shown)
                answer = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := link.recv(1000):
                        answer += piece
                return answer

        for shown in (b"\n", b"x" * 64 + b"\n", b"x" * 1000, file.secret[:-1].encode() + b"\n"):
            self.assertEqual(await deferToThread(thd_answer, shown), b"")
        right = file.secret.encode() + b"\n"
        self.assertEqual(await deferToThread(thd_answer, right), b'{"connected":true}\n')

    async def test_a_file_that_is_no_agents_is_told(self) -> None:
        self.path.write_text("{}")
        with self.assertRaisesRegex(StatusUnavailable, "no file that an agent has written"):
            await self.ask()

    async def test_large_states_come_whole(self) -> None:
        self.serve(lambda: {"profiles": ["x" * 1000] * 1000})
        self.assertEqual(len(str(await self.ask())) > 1_000_000, True)

    async def test_a_fault_in_telling_is_logged_and_told(self) -> None:
        self.serve(lambda: {"x": 1 / 0})
        self.assertIn("failed to tell", str((await self.ask())["error"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_one_who_talks_instead_of_listening_harms_nobody(self) -> None:
        self.serve()

        def talk() -> None:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(self.path))
                try:
                    link.sendall(b"x" * 100_000)
                except OSError:
                    return

        await deferToThread(talk)
        self.assertEqual(await self.ask(), {"connected": True})

    async def test_a_second_agent_is_refused_and_the_first_goes_on(self) -> None:
        self.serve()
        second = StatusSocket(self.path, dict, reactor)  # type: ignore[arg-type]
        error = self.assertRaises(StatusSocketError, second.startService)
        self.assertIn("another agent is running", str(error))
        self.assertEqual(await self.ask(), {"connected": True})

    async def test_the_socket_of_a_killed_agent_is_taken_over(self) -> None:
        program = (
            "import os, signal, sys; from pathlib import Path;"
            "from twisted.internet import reactor;"
            "from workato_agent.status import StatusSocket;"
            "StatusSocket(Path(sys.argv[1]), dict, reactor).startService();"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        root = str(Path(__file__).parents[2])
        await deferToThread(
            subprocess.run,
            [sys.executable, "-c", program, self.path],
            env={**os.environ, "PYTHONPATH": root},
        )
        self.assertTrue(self.path.is_socket())
        self.serve()
        self.assertEqual(await self.ask(), {"connected": True})

    async def test_a_stopped_agent_leaves_no_socket_and_can_start_again(self) -> None:
        service = self.serve()
        await ensureDeferred(_stopped(service))
        self.assertFalse(self.path.exists())
        service.startService()
        self.assertEqual(await self.ask(), {"connected": True})

    async def test_a_place_that_can_not_be_used_is_named(self) -> None:
        self.path.parent.joinpath("file").touch()
        self.path = self.path.parent / "file" / "status.sock"
        error = self.assertRaises(StatusSocketError, self.serve)
        self.assertIn(str(self.path), str(error))


async def _stopped(service: StatusSocket) -> None:
    await service.stopService()


class Asking(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(mkdtemp()) / "status.sock"

    def answer(self, content: bytes | None) -> None:
        """A server of one connection; None never answers."""
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(self.path))
        server.listen(1)
        self.addCleanup(server.close)
        if content is None:
            return

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.sendall(content)

        thread = Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)

    def failure(self) -> str:
        return str(self.assertRaises(StatusUnavailable, read_status, self.path, 0.2))

    def test_no_agent_is_said_with_what_to_do(self) -> None:
        self.assertIn("no agent is running", self.failure())
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        self.assertIn("workato-agent run", self.failure())

    def test_silence_is_told_from_absence(self) -> None:
        self.answer(None)
        self.assertIn("did not answer within", self.failure())

    def test_what_is_no_status_is_said(self) -> None:
        self.answer(b"hello")
        self.assertIn("not an agent", self.failure())
