"""Results as a sequence of MessagePack values (``application/vnd.msgpack``).

First the columns (an array of maps), then an array for each row, at last a map: with ``row_count``
and ``truncated`` where the result is complete, with the problem's members (``code`` among them)
where it failed. A body without a map at its end has been cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from workato_tunnel.problems import Problem

from .results import Column, Row, ValueForm

_encoder: Final = msgspec.msgpack.Encoder()
_MIN: Final = -(2**63)
_MAX: Final = 2**64 - 1


class MsgpackWriter:
    """Values as MessagePack has them; what it has no type for is text, as its column tells."""

    media_type: ClassVar[str] = "application/vnd.msgpack"
    format: ClassVar[str] = "msgpack"
    form: ClassVar[ValueForm] = "native"
    says_truncated: ClassVar[bool] = True

    def head(self, columns: Sequence[Column]) -> bytes:
        return _encoder.encode(columns)

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        if not rows:
            return b""
        try:
            encoded = _encoder.encode(rows)
        except OverflowError:
            encoded = _encoder.encode([[_within_64_bits(value) for value in row] for row in rows])
        return encoded[_array_head(len(rows)) :]

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return _encoder.encode({"row_count": count, "truncated": truncated})

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return _encoder.encode(msgspec.json.decode(problem.body(request_id)))


def array_of(items: bytes, count: int) -> bytes:
    """``count`` encoded values as one array."""
    if count < 16:
        return bytes((0x90 | count,)) + items
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big") + items
    return b"\xdd" + count.to_bytes(4, "big") + items


def _array_head(count: int) -> int:
    """Bytes of an array's head."""
    return 1 if count < 16 else 3 if count < 2**16 else 5


def _within_64_bits(value: object) -> object:
    if isinstance(value, int) and not _MIN <= value <= _MAX:
        return str(value)
    if isinstance(value, list | tuple):
        return [_within_64_bits(item) for item in value]
    return value
