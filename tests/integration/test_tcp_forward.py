"""Raw TCP through a real gateway and a real agent, and the port that ``onprem forward`` opens."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import ClassVar

import psycopg2
from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from demo.deployment import Deployment
from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server

ROOT = Path(__file__).resolve().parents[2]


class Target:
    """A TCP server: what a connection does is decided by its first byte."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.seen: list[bytes] = []
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self.listening.accept()
            except OSError:
                return
            Thread(target=self._talk, args=(link,), daemon=True).start()

    def _talk(self, link: socket.socket) -> None:
        with link:
            try:
                kind = link.recv(1)
                if kind == b"e":  # echo until the end, then say goodbye
                    while data := link.recv(65536):
                        link.sendall(data)
                    link.sendall(b"bye")
                elif kind == b"s":  # swallow, answer with a digest at the end
                    digest = hashlib.sha256()
                    while data := link.recv(1 << 20):
                        digest.update(data)
                    link.sendall(digest.digest())
                elif kind == b"h":  # say nothing, and remember a digest of what comes all the same
                    link.shutdown(socket.SHUT_WR)
                    digest = hashlib.sha256()
                    while data := link.recv(1 << 16):
                        digest.update(data)
                    self.seen.append(digest.digest())
                elif kind == b"g":  # give, and end
                    for _ in range(256):
                        link.sendall(b"0123456789abcdef" * 4096)
                elif kind == b"r":  # reset
                    link.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    )
                elif kind == b"w":  # wait for ever, and remember how it ended
                    while data := link.recv(100):
                        self.seen.append(data)
                    self.seen.append(b"closed")
            except OSError as error:
                self.seen.append(type(error).__name__.encode())


class TcpCase(SynchronousTestCase):
    land: ClassVar[tuple[Deployment, Target, str] | None] = None

    def setUp(self) -> None:
        if TcpCase.land is None:
            TcpCase.land = self.deploy()
        self.deployment, self.target, self.token = TcpCase.land

    @staticmethod
    def deploy() -> tuple[Deployment, Target, str]:
        folder = Path(tempfile.mkdtemp())
        target = Target()
        sections = (
            "tcp:\n"
            f"  target: {{ host: 127.0.0.1, port: {target.port}, max_connections: 20 }}\n"
            f"  idle: {{ host: 127.0.0.1, port: {target.port}, idle_timeout: 1 }}\n"
            f"  pg: {{ host: 127.0.0.1, port: {shared_server().port} }}\n"
            f"  down: {{ host: 127.0.0.1, port: {free_port()} }}\n"
            "  shut: { host: 127.0.0.1, port: 1, policy: { windows: ['Mon 00:00-00:01'] } }\n"
        )
        deployment = Deployment(folder, "plant", sections)
        deployment.start()
        from twisted.internet import reactor  # noqa: PLC0415

        reactor.addSystemEventTrigger("after", "shutdown", shutil.rmtree, folder, True)
        reactor.addSystemEventTrigger("before", "shutdown", deployment.stop)
        return deployment, target, deployment.token("tester", "*:*:*:*")

    def url(self, profile: str) -> str:
        return f"ws://127.0.0.1:{self.deployment.api_port}/v1/groups/plant/tcp/{profile}"

    def open(self, profile: str = "target") -> ClientConnection:
        link = connect(
            self.url(profile),
            additional_headers={"Authorization": f"Bearer {self.token}"},
            compression=None,
            max_size=None,
            open_timeout=20,
        )
        self.addCleanup(link.close)
        return link

    def refused(self, profile: str) -> tuple[int, str]:
        error: InvalidStatus = self.assertRaises(InvalidStatus, self.open, profile)
        return error.response.status_code, (error.response.body or b"").decode()

    def until(self, check: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not check():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)


