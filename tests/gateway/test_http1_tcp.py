"""The HTTP server on real sockets, spoken to by clients that are not ours."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from tests.support.http_gateway import CALL, HttpGateway, echo, request
from tests.support.memory_agents import MemoryStream
from workato_gateway.identity.authority import Authority
from workato_gateway.identity.tls import ServerTls, ensure_server_certificate

reactor: Any = _reactor
T = TypeVar("T")
PATH = CALL.decode()
TOKEN = {"Authorization": "Bearer all"}


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the reactor run until the condition holds."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it never came to that")


def in_thread(work: Callable[..., T], *args: Any) -> Deferred[T]:
    """A blocking client beside the reactor."""
    return deferToThread(work, *args)


class TcpCase(TestCase):
    """A gateway on a port of 127.0.0.1. Its agent answers with what ``on_open`` says."""

    tls: ServerTls | None = None

    def setUp(self) -> None:
        self.gateway = HttpGateway(reactor, resource=echo)
        factory: Any = self.gateway.factory
        if self.tls is not None:
            factory = TLSMemoryBIOFactory(self.tls, False, factory)
        self.listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port
        self.addCleanup(self.close)

    async def close(self) -> None:
        await self.listening.stopListening()
        await self.gateway.factory.drain(0.2)
        self.gateway.log.close()
        self.assertEqual(self.gateway.relay.calls, 0)
        self.assertEqual(self.gateway.agent.streams, 0)

    def answer_when_asked(self, answer: Callable[[MemoryStream], None]) -> None:
        """Answer each call a turn of the reactor later."""
        self.gateway.agent.on_open = lambda stream: reactor.callLater(0, answer, stream)

    def answer_when_sent(self, answer: Callable[[MemoryStream], None]) -> None:
        """Answer each call once its body is there."""

        def look(stream: MemoryStream) -> None:
            if stream.ended:
                answer(stream)
            elif not stream.closed:
                reactor.callLater(0.005, look, stream)

        self.gateway.agent.on_open = lambda stream: reactor.callLater(0, look, stream)

    def connect(self) -> socket.socket:
        """A client's socket."""
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(plain.close)
        return plain

    async def send_until_nothing_is_read(self, sender: socket.socket) -> None:
        """An upload to an agent that takes nothing, and a little more that waits in the socket."""
        self.gateway.agent.credit = 0
        sender.sendall(request(b"PUT", CALL, b"Content-Length: 1000000000\r\n"))
        await until(lambda: self.gateway.agent.opened)
        channel = next(iter(self.gateway.factory._channels))
        while channel._reading:
            sender.sendall(bytes(16_384))
            await deferLater(reactor, 0.002)
        sender.sendall(b"more that nobody reads")

    def client(self) -> http.client.HTTPConnection:
        """The standard library's client."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)


class Clients(TcpCase):
    async def test_one_connection_many_calls(self) -> None:
        self.answer_when_sent(
            lambda stream: stream.agent_answers(
                200, (("content-type", "text/plain"),), bytes(stream.body)[::-1]
            )
        )

        def client() -> list[bytes]:
            connection = self.client()
            found = []
            for n in range(20):
                connection.request("POST", PATH, b"body %d" % n, TOKEN)
                found.append(connection.getresponse().read())
            connection.request("POST", PATH, iter([b"in ", b"chunks"]), TOKEN)
            found.append(connection.getresponse().read())
            connection.request("HEAD", PATH, headers=TOKEN)
            response = connection.getresponse()
            found.append(b"%d%b" % (response.status, response.read()))
            connection.request("GET", "/v1/nothing", headers=TOKEN)
            found.append(connection.getresponse().read()[:1])
            connection.close()
            return found

        found = await in_thread(client)
        self.assertEqual(found[:20], [(b"body %d" % n)[::-1] for n in range(20)])
        self.assertEqual(found[20:], [b"sknuhc ni", b"200", b"{"])

    def file_of(self, content: bytes) -> str:
        """A file that curl can upload."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    async def test_curl_uploads_with_and_without_expect(self) -> None:
        content = bytes(range(256)) * 20_000
        upload = self.file_of(content)
        self.answer_when_sent(
            lambda stream: stream.agent_answers(
                200, (), b"%d %d" % (len(stream.body), stream.body == content)
            )
        )
        curl = shutil.which("curl")
        assert curl is not None
        for extra in (["-H", "Expect: 100-continue"], ["-H", "Expect:"], ["--http1.0"]):
            out, err, code = await getProcessOutputAndValue(
                curl,
                [
                    "-sS",
                    "-T",
                    upload,
                    "-H",
                    "Authorization: Bearer all",
                    *extra,
                    f"http://127.0.0.1:{self.port}{PATH}/x",
                ],
            )
            self.assertEqual((code, err, out), (0, b"", b"%d 1" % len(content)))

    async def test_curl_sees_an_early_refusal_of_an_upload(self) -> None:
        upload = self.file_of(bytes(5_000_000))
        curl = shutil.which("curl")
        assert curl is not None
        for extra in (["-H", "Expect: 100-continue"], ["-H", "Expect:"]):
            out, _, code = await getProcessOutputAndValue(
                curl,
                ["-sS", "-T", upload, *extra, f"http://127.0.0.1:{self.port}{PATH}/x"],
            )
            self.assertEqual(code, 0)
            self.assertEqual(json.loads(out)["code"], "unauthenticated")

    async def test_a_client_that_sends_all_first_still_sees_the_refusal(self) -> None:
        def client() -> int:
            connection = self.client()
            connection.request("PUT", PATH, bytes(20_000_000))
            status = connection.getresponse().status
            connection.close()
            return status

        self.assertEqual(await in_thread(client), 401)


