"""Types and values of TDS 7.4 (MS-TDS 2.2.5.4), as far as the test server speaks them."""

from __future__ import annotations

import datetime
import re
import struct
import uuid
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, Final

from attrs import define, frozen

COLLATION: Final = bytes.fromhex("0904d00034")
_EPOCH: Final = datetime.date(1, 1, 1).toordinal()
_PLP: Final = 0xFFFF
_EXACT: Final = Context(prec=100)


def b_varchar(text: str) -> bytes:
    """Text with its length in one byte."""
    return bytes([len(text.encode("utf-16-le")) // 2]) + text.encode("utf-16-le")


def us_varchar(text: str) -> bytes:
    """Text with its length in two bytes."""
    data = text.encode("utf-16-le")
    return struct.pack("<H", len(data) // 2) + data


@frozen
class ColumnType:
    """How a column's values are sent: its TYPE_INFO and the encoder of a value that isn't NULL."""

    info: bytes
    encode: Callable[[Any], bytes]
    null: bytes = b"\0"


def _sized(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _plp(data: bytes) -> bytes:
    body = struct.pack("<Q", len(data))
    for start in range(0, len(data), 2**20):
        piece = data[start : start + 2**20]
        body += struct.pack("<I", len(piece)) + piece
    return body + struct.pack("<I", 0)


def _days(value: datetime.date) -> bytes:
    return struct.pack("<I", value.toordinal() - _EPOCH)[:3]


def _ticks(value: datetime.time | datetime.datetime) -> bytes:
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    return struct.pack("<Q", seconds * 10**7 + value.microsecond * 10)[:5]


def _offset(text: str) -> bytes:
    value = datetime.datetime.fromisoformat(text)
    minutes = int((value.utcoffset() or datetime.timedelta()).total_seconds() // 60)
    utc = value.astimezone(datetime.UTC)
    return _sized(_ticks(utc) + _days(utc.date()) + struct.pack("<h", minutes))


def _stamp(text: str) -> bytes:
    value = datetime.datetime.fromisoformat(text)
    return _sized(_ticks(value) + _days(value.date()))


def decimal(precision: int, scale: int) -> ColumnType:
    """DECIMALN."""

    def encode(value: Any) -> bytes:
        number = int(_EXACT.to_integral_value(_EXACT.scaleb(Decimal(str(value)), scale)))
        return _sized(bytes([number >= 0]) + abs(number).to_bytes(16, "little"))

    return ColumnType(bytes([0x6A, 17, precision, scale]), encode)


def nvarchar(length: int | None) -> ColumnType:
    """NVARCHAR(n), or of any length."""
    if length is None:
        info = b"\xe7" + struct.pack("<H", _PLP) + COLLATION
        return ColumnType(info, lambda text: _plp(str(text).encode("utf-16-le")), b"\xff" * 8)
    info = b"\xe7" + struct.pack("<H", length * 2) + COLLATION

    def encode(text: Any) -> bytes:
        data = str(text).encode("utf-16-le")
        return struct.pack("<H", len(data)) + data

    return ColumnType(info, encode, b"\xff\xff")


def varbinary(length: int | None) -> ColumnType:
    """VARBINARY(n), or of any length."""
    if length is None:
        return ColumnType(b"\xa5" + struct.pack("<H", _PLP), _plp, b"\xff" * 8)
    return ColumnType(
        b"\xa5" + struct.pack("<H", length),
        lambda data: struct.pack("<H", len(data)) + data,
        b"\xff\xff",
    )


INT: Final = ColumnType(b"\x26\x04", lambda value: _sized(struct.pack("<i", value)))
BIGINT: Final = ColumnType(b"\x26\x08", lambda value: _sized(struct.pack("<q", value)))
BIT: Final = ColumnType(b"\x68\x01", lambda value: _sized(bytes([bool(value)])))
FLOAT: Final = ColumnType(b"\x6d\x08", lambda value: _sized(struct.pack("<d", value)))
DATE: Final = ColumnType(b"\x28", lambda text: _sized(_days(datetime.date.fromisoformat(text))))
TIME: Final = ColumnType(
    b"\x29\x07", lambda text: _sized(_ticks(datetime.time.fromisoformat(text)))
)
DATETIME2: Final = ColumnType(b"\x2a\x07", _stamp)
DATETIMEOFFSET: Final = ColumnType(b"\x2b\x07", _offset)
GUID: Final = ColumnType(b"\x24\x10", lambda text: _sized(uuid.UUID(text).bytes_le))

_NAMED: Final[tuple[tuple[str, ColumnType], ...]] = (
    ("bigint", BIGINT), ("bit", BIT), ("int", INT), ("float|double|real", FLOAT),
    ("datetimeoffset", DATETIMEOFFSET), ("datetime", DATETIME2), ("date", DATE), ("time", TIME),
    ("uniqueidentifier", GUID),
)  # fmt: skip


def declared(text: str) -> ColumnType | None:
    """The type of a column that is declared like this."""
    lower = text.lower()
    sizes = [int(each) for each in re.findall(r"\d+", lower.partition("(")[2])]
    if lower.startswith(("decimal", "numeric")):
        return decimal(sizes[0] if sizes else 18, sizes[1] if len(sizes) > 1 else 0)
    if "char" in lower or "text" in lower:
        return nvarchar(sizes[0] if sizes and "(" in lower else None)
    if "binary" in lower or "blob" in lower:
        return varbinary(sizes[0] if sizes else None)
    return next((kind for name, kind in _NAMED if re.match(name, lower)), None)


def of_value(value: object) -> ColumnType:
    """A type for values of an expression."""
    if isinstance(value, bool):
        return BIT
    if isinstance(value, int):
        return INT if -(2**31) <= value < 2**31 else BIGINT
    if isinstance(value, float):
        return FLOAT
    return varbinary(None) if isinstance(value, bytes) else nvarchar(None)


@define
class Reader:
    """Takes a request apart."""

    data: bytes
    at: int = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def text(self, characters: int) -> str:
        return self.take(2 * characters).decode("utf-16-le")

    def skip_headers(self) -> None:
        self.at += struct.unpack_from("<I", self.data, self.at)[0]

    def parameter(self) -> tuple[str, object]:
        """A parameter of a procedure call: its name and value."""
        name = self.text(self.number("B"))
        self.number("B")
        return name, self._value(self.number("B"))

    def _value(self, kind: int) -> object:
        if kind in (0xE7, 0xEF, 0xA7, 0xAF, 0xA5, 0xAD):
            return self._bytes(kind)
        if kind in (0x22, 0x23, 0x63):
            self.number("I")
            if kind != 0x22:
                self.take(5)
            size = self.number("i")
            data = None if size < 0 else self.take(size)
            return _decoded(data, {0x22: None, 0x23: "cp1252", 0x63: "utf-16-le"}[kind])
        if kind in (0x6A, 0x6C):
            _, _, scale = self.take(3)
            data = self.take(self.number("B"))
            if not data:
                return None
            number = _EXACT.scaleb(Decimal(int.from_bytes(data[1:], "little")), -scale)
            return f"{number if data[0] else number.copy_negate():f}"
        if kind in (0x29, 0x2A, 0x2B) or kind != 0x28:
            self.number("B")
        return self._short(kind, self.take(self.number("B")))

    def _short(self, kind: int, data: bytes) -> object:
        if not data:
            return None
        if kind == 0x26:
            return int.from_bytes(data, "little", signed=len(data) > 1)
        if kind == 0x68:
            return data[0]
        if kind == 0x6D:
            return struct.unpack("<d" if len(data) == 8 else "<f", data)[0]
        if kind == 0x24:
            return str(uuid.UUID(bytes_le=data))
        raise ValueError(f"a parameter of type {kind:#x}")

    def _bytes(self, kind: int) -> object:
        most = self.number("H")
        encoding = {0xE7: "utf-16-le", 0xEF: "utf-16-le", 0xA7: "cp1252", 0xAF: "cp1252"}.get(kind)
        if encoding:
            self.take(5)
        if most != _PLP:
            size = self.number("H")
            return _decoded(None if size == _PLP else self.take(size), encoding)
        if self.number("Q") == 2**64 - 1:
            return None
        data = b""
        while size := self.number("I"):
            data += self.take(size)
        return _decoded(data, encoding)


def _decoded(data: bytes | None, encoding: str | None) -> object:
    return data if data is None or encoding is None else data.decode(encoding)
