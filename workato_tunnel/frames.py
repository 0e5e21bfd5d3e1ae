"""Frames: the wire's units, encode beside decode.

A frame is an 8-byte header in network order and a payload (``docs/protocol.md``, "Frames")::

    type u8 | flags u8 | length u16 | stream u32 | payload

Map payloads are MessagePack maps, decoded into typed structs so that a malformed one fails here.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from .errors import ErrorCode, RemoteProtocolError

HEADER: Final = struct.Struct("!BBHI")
HEADER_SIZE: Final = HEADER.size
MAX_PAYLOAD: Final = 0xFFFF
MAX_STREAM_ID: Final = 0x7FFFFFFF
U64: Final = struct.Struct("!Q")

END: Final = 0x01
"""OPEN and DATA: the sender of this frame has no more DATA for the stream."""
BLOCKED: Final = 0x02
"""DATA: this frame used up the stream's credit and the sender has more."""
SKIPPABLE: Final = 0x80
"""A receiver that does not know the frame's type ignores it instead of failing."""


class FrameType(IntEnum):
    """Frame types. The 0x0_ range belongs to the connection, 0x1_ to streams."""

    HELLO = 0x01
    ACK = 0x02
    GOAWAY = 0x03
    CATALOGUE = 0x04
    OPEN = 0x10
    HEAD = 0x11
    DATA = 0x12
    TRAILERS = 0x13
    WINDOW = 0x14
    RESET = 0x15


Headers = tuple[tuple[str, str], ...]


class PayloadMap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A payload map. Unknown members are ignored, so members can be added later."""


class Limits(PayloadMap, frozen=True, omit_defaults=True):
    """What the sender of a HELLO accepts. Streams in number, the rest in bytes."""

    streams: int = 256
    window: int = 128 * 1024
    map_size: int = 60 * 1024


class Hello(PayloadMap, frozen=True, omit_defaults=True):
    """First frame of each side.

    :ivar versions: versions the sender speaks, best first; the gateway's answer holds one.
    :ivar session: the session's secret: in an agent's, the one to resume; in a gateway's, the one
        in force.
    :ivar received: sequenced frames received in that session; absent where a session is new.
    :ivar software: name and version, for logs.
    :ivar hold: gateway only: seconds for which it keeps a session whose socket is gone.
    """

    versions: tuple[int, ...] = (1,)
    limits: Limits = Limits()
    session: bytes | None = None
    received: int | None = None
    software: str = ""
    hold: float = 60.0


class Goaway(PayloadMap, frozen=True, omit_defaults=True):
    """The sender accepts no new stream; the open ones go on."""

    code: str
    message: str = ""


class Profile(PayloadMap, frozen=True, omit_defaults=True):
    """A profile in the catalogue. ``ok`` is None while its health is unknown."""

    service: str
    name: str
    type: str = ""
    operations: tuple[str, ...] = ()
    ok: bool | None = None


class Catalogue(PayloadMap, frozen=True, omit_defaults=True):
    """What an agent offers and who it is (``host``: its host name, ``since``: Unix seconds).

    ``config_problem``: why its config file is not in force, when it is not.
    """

    profiles: tuple[Profile, ...] = ()
    config_hash: str = ""
    version: str = ""
    host: str = ""
    os: str = ""
    pid: int = 0
    user: str = ""
    since: float = 0.0
    config_problem: str = ""


class Open(PayloadMap, frozen=True, omit_defaults=True):
    """A request's head. ``timeout`` in ms from now; ``path`` and ``query`` raw, as in HTTP."""

    service: str
    profile: str = ""
    method: str = "GET"
    path: str = ""
    query: str = ""
    headers: Headers = ()
    caller: str = ""
    timeout: int = 60_000
    trace: str = ""
    request_id: str = ""


class Head(PayloadMap, frozen=True, omit_defaults=True):
    """A response's head."""

    status: int
    headers: Headers = ()