class WebSocketTests(TcpCase):
    def test_bytes_go_both_ways_and_each_way_ends_by_itself(self) -> None:
        link = self.open()
        link.send(b"ehello")
        self.assertEqual(link.recv(timeout=20), b"hello")
        link.send(b"")
        received = b""
        while message := link.recv(timeout=20):
            assert isinstance(message, bytes)
            received += message
        self.assertEqual(received, b"bye")
        self.assertRaises(ConnectionClosed, link.recv, timeout=20)
        self.assertEqual(link.close_code, 1000)

    def test_much_goes_through_unchanged(self) -> None:
        link = self.open()
        link.send(b"g")
        received = bytearray()
        while message := link.recv(timeout=30):
            assert isinstance(message, bytes)
            received += message
        self.assertEqual(bytes(received), b"0123456789abcdef" * 4096 * 256)
        link.close()
        link = self.open()
        link.send(b"s")
        digest = hashlib.sha256()
        for _ in range(64):
            block = os.urandom(262_144)
            digest.update(block)
            link.send(block)
        link.send(b"")
        self.assertEqual(link.recv(timeout=30), digest.digest())

    def test_a_target_that_ends_first_gets_the_rest(self) -> None:
        self.target.seen.clear()
        link = self.open()
        link.send(b"h")
        self.assertEqual(link.recv(timeout=20), b"")
        block = os.urandom(4_000_000)
        link.send(block)
        link.send(b"")
        self.assertRaises(ConnectionClosed, link.recv, timeout=20)
        self.assertEqual(link.close_code, 1000)
        self.until(lambda: self.target.seen == [hashlib.sha256(block).digest()])

    def test_a_target_that_cuts_is_told(self) -> None:
        link = self.open()
        link.send(b"r")
        self.assertRaises(ConnectionClosed, link.recv, timeout=20)
        self.assertEqual(link.close_code, 1011)
        self.assertIn("the target has cut", link.close_reason or "")

    def test_a_caller_who_leaves_closes_the_targets_connection(self) -> None:
        for leave in (lambda link: link.close(), lambda link: link.socket.close()):
            self.target.seen.clear()
            link = self.open()
            link.send(b"wx")
            self.until(lambda: self.target.seen == [b"x"])
            leave(link)
            self.until(lambda: len(self.target.seen) == 2)

    def test_what_is_no_forwarding_is_refused(self) -> None:
        status, body = self.refused("down")
        self.assertEqual(status, 502)
        self.assertIn("refused", body)
        status, body = self.refused("shut")
        self.assertEqual(status, 403)
        self.assertIn("windows", body)
        self.assertEqual(self.refused("nowhere")[0], 404)
        link = self.open()
        link.send("text")
        self.assertRaises(ConnectionClosed, link.recv, timeout=20)
        self.assertEqual(link.close_code, 1003)

    def test_a_connection_on_which_nothing_comes_is_closed(self) -> None:
        link = self.open("idle")
        link.send(b"w")
        self.assertRaises(ConnectionClosed, link.recv, timeout=20)
        self.assertEqual(link.close_code, 1001)

    def test_there_are_so_many_at_a_time(self) -> None:
        links = [self.open() for _ in range(20)]
        self.assertEqual(self.refused("target")[0], 429)
        for link in links:
            link.close()
        self.until(self.works)

    def works(self) -> bool:
        try:
            self.open().close()
        except InvalidStatus:
            return False
        return True


class ForwardTests(TcpCase):
    def forward(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "workato_client.cli", "forward", *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "ONPREM_URL": self.deployment.url,
                "ONPREM_GROUP": "plant",
                "ONPREM_TOKEN": self.token,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)
        return process

    def port(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30)
        line = process.stdout.readline() if ready else ""
        if not line:
            assert process.stderr is not None
            process.kill()
            self.fail(process.stderr.read())
        return int(line.partition(" ")[0].rpartition(":")[2])

    def test_a_database_client_works_through_it(self) -> None:
        process = self.forward("pg")
        port = self.port(process)
        with (
            closing(
                psycopg2.connect(
                    host="127.0.0.1",
                    port=port,
                    user=SUPERUSER,
                    password=PASSWORD,
                    dbname="postgres",
                    sslmode="require",
                )
            ) as link,
            link.cursor() as cursor,
        ):
            cursor.execute("select count(*), max(repeat('x', 1000)) from generate_series(1, 50000)")
            self.assertEqual(cursor.fetchone(), (50_000, "x" * 1000))
            cursor.execute("select repeat('y', 3000000)")
            self.assertEqual(len(cursor.fetchone()[0]), 3_000_000)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20), 0)

    def test_half_close_goes_through_it(self) -> None:
        port = self.port(self.forward("target"))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
            link.sendall(b"e" + b"z" * 1_000_000)
            link.shutdown(socket.SHUT_WR)
            received = b""
            while data := link.recv(65536):
                received += data
        self.assertEqual(received, b"z" * 1_000_000 + b"bye")

    def test_who_closes_at_once_has_sent_all_the_same(self) -> None:
        port = self.port(self.forward("target"))
        self.target.seen.clear()
        block = os.urandom(3_000_000)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
            link.sendall(b"h" + block)
        self.until(lambda: self.target.seen == [hashlib.sha256(block).digest()])

    def test_a_cut_is_told(self) -> None:
        process = self.forward("target")
        with socket.create_connection(("127.0.0.1", self.port(process)), timeout=20) as link:
            link.sendall(b"r")
            with self.assertRaises(ConnectionResetError):
                link.recv(100)
        assert process.stderr is not None
        self.assertIn("the target has cut the connection", process.stderr.readline())

    def test_what_can_not_work_is_said_at_once(self) -> None:
        for arguments, word in (
            (("down",), "target_unreachable"),
            (("nowhere",), "profile_not_found"),
            (("target", "--group", "none"), "group_not_found"),
            (("target", "--url", f"http://127.0.0.1:{free_port()}"), "onprem forward:"),
        ):
            process = self.forward(*arguments)
            _, errors = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 1, errors)
            self.assertIn(word, errors)
            self.assertNotIn("Traceback", errors)
