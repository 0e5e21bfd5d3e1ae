"""A local port that leads to a tcp profile: ``onprem forward``."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Callable
from functools import cached_property
from socket import SO_LINGER, SOL_SOCKET
from typing import Final, cast

from workato_tunnel.settings import SUBPROTOCOL

from .bundle import Bundle, Channel, Ended
from .settings import Settings
from .websocket import ForwardError, GatewaySocket

__all__ = ["ForwardError", "Forwarder"]

IDLE_SECONDS: Final = 10.0
"""A WebSocket without connections is kept so long for the next one."""
PROBE_SECONDS: Final = 3.0
"""The target has so long to answer the end of a probe with its own."""
OLDEST_SECONDS: Final = 3600.0
"""An older WebSocket takes no new connections: the gateway ends each after a day."""
LEAVE_SECONDS: Final = 30.0
"""The target has so long to end a connection whose local side is gone."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without any time (socket(7)): the connection ends with RST instead of FIN."""


class Forwarder:
    """Listens on a local port. ``tell`` hears of connections that fail."""

    def __init__(self, settings: Settings, profile: str, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._profile = profile
        self._url = settings.socket_url("tcp", profile)
        self._opening: set[asyncio.Task[None]] = set()
        self._bundles: list[Bundle] = []
        self._attempt: asyncio.Task[Bundle] | None = None
        self.tell = tell

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Begin to listen; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: LocalConnection(self), host, port)

    async def probe(self) -> None:
        """Open one connection and close it, to learn early of what will not work.

        Raises ForwardError, OSError and TimeoutError.
        """
        await (await self.open()).finish(PROBE_SECONDS)

    async def open(self) -> Channel:
        """A connection to the profile. Raises ForwardError, OSError and TimeoutError."""
        again = False
        while True:
            try:
                bundle = await self._bundle()
                return await bundle.open(self._profile)
            except Ended as error:
                # An agent that goes away has not begun anything; another may take its place.
                if again or not error.again:
                    raise ForwardError(str(error)) from None
                again = True

    def begin(self, local: LocalConnection) -> None:
        """Lead a connection to the profile."""
        task = asyncio.create_task(local.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _bundle(self) -> Bundle:
        while True:
            self._leave([each for each in self._bundles if not each.usable and not each.busy])
            youngest = time.monotonic() - OLDEST_SECONDS
            for bundle in self._bundles:
                if bundle.usable and not bundle.full and bundle.since > youngest:
                    return bundle
            attempt = self._attempt
            if attempt is None:
                attempt = self._attempt = asyncio.create_task(self._connect())
                attempt.add_done_callback(self._attempted)
                # Even where it has no room: opening a connection in it says so.
                return await asyncio.shield(attempt)
            # All that wait for it learn of its failure together.
            await asyncio.shield(attempt)

    async def _connect(self) -> Bundle:
        socket = GatewaySocket(self._url, self._settings.token, SUBPROTOCOL)
        await socket.open(self._tls)
        bundle = Bundle(socket, self._look_later)
        await bundle.begin()
        self._bundles.append(bundle)
        # Who wanted it may have gone.
        self._look_later(bundle)
        return bundle

    def _attempted(self, attempt: asyncio.Task[Bundle]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # which nobody waits for any more, if all have gone

    def _look_later(self, bundle: Bundle) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(IDLE_SECONDS, self._leave_idle, bundle, bundle.opened)

    def _leave_idle(self, bundle: Bundle, opened: int) -> None:
        """Unless another connection has been opened in it since."""
        if bundle in self._bundles and bundle.opened == opened:
            self._leave([bundle])

    def _leave(self, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            self._bundles.remove(bundle)
            bundle.leave()

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return self._settings.tls()


class LocalConnection(asyncio.Protocol):
    """A connection to the local port. Nothing is read from it before it leads somewhere.

    :ivar over: the local side is gone.
    """

    transport: asyncio.Transport

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._channel: Channel | None = None
        self.over = False
        self._ended = False
        self._full = False

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
            return
        self._channel = channel
        self.transport.resume_reading()
        channel.begin(self)

    # -- what asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        self._forwarder.begin(self)

    def data_received(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.send(data)

    def eof_received(self) -> bool:
        # Asked again, should reading be resumed after the end.
        if self._channel is not None and not self._ended:
            self._ended = True
            self._channel.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        channel, self._channel = self._channel, None
        if channel is None:
            return
        if exc is not None:
            channel.cancel()
            return
        channel.leave()
        if not channel.gone:
            if not self._ended:
                channel.end()
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, channel.cancel)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._channel is not None:
            self._channel.taken()

    # -- what the channel tells ----------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        self.transport.write(data)
        return not self._full

    def ended(self) -> None:
        try:
            self.transport.write_eof()
        except OSError:
            # The local side has reset it, which nobody sees while nothing is read.
            self.transport.abort()

    def hold(self) -> None:
        self.transport.pause_reading()

    def go_on(self) -> None:
        self.transport.resume_reading()

    def closed(self, reason: str) -> None:
        if reason:
            self._forwarder.tell(f"a connection was cut: {reason}")
            # What has come so far is not all there is, and must not look so.
            socket = self.transport.get_extra_info("socket")
            socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            # What the local side has not taken yet counts until it has.
            self.transport.close()