class Pace(TcpCase):
    async def test_a_reader_that_stands_still_holds_the_agent_back(self) -> None:
        slow = self.connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.sendall(request(b"GET", CALL))
        await until(lambda: self.gateway.agent.opened)
        stream = self.gateway.stream
        stream.agent_begins(200)
        sent = 0
        for _ in range(2000):
            if stream.paused:
                await deferLater(reactor, 0.002)
            else:
                stream.agent_sends(bytes(16_384))
                sent += 16_384
        self.assertTrue(stream.paused)
        self.assertLess(sent, 2000 * 16_384)
        self.assertLessEqual(stream.most_held, 16_384)
        channel = next(iter(self.gateway.factory._channels))
        transport: Any = channel.transport
        self.assertLessEqual(len(transport.dataBuffer) + transport._tempDataLen, 192 * 1024)
        slow.close()
        await until(lambda: stream.reset_code == "cancelled")

    async def test_a_websockets_slow_reader_holds_the_agent_back_and_misses_nothing(self) -> None:
        slow = self.connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.sendall(request(b"GET", CALL, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        await until(lambda: self.gateway.agent.opened)
        stream = self.gateway.stream
        stream.agent_begins(101)
        sent = 0

        def send() -> None:
            nonlocal sent
            stream.agent_sends(bytes([sent % 251]) * 16_384)
            sent += 1

        while not stream.paused:
            send()
        self.assertLess(sent * 16_384, 30_000_000)
        transport: Any = next(iter(self.gateway.factory._channels)).transport
        self.assertLessEqual(len(transport.dataBuffer) + transport._tempDataLen, 192 * 1024)
        reading = in_thread(lambda: b"".join(iter(lambda: slow.recv(65536), b"")))
        for _ in range(100):
            await until(lambda: not stream.paused)
            send()
        await until(lambda: not stream.paused)
        stream.agent_finishes()
        body = (await reading).partition(b"\r\n\r\n")[2]
        self.assertEqual(body, b"".join(bytes([n % 251]) * 16_384 for n in range(sent)))

    async def test_a_stalled_agent_holds_the_sender_back(self) -> None:
        self.gateway.agent.credit = 0
        sender = self.connect()
        sender.sendall(request(b"PUT", CALL, b"Content-Length: 1000000000\r\n"))
        sender.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 30:
            try:
                sent += sender.send(bytes(65_536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                await deferLater(reactor, 0.005)
        self.assertLess(sent, 30_000_000)
        self.assertLessEqual(self.gateway.stream.most_queued, 320 * 1024)

    async def test_who_leaves_while_nothing_is_read_is_noticed(self) -> None:
        sender = self.connect()
        await self.send_until_nothing_is_read(sender)
        sender.close()
        await until(lambda: self.gateway.stream.reset_code == "cancelled", 5)

    async def test_a_slow_sender_is_heard_to_the_end(self) -> None:
        self.answer_when_sent(lambda stream: stream.agent_answers(200, (), bytes(stream.body)))
        sender = self.connect()
        for byte in request(b"POST", CALL, b"Connection: close\r\n", b"slow but sure"):
            sender.sendall(bytes([byte]))
            await deferLater(reactor, 0)
        data = await in_thread(lambda: b"".join(iter(lambda: sender.recv(65536), b"")))
        self.assertIn(b"slow but sure", data)


class Cuts(TcpCase):
    async def test_a_cut_answer_is_a_reset_for_the_caller(self) -> None:
        def cut(stream: MemoryStream) -> None:
            stream.agent_begins(200)
            stream.agent_sends(b"half")
            reactor.callLater(0.05, stream.agent_resets, "tunnel_lost")

        self.answer_when_asked(cut)

        def client() -> str:
            connection = self.client()
            connection.request("GET", PATH, headers=TOKEN)
            response = connection.getresponse()
            try:
                response.read()
            except (ConnectionResetError, http.client.IncompleteRead) as error:
                return type(error).__name__
            finally:
                connection.close()
            return "it looked whole"

        self.assertIn(await in_thread(client), ("ConnectionResetError", "IncompleteRead"))

    async def test_http_1_0_sees_a_reset_too(self) -> None:
        def cut(stream: MemoryStream) -> None:
            stream.agent_begins(200)
            stream.agent_sends(b"half")
            reactor.callLater(0.05, stream.agent_resets, "tunnel_lost")

        self.answer_when_asked(cut)
        old = self.connect()
        old.sendall(b"GET " + CALL + b" HTTP/1.0\r\nAuthorization: Bearer all\r\n\r\n")

        def read() -> str:
            try:
                while old.recv(65_536):
                    pass
            except ConnectionResetError:
                return "reset"
            return "it looked whole"

        self.assertEqual(await in_thread(read), "reset")

    async def test_leaving_cancels_at_once_while_nothing_is_answered(self) -> None:
        caller = self.connect()
        caller.sendall(request(b"GET", CALL))
        await until(lambda: self.gateway.agent.opened)
        started = time.monotonic()
        caller.close()
        await until(lambda: self.gateway.stream.reset_code == "cancelled")
        self.assertLess(time.monotonic() - started, 1.0)


class Load(TcpCase):
    async def test_many_callers_at_once(self) -> None:
        self.answer_when_sent(lambda stream: stream.agent_answers(200, (), bytes(stream.body)))

        def client(number: int) -> int:
            connection = self.client()
            good = 0
            for n in range(25):
                body = b"%d-%d" % (number, n)
                connection.request("POST", PATH, body, TOKEN)
                good += connection.getresponse().read() == body
            connection.close()
            return good

        waiting = [in_thread(client, number) for number in range(10)]
        self.assertEqual([await each for each in waiting], [25] * 10)


class Tls(TcpCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority.create("test")
        ensure_server_certificate(authority, folder / "server.pem", ("localhost",))
        self.tls = ServerTls(folder / "server.pem", folder / "server.pem")
        super().setUp()

    def connect(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(super().connect(), suppress_ragged_eofs=False)

    def exchange(self, data: bytes) -> tuple[bytes, str]:
        """Send, read to the end; and how the end looked."""
        found = b""
        with self.connect() as secure:
            with contextlib.suppress(OSError):
                secure.sendall(data)
            try:
                while more := secure.recv(65_536):
                    found += more
            except (ssl.SSLEOFError, ConnectionResetError) as error:
                return found, type(error).__name__
        return found, "closed"

    async def test_a_large_answer(self) -> None:
        content = bytes(range(256)) * 8_000

        def answer(stream: MemoryStream) -> None:
            stream.agent_begins(200, (("content-length", str(len(content))),))
            for at in range(0, len(content), 16_384):
                stream.agent_sends(content[at : at + 16_384])
            stream.agent_finishes()

        self.answer_when_sent(answer)
        data = request(b"POST", CALL, b"Connection: close\r\n", b"x" * 200_000)
        found, end = await in_thread(self.exchange, data)
        self.assertEqual(found.partition(b"\r\n\r\n")[2], content)
        self.assertEqual(end, "closed")

    async def test_a_refused_upload_is_answered(self) -> None:
        found, _ = await in_thread(
            self.exchange, request(b"PUT", CALL, b"Content-Length: 1000000\r\n", token=b"bad")
        )
        self.assertIn(b"401 Unauthorized", found)

    async def test_a_cut_answer_is_no_clean_end(self) -> None:
        def cut(stream: MemoryStream) -> None:
            stream.agent_begins(200)
            stream.agent_sends(b"half")
            reactor.callLater(0.05, stream.agent_resets, "tunnel_lost")

        self.answer_when_asked(cut)
        found, end = await in_thread(self.exchange, request(b"GET", CALL))
        self.assertTrue(found.endswith(b"half\r\n"))
        self.assertNotEqual(end, "closed")

    async def test_who_leaves_while_nothing_is_read_is_noticed(self) -> None:
        sender = await in_thread(self.connect)
        await self.send_until_nothing_is_read(sender)
        sender.close()
        await until(lambda: self.gateway.stream.reset_code == "cancelled", 5)
