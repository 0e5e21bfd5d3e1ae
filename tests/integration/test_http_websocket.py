"""WebSockets of an on-prem application, through a real gateway and a real agent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from demo.deployment import Deployment
from tests.support.http import TestAuthority

MEBIBYTE = 1 << 20


class Application:
    """A WebSocket server; the path says what becomes of a connection.

    :ivar asked: path and header fields of each request.
    :ivar closed: close codes that callers sent.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closed: list[int | None] = []
        self.pongs = 0
        self.server: Server = serve(
            self.talk,
            "127.0.0.1",
            0,
            ssl=context,
            process_request=self.refuse,
            select_subprotocol=lambda _link, offered: offered[-1] if offered else None,
            max_size=None,
            ping_interval=None,
        )
        self.port: int = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def refuse(self, link: ServerConnection, request: Request) -> Response | None:
        self.asked.append((request.path, {k.lower(): v for k, v in request.headers.raw_items()}))
        if request.path.endswith("/secret"):
            answer = link.respond(HTTPStatus.UNAUTHORIZED, "not you\n")
            answer.headers["WWW-Authenticate"] = "Basic"
            return answer
        if request.path.endswith("/missing"):
            return link.respond(HTTPStatus.NOT_FOUND, "n" * 200_000)
        return None

    def talk(self, link: ServerConnection) -> None:
        assert link.request is not None
        name, _, query = link.request.path.rpartition("/")[2].partition("?")
        try:
            getattr(self, f"talk_{name}")(link, query)
        except ConnectionClosed as closed:
            self.closed.append(closed.rcvd.code if closed.rcvd else None)

    def talk_echo(self, link: ServerConnection, _query: str) -> None:
        while True:
            link.send(link.recv())

    def talk_close(self, link: ServerConnection, query: str) -> None:
        link.close(int(query), "as you wish")

    def talk_ping(self, link: ServerConnection, _query: str) -> None:
        if link.ping(b"there?").wait(20):
            self.pongs += 1
        link.send("pong came")

    def talk_fragments(self, link: ServerConnection, _query: str) -> None:
        link.send(list(link.recv_streaming()))

    def talk_die(self, link: ServerConnection, _query: str) -> None:
        link.send("last words")
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0)) + bytes(4))
        link.socket.shutdown(socket.SHUT_RD)  # its reader closes it then, with a reset
        link.recv()

    def talk_flood(self, link: ServerConnection, query: str) -> None:
        for number in range(int(query)):
            link.send(number.to_bytes(4, "big") * 16_384)

    def talk_swallow(self, link: ServerConnection, _query: str) -> None:
        while link.recv() != "end":
            time.sleep(0.005)
        link.send("all")


