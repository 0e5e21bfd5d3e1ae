"""For tests of anything that speaks the protocol: frames by hand, two connections face to face."""

from __future__ import annotations

from collections.abc import Iterator

from . import frames
from .connection import Role, TunnelConnection
from .events import Event
from .frames import HEADER, HEADER_SIZE, FrameType, Head, Open, Reset, Trailers
from .settings import Settings


class FrameFactory:
    """Frames as bytes, whether or not they make sense where they are sent."""

    def open(self, stream: int, head: Open | None = None, flags: int = 0) -> bytes:
        """OPEN, of a small GET unless told."""
        return frames.encode_map(FrameType.OPEN, stream, head or Open("http", "app"), flags)

    def head(self, stream: int, status: int = 200) -> bytes:
        """HEAD without fields."""
        return frames.encode_map(FrameType.HEAD, stream, Head(status))

    def data(self, stream: int, payload: bytes, flags: int = 0) -> bytes:
        """DATA."""
        return frames.encode(FrameType.DATA, stream, payload, flags)

    def trailers(self, stream: int, size: int) -> bytes:
        """TRAILERS that claim ``size`` bytes."""
        return frames.encode_map(FrameType.TRAILERS, stream, Trailers(size))

    def window(self, stream: int, limit: int) -> bytes:
        """WINDOW."""
        return frames.encode_number(FrameType.WINDOW, stream, limit)

    def reset(self, stream: int, code: str = "cancelled") -> bytes:
        """RESET."""
        return frames.encode_map(FrameType.RESET, stream, Reset(code))

    def ack(self, received: int) -> bytes:
        """ACK."""
        return frames.encode_number(FrameType.ACK, 0, received)


def split(message: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The frames of a message as (type, flags, stream, payload)."""
    offset = 0
    while offset < len(message):
        kind, flags, length, stream = HEADER.unpack_from(message, offset)
        offset += HEADER_SIZE
        yield kind, flags, stream, message[offset : offset + length]
        offset += length


def connection_pair(
    agent: Settings | None = None, gateway: Settings | None = None
) -> tuple[TunnelConnection, TunnelConnection]:
    """An agent's and a gateway's connection after HELLO, in this order."""
    agent = agent or Settings()
    gateway = gateway or Settings()
    return (
        TunnelConnection(Role.AGENT, agent, gateway.limits()),
        TunnelConnection(Role.GATEWAY, gateway, agent.limits()),
    )


def pump(
    a: TunnelConnection, b: TunnelConnection, now: float = 0.0
) -> tuple[list[Event], list[Event]]:
    """Carry messages both ways until neither has any; what ``a`` and ``b`` were told."""
    told: tuple[list[Event], list[Event]] = ([], [])
    while True:
        moved = False
        for source, sink, events in ((a, b, told[1]), (b, a, told[0])):
            message = source.next_message()
            if message is not None:
                moved = True
                events.extend(sink.receive_message(message, now))
        if not moved:
            return told
