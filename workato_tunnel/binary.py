"""Bytes as the binary messages of a WebSocket (RFC 6455): a stream of them, or message by message.

The library does handshake, control frames, fragments, text, closing and all errors; at some 20 µs
a message and side its general path would cost more than all the rest of a small one's way. Whole,
unfragmented binary frames within the size limit take a short way here, and are handed on as they
come. Any other frame goes to the library untouched, in order. No I/O.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF, SERVER, Protocol
from websockets.speedups import apply_mask

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one message."""

_BINARY: Final = 0x82
_MASKED: Final = 0x80
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")
_U16: Final = struct.Struct("!H")
_U64: Final = struct.Struct("!Q")
_PLAIN_HEADS: Final = tuple(bytes((_BINARY, size)) for size in range(126))
_MASKED_HEADS: Final = tuple(bytes((_BINARY, _MASKED | size)) for size in range(126))
_KNOWN: Final = frozenset((0x0, 0x1, 0x2, 0x8, 0x9, 0xA))
_MASKS: Final = 1024
_SMALL: Final = 1024
"""Parts of a message below this that follow each other are joined: each takes forty bytes more than
its own."""


class BinaryMessages:
    """One end of an open WebSocket.

    :param protocol: the library's, past its handshake, with ``max_size`` ``largest``.
    :param whole: the borders of messages mean something: each is handed on in one piece.
    :param largest: bytes of a message.
    :ivar open: neither side has begun to close. What comes after that is the library's alone.
    :ivar answer_due: the library may have something to send: see :meth:`answers`.
    """

    __slots__ = ("_expected", "_fragmented", "_held", "_key", "_keys", "_largest", "_late", "_left",
                 "_parts", "_protocol", "_theirs", "_whole", "answer_due", "open")  # fmt: skip

    def __init__(self, protocol: Protocol, *, whole: bool = False, largest: int = LARGEST) -> None:
        self.open = protocol.state is OPEN
        self._whole = whole
        self._largest = largest
        self._parts: list[bytes] = []  # of a message that is not complete, where that matters
        self.answer_due = False
        self._protocol = protocol
        self._expected = _MASKED if protocol.side is SERVER else 0
        self._held = b""  # the beginning of a frame's head
        self._late = b""  # an answer for a time when the other side reads
        self._left = 0  # bytes still to come of a frame whose head is known
        self._key = b""  # its mask, as it stands for the next byte
        self._theirs: int | None = None  # the first byte of its head, where it is the library's
        self._fragmented = False
        self._keys = iter(list[bytes]())

    # -- in ------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[bytes]:
        """The bytes in it, in pieces; ``b""`` stands for an empty message. Each piece is a message
        if these matter.

        A text message is refused (1003). ``open`` says whether the WebSocket goes on, and
        ``answer_due`` whether there is something to answer.
        """
        pieces: list[bytes] = []
        if not self.open:
            self._feed(data, pieces)
            return pieces
        if self._held:
            data = self._held + data
            self._held = b""
        offset, end = 0, len(data)
        while offset < end:
            if not self._left:
                start = self._take_head(data, offset, end)
                if start < 0:
                    # No frame, or one that the library will refuse: it sees all from here on.
                    self._feed(data[offset:], pieces)
                    break
                if start == 0:
                    self._held = data[offset:]
                    break
                if self._theirs is not None:
                    self._feed(data[offset:start], pieces)
                elif not self._left:
                    pieces.append(b"")
                offset = start
            offset = self._take_payload(data, offset, end, pieces)
        return pieces

    def read(self, data: bytes) -> tuple[bytes, bool]:
        """As :meth:`receive`: the bytes before the first empty message, and whether that has come.

        In one piece, since each is written with a system call, and may be of a single byte.
        """
        pieces = self.receive(data)
        if len(pieces) == 1 and pieces[0]:
            return pieces[0], False
        if b"" in pieces:
            return b"".join(pieces[: pieces.index(b"")]), True
        return b"".join(pieces), False

    def _take_payload(self, data: bytes, offset: int, end: int, pieces: list[bytes]) -> int:
        """Take what there is of a frame's payload, or nothing; how far that went."""
        stop = min(offset + self._left, end)
        self._left -= stop - offset
        theirs = self._theirs
        if theirs is None:
            if stop > offset:
                piece = data[offset:stop]
                self._add(self._unmask(piece) if self._expected else piece, not self._left, pieces)
            return stop
        if stop > offset:
            self._feed(data[offset:stop], pieces)
        if not self._left:
            if not self.open:
                self._feed(data[stop:], pieces)
                return end
            if not theirs & 0x08:
                self._fragmented = not theirs & 0x80
            self._theirs = None
        return stop

    def _add(self, piece: bytes, last: bool, pieces: list[bytes]) -> None:
        """Hand on a part of a message; ``last``: it is complete now."""
        parts = self._parts
        if not self._whole or (last and not parts):
            pieces.append(piece)
            return
        if parts and len(piece) < _SMALL and len(parts[-1]) < _SMALL:
            parts[-1] += piece
        else:
            parts.append(piece)
        if last:
            pieces.append(b"".join(parts))
            parts.clear()

    def _take_head(self, data: bytes, offset: int, end: int) -> int:
        """Where the payload begins; 0: the head is not complete; -1: it is not to be followed."""
        if end - offset < 2:
            return 0
        first, second = data[offset], data[offset + 1]
        length = second & 0x7F
        if second & _MASKED != self._expected or first & 0x70 or first & 0x0F not in _KNOWN:
            return -1
        start = offset + 2
        if length > 125:
            start += 2 if length == 126 else 8
            if start > end:
                return 0
            unpack = _U16 if length == 126 else _U64
            length = unpack.unpack_from(data, offset + 2)[0]
            if first & 0x08:
                return -1
        if length > self._largest:
            return -1
        if self._expected:
            start += 4
            if start > end:
                return 0
            self._key = data[start - 4 : start]
        self._theirs = None if first == _BINARY and not self._fragmented else first
        self._left = length
        return start

    def _unmask(self, piece: bytes) -> bytes:
        key = self._key
        if self._left:
            turn = len(piece) % 4
            self._key = key[turn:] + key[:turn]
        return apply_mask(piece, key)

    def _feed(self, data: bytes, pieces: list[bytes]) -> None:
        """Let the library have it."""
        protocol = self._protocol
        self.answer_due = True
        protocol.receive_data(data)
        for event in protocol.events_received():
            if not isinstance(event, Frame) or not self.open:
                continue
            if event.opcode is Opcode.TEXT:
                protocol.fail(CloseCode.UNSUPPORTED_DATA, "bytes go in binary messages")
                self.open = False
            elif event.opcode in (Opcode.BINARY, Opcode.CONT) and (
                event.data or (event.fin and (self._whole or event.opcode is Opcode.BINARY))
            ):
                self._add(bytes(event.data), event.fin, pieces)
        if protocol.state is not OPEN:
            self.open = False
        if not self.open:
            self._parts.clear()

    # -- out -----------------------------------------------------------------------------------

    def message(self, data: bytes) -> bytes:
        """The frame of a message. For an open WebSocket only."""
        size = len(data)
        if self._expected:
            if size < 126:
                return _PLAIN_HEADS[size] + data
            if size < 65536:
                return _MEDIUM.pack(_BINARY, 126, size) + data
            return _LONG.pack(_BINARY, 127, size) + data
        key = next(self._keys, None) or self._next_key()
        if size < 126:
            head = _MASKED_HEADS[size]
        elif size < 65536:
            head = _MEDIUM.pack(_BINARY, _MASKED | 126, size)
        else:
            head = _LONG.pack(_BINARY, _MASKED | 127, size)
        return b"".join((head, key, apply_mask(data, key)))

    def _next_key(self) -> bytes:
        # RFC 6455, section 5.3: from a strong source of entropy, each used for one frame.
        block = os.urandom(4 * _MASKS)
        self._keys = iter([block[at : at + 4] for at in range(0, len(block), 4)])
        return next(self._keys)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Begin the closing handshake; :meth:`answers` has the frame. No-op when not open."""
        if self.open:
            self.open = False
            self._protocol.send_close(code, reason)

    def answers(self, *, later: bool = False) -> bytes:
        """What the library wants sent: pongs, a close.

        ``later``: the other side does not read. Nothing is to be sent then while this is open, and
        of all pongs the last ones are kept (RFC 6455, section 5.5.3): pings must not fill memory.
        """
        self.answer_due = False
        pieces = [piece for piece in self._protocol.data_to_send() if piece is not SEND_EOF]
        if later and self.open:
            self._late = b"".join(pieces) or self._late
            return b""
        if self._late:
            pieces.insert(0, self._late)
            self._late = b""
        return b"".join(pieces)
