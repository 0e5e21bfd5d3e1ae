"""What the agent and the process of an extension say to each other, over two pipes.

A message is four bytes of length (big-endian) and MessagePack. A call begins with Call and is over
with End or Failed, whatever happened between. Bodies go as far as there is credit for them: the
reader of a request's body gives it, a response's begins with :data:`WINDOW`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

WINDOW: Final = 256 * 1024
CHUNK: Final = 64 * 1024
LARGEST: Final = 4 * 1024 * 1024
_LENGTH: Final = struct.Struct("!I")


class Start(msgspec.Struct, tag="start", array_like=True, frozen=True):
    """The first message to the process. ``memory_limit``: bytes, 0 for none."""

    name: str
    controller: str
    settings: dict[str, Any]
    concurrency: int
    memory_limit: int
    paths: list[str]


class Ready(msgspec.Struct, tag="ready", array_like=True, frozen=True):
    """The extension is there."""


class Broken(msgspec.Struct, tag="broken", array_like=True, frozen=True):
    """It could not be made."""

    reason: str
    hint: str


class Call(msgspec.Struct, tag="call", array_like=True, frozen=True):
    """A call. ``timeout``: seconds until its deadline. ``test``: the profile's own test."""

    call: int
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    caller: str
    timeout: float
    trace: str
    request_id: str
    profile: str
    test: bool


class Head(msgspec.Struct, tag="head", array_like=True, frozen=True):
    """The response's head."""

    call: int
    status: int
    headers: list[tuple[str, str]]


class Data(msgspec.Struct, tag="data", array_like=True, frozen=True):
    """Bytes of a body, either way."""

    call: int
    data: bytes


class End(msgspec.Struct, tag="end", array_like=True, frozen=True):
    """A body is complete; from the process, the call as well."""

    call: int


class Credit(msgspec.Struct, tag="credit", array_like=True, frozen=True):
    """That many more bytes of a body may come."""

    call: int
    size: int


class Cancel(msgspec.Struct, tag="cancel", array_like=True, frozen=True):
    """Nobody waits for the answer, or the request's body is lost."""

    call: int


class Failed(msgspec.Struct, tag="failed", array_like=True, frozen=True):
    """The call is over without a whole answer. ``exhausted``: the memory limit was met."""

    call: int
    code: str
    detail: str
    hint: str | None = None
    retry_after: int | None = None
    extra: dict[str, Any] = {}
    exhausted: bool = False


class Close(msgspec.Struct, tag="close", array_like=True, frozen=True):
    """The process shall end."""


ToProcess = Start | Call | Data | End | Credit | Cancel | Close
FromProcess = Ready | Broken | Head | Data | End | Credit | Failed

to_process: Final = msgspec.msgpack.Decoder(ToProcess)
from_process: Final = msgspec.msgpack.Decoder(FromProcess)
_encoder: Final = msgspec.msgpack.Encoder(enc_hook=str)


class Malformed(Exception):
    """What came is no message."""


def encode(*messages: ToProcess | FromProcess) -> bytes:
    """Messages as bytes, one behind the other. Raises Malformed for one that is too large."""
    parts = []
    for message in messages:
        content = _encoder.encode(message)
        if len(content) > LARGEST:
            raise Malformed(f"a message of {len(content)} bytes")
        parts += [_LENGTH.pack(len(content)), content]
    return b"".join(parts)


class Messages:
    """Cuts bytes into the contents of messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """What is whole. Raises Malformed."""
        held = self._held
        held += data
        found = []
        offset = 0
        while len(held) - offset >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held, offset)
            if length > LARGEST:
                raise Malformed(f"a message of {length} bytes")
            end = offset + _LENGTH.size + length
            if len(held) < end:
                break
            found.append(bytes(held[offset + _LENGTH.size : end]))
            offset = end
        del held[:offset]
        return found
