"""STOMP 1.2 frames: bytes to frames and back, without I/O.

https://stomp.github.io/stomp-specification-1.2.html. Every limit holds before memory is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, field, frozen

LARGEST_HEAD: Final = 64 * 1024
MOST_HEADERS: Final = 500
_UNESCAPED: Final = frozenset({"CONNECT", "CONNECTED"})
"""Their headers are as in STOMP 1.0, so that older servers read them."""
_ESCAPES: Final = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}
_MEANINGS: Final = {escape: char for char, escape in _ESCAPES.items()}
_TO_ESCAPE: Final = re.compile(r"[\\\r\n:]")
_ESCAPED: Final = re.compile(r"\\(.?)", re.DOTALL)
_COMMAND: Final = re.compile(rb"[A-Z]{1,20}")
_LENGTH: Final = re.compile(r"[0-9]{1,12}")


class FrameError(Exception):
    """What came is no frame, or above a limit. The connection can't go on.

    :ivar too_large: a message's body is above the limit.
    """

    def __init__(self, text: str, *, too_large: bool = False) -> None:
        super().__init__(text)
        self.too_large = too_large


@frozen
class Frame:
    """One frame. Of a header that was given twice the first counts, as the standard has it."""

    command: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


def encode(command: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """A frame's bytes. The caller gives content-length where it is wanted; without it the body
    ends at its first NUL.

    Raises ValueError for NUL in a header, which nothing can express, and in a CONNECT frame for
    line ends, which have no escape there.
    """
    lines = [command]
    for name, value in headers:
        if "\0" in name or "\0" in value:
            raise ValueError("a STOMP header holds no NUL")
        if command in _UNESCAPED:
            if re.search(r"[\r\n]", name + value):
                raise ValueError("a header of CONNECT holds no line end")
            lines.append(f"{name}:{value}")
        else:
            lines.append(f"{_escape(name)}:{_escape(value)}")
    head = "\n".join(lines).encode("utf-8")
    return b"".join((head, b"\n\n", body, b"\0"))


def _escape(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], text)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPED.sub(_meaning, text)


def _meaning(match: re.Match[str]) -> str:
    meaning = _MEANINGS.get(match[0])
    if meaning is None:
        raise FrameError("a header has an escape that STOMP doesn't know")
    return meaning


@define
class _Head:
    command: str
    headers: dict[str, str]
    length: int | None


@define(eq=False)
class FrameReader:
    """Bytes in, frames out.

    :param largest: bytes of a body.
    """

    _largest: int
    _buffer: bytearray = field(factory=bytearray, init=False)
    _head: _Head | None = field(default=None, init=False)
    _seen: int = field(default=0, init=False)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises FrameError, and is of no use after that."""
        self._buffer += data
        frames: list[Frame] = []
        position = 0
        try:
            while True:
                if self._head is None:
                    begin = self._take_head(position)
                    if begin is None:
                        break
                    position = begin
                frame, position = self._take_body(self._head, position)
                if frame is None:
                    break
                frames.append(frame)
        finally:
            if self._head is None:
                position = self._skip(position)
            del self._buffer[:position]
        return frames

    def _skip(self, position: int) -> int:
        """Behind line ends between frames, which are heart-beats."""
        buffer = self._buffer
        while position < len(buffer) and buffer[position] in b"\r\n":
            position += 1
        return position

    def _take_head(self, position: int) -> int | None:
        """Read command and headers; where the body begins, or None if they aren't all there."""
        position = self._skip(position)
        buffer = self._buffer
        end = _head_end(buffer, position)
        if end is None:
            if len(buffer) - position > LARGEST_HEAD:
                raise FrameError(f"a frame's head is above {LARGEST_HEAD} bytes")
            if (
                buffer[position : position + 1]
                and not b"A" <= buffer[position : position + 1] <= b"Z"
            ):
                raise FrameError("what came is no STOMP")
            return None
        stop, begin = end
        if stop - position > LARGEST_HEAD:
            raise FrameError(f"a frame's head is above {LARGEST_HEAD} bytes")
        self._head = self._parse(bytes(buffer[position:stop]))
        self._seen = 0
        return begin

    def _parse(self, head: bytes) -> _Head:
        lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
        if _COMMAND.fullmatch(lines[0]) is None:
            raise FrameError("what came is no STOMP")
        if len(lines) > MOST_HEADERS:
            raise FrameError(f"a frame has more than {MOST_HEADERS} headers")
        command = lines[0].decode("ascii")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            try:
                name, colon, value = line.decode("utf-8").partition(":")
            except UnicodeDecodeError:
                raise FrameError("a header is no UTF-8") from None
            if not colon or not name:
                raise FrameError("a header has no name or no colon")
            if command not in _UNESCAPED:
                name, value = _unescape(name), _unescape(value)
            headers.setdefault(name, value)
        return _Head(command, headers, self._length(headers))

    def _length(self, headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if _LENGTH.fullmatch(text.strip()) is None:
            raise FrameError("a content-length is no number")
        length = int(text)
        if length > self._largest:
            raise FrameError(f"a body of {length} bytes is above {self._largest}", too_large=True)
        return length

    def _take_body(self, head: _Head | None, position: int) -> tuple[Frame | None, int]:
        buffer = self._buffer
        if head is None:
            return None, position
        if head.length is not None:
            end = position + head.length
            if len(buffer) <= end:
                return None, position
            if buffer[end] != 0:
                raise FrameError("a body doesn't end where its content-length says")
        else:
            end = buffer.find(b"\0", position + self._seen)
            if end < 0:
                self._seen = len(buffer) - position
                if self._seen > self._largest:
                    raise FrameError(f"a body is above {self._largest} bytes", too_large=True)
                return None, position
            if end - position > self._largest:
                raise FrameError(f"a body is above {self._largest} bytes", too_large=True)
        self._head = None
        return Frame(head.command, head.headers, bytes(buffer[position:end])), end + 1


def _head_end(buffer: bytearray, position: int) -> tuple[int, int] | None:
    """Where a head stops and where the body begins: behind the first empty line."""
    end = position
    while (end := buffer.find(b"\n", end)) >= 0:
        following = buffer[end + 1 : end + 3]
        if following[:1] == b"\n":
            return end, end + 2
        if following == b"\r\n":
            return end, end + 3
        end += 1
        if end - position > LARGEST_HEAD:
            return None
    return None
