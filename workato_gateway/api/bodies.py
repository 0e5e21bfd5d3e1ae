"""Request bodies on the wire (RFC 9112, 6 and 7.1): where one ends and what is in it. No I/O."""

from __future__ import annotations

import re
from typing import Final

from .heads import malformed

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t \x21-\x7e\x80-\xff]*)?")
MAX_SIZE_LINE: Final = 1024
"""Bytes of a chunk's size line, extensions included (they are ignored)."""
MAX_TRAILERS: Final = 8 * 1024
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t \x21-\x7e\x80-\xff]*")


class SizedBody:
    """A body of known length."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        self.remaining: int | None = length
        """Bytes still to come; None where only the end tells (chunked)."""

    @property
    def ended(self) -> bool:
        """The body is complete."""
        return self.remaining == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """``(content, rest)``: what of ``data`` is the body's content and what was not used."""
        remaining = self.remaining or 0
        if len(data) <= remaining:
            self.remaining = remaining - len(data)
            return data, b""
        self.remaining = 0
        return data[:remaining], data[remaining:]


class ChunkedBody:
    """A chunked body, read strictly: no bare LF, no sign or space in a size, bounded lines.

    Trailer fields are checked and dropped, which RFC 9110, 6.5.1 allows to an intermediary.
    """

    __slots__ = ("_chunk", "_line_end", "_state", "_trailer_bytes", "ended", "remaining")

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.ended = False
        self._state = "size"
        self._chunk = 0  # content bytes still to come of this chunk
        self._trailer_bytes = 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """As :meth:`SizedBody.take`. Raises Problem (400) where the coding is broken."""
        content: list[bytes] = []
        at = 0
        while not self.ended and at < len(data):
            if self._state == "content":
                piece = data[at : at + self._chunk]
                at += len(piece)
                self._chunk -= len(piece)
                content.append(piece)
                if self._chunk == 0:
                    self._state = "content end"
            elif self._state == "content end":
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise malformed("a chunk is longer than its size")
                if len(data) - at < 2:
                    break
                at += 2
                self._state = "size"
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._check_incomplete(data, at)
                    break
                line = data[at:end]
                at = end + 2
                if self._state == "size":
                    self._size_line(line)
                else:
                    self._trailer_line(line)
        return content[0] if len(content) == 1 else b"".join(content), data[at:]

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line) if len(line) <= MAX_SIZE_LINE else None
        if match is None:
            raise malformed("a chunk has no valid size line")
        self._chunk = int(match[1], 16)
        self._state = "content" if self._chunk else "trailers"

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.ended = True
            return
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise malformed("the trailer fields are malformed or too large")

    def _check_incomplete(self, data: bytes, at: int) -> None:
        """A line without its end yet: it may not be over long, nor hold what no line may hold."""
        limit = MAX_SIZE_LINE if self._state == "size" else MAX_TRAILERS - self._trailer_bytes
        if len(data) - at > limit + 1:
            raise malformed("a line of the chunked coding is too long")
        if data.find(b"\n", at) >= 0 or 0 <= data.find(b"\r", at) < len(data) - 1:
            raise malformed("lines of the chunked coding end with CR LF")


class SwitchedBody:
    """What follows a request to switch protocols, once that is answered with 101: all there is."""

    __slots__ = ("ended", "remaining")

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.ended = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """As :meth:`SizedBody.take`."""
        return data, b""


RequestBody = SizedBody | ChunkedBody | SwitchedBody
