"""``onprem forward`` against a gateway and agent in one: the library's server, the tunnel's frames.

What an agent does with a connection is a coroutine of the test, which gets an :class:`Accepted`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from workato_client import forward
from workato_client.forward import Forwarder, LocalConnection
from workato_client.settings import Settings
from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.events import (
    ConnectionFailed,
    DataEnded,
    DataReceived,
    Event,
    GoawayReceived,
    StreamOpened,
    StreamTerminated,
)
from workato_tunnel.frames import Head, Hello, Open, Trailers
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.settings import Settings as TunnelSettings

SECONDS = 15
T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what others do has no event
            await asyncio.sleep(0.002)


class Cut(Exception):
    """The client has reset a stream, or its WebSocket is gone."""


class Accepted:
    """A connection as the agent has it. What is sent in one turn leaves in one message.

    :ivar taken: bytes read from it so far.
    """

    def __init__(self, link: Link, number: int, head: Open) -> None:
        self.link = link
        self.number = number
        self.head = head
        self.taken = 0
        self._came: asyncio.Queue[bytes | Cut] = asyncio.Queue()

    async def read(self) -> bytes:
        """What has come; b"" at the end. Raises Cut."""
        data = await self._came.get()
        if isinstance(data, Cut):
            raise data
        self.taken += len(data)
        self.link.connection.consumed(self.number, len(data))
        self.link.wake()
        return data

    async def read_all(self) -> bytes:
        """All up to the end. Raises Cut."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    def accept(self, status: int = 200) -> None:
        """HEAD."""
        self.link.connection.send_head(self.number, Head(status))
        self.link.wake()

    def write(self, data: bytes) -> None:
        """DATA."""
        self.link.connection.send_data(self.number, data)
        self.link.wake()

    def end(self) -> None:
        """DATA with END."""
        self.link.connection.send_end(self.number)
        self.link.wake()

    def finish(self, code: str = "", detail: str = "") -> None:
        """TRAILERS."""
        self.link.connection.send_trailers(self.number, Trailers(code=code, detail=detail))
        self.link.wake()

    def reset(self, code: str, message: str = "", detail: str = "") -> None:
        """RESET."""
        self.link.connection.reset_stream(self.number, code, message, detail)
        self.link.wake()

    @property
    def credit(self) -> int:
        """Bytes that may be sent to the client now."""
        return self.link.connection.streams[self.number].send.credit()

    def came(self, data: bytes | Cut) -> None:
        """For the link."""
        self._came.put_nowait(data)


Serve = Callable[[Accepted], Awaitable[None]]


