"""NDJSON on its way into a table: one object a row.

The first row's names are the columns, unless the caller lists them. A later row may leave some out
(NULL) and may not have others. A value that is an object, or an array with objects in it, is a JSON
document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from attrs import define, field

from workato_tunnel.problems import Problem

from .loading import BLOCK_BYTES, MAX_ROW, SMALL_BLOCK, LoadFormat, check_names
from .parameters import Number, json_value, parameter
from .results import Row
from .work import Threads

_decoder: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Number)
_MAX_BLANK: Final = 64 * 1024
_PLAIN: Final = frozenset({str, int, bool, type(None), Number})


@define(eq=False)
class NdjsonBody:
    """A :class:`~.loading.LoadBody` of NDJSON.

    :param columns: the rows' names, where the caller lists them.
    """

    _source: AsyncIterator[bytes]
    _threads: Threads
    _columns: tuple[str, ...] | None = None
    format: LoadFormat = field(default="ndjson", init=False)
    _read: bytes = field(default=b"", init=False)
    _ended: bool = field(default=False, init=False)

    async def columns(self) -> Sequence[str]:
        """The names; none where there is no row."""
        if self._columns is None:
            line, number = await self._first_line()
            rows = _decode(line, number)
            self._columns = check_names(list(rows[0])) if rows else ()
        return self._columns

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it came."""
        if self._read:
            yield self._read
        if not self._ended:
            async for chunk in self._source:
                yield chunk

    async def blocks(self) -> AsyncIterator[Sequence[Row]]:
        """The rows."""
        names = await self.columns()
        number = 1
        waiting = bytearray()
        async for chunk in self.chunks():
            cut = chunk.rfind(b"\n") + 1
            if not cut or len(waiting) + cut < BLOCK_BYTES:
                waiting += chunk
                _check_size(len(waiting), number)
                continue
            block = b"".join((waiting, chunk[:cut]))
            waiting = bytearray(chunk[cut:])
            yield await self._rows(block, names, number)
            number += block.count(b"\n")
        if waiting:
            yield await self._rows(bytes(waiting), names, number)

    async def _rows(self, block: bytes, names: Sequence[str], number: int) -> Sequence[Row]:
        if len(block) <= SMALL_BLOCK:
            return decode_rows(block, names, number)
        return await self._threads.run(decode_rows, block, names, number)

    async def _first_line(self) -> tuple[bytes, int]:
        read = bytearray()
        while True:
            chunk = await anext(self._source, b"")
            self._ended = not chunk
            read += chunk
            if b"\n" in chunk or not chunk:
                whole = bytes(read)
                text = whole.lstrip()
                line, end, _ = text.partition(b"\n")
                if end or not chunk:
                    self._read = whole
                    return line, 1 + whole.count(b"\n", 0, len(whole) - len(text))
                if not text and len(read) > _MAX_BLANK:
                    raise _too_large(1)
            _check_size(len(read), 1)


def decode_rows(block: bytes, names: Sequence[str], number: int) -> list[list[object]]:
    """Whole lines; ``number`` is that of the first. Raises Problem with the line's number."""
    expected = tuple(names)
    rows: list[list[object]] = []
    objects = _decode(block, number)
    for index, each in enumerate(objects):
        if tuple(each) == expected:
            row = list(each.values())
        else:
            row = [each.get(name) for name in expected]
            unknown = each.keys() - set(expected)
            if unknown:
                raise _unknown(_line_of(block, number, index), min(unknown), expected)
        for position, value in enumerate(row):
            if type(value) not in _PLAIN:
                where = f"line {_line_of(block, number, index)}, {expected[position]}"
                row[position] = _value(value, where)
        rows.append(row)
    return rows


def _value(value: object, where: str) -> object:
    return json_value(value, where) if _holds_object(value) else parameter(value, where)


def _holds_object(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_holds_object, value))
    return isinstance(value, dict)


def _decode(block: bytes, number: int) -> list[dict[str, Any]]:
    try:
        return _decoder.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        for index, line in enumerate(block.split(b"\n")):
            if line.strip():
                _check_line(line, number + index)
        raise


def _check_line(line: bytes, number: int) -> None:
    try:
        _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Problem(
            "bad_request",
            f"line {number} of the NDJSON is no JSON object: {error}",
            hint="one object a line, UTF-8",
            extra={"line": number},
        ) from None


def _line_of(block: bytes, number: int, index: int) -> int:
    """The line of an object: lines may be blank."""
    for offset, line in enumerate(block.split(b"\n")):
        if line.strip():
            if not index:
                return number + offset
            index -= 1
    return number


def _unknown(line: int, name: str, names: Sequence[str]) -> Problem:
    return Problem(
        "bad_request",
        f"line {line} of the NDJSON has a member {name[:100]!r} that the first row has not",
        hint=f"the columns are {', '.join(names)[:500]}; list others with ?columns=",
        extra={"line": line},
    )


def _check_size(size: int, number: int) -> None:
    if size > MAX_ROW:
        raise _too_large(number)


def _too_large(number: int) -> Problem:
    return Problem(
        "payload_too_large",
        f"the row at line {number} or after is longer than {MAX_ROW} bytes",
        hint="one object a line",
        extra={"line": number},
    )
