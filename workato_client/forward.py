"""A local port that leads to a tcp profile: ``onprem forward``.

Each connection to it is a WebSocket to the gateway. Binary messages are the connection's bytes, an
empty one is the end of its direction.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .settings import Settings

READ_SIZE = 64 * 1024
LARGEST = 16 * 1024 * 1024
CONNECT_SECONDS = 30


class ForwardError(Exception):
    """The gateway did not let a connection through. The message is the gateway's own."""


class Forwarder:
    """Listens on a local port. ``tell`` hears of connections that fail."""

    def __init__(self, settings: Settings, profile: str, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._profile = profile
        self._tell = tell

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Begin to listen; port 0 takes a free one. Raises OSError."""
        return await asyncio.start_server(self._connected, host, port, limit=READ_SIZE)

    async def probe(self) -> None:
        """Open one connection and close it, to learn early of what will not work.

        Raises ForwardError and OSError.
        """
        socket = await self._open()
        await socket.close()

    async def _open(self) -> ClientConnection:
        settings = self._settings
        try:
            return await connect(
                settings.socket_url("tcp", self._profile),
                additional_headers={"Authorization": f"Bearer {settings.token}"},
                ssl=settings.tls(),
                compression=None,
                max_size=LARGEST,
                open_timeout=CONNECT_SECONDS,
                ping_interval=None,
                proxy=None,
            )
        except InvalidStatus as error:
            raise ForwardError(_problem(error)) from None
        except WebSocketException as error:
            raise ForwardError(f"the gateway's answer is no WebSocket: {error}") from None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            socket = await self._open()
        except (ForwardError, OSError, TimeoutError) as error:
            self._tell(str(error) or type(error).__name__)
            writer.close()
            return
        up = asyncio.create_task(_send(reader, socket))
        down = asyncio.create_task(_receive(socket, writer))
        try:
            await asyncio.gather(up, down)
        except (ConnectionClosed, OSError) as error:
            self._tell(f"a connection was cut: {error}")
        finally:
            for task in (up, down):
                task.cancel()
            writer.close()
            await socket.close()


async def _send(reader: asyncio.StreamReader, socket: ClientConnection) -> None:
    while data := await reader.read(READ_SIZE):
        await socket.send(data)
    await socket.send(b"")


async def _receive(socket: ClientConnection, writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        if isinstance(message, str):
            continue
        if not message:
            if writer.can_write_eof():
                writer.write_eof()
            continue
        writer.write(message)
        await writer.drain()


def _problem(error: InvalidStatus) -> str:
    response = error.response
    try:
        problem = json.loads(response.body or b"")
        text = f"{problem['code']}: {problem.get('detail') or problem.get('title')}"
        return f"{text} ({problem['hint']})" if problem.get("hint") else text
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {response.status_code}"
