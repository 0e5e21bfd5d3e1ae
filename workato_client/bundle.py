"""Connections to one profile in one WebSocket: streams of the tunnel's own protocol.

This side has the gateway's part in it, the agent its own; the gateway between them sees messages.
What is read at about the same time from several local connections leaves as one message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import ErrorCode, RemoteProtocolError, StreamRefused
from workato_tunnel.events import (
    ConnectionFailed,
    DataEnded,
    DataReceived,
    Event,
    GoawayReceived,
    HeadReceived,
    StreamFinished,
    StreamOpened,
    StreamTerminated,
)
from workato_tunnel.frames import Hello, Open
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import Settings

from .websocket import GatewaySocket, problem_text

SETTINGS: Final = Settings(streams=32, budget=32 * 1024 * 1024, resumable=False)
ACK_SECONDS: Final = 1.0
HELLO_SECONDS: Final = 30.0
OPEN_SECONDS: Final = 120.0
"""For one connection; the agent gives up the target long before."""
LONGEST_PROBLEM: Final = 64 * 1024
"""Bytes of a refusal that are looked at."""


class Ended(Exception):
    """A connection was not made. ``again``: nothing speaks against another try at once."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class LocalSide(Protocol):
    """Who uses a connection."""

    def received(self, data: bytes) -> bool:
        """Bytes from the target. False: :meth:`Channel.taken` tells when these have been taken."""

    def ended(self) -> None:
        """Nothing more comes from the target."""

    def hold(self) -> None:
        """Much waits to be sent: send no more for now."""

    def go_on(self) -> None:
        """Send again."""

    def closed(self, reason: str) -> None:
        """The connection is gone; called once. ``reason``: what cut it, "" for an end in order."""


class Channel:
    """One connection to the target. What comes before its local side is known waits here, which is
    no more than the stream's window."""

    __slots__ = ("_bundle", "_early", "_ended", "_gone", "_left", "_local", "_opened", "_over",
                 "_problem", "_refused", "_untaken", "stream")  # fmt: skip

    def __init__(self, bundle: Bundle, stream: int, opened: asyncio.Future[None]) -> None:
        self.stream = stream
        self._bundle = bundle
        self._opened = opened
        self._local: LocalSide | None = None
        self._early: list[bytes] = []
        self._ended = self._left = self._refused = False
        self._over: str | None = None
        self._problem = b""
        self._gone = asyncio.Event()
        self._untaken = 0

    # -- for the local side

    @property
    def gone(self) -> bool:
        """Nothing is sent or received any more."""
        return self._gone.is_set()

    def begin(self, local: LocalSide) -> None:
        """From here on ``local`` is told."""
        self._local = local
        early, self._early = self._early, []
        for data in early:
            self._hand_over(data)
        if self._ended:
            local.ended()
        if self._over is not None:
            self._local = None
            local.closed(self._over)

    def send(self, data: bytes) -> None:
        """Send bytes to the target."""
        bundle = self._bundle
        connection = bundle.connection
        if self.stream in connection.streams:
            queued = connection.send_data(self.stream, data)
            bundle.wake()
            if queued >= connection.settings.high_water and self._local is not None:
                self._local.hold()

    def end(self) -> None:
        """Nothing more will be sent. Called once."""
        if self.stream in self._bundle.connection.streams:
            self._bundle.connection.send_end(self.stream)
            self._bundle.wake()

    def taken(self) -> None:
        """The local side has taken all that it was given."""
        size, self._untaken = self._untaken, 0
        self._bundle.consumed(self.stream, size)

    def leave(self) -> None:
        """Hear no more of it; what was sent still reaches the target."""
        self._local = None
        self._left = True
        self._untaken += sum(map(len, self._early))
        self._early.clear()
        self.taken()

    def cancel(self) -> None:
        """Let go of it at once."""
        self.leave()
        self._bundle.reset(self)
        self._gone.set()

    async def finish(self, seconds: float) -> None:
        """End it in order, as far as the target does so within that time."""
        self.leave()
        self.end()
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            self.cancel()

    # -- for the bundle

    def head(self, status: int) -> None:
        """The agent's answer begins."""
        if status != 200:
            self._refused = True
        elif not self._opened.done():
            self._opened.set_result(None)

    def data(self, data: bytes) -> None:
        """Bytes of the target; or of the problem that is the answer."""
        if self._local is not None:
            self._hand_over(data)
        elif self._refused:
            self._problem = (self._problem + data)[:LONGEST_PROBLEM]
            self._bundle.consumed(self.stream, len(data))
        elif self._left:
            self._bundle.consumed(self.stream, len(data))
        else:
            self._early.append(data)

    def end_received(self) -> None:
        """Nothing more comes from the target."""
        self._ended = True
        if self._local is not None:
            self._local.ended()

    def room(self) -> None:
        """Little waits to be sent."""
        if self._local is not None:
            self._local.go_on()

    def over(self, reason: str, *, again: bool = False) -> None:
        """Nothing follows."""
        self._over = reason
        self._gone.set()
        if not self._opened.done():
            said = problem_text(self._problem) or reason or "the connection was refused"
            self._opened.set_exception(Ended(said, again=again))
        local, self._local = self._local, None
        if local is not None:
            local.closed(reason)

    def _hand_over(self, data: bytes) -> None:
        if self._local is not None and not self._local.received(data):
            self._untaken += len(data)
        else:
            self._bundle.consumed(self.stream, len(data))


