"""Rows of MySQL's results, cut out of what the socket brought: text, and a prepared statement's."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from pymysql.constants import FIELD_TYPE, FLAG

from ..results import Row
from .mysql_values import single
from .mysql_wire import Field, Inbox, Octets, Wire, lenenc, malformed

_WHOLE: Final = 64 * 1024
_LENGTHS: Final = {252: 2, 253: 3, 254: 8}
RowReader = Callable[[int, int], Sequence[Row]]


class TextRows:
    """The rows of a plain statement: every value is its text.

    Text is decoded as Latin-1, all of a buffer at once, so that a character is a byte; what the
    bytes mean is decided column by column afterwards.

    :ivar ended: the last row has been read.
    """

    def __init__(self, wire: Wire, fields: Sequence[Field]) -> None:
        self._wire = wire
        self._count = len(fields)
        self.ended = False

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        """At most so many rows, and about so many bytes. Raises PyMySQL's errors."""
        if self.ended:
            return ()
        inbox = self._wire.inbox
        found: list[Row] = []
        count = self._count
        taken = 0
        data, at = inbox.data, inbox.at
        text = data.decode("latin-1")
        have = len(data)
        number = 0
        while len(found) < rows and taken < size:
            if have - at < 4:
                inbox.at = at
                inbox.fill()
                data, at, text = inbox.data, 0, inbox.data.decode("latin-1")
                have = len(data)
                continue
            length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            number = data[at + 3]
            start = at + 4
            end = start + length
            if end > have or length == 0xFFFFFF:
                inbox.at = at
                if length < _WHOLE:
                    inbox.fill()
                else:
                    # The text of the whole buffer would be one copy more of what is large.
                    del data, text
                    packet, number = inbox.packet()
                    taken += len(packet)
                    found.append(_large_row(packet, count))
                    del packet
                data, at, text = inbox.data, inbox.at, inbox.data.decode("latin-1")
                have = len(data)
                continue
            if not length:
                raise malformed("an empty row")
            if data[start] >= 0xFE and (length < 9 or data[start] == 0xFF):
                inbox.at = end
                self.ended = True
                _end(self._wire, data[start:end], number)
                break
            found.append(_text_row(data, text, start, end, count))
            at = end
            taken += length
        else:
            inbox.at = at
        self._wire._next_seq_id = (number + 1) & 0xFF  # noqa: SLF001 - PyMySQL counts packets
        return found


def _text_row(data: bytes, text: str, at: int, end: int, count: int) -> Row:
    row: list[object] = []
    append = row.append
    while at < end:
        length = data[at]
        if length < 251:
            at += 1
            append(text[at : at + length])
            at += length
        elif length == 251:
            append(None)
            at += 1
        else:
            length, at = lenenc(data, at)
            append(text[at : at + length])
            at += length
    if at != end or len(row) != count:
        raise malformed("a row")
    return row


def _large_row(data: Octets, count: int) -> Row:
    row: list[object] = []
    at = 0
    view = memoryview(data)
    while at < len(data):
        if data[at] == 251:
            row.append(None)
            at += 1
        else:
            length, at = lenenc(data, at)
            row.append(str(view[at : at + length], "latin-1"))
            at += length
    if at != len(data) or len(row) != count:
        raise malformed("a row")
    return row


def _end(wire: Wire, data: Octets, number: int) -> None:
    if data[0] == 0xFF:
        raise wire.failed(data)
    wire.ended(data, number)