class Mute:
    """Accepts connections, reads, and answers nothing."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            link, _ = self.listening.accept()
            with link, contextlib.suppress(ConnectionResetError):
                while link.recv(4096):
                    pass
            self.ended.set()


class WebSocketTests(SynchronousTestCase):
    land: ClassVar[tuple[Deployment, Application, Mute, str] | None] = None

    def setUp(self) -> None:
        if WebSocketTests.land is None:
            WebSocketTests.land = self.deploy()
        self.deployment, self.application, self.mute, self.token = WebSocketTests.land

    @staticmethod
    def deploy() -> tuple[Deployment, Application, Mute, str]:
        folder = Path(tempfile.mkdtemp())
        authority = TestAuthority(folder)
        identity = authority.issue("localhost")
        (folder / "ca.pem").write_bytes(authority.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        application, secure, mute = Application(), Application(context), Mute()
        url = f"http://127.0.0.1:{application.port}"
        sections = (
            "http:\n"
            f"  app: {{ base_url: {url}/base, auth: {{ bearer: t0ken }} }}\n"
            f"  few: {{ base_url: {url}, pool: {{ max: 2, wait: 1 }} }}\n"
            f"  read: {{ base_url: {url}, methods: [GET] }}\n"
            f"  live: {{ base_url: {url}, methods: [websocket] }}\n"
            f"  tls: {{ base_url: 'https://localhost:{secure.port}', ca: {folder}/ca.pem }}\n"
            f"  mute: {{ base_url: 'http://127.0.0.1:{mute.port}' }}\n"
        )
        deployment = Deployment(folder, "plant", sections)
        deployment.start()
        from twisted.internet import reactor  # noqa: PLC0415

        reactor.addSystemEventTrigger("after", "shutdown", shutil.rmtree, folder, True)
        reactor.addSystemEventTrigger("before", "shutdown", deployment.stop)
        return deployment, application, mute, deployment.token("tester", "*:*:*:*")

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.deployment.api_port}/v1/groups/plant/http/{path}"

    def open(self, path: str = "app/echo", **options: object) -> ClientConnection:
        link = connect(
            self.url(path),
            additional_headers={"Authorization": f"Bearer {self.token}", "X-Own": "1"},
            max_size=None,
            open_timeout=20,
            ping_interval=None,
            **options,  # type: ignore[arg-type]
        )
        self.addCleanup(link.close)
        return link

    def refusal(self, path: str) -> Response:
        error: InvalidStatus = self.assertRaises(InvalidStatus, self.open, path)
        return error.response

    def until(self, check: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not check():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_text_and_binary_both_ways(self) -> None:
        link = self.open()
        for message in ("ünïcode", b"\x00\xff", "", b"", "x" * 65_536, os.urandom(70_000)):
            link.send(message)
            self.assertEqual(link.recv(timeout=20), message)

    def test_large_messages_arrive_whole(self) -> None:
        for compression in (None, "deflate"):
            link = self.open(compression=compression)
            for _ in range(3):
                message = os.urandom(MEBIBYTE)
                link.send(message)
                self.assertEqual(link.recv(timeout=20), message)

    def test_fragments_stay_fragments(self) -> None:
        link = self.open("app/fragments")
        pieces = ["one ", "two ", "three"]
        link.send(pieces)
        received: Iterator[object] = link.recv_streaming()
        self.assertEqual([piece for piece in received if piece], pieces)

    def test_pings_are_answered_by_the_other_end_in_both_directions(self) -> None:
        link = self.open()
        self.assertTrue(link.ping(b"hello").wait(20))
        before = self.application.pongs
        self.assertEqual(self.open("app/ping").recv(timeout=20), "pong came")
        self.assertEqual(self.application.pongs, before + 1)

    def test_close_codes_pass_in_both_directions(self) -> None:
        for code in (1000, 1001, 1011, 3000, 4999):
            link = self.open(f"app/close?{code}")
            closed: ConnectionClosed = self.assertRaises(ConnectionClosed, link.recv, 20)
            assert closed.rcvd is not None
            self.assertEqual((closed.rcvd.code, closed.rcvd.reason), (code, "as you wish"))
            self.open().close(code)
            self.until(lambda code=code: code in self.application.closed)

    def test_the_request_has_the_profiles_credentials_and_the_callers_own_fields(self) -> None:
        link = self.open("app/echo?a=%2F", subprotocols=["chat", "superchat"])  # type: ignore[list-item]
        self.assertEqual(link.subprotocol, "superchat")
        path, fields = self.application.asked[-1]
        self.assertEqual(path, "/base/echo?a=%2F")
        self.assertEqual(fields["authorization"], "Bearer t0ken")
        self.assertEqual(fields["host"], f"127.0.0.1:{self.application.port}")
        self.assertEqual(fields["connection"], "Upgrade")
        self.assertEqual(fields["upgrade"], "websocket")
        self.assertEqual(fields["x-own"], "1")
        assert link.response is not None
        self.assertEqual(link.response.headers["X-Onprem-Target-Status"], "1")

    def test_an_application_that_refuses_is_heard(self) -> None:
        answer = self.refusal("app/secret")
        self.assertEqual((answer.status_code, answer.body), (401, b"not you\n"))
        self.assertEqual(answer.headers["WWW-Authenticate"], "Basic")
        self.assertEqual(answer.headers["X-Onprem-Target-Status"], "1")
        answer = self.refusal("app/missing")
        self.assertEqual((answer.status_code, answer.body), (404, b"n" * 200_000))

    def test_an_application_behind_tls(self) -> None:
        link = self.open("tls/echo")
        for size in (1, 70_000, MEBIBYTE):
            message = os.urandom(size)
            link.send(message)
            self.assertEqual(link.recv(timeout=20), message)
        link.close(4000)
        self.assertEqual(link.close_code, 4000)
        link = self.open("tls/flood?320")
        time.sleep(0.5)
        for number in range(320):
            self.assertEqual(link.recv(timeout=20), number.to_bytes(4, "big") * 16_384)
        closed: ConnectionClosed = self.assertRaises(ConnectionClosed, link.recv, 20)
        assert closed.rcvd is not None
        self.assertEqual(closed.rcvd.code, 1000)

    def test_a_target_that_dies_ends_the_callers_connection_unclean(self) -> None:
        link = self.open("app/die")
        closed: ConnectionClosed = self.assertRaises(ConnectionClosed, self.read_all, link)
        self.assertIsNone(closed.rcvd)

    def read_all(self, link: ClientConnection) -> None:
        while True:
            link.recv(timeout=20)

    def test_a_caller_who_leaves_without_a_word_ends_the_targets_connection(self) -> None:
        link = self.open("few/echo")
        link.send("x")
        link.recv(timeout=20)
        before = len(self.application.closed)
        link.socket.shutdown(socket.SHUT_RDWR)
        self.until(lambda: self.application.closed[before:] == [None])

    def test_websockets_count_in_the_pool_and_leave_it(self) -> None:
        for _ in range(3):
            links = [self.open("few/echo") for _ in range(2)]
            answer = self.refusal("few/echo")
            self.assertEqual(json.loads(answer.body)["code"], "overloaded")
            for link in links:
                link.send("still here")
                self.assertEqual(link.recv(timeout=20), "still here")
                link.close()

    def test_a_caller_who_reads_slowly_holds_the_application_back(self) -> None:
        link = self.open("app/flood?320")
        time.sleep(0.5)
        for number in range(320):
            self.assertEqual(link.recv(timeout=20), number.to_bytes(4, "big") * 16_384)

    def test_an_application_that_reads_slowly_holds_the_caller_back(self) -> None:
        link = self.open("app/swallow")
        for _ in range(200):
            link.send(b"x" * 65_536)
        link.send("end")
        self.assertEqual(link.recv(timeout=30), "all")

    def test_frames_are_not_looked_at(self) -> None:
        link = self.open()
        with link.protocol_mutex:  # unmasked, which no application accepts: it says so itself
            link.socket.sendall(Frame(Opcode.TEXT, b"bare").serialize(mask=False))
        closed: ConnectionClosed = self.assertRaises(ConnectionClosed, link.recv, 20)
        assert closed.rcvd is not None
        self.assertEqual(closed.rcvd.code, 1002)

    def test_methods_must_name_websockets(self) -> None:
        answer = self.refusal("read/echo")
        problem = json.loads(answer.body)
        self.assertEqual((problem["code"], problem["rule"]), ("policy_denied", "methods"))
        link = self.open("live/echo")
        link.send("x")
        self.assertEqual(link.recv(timeout=20), "x")

    def test_a_caller_who_does_not_wait_for_the_handshake_ends_it(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=20)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        link.request("GET", "/v1/groups/plant/http/mute/x", headers=headers)
        time.sleep(0.3)
        self.assertFalse(self.mute.ended.is_set())
        link.close()
        self.assertTrue(self.mute.ended.wait(20))
