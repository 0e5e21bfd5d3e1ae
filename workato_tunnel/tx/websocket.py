"""Where WebSocket messages enter and leave: the only file that knows RFC 6455 frames.

Autobahn does the handshake, control frames, fragmented messages, closing and all errors. Whole
binary messages, which are nearly all traffic, take a short way here: at 20 µs a message and side
Autobahn's general path would cost more than everything else together. What is not a whole,
unfragmented, well-formed binary frame within the size limit goes to Autobahn untouched, in order.
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
from zope.interface import implementer

from workato_tunnel.settings import MAX_MESSAGE

PING_INTERVAL: Final = 15.0
PING_TIMEOUT: Final = 10.0
OPEN_TIMEOUT: Final = 10.0
CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the peer to answer a close, and for TLS to be shut down."""
USER_TIMEOUT_MS: Final = 45_000
READ_SIZE: Final = 64 * 1024
"""Bytes of one socket read, and what the transport holds before it pauses the producer: one
message, so that what is decided next is not decided early."""
NOTSENT_LOWAT: Final = 16 * 1024
"""Bytes that the kernel holds beyond what the network takes. With 64 KiB a small call beside an
upload on a link of 5 MB/s waits 12 ms longer; on a fast one the size makes no difference."""
MAX_HANDSHAKE: Final = 64 * 1024
"""Bytes that may come before the WebSocket is open."""

CLOSE_UNSUPPORTED: Final = 1003

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
    "autoPingInterval": 0,  # see TunnelWebSocket
    "openHandshakeTimeout": OPEN_TIMEOUT,
    "closeHandshakeTimeout": CLOSE_TIMEOUT,
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