class BinaryRows:
    """The rows of a prepared statement: numbers are numbers, times are put into words.

    :ivar ended: the last row has been read.
    """

    def __init__(self, wire: Wire, fields: Sequence[Field]) -> None:
        self._wire = wire
        self._readers = [_reader(field) for field in fields]
        self._nulls = (len(fields) + 9) // 8
        self.ended = False

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        """At most so many rows, and about so many bytes. Raises PyMySQL's errors."""
        found: list[Row] = []
        taken = 0
        inbox: Inbox = self._wire.inbox
        while not self.ended and len(found) < rows and taken < size:
            data, number = inbox.packet()
            if not data:
                raise malformed("an empty row")
            if data[0]:
                self.ended = True
                _end(self._wire, data, number)
                break
            self._wire._next_seq_id = (number + 1) & 0xFF  # noqa: SLF001 - PyMySQL counts packets
            taken += len(data)
            try:
                found.append(self._row(data))
            except (IndexError, struct.error):
                raise malformed("a row") from None
        return found

    def _row(self, data: Octets) -> Row:
        nulls = int.from_bytes(data[1 : 1 + self._nulls], "little") >> 2
        at = 1 + self._nulls
        row: list[object] = []
        for reader in self._readers:
            if nulls & 1:
                row.append(None)
            else:
                value, at = reader(data, at)
                row.append(value)
            nulls >>= 1
        if at != len(data):
            raise malformed("a row")
        return row


Reader = Callable[[Octets, int], tuple[object, int]]


def _fixed(form: str) -> Reader:
    unpack = struct.Struct(form)

    def read(data: Octets, at: int) -> tuple[object, int]:
        return unpack.unpack_from(data, at)[0], at + unpack.size

    return read


_SIZES: Final = {
    FIELD_TYPE.TINY: "b",
    FIELD_TYPE.SHORT: "h",
    FIELD_TYPE.YEAR: "h",
    FIELD_TYPE.INT24: "i",
    FIELD_TYPE.LONG: "i",
    FIELD_TYPE.LONGLONG: "q",
}


def _reader(field: Field) -> Reader:
    if field.code in _SIZES:
        letter = _SIZES[field.code]
        unsigned = field.flags & FLAG.UNSIGNED or field.code == FIELD_TYPE.YEAR
        return _fixed("<" + (letter.upper() if unsigned else letter))
    if field.code == FIELD_TYPE.DOUBLE:
        return _fixed("<d")
    if field.code == FIELD_TYPE.FLOAT:
        return _single
    if field.code in (FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE):
        return _date
    if field.code in (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP):
        return _moment(field.decimals)
    if field.code == FIELD_TYPE.TIME:
        return _time(field.decimals)
    return _bytes


def _single(data: Octets, at: int) -> tuple[object, int]:
    return single(struct.unpack_from("<f", data, at)[0]), at + 4


def _bytes(data: Octets, at: int) -> tuple[object, int]:
    length, at = lenenc(data, at)
    end = at + length
    if end > len(data):
        raise malformed("a row")
    return str(memoryview(data)[at:end], "latin-1"), end


def _date(data: Octets, at: int) -> tuple[object, int]:
    length = data[at]
    year, month, day = struct.unpack_from("<HBB", data, at + 1) if length else (0, 0, 0)
    return f"{year:04}-{month:02}-{day:02}", at + 1 + length


def _moment(decimals: int) -> Reader:
    def read(data: Octets, at: int) -> tuple[object, int]:
        length = data[at]
        year, month, day, hour, minute, second, micro = struct.unpack(
            "<HBBBBBI", data[at + 1 : at + 1 + length].ljust(11, b"\0")
        )
        text = f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        return text + _fraction(micro, decimals), at + 1 + length

    return read


def _time(decimals: int) -> Reader:
    def read(data: Octets, at: int) -> tuple[object, int]:
        length = data[at]
        negative, days, hour, minute, second, micro = struct.unpack(
            "<BIBBBI", data[at + 1 : at + 1 + length].ljust(12, b"\0")
        )
        sign = "-" if negative else ""
        text = f"{sign}{days * 24 + hour:02}:{minute:02}:{second:02}"
        return text + _fraction(micro, decimals), at + 1 + length

    return read


def _fraction(micro: int, decimals: int) -> str:
    """As many digits as the column has; a parameter's own column says nothing (31)."""
    if decimals > 6:
        return f".{micro:06}" if micro else ""
    return f".{micro:06}"[: decimals + 1] if decimals else ""