class Bundle:
    """One WebSocket with its connections (a ``Listener`` of the socket).

    :param idle: called with it when its last connection has ended.
    :ivar opened: connections that have been opened so far.
    :ivar since: when it was opened (``time.monotonic``).
    :ivar usable: new connections may be opened in it.
    """

    connection: TunnelConnection

    def __init__(self, socket: GatewaySocket, idle: Callable[[Bundle], None]) -> None:
        self._idle = idle
        self.opened = 0
        self.since = time.monotonic()
        self.usable = True
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._channels: dict[int, Channel] = {}
        self._flushing = False
        self._room = True
        self._ack: asyncio.TimerHandle | None = None

    # -- what its user asks

    async def begin(self) -> None:
        """Exchange HELLO. Raises Ended."""
        self._socket.send(encode_hello(Hello(limits=SETTINGS.limits(), hold=0)))
        self._socket.begin(self)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                await self._ready
        except TimeoutError:
            self.leave()
            raise Ended(f"the agent has not answered within {HELLO_SECONDS:g} s") from None
        except BaseException:
            self.leave()
            raise

    @property
    def busy(self) -> int:
        """Connections that are open."""
        return len(self._channels)

    @property
    def full(self) -> bool:
        """No further connection fits in."""
        return len(self._channels) >= min(SETTINGS.streams, self.connection.peer.streams)

    async def open(self, profile: str) -> Channel:
        """A connection to the target. Raises Ended."""
        opened: asyncio.Future[None] = self._loop.create_future()
        try:
            stream = self.connection.open_stream(Open("tcp", profile, method="CONNECT"))
        except StreamRefused as error:
            if not self._channels:
                self._idle(self)
            raise Ended(str(error), again=True) from None
        channel = self._channels[stream] = Channel(self, stream, opened)
        self.opened += 1
        self.wake()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await opened
        except TimeoutError:
            channel.cancel()
            said = f"the agent has not answered within {OPEN_SECONDS:g} s"
            raise Ended(said) from None
        except asyncio.CancelledError:
            channel.cancel()
            raise
        return channel

    def leave(self) -> None:
        """Close it in order."""
        self.usable = False
        self._socket.leave()
        self._over("", again=False)

    # -- for the connections

    def wake(self) -> None:
        """Something is to be sent: together with all that this turn of the loop brings."""
        if not self._flushing and self._room:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def consumed(self, stream: int, size: int) -> None:
        """Bytes have been taken."""
        if self.connection.consumed(stream, size):
            self.wake()

    def reset(self, channel: Channel) -> None:
        """A connection is no longer wanted."""
        if self._take(channel.stream) is not None:
            self.connection.reset_stream(channel.stream, ErrorCode.CANCELLED)
            self.wake()

    # -- what the socket tells

    def message_received(self, message: bytes) -> None:
        if not self._ready.done():
            self._shake_hands(message)
            return
        for event in self.connection.receive_message(message, self._loop.time()):
            self._handle(event)
        if self._ack is None:
            self._ack = self._loop.call_later(ACK_SECONDS, self._acknowledge)
        self.wake()

    def room(self, *, ready: bool) -> None:
        self._room = ready
        if ready:
            self.wake()

    def closed(self, reason: str) -> None:
        self.usable = self._room = False
        self._over(reason or "the agent has ended the connection", again=True)

    # -- inside

    def _shake_hands(self, message: bytes) -> None:
        try:
            hello = decode_hello(message)
        except RemoteProtocolError as error:
            self._ready.set_exception(Ended(f"the agent does not speak the protocol: {error}"))
            self._socket.leave()  # what comes behind it is not looked at
            return
        self.connection = TunnelConnection(Role.GATEWAY, SETTINGS, hello.limits)
        self._ready.set_result(None)

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            channel = self._channels.get(event.stream)
            if channel is not None:
                channel.data(event.data)
        elif isinstance(event, HeadReceived):
            if (channel := self._channels.get(event.stream)) is not None:
                channel.head(event.head.status)
        elif isinstance(event, DataEnded):
            if (channel := self._channels.get(event.stream)) is not None:
                channel.end_received()
        elif isinstance(event, StreamFinished):
            if (channel := self._take(event.stream)) is not None:
                trailers = event.trailers
                channel.over(trailers.detail or trailers.message or trailers.code)
        elif isinstance(event, StreamTerminated):
            if (channel := self._take(event.stream)) is not None:
                draining = event.reason == ErrorCode.DRAINING
                self.usable = self.usable and not draining
                said = event.detail or event.message
                reason = f"{event.reason}: {said}" if said else event.reason
                channel.over(reason, again=draining)
        elif isinstance(event, GoawayReceived):
            self.usable = False
        elif isinstance(event, StreamOpened):
            self.connection.reset_stream(
                event.stream, ErrorCode.REFUSED, "this side takes no streams"
            )
            self.connection.release(event.stream)
        elif isinstance(event, ConnectionFailed):
            self.usable = False
            self._flush()
            self._socket.leave()
            self._over(f"the agent broke the protocol: {event.message}", again=False)

    def _flush(self) -> None:
        self._flushing = False
        connection = self.connection
        while self._room and (message := connection.next_message()) is not None:
            self._socket.send(message)
            for stream in connection.take_drained():
                if (channel := self._channels.get(stream)) is not None:
                    channel.room()

    def _take(self, stream: int) -> Channel | None:
        """A connection that ends."""
        channel = self._channels.pop(stream, None)
        if channel is not None and not self._channels:
            self._idle(self)
        return channel

    def _acknowledge(self) -> None:
        self._ack = None
        if self.connection.acknowledge():
            self.wake()

    def _over(self, reason: str, *, again: bool) -> None:
        if self._ack is not None:
            self._ack.cancel()
            self._ack = None
        if not self._ready.done():
            self._ready.set_exception(Ended(reason or "the connection was given up", again=again))
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            channel.over(reason, again=again)
