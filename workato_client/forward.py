"""A local port that leads to a tcp profile: ``onprem forward``.

Each connection to it is a WebSocket to the gateway. Binary messages are the connection's bytes, an
empty one is the end of its direction.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import cached_property
from typing import cast

from .settings import Settings
from .websocket import ForwardError, GatewaySocket

__all__ = ["ForwardError", "Forwarder"]


class Forwarder:
    """Listens on a local port. ``tell`` hears of connections that fail."""

    def __init__(self, settings: Settings, profile: str, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._url = settings.socket_url("tcp", profile)
        self._opening: set[asyncio.Task[None]] = set()
        self.tell = tell

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Begin to listen; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: LocalConnection(self), host, port)

    async def probe(self) -> None:
        """Open one connection and close it, to learn early of what will not work.

        Raises ForwardError and OSError.
        """
        socket = await self.open()
        socket.leave()
        await socket.gone()

    async def open(self) -> GatewaySocket:
        """A WebSocket to the profile. Raises ForwardError, OSError and TimeoutError."""
        socket = GatewaySocket(self._url, self._settings.token)
        await socket.open(self._tls)
        return socket

    def begin(self, local: LocalConnection) -> None:
        """Lead a connection to the profile."""
        task = asyncio.create_task(local.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return self._settings.tls()


class LocalConnection(asyncio.Protocol):
    """A connection to the local port. Nothing is read from it before its WebSocket is open.

    :ivar socket: as long as it is open.
    :ivar over: the local side is gone.
    """

    transport: asyncio.Transport

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self.socket: GatewaySocket | None = None
        self.over = False
        self._ended = False

    async def open(self) -> None:
        """Open the WebSocket and begin to move bytes."""
        try:
            socket = await self._forwarder.open()
        except (ForwardError, OSError, TimeoutError) as error:
            self._forwarder.tell(str(error) or type(error).__name__)
            self.transport.close()
            return
        if self.over:
            socket.leave()
            return
        self.socket = socket
        self.transport.resume_reading()
        socket.begin(self)

    # -- what asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        self._forwarder.begin(self)

    def data_received(self, data: bytes) -> None:
        if self.socket is not None:
            self.socket.send(data)

    def eof_received(self) -> bool:
        # Asked again, should reading be resumed after the end.
        if self.socket is not None and not self._ended:
            self._ended = True
            self.socket.send(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        if self.socket is not None:
            self.socket.leave()
            self.socket = None

    def pause_writing(self) -> None:
        if self.socket is not None:
            self.socket.hold()

    def resume_writing(self) -> None:
        if self.socket is not None:
            self.socket.go_on()

    # -- what the WebSocket tells --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self.transport.write(data)

    def ended(self) -> None:
        self.transport.write_eof()

    def full(self) -> None:
        self.transport.pause_reading()

    def ready(self) -> None:
        self.transport.resume_reading()

    def closed(self, reason: str) -> None:
        self.socket = None
        if reason:
            self._forwarder.tell(f"a connection was cut: {reason}")
        self.transport.close()