class Link:
    """A WebSocket of the client's.

    :ivar messages: how many have come behind the HELLO.
    :ivar first: there was none before it.
    :ivar goaways: what the client has said of protocol violations.
    """

    connection: TunnelConnection

    def __init__(self, gateway: Gateway, socket: ServerConnection) -> None:
        self.socket = socket
        self.messages = 0
        self.accepted: list[Accepted] = []
        self.goaways: list[str] = []
        self.failures: list[str] = []
        self.over = asyncio.Event()
        self.first = not gateway.links
        self._gateway = gateway
        self._woken = asyncio.Event()
        self._by_number: dict[int, Accepted] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Exchange HELLO and serve until the WebSocket is gone."""
        settings = self._gateway.settings
        await self.socket.send(encode_hello(Hello(limits=settings.limits(), hold=0)))
        hello = await self.socket.recv()
        assert isinstance(hello, bytes)
        self.connection = TunnelConnection(Role.AGENT, settings, decode_hello(hello).limits)
        self._begin(self._send())
        try:
            async for message in self.socket:
                assert isinstance(message, bytes)
                self.messages += 1
                for event in self.connection.receive_message(message, 0.0):
                    self._handle(event)
                self.wake()
        finally:
            for accepted in self._by_number.values():
                accepted.came(Cut("the WebSocket is gone"))
            self._by_number.clear()
            self.over.set()

    def wake(self) -> None:
        """Something is to be sent."""
        self._woken.set()

    async def drop(self) -> None:
        """Cut it."""
        self.socket.transport.abort()

    async def stop(self) -> None:
        """End what still runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _handle(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            accepted = Accepted(self, event.stream, event.head)
            self._by_number[event.stream] = accepted
            self.accepted.append(accepted)
            self._begin(self._serve(accepted))
        elif isinstance(event, GoawayReceived):
            self.goaways.append(event.goaway.code)
        elif isinstance(event, ConnectionFailed):
            self.failures.append(event.message)
        elif isinstance(event, DataReceived | DataEnded | StreamTerminated):
            accepted = self._by_number[event.stream]
            if isinstance(event, DataReceived):
                accepted.came(event.data)
            elif isinstance(event, DataEnded):
                accepted.came(b"")
            else:
                accepted.came(Cut(event.reason))

    async def _serve(self, accepted: Accepted) -> None:
        try:
            await self._gateway.serve(accepted)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the test is told
            self._gateway.errors.append(error)
        self.connection.release(accepted.number)

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._woken.wait()
                self._woken.clear()
                while (message := self.connection.next_message()) is not None:
                    await self.socket.send(message)


class Gateway:
    """Gateway and agent in one.

    :ivar talk: what happens on a WebSocket, where that is not as usual.
    """

    def __init__(self, serve: Serve, settings: TunnelSettings) -> None:
        self.serve = serve
        self.settings = settings
        self.links: list[Link] = []
        self.errors: list[BaseException] = []
        self.talk: Callable[[ServerConnection], Awaitable[None]] | None = None

    async def connected(self, socket: ServerConnection) -> None:
        """A WebSocket has been opened."""
        link = Link(self, socket)
        self.links.append(link)
        try:
            await (link.run() if self.talk is None else self.talk(socket))
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - the test is told
            self.errors.append(error)

    @property
    def accepted(self) -> list[Accepted]:
        """All connections so far."""
        return [each for link in self.links for each in link.accepted]


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


class Local:
    """A program's connection to the local port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        """Write, and read as many bytes."""
        self.writer.write(data)
        return await self.reader.readexactly(len(data))

    async def reset(self) -> bool:
        """Read to the end: whether it is one of a connection that is cut (RST)."""
        try:
            await self.reader.read()
        except ConnectionResetError:
            return True
        return False

    def vanish(self) -> None:
        """Reset it (RST)."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        self.writer.transport.abort()


class Scene:
    """A gateway, a forwarder and programs that use it."""

    def __init__(self, gateway: Gateway, forwarder: Observed, port: int) -> None:
        self.gateway = gateway
        self.forwarder = forwarder
        self.port = port
        self.programs: list[Local] = []

    @property
    def told(self) -> list[str]:
        """Of which failures the forwarder has told."""
        return self.forwarder.told

    async def connect(self) -> Local:
        """A new connection to the local port."""
        program = Local(*await asyncio.open_connection("127.0.0.1", self.port))
        self.programs.append(program)
        return program

    async def close(self) -> None:
        """Let go of everything."""
        for program in self.programs:
            program.writer.close()
        await until(lambda: all(local.over for local in self.forwarder.locals))
        for bundle in self.forwarder._bundles:
            bundle.leave()


@contextlib.asynccontextmanager
async def scene(gateway: Gateway, subprotocol: str | None = SUBPROTOCOL) -> AsyncIterator[Scene]:
    """All of it, and its end."""
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with serve(
        gateway.connected,
        "127.0.0.1",
        0,
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=1,
        subprotocols=offered,
    ) as server:
        forwarder = Observed(next(iter(server.sockets)).getsockname()[1])
        local = await forwarder.serve("127.0.0.1", 0)
        async with local:
            whole = Scene(gateway, forwarder, local.sockets[0].getsockname()[1])
            try:
                yield whole
            finally:
                try:
                    await whole.close()
                finally:
                    for link in gateway.links:
                        await link.stop()


async def echo(accepted: Accepted) -> None:
    """Send all back that comes."""
    accepted.accept()
    with contextlib.suppress(Cut):
        while data := await accepted.read():
            accepted.write(data)
        accepted.end()
        accepted.finish()


class ForwardCase(SynchronousTestCase):
    """Runs a client's coroutine against an agent's."""

    def setUp(self) -> None:
        self.patch(forward, "LEAVE_SECONDS", 1.0)

    def play(
        self,
        client: Callable[[Scene], Awaitable[T]],
        serve: Serve = echo,
        *,
        settings: TunnelSettings | None = None,
        talk: Callable[[ServerConnection], Awaitable[None]] | None = None,
        subprotocol: str | None = SUBPROTOCOL,
    ) -> T:
        """What the client's coroutine returns. Nothing may fail elsewhere."""
        unhandled: list[dict[str, Any]] = []

        async def whole() -> T:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
            gateway = Gateway(serve, settings or TunnelSettings(resumable=False))
            gateway.talk = talk
            async with asyncio.timeout(SECONDS), scene(gateway, subprotocol) as at:
                result = await client(at)
                errors = list(gateway.errors)
            if errors:
                raise errors[0]
            return result

        result = asyncio.run(whole())
        self.assertEqual(unhandled, [])
        return result
