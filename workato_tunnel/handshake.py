"""HELLO: the first message of each side, alone in its WebSocket message."""

from __future__ import annotations

from . import frames
from .errors import ErrorCode, RemoteProtocolError
from .frames import HEADER, HEADER_SIZE, FrameType, Hello
from .settings import VERSION

MAX_HELLO = HEADER_SIZE + 4096


def encode_hello(hello: Hello) -> bytes:
    """HELLO as a WebSocket message."""
    return frames.encode_map(FrameType.HELLO, 0, hello)


def decode_hello(message: bytes) -> Hello:
    """The peer's HELLO. Raises RemoteProtocolError for anything else, or limits nobody can keep."""
    if not HEADER_SIZE <= len(message) <= MAX_HELLO:
        raise RemoteProtocolError(f"a HELLO of {len(message)} bytes", ErrorCode.FRAME_TOO_LARGE)
    kind, _flags, length, stream = HEADER.unpack_from(message)
    if kind != FrameType.HELLO or stream or length != len(message) - HEADER_SIZE:
        raise RemoteProtocolError("the first message must be one HELLO")
    hello = frames.decode_map(Hello, message[HEADER_SIZE:])
    limits = hello.limits
    if not (0 <= limits.streams <= 65536 and 0 < limits.window <= 2**40):
        raise RemoteProtocolError("HELLO with limits out of range")
    if not 1024 <= limits.map_size <= frames.MAX_PAYLOAD:
        raise RemoteProtocolError("HELLO with a map_size out of range")
    if not 0 <= hello.hold <= 86_400:
        raise RemoteProtocolError("HELLO with a hold out of range")
    if hello.received is not None and not 0 <= hello.received < 2**63:
        raise RemoteProtocolError("HELLO with a count out of range")
    if VERSION not in hello.versions:
        raise RemoteProtocolError(
            f"the peer speaks versions {list(hello.versions)[:8]}, this side {VERSION}",
            ErrorCode.UNSUPPORTED_VERSION,
        )
    return hello
