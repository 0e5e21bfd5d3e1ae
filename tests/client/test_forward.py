"""The caller's end of raw TCP, against gateways that are the library's or raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from twisted.trial.unittest import SynchronousTestCase
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from workato_client.forward import Forwarder, ForwardError, LocalConnection
from workato_client.settings import Settings

SECONDS = 30


class Observed(Forwarder):
    """A forwarder whose connections can be looked at."""

    def __init__(self, port: int) -> None:
        self.told: list[str] = []
        self.locals: list[LocalConnection] = []
        settings = Settings(f"http://127.0.0.1:{port}", "plant", "token-1")
        super().__init__(settings, "erp", self.told.append)

    def begin(self, local: LocalConnection) -> None:
        self.locals.append(local)
        super().begin(local)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what others do has no event
            await asyncio.sleep(0.005)


def held(*transports: asyncio.Transport | None) -> bool:
    """Whether nothing is read from them."""
    return all(each is not None and not each.is_reading() for each in transports)


class ForwarderCase(SynchronousTestCase):
    def run_with(
        self,
        talk: Callable[[ServerConnection], Awaitable[None]],
        client: Callable[[Observed, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> Observed:
        """A gateway of the library's, and a client on the local port."""

        async def whole() -> Observed:
            async with AsyncExitStack() as stack:
                gateway = await stack.enter_async_context(
                    serve(talk, "127.0.0.1", 0, compression=None, max_size=None)
                )
                forwarder = Observed(next(iter(gateway.sockets)).getsockname()[1])
                port = await stack.enter_async_context(await forwarder.serve("127.0.0.1", 0))
                async with asyncio.timeout(SECONDS):
                    reader, writer = await asyncio.open_connection(*port.sockets[0].getsockname())
                    await client(forwarder, reader, writer)
                    writer.close()
                await until(lambda: all(local.over for local in forwarder.locals))
                return forwarder

        return asyncio.run(whole())


class PaceTests(ForwarderCase):
    def test_a_gateway_that_takes_slowly_holds_back_the_local_side(self) -> None:
        go_on = asyncio.Event()
        received = 0

        async def talk(socket: ServerConnection) -> None:
            nonlocal received
            await go_on.wait()
            while message := await socket.recv():
                received += len(message)
            await socket.send(b"")

        async def client(
            forwarder: Observed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"x" * 50_000_000)
            await until(lambda: forwarder.locals and held(forwarder.locals[0].transport))
            go_on.set()
            writer.write_eof()
            self.assertEqual(await reader.read(), b"")

        self.run_with(talk, client)
        self.assertEqual(received, 50_000_000)

    def test_a_local_side_that_takes_slowly_holds_back_the_gateway(self) -> None:
        async def talk(socket: ServerConnection) -> None:
            for _ in range(50):
                await socket.send(b"y" * 1_000_000)
            await socket.send(b"")
            self.assertEqual(await socket.recv(), b"")

        async def client(
            forwarder: Observed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await until(lambda: forwarder.locals and forwarder.locals[0].socket is not None)
            socket = forwarder.locals[0].socket
            assert socket is not None
            await until(lambda: held(socket.transport))
            self.assertEqual(len(await reader.read()), 50_000_000)

        self.run_with(talk, client)


class EndTests(ForwarderCase):
    async def leave(
        self, forwarder: Observed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.assertEqual(await reader.read(), b"last")

    def test_a_gateway_that_closes_in_order_is_not_told_of(self) -> None:
        for code in (1000, 1001):

            async def talk(socket: ServerConnection, code: int = code) -> None:
                await socket.send(b"last")
                await socket.close(code)

            self.assertEqual(self.run_with(talk, self.leave).told, [])

    def test_one_that_cuts_is(self) -> None:
        async def closes(socket: ServerConnection) -> None:
            await socket.send(b"last")
            await socket.close(1011, "the target is on fire")

        async def drops(socket: ServerConnection) -> None:
            await socket.send(b"last")
            socket.transport.abort()

        self.assertIn("on fire", self.run_with(closes, self.leave).told[0])
        self.assertIn("was cut", self.run_with(drops, self.leave).told[0])

    def test_text_is_refused(self) -> None:
        codes: list[int | None] = []

        async def talk(socket: ServerConnection) -> None:
            await socket.send(b"last")
            await socket.send("text")
            try:
                await socket.recv()
            except ConnectionClosed:
                codes.append(socket.close_code)

        self.run_with(talk, self.leave)
        self.assertEqual(codes, [1003])

    def test_a_local_side_that_leaves_closes_the_websocket_behind_its_bytes(self) -> None:
        seen: list[object] = []

        async def talk(socket: ServerConnection) -> None:
            try:
                while True:
                    seen.append(await socket.recv())
                    await socket.send(b"z" * 100_000)
            except ConnectionClosed:
                seen.append(socket.close_code)

        async def client(
            forwarder: Observed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"fire and forget")

        self.assertEqual(self.run_with(talk, client).told, [])
        self.assertEqual(seen, [b"fire and forget", b"", 1000])


class HandshakeTests(SynchronousTestCase):
    def probe(self, answer: Callable[[str], bytes]) -> tuple[Observed, BaseException | None]:
        """Open one connection against a gateway that answers a handshake's key with that."""

        async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.assertIn("Authorization: Bearer token-1\r\n", head)
            key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            for byte in answer(key):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            writer.close()

        async def whole() -> tuple[Observed, BaseException | None]:
            server = await asyncio.start_server(gateway, "127.0.0.1", 0)
            async with server:
                forwarder = Observed(server.sockets[0].getsockname()[1])
                try:
                    await forwarder.probe()
                except (ForwardError, OSError) as error:
                    return forwarder, error
                return forwarder, None

        return asyncio.run(whole())

    def test_what_a_gateway_says_against_it_is_passed_on(self) -> None:
        body = b'{"code": "policy_denied", "detail": "not now", "hint": "later"}'
        length = f"HTTP/1.1 403 Forbidden\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        for answer, words in (
            (length + body, "policy_denied: not now (later)"),
            (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno", "answered 502"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no WebSocket"),
            (b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n", "no WebSocket"),
            (b"x" * 9_000 + b"\r\n\r\n", "no WebSocket"),
            (b"", "no WebSocket"),
        ):
            error = self.probe(lambda _key, answer=answer: answer)[1]  # type: ignore[misc]
            self.assertIn(words, str(error))

    def test_bytes_that_come_with_the_handshake_are_the_first(self) -> None:
        async def whole() -> bytes:
            async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
                writer.write(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                    f"connection: upgrade\r\nsec-websocket-accept: {accept_key(key)}\r\n\r\n"
                    .encode() + b"\x82\x05hello\x82\x00\x88\x02\x03\xe8"
                )  # fmt: skip
                writer.close()

            server = await asyncio.start_server(gateway, "127.0.0.1", 0)
            forwarder = Observed(server.sockets[0].getsockname()[1])
            async with server, await forwarder.serve("127.0.0.1", 0) as port:
                reader, writer = await asyncio.open_connection(*port.sockets[0].getsockname())
                async with asyncio.timeout(SECONDS):
                    data = await reader.read()
                writer.close()
                return data

        self.assertEqual(asyncio.run(whole()), b"hello")