class Trailers(PayloadMap, frozen=True, omit_defaults=True):
    """Ends a response. ``bytes``: DATA bytes sent, checked by the receiver; ``elapsed`` in ms.

    ``code``: a problem's, when the response failed behind the DATA that was sent; with ``message``
    and ``detail`` as in RESET. "" when it is whole.
    """

    bytes: int = 0
    rows: int | None = None
    sha256: str | None = None
    elapsed: int = 0
    code: str = ""
    message: str = ""
    detail: str = ""


class Reset(PayloadMap, frozen=True, omit_defaults=True):
    """Ends a stream at once in both directions. ``code``: an ErrorCode or a problem's code."""

    code: str
    message: str = ""
    detail: str = ""


M = TypeVar("M", bound=PayloadMap)

_encoder: Final = msgspec.msgpack.Encoder()
_decoders: Final[dict[type[PayloadMap], msgspec.msgpack.Decoder[PayloadMap]]] = {
    kind: msgspec.msgpack.Decoder(kind)
    for kind in (Hello, Goaway, Catalogue, Open, Head, Trailers, Reset)
}


def encode(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    """One frame as bytes. The payload is at most :data:`MAX_PAYLOAD` long."""
    return HEADER.pack(kind, flags, len(payload), stream) + payload


def encode_map(kind: int, stream: int, payload: PayloadMap, flags: int = 0) -> bytes:
    """A frame with a map. Raises ValueError past MAX_PAYLOAD bytes."""
    packed = _encoder.encode(payload)
    if len(packed) > MAX_PAYLOAD:
        raise ValueError(f"a map of {len(packed)} bytes does not fit a frame")
    return HEADER.pack(kind, flags, len(packed), stream) + packed


def encode_reset(stream: int, code: str, message: str, detail: str, limit: int) -> bytes:
    """A RESET whose map is at most ``limit`` (1,024 or more) bytes long, cut where it must be."""
    return _encode_told(FrameType.RESET, stream, Reset(code, message, detail), limit)


def encode_trailers(stream: int, trailers: Trailers, size: int, limit: int) -> bytes:
    """TRAILERS behind ``size`` bytes of DATA; what they say of a failure is cut as in a RESET."""
    if not trailers.code:
        filled = Trailers(size, trailers.rows, trailers.sha256, trailers.elapsed)
    else:
        filled = msgspec.structs.replace(trailers, bytes=size)
    return _encode_told(FrameType.TRAILERS, stream, filled, limit)


def _encode_told(kind: int, stream: int, told: Reset | Trailers, limit: int) -> bytes:
    if told.code:
        told = _cut(told, 64, 1024, 8192)
    frame = encode_map(kind, stream, told)
    if len(frame) - HEADER_SIZE > limit:
        # A character is four bytes at most.
        frame = encode_map(kind, stream, _cut(told, 32, 60, 60))
    return frame


def _cut(told: Reset | Trailers, code: int, message: int, detail: int) -> Reset | Trailers:
    return msgspec.structs.replace(
        told,
        code=clean(told.code, code),
        message=clean(told.message, message),
        detail=clean(told.detail, detail),
    )


def clean(text: str, limit: int) -> str:
    """At most ``limit`` characters, without what UTF-8 can't say (file names may hold it)."""
    return str(text[:limit].encode("utf-8", "replace"), "utf-8")


def encode_number(kind: int, stream: int, number: int) -> bytes:
    """A frame whose payload is one u64 (ACK, WINDOW)."""
    return HEADER.pack(kind, 0, 8, stream) + U64.pack(number)


def decode_map(kind: type[M], payload: bytes | memoryview) -> M:
    """The typed map of a payload. Raises RemoteProtocolError where it is malformed."""
    try:
        return _decoders[kind].decode(payload)  # type: ignore[return-value]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise RemoteProtocolError(
            f"malformed {kind.__name__}: {error}", ErrorCode.PROTOCOL_ERROR
        ) from error


def decode_number(payload: bytes | memoryview) -> int:
    """The u64 of an ACK or WINDOW. Raises RemoteProtocolError unless it is 8 bytes."""
    if len(payload) != 8:
        raise RemoteProtocolError("a number is 8 bytes")
    number: int = U64.unpack(payload)[0]
    return number
