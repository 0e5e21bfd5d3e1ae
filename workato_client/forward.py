"""A local port that leads to a tcp profile: ``onprem forward``."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import cached_property
from typing import Final, cast

from workato_tunnel.settings import DATA_SIZE, SUBPROTOCOL

from .bundle import Bundle, Channel, Ended
from .settings import Settings
from .websocket import ForwardError, GatewaySocket

__all__ = ["ForwardError", "Forwarder"]

READ_SIZE: Final = DATA_SIZE - 32
"""Bytes of one read: with the heads that come before them they fit a frame of the tunnel."""
IDLE_SECONDS: Final = 10.0
"""A WebSocket without connections is kept so long for the next one."""
OLDEST_SECONDS: Final = 3600.0
"""An older WebSocket takes no new connections: the gateway ends each after a day."""
LEAVE_SECONDS: Final = 30.0
"""The target has so long to end a connection whose local side is gone."""


class Forwarder:
    """Listens on a local port. ``tell`` hears of connections that fail."""

    def __init__(self, settings: Settings, profile: str, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._profile = profile
        self._url = settings.socket_url("tcp", profile)
        self._opening: set[asyncio.Task[None]] = set()
        self._bundles: list[Bundle] = []
        self._next_bundle = asyncio.Lock()
        self.tell = tell

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Begin to listen; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: LocalConnection(self), host, port)

    async def probe(self) -> None:
        """Open one connection and close it, to learn early of what will not work.

        Raises ForwardError, OSError and TimeoutError.
        """
        (await self.open()).cancel()
        self.look_after()

    async def open(self) -> Channel:
        """A connection to the profile. Raises ForwardError, OSError and TimeoutError."""
        for last in (False, True):
            try:
                bundle = await self._bundle()
                return await bundle.open(self._profile)
            except Ended as error:
                # An agent that goes away has not begun anything; another may take its place.
                if last or not error.again:
                    raise ForwardError(str(error)) from None
        raise AssertionError  # pragma: no cover - the second try returns or raises

    def begin(self, local: LocalConnection) -> None:
        """Lead a connection to the profile."""
        task = asyncio.create_task(local.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def look_after(self) -> None:
        """A connection has ended: its WebSocket may no longer be needed."""
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._leave_idle)

    async def close(self) -> None:
        """Cut what is open."""
        for bundle in self._bundles:
            bundle.leave()
        self._bundles.clear()

    async def _bundle(self) -> Bundle:
        async with self._next_bundle:
            bundles = self._bundles = [each for each in self._bundles if each.usable or each.busy]
            youngest = time.monotonic() - OLDEST_SECONDS
            for bundle in bundles:
                if bundle.usable and not bundle.full and bundle.since > youngest:
                    return bundle
            socket = GatewaySocket(self._url, self._settings.token, SUBPROTOCOL)
            await socket.open(self._tls)
            bundle = Bundle(socket)
            await bundle.begin()
            self._bundles.append(bundle)
            return bundle

    def _leave_idle(self) -> None:
        for bundle in [each for each in self._bundles if not each.busy]:
            self._bundles.remove(bundle)
            bundle.leave()

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return self._settings.tls()


class LocalConnection(asyncio.BufferedProtocol):
    """A connection to the local port. Nothing is read from it before it leads somewhere.

    :ivar channel: as long as it is open.
    :ivar over: the local side is gone.
    """

    transport: asyncio.Transport

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self.channel: Channel | None = None
        self.over = False
        self._ended = False
        self._full = False
        self._buffer = memoryview(bytearray(READ_SIZE))

    async def open(self) -> None:
        """Lead it somewhere and begin to move bytes."""
        try:
            channel = await self._forwarder.open()
        except (ForwardError, OSError, TimeoutError) as error:
            self._forwarder.tell(str(error) or type(error).__name__)
            self.transport.close()
            return
        if self.over:
            channel.cancel()
            self._forwarder.look_after()
            return
        self.channel = channel
        channel.local = self
        self.transport.resume_reading()

    # -- what asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        self._forwarder.begin(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.channel is not None:
            self.channel.send(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        # Asked again, should reading be resumed after the end.
        if self.channel is not None and not self._ended:
            self._ended = True
            self.channel.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.local = None
            channel.taken()
            if not self._ended:
                channel.end()
            # What it sent is still to reach the target, which may have more to say than is heard.
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, channel.cancel)
        self._forwarder.look_after()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.channel is not None:
            self.channel.taken()

    # -- what the channel tells ----------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        self.transport.write(data)
        return not self._full

    def ended(self) -> None:
        self.transport.write_eof()

    def hold(self) -> None:
        self.transport.pause_reading()

    def go_on(self) -> None:
        self.transport.resume_reading()

    def closed(self, reason: str) -> None:
        self.channel = None
        if reason:
            self._forwarder.tell(f"a connection was cut: {reason}")
        self.transport.close()