@implementer(IPushProducer)
class TunnelWebSocket(WebSocketAdapterProtocol):
    """Mix-in before Autobahn's client or server protocol. Subclasses say what a message does.

    It pings by itself: Autobahn's automatic pings take a new timer for each message received, and
    can't count a byte in the middle of a long frame as a sign of life.

    It is the transport's producer, before the session's own, so that answers to pings do not pile
    up either before a peer that does not read.

    :ivar round_trip: seconds between the last ping and its pong, None before the first.
    :ivar lost_reason: why the transport was lost, where TLS may have its own words for it.
    """

    round_trip: float | None = None
    lost_reason: Failure | None = None
    transport: Any
    closeHandshakeTimeoutCall: Any  # noqa: N815 - Autobahn's

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._held_size = 0
        self._wanted = 0
        self._producer: IPushProducer | None = None
        self._congested = False
        self._pong: bytes | None = None
        self._heard = False
        self._ping_call: IDelayedCall | None = None
        self._abort_call: IDelayedCall | None = None
        self._ping_payload = b""
        self._pinged_at: float | None = None

    def tunnel_message(self, message: bytes) -> None:
        """A whole binary message."""
        raise NotImplementedError  # pragma: no cover - every subclass has its own

    def tunnel_closed(self, reason: str) -> None:
        """The peer has closed the WebSocket, which is more than the loss of a socket."""

    # -- Autobahn's callbacks ------------------------------------------------------------------

    def onOpen(self) -> None:
        self.tune_socket()
        # The HTTP channel that took the handshake was the transport's producer until now.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self._ping_later()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        if self.state != self.STATE_OPEN:
            return
        if isBinary:
            self.tunnel_message(payload)
        else:
            self.close(CLOSE_UNSUPPORTED, "text messages are not part of the protocol")

    def onMessageFrameData(self, payload: bytes) -> None:
        # Autobahn keeps a piece for each fragment, and would keep any number of empty ones.
        if payload:
            super().onMessageFrameData(payload)

    def onPing(self, payload: bytes) -> None:
        if self._congested:
            self._pong = payload  # RFC 6455, section 5.5.3: the latest is enough
        elif self.state == self.STATE_OPEN:
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        if self._pinged_at is not None and payload == self._ping_payload:
            self._ping_payload = b""
            self.round_trip = self._clock().seconds() - self._pinged_at

    def sendCloseFrame(self, *args: Any, **options: Any) -> None:
        self._stop_producer()
        super().sendCloseFrame(*args, **options)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:  # noqa: N803
        was_open = self.state == self.STATE_OPEN
        stop = super().onCloseFrame(code, reasonRaw)
        if was_open and not self.failedByMe:
            self.tunnel_closed(self.remoteCloseReason or f"code {self.remoteCloseCode}")
        return stop

    def _protocol_violation(self, reason: str) -> bool:
        super()._protocol_violation(reason)
        return True  # nothing of the offending frame is looked at

    def connectionLost(self, reason: Failure) -> None:
        self.lost_reason = reason
        self._stop_producer()
        self._held.clear()
        for call in (self._ping_call, self._abort_call):
            if call is not None:
                call.cancel()
        self._ping_call = self._abort_call = None
        if self.closeHandshakeTimeoutCall is not None:
            # Autobahn lets it run on.
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        super().connectionLost(reason)

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: N802
        super()._closeConnection(abort)
        if not abort and self._abort_call is None:
            # TLS waits for the peer's part of its shutdown, and a peer may never do it.
            self._abort_call = self._clock().callLater(CLOSE_TIMEOUT, self._abort_late)

    def _abort_late(self) -> None:
        self._abort_call = None
        self.transport.abortConnection()

    # -- liveness ------------------------------------------------------------------------------

    def _clock(self) -> Any:
        return self.factory.reactor

    def _ping_later(self) -> None:
        # Agents that connect together, as after a gateway's restart, shall not ping together.
        delay = PING_INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311
        if self._pinged_at is not None:
            delay -= PING_TIMEOUT
        self._ping_call = self._clock().callLater(delay, self._ping)

    def _ping(self) -> None:
        self._heard = False
        self._pinged_at = self._clock().seconds()
        self._ping_payload = os.urandom(8)
        self.sendPing(self._ping_payload)
        self._ping_call = self._clock().callLater(PING_TIMEOUT, self._judge)

    def _judge(self) -> None:
        self._ping_call = None
        if self._heard:
            self._ping_later()
        else:
            self.wasClean = False
            self.wasNotCleanReason = f"nothing came for {PING_TIMEOUT:g} s after a ping"
            self.dropConnection(abort=True)

    # -- in ------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        if self.state != self.STATE_OPEN or self.data or self.current_frame or self.inside_message:
            if self._held:
                data = b"".join((*self._held, data))
                self._held.clear()
            self._leave_to_autobahn(data)
            return
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

    def _leave_to_autobahn(self, data: bytes) -> None:
        if self.failedByMe or self.state == self.STATE_CLOSED:
            return  # nothing more is read, and Autobahn would keep it; a timer drops the socket
        if self.state == self.STATE_CONNECTING and len(self.data) + len(data) > MAX_HANDSHAKE:
            self.wasNotCleanReason = "too much came before the WebSocket was open"
            self.dropConnection(abort=True)
            return
        super().dataReceived(data)

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
            binary = first == _BINARY
            control = first & 0x88 == 0x88 and length <= 125
            if second & _MASKED != masked or not (binary or control):
                # Fragments, text and violations are Autobahn's, with all that follows them.
                self._leave_to_autobahn(data[offset:])
                return end
            start = offset + (6 if masked else 2)
            if length == 126:
                start += 2
            elif length == 127:
                start += 8
            if start > end:
                self._wanted = start - offset
                return offset
            if length > 125:
                if length == 126:
                    length, least = _U16.unpack_from(data, offset + 2)[0], 126
                else:
                    length, least = _U64.unpack_from(data, offset + 2)[0], 65536
                if not least <= length <= MAX_MESSAGE:
                    self._leave_to_autobahn(data[offset:])
                    return end
            stop = start + length
            if stop > end:
                self._wanted = stop - offset
                return offset
            if control:
                self._leave_to_autobahn(data[offset:stop])
            elif masked:
                self.tunnel_message(apply_mask(data[start:stop], data[start - 4 : start]))
            else:
                self.tunnel_message(data[start:stop])
            offset = stop
        if self.state == self.STATE_CLOSING and offset < end:
            self._leave_to_autobahn(data[offset:])
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
        if self.state != self.STATE_OPEN:
            producer.stopProducing()
            return
        self._producer = producer
        if self._congested:
            producer.pauseProducing()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, behind what was written."""
        # sendClose takes an application's codes only; ours are those of RFC 6455 itself.
        self.sendCloseFrame(code, reason[:100].encode("ascii", "replace"))

    def abort(self) -> None:
        """Drop the socket."""
        self._stop_producer()
        self.transport.abortConnection()

    # -- the transport's producer --------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport holds enough."""
        self._congested = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._congested = False
        pong, self._pong = self._pong, None
        if pong is not None:
            self.sendPong(pong)
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._stop_producer()

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    # -- the socket ----------------------------------------------------------------------------

    def tune_socket(self) -> None:
        """Set what a tunnel wants of TCP.

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
