"""Where WebSocket messages enter and leave: the only file that knows RFC 6455 frames.

Autobahn does the handshake, control frames, fragmented messages, closing and all errors. Whole
binary messages, which are nearly all traffic, take a short way here: at 20 µs a message and side
Autobahn's general path would cost more than everything else together. What is not a whole,
unfragmented binary frame within the size limit goes to Autobahn untouched, in order.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketAdapterProtocol
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from websockets.speedups import apply_mask

from workato_tunnel.settings import MAX_MESSAGE

PING_INTERVAL: Final = 15.0
PING_TIMEOUT: Final = 10.0
OPEN_TIMEOUT: Final = 10.0
USER_TIMEOUT_MS: Final = 45_000
READ_SIZE: Final = 128 * 1024
"""Bytes of one socket read, and what the transport holds before it pauses the producer."""
NOTSENT_LOWAT: Final = 64 * 1024

_BINARY: Final = 0x82
_MASKED: Final = 0x80
_SHORT: Final = struct.Struct("!BB")
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")
_U16: Final = struct.Struct("!H")
_U64: Final = struct.Struct("!Q")

OPTIONS: Final[dict[str, Any]] = {
    "maxFramePayloadSize": MAX_MESSAGE,
    "maxMessagePayloadSize": MAX_MESSAGE,
    "autoPingInterval": PING_INTERVAL,
    "autoPingTimeout": PING_TIMEOUT,
    "autoPingSize": 16,
    "openHandshakeTimeout": OPEN_TIMEOUT,
    "closeHandshakeTimeout": 2.0,
    "utf8validateIncoming": False,
    "failByDrop": False,
}
"""Autobahn's limits are off by default; these are ours (``setProtocolOptions``)."""


class _ExactCall:
    """A delayed call that may be cancelled late, as Autobahn does."""

    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class ExactTimer:
    """In place of Autobahn's batched timer, which rounds to seconds and can't be cancelled: its
    bucket keeps every socket of the last quarter of a minute."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def call_later(self, delay: float, call: Callable[..., object], *args: object) -> _ExactCall:
        """Call after ``delay`` seconds."""
        return _ExactCall(self._clock.callLater(delay, call, *args))


class TunnelWebSocket(WebSocketAdapterProtocol):
    """Mix-in before Autobahn's client or server protocol. Subclasses say what a message does.

    :ivar round_trip: seconds between the last ping and its pong, None before the first.
    :ivar lost_reason: why the transport was lost, where TLS may have its own words for it.
    """

    round_trip: float | None = None
    lost_reason: Failure | None = None
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._held_size = 0
        self._wanted = 0

    def tunnel_message(self, message: bytes) -> None:
        """A whole binary message."""
        raise NotImplementedError  # pragma: no cover - every subclass has its own

    def connectionMade(self) -> None:
        # Agents that connect together, as after a gateway's restart, shall not ping together.
        self.autoPingInterval = PING_INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311
        super().connectionMade()

    # -- Autobahn's callbacks ------------------------------------------------------------------

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        if isBinary:
            self.tunnel_message(payload)
        else:
            self.sendClose(1003, "text messages are not part of the protocol")

    def onAutoPong(  # noqa: N802
        self, sent: int, _seq: int, received: int, _rtt: int, _payload: bytes
    ) -> None:
        self.round_trip = max(0.0, (received - sent) / 1e9)

    def connectionLost(self, reason: Failure) -> None:
        self.lost_reason = reason
        super().connectionLost(reason)

    # -- in ------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self.state != self.STATE_OPEN or self.data or self.current_frame or self.inside_message:
            if self._held:
                data = b"".join((*self._held, data))
                self._held.clear()
            super().dataReceived(data)
            return
        ping_deadline: Any = self.autoPingTimeoutCall
        if ping_deadline is not None:
            # A byte received is a sign of life, even in the middle of a frame.
            self._cancelAutoPingTimeoutCall()
        if self._held:
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size < self._wanted:
                return
            data = b"".join(self._held)
            self._held.clear()
        rest = self._take_frames(data)
        if rest < len(data):
            held = data[rest:] if rest else data
            self._held.append(held)
            self._held_size = len(held)

    def _take_frames(self, data: bytes) -> int:
        """Take whole frames; how far that went. ``_wanted`` is then what the next frame needs."""
        masked = _MASKED if self.factory.isServer else 0
        offset, end = 0, len(data)
        while self.state == self.STATE_OPEN:
            self._wanted = 2
            if end - offset < 2:
                return offset
            first, second = data[offset], data[offset + 1]
            length = second & 0x7F
            start = offset + 2
            if length == 126:
                start += 2
            elif length == 127:
                start += 8
            if masked:
                start += 4
            if start > end and first == _BINARY:
                self._wanted = start - offset
                return offset
            if length == 126:
                length = _U16.unpack_from(data, offset + 2)[0]
            elif length == 127:
                length = _U64.unpack_from(data, offset + 2)[0]
            stop = start + length
            control = first & 0x88 == 0x88 and length <= 125
            if not control and (
                first != _BINARY or second & _MASKED != masked or length > MAX_MESSAGE
            ):
                # Fragments, text and violations are Autobahn's, with all that follows them.
                super().dataReceived(data[offset:])
                return end
            if stop > end:
                self._wanted = stop - offset
                return offset
            if control:
                super().dataReceived(data[offset:stop])
            elif masked:
                self.tunnel_message(apply_mask(data[start:stop], data[start - 4 : start]))
            else:
                self.tunnel_message(data[start:stop])
            offset = stop
        if self.state == self.STATE_CLOSING:
            super().dataReceived(data[offset:])
        return end

    # -- out (workato_tunnel.tx.outbound.Link) -------------------------------------------------

    def send_message(self, message: bytes) -> None:
        """One binary message as one frame; dropped once the closing handshake has begun."""
        if self.state != self.STATE_OPEN:
            return
        length = len(message)
        if self.factory.isServer:
            bit, mask = 0, b""
        else:
            # RFC 6455, section 5.3: from a strong source of entropy, new for each frame.
            bit, mask = _MASKED, os.urandom(4)
            message = apply_mask(message, mask)
        if length < 126:
            head = _SHORT.pack(_BINARY, bit | length)
        elif length < 65536:
            head = _MEDIUM.pack(_BINARY, bit | 126, length)
        else:
            head = _LONG.pack(_BINARY, bit | 127, length)
        self.transport.write(b"".join((head, mask, message)))

    def register(self, producer: IPushProducer) -> None:
        """Pause and resume this producer as the transport fills and drains."""
        self.transport.unregisterProducer()
        self.transport.registerProducer(producer, True)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, behind what was written."""
        self.transport.unregisterProducer()
        # sendClose takes an application's codes only; ours are those of RFC 6455 itself.
        self.sendCloseFrame(code, reason[:100].encode("ascii", "replace"))

    def abort(self) -> None:
        """Drop the socket."""
        self.transport.abortConnection()

    # -- the socket ----------------------------------------------------------------------------

    def tune_socket(self) -> None:
        """Set what a tunnel wants of TCP; to be called once the connection is open.

        Autobahn's own ``tcpNoDelay`` option has no effect: it is read before it is set.
        """
        transport: Any = self.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        transport.bufferSize = READ_SIZE
        tcp: socket.socket = transport.getHandle()
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            # Not in Python's socket module before 3.12 (linux/tcp.h).
            tcp_notsent_lowat = 25
            tcp.setsockopt(socket.IPPROTO_TCP, tcp_notsent_lowat, NOTSENT_LOWAT)
