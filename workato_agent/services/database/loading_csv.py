"""CSV on its way into a table: RFC 4180 with a header line.

NULL is an empty field, ``""`` an empty string, which the standard library's reader can't tell
apart. A body is cut into blocks of whole records by counting quotes: outside of quoted fields their
number is even.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from attrs import define, field

from workato_tunnel.problems import Problem

from .loading import BLOCK_BYTES, MAX_ROW, SMALL_BLOCK, LoadFormat, check_names
from .results import Row
from .work import Threads

MAX_HEADER: Final = 256 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = re.compile(r'("[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+),')


@define
class RecordCutter:
    """Cuts bytes behind the last record that is complete. Linear in the number of bytes."""

    _pending: bytearray = field(factory=bytearray, init=False)
    _inside: bool = field(default=False, init=False)

    @property
    def pending(self) -> int:
        """Bytes of the record that is not complete."""
        return len(self._pending)

    def feed(self, chunk: bytes) -> bytes:
        """All records that are complete with this chunk, as one piece."""
        cut = self._last_end(chunk)
        if not cut:
            self._pending += chunk
            return b""
        complete = b"".join((self._pending, chunk[:cut]))
        self._pending = bytearray(chunk[cut:])
        return complete

    def rest(self) -> tuple[bytes, bool]:
        """What is left at the end, and whether a quote is left open in it."""
        return bytes(self._pending), self._inside

    def _last_end(self, chunk: bytes) -> int:
        """Behind the last line feed outside of quotes; 0 without one."""
        inside = self._inside ^ bool(chunk.count(b'"') & 1)
        self._inside = inside
        end = len(chunk)
        while True:
            quote = chunk.rfind(b'"', 0, end)
            if not inside:
                found = chunk.rfind(b"\n", quote + 1, end)
                if found >= 0:
                    return found + 1
            if quote < 0:
                return 0
            inside = not inside
            end = quote


@define(eq=False)
class CsvBody:
    """A :class:`~.loading.LoadBody` of CSV."""

    _source: AsyncIterator[bytes]
    _threads: Threads
    format: LoadFormat = field(default="csv", init=False)
    _columns: tuple[str, ...] | None = field(default=None, init=False)
    _header: bytes = field(default=b"", init=False)
    _after: bytes = field(default=b"", init=False)
    _ended: bool = field(default=False, init=False)

    async def columns(self) -> Sequence[str]:
        """The header's names."""
        if self._columns is None:
            header, self._after = await self._read_header()
            self._header = header
            line = header.removesuffix(b"\n").removesuffix(b"\r") + b"\n"
            if not line.strip():
                raise _malformed(1, "it has no header line with the columns' names")
            names = parse_records(line, None, 1)[0]
            self._columns = check_names(["" if name is None else name for name in names])
        return self._columns

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it came, without a byte order mark."""
        await self.columns()
        if self._header:
            yield self._header
        if self._after:
            yield self._after
        if not self._ended:
            async for chunk in self._source:
                yield chunk

    async def blocks(self) -> AsyncIterator[Sequence[Row]]:
        """The rows: text and None."""
        width = len(await self.columns())
        line = 1 + self._header.count(b"\n")
        cutter = RecordCutter()
        waiting: list[bytes] = []
        size = 0
        async for chunk in self._remaining():
            if block := cutter.feed(chunk):
                waiting.append(block)
                size += len(block)
            _check_size(cutter.pending, line)
            if size >= BLOCK_BYTES:
                rows, line = await self._parse(b"".join(waiting), width, line)
                yield rows
                waiting, size = [], 0
        rest, open_quote = cutter.rest()
        whole = b"".join(waiting)
        if rest and open_quote:
            raise _malformed(line + whole.count(b"\n"), "a quoted field is not closed")
        if whole or rest:
            rows, line = await self._parse(whole + rest, width, line)
            yield rows

    async def _remaining(self) -> AsyncIterator[bytes]:
        if self._after:
            yield self._after
        if not self._ended:
            async for chunk in self._source:
                yield chunk

    async def _read_header(self) -> tuple[bytes, bytes]:
        read = bytearray()
        while True:
            chunk = await anext(self._source, b"")
            self._ended = not chunk
            read += chunk
            if b"\n" in chunk or not chunk:
                text = bytes(read).removeprefix(_BOM)
                end = _first_end(text)
                if end or not chunk:
                    end = end or len(text)
                    return text[:end], text[end:]
            if len(read) > MAX_HEADER:
                raise _malformed(1, f"the header is longer than {MAX_HEADER} bytes")

    async def _parse(self, block: bytes, width: int, line: int) -> tuple[Sequence[Row], int]:
        if len(block) <= SMALL_BLOCK:
            rows: Sequence[Row] = parse_records(block, width, line)
        else:
            rows = await self._threads.run(parse_records, block, width, line)
        return rows, line + block.count(b"\n")


def _first_end(text: bytes) -> int:
    """Behind the first line feed outside of quotes; 0 without one."""
    at = quotes = 0
    while (found := text.find(b"\n", at)) >= 0:
        quotes += text.count(b'"', at, found)
        if not quotes & 1:
            return found + 1
        at = found + 1
    return 0


def parse_records(block: bytes, width: int | None, line: int) -> list[list[str | None]]:
    """Whole records, the last with or without its line end.

    :param width: fields that each has; None for any number.
    :param line: number of the block's first line, for errors.
    """
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(line + block.count(b"\n", 0, error.start), "it is not UTF-8") from None
    if '"' in text:
        return _quoted_records(text, width, line)
    plain = text.replace("\r\n", "\n") if "\r" in text else text
    lines = plain.split("\n")
    if not lines[-1]:
        lines.pop()
    if "\r" in plain:
        lines[-1] = lines[-1].removesuffix("\r")  # the body may end between CR and LF
        for number, each in enumerate(lines):
            if "\r" in each:
                raise _malformed(line + number, "a carriage return stands alone")
    rows: list[list[str | None]] = [[part or None for part in each.split(",")] for each in lines]
    if width is not None:
        for number, row in enumerate(rows):
            if len(row) != width:
                raise _wrong_width(line + number, len(row), width)
    return rows


def _quoted_records(text: str, width: int | None, line: int) -> list[list[str | None]]:
    rows: list[list[str | None]] = []
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    at = 0
    while at < len(lines):
        record = lines[at]
        start = at
        at += 1
        if record.count('"') & 1:
            parts = [record]
            odd = True
            while odd and at < len(lines):
                parts.append(lines[at])
                odd ^= bool(lines[at].count('"') & 1)
                at += 1
            record = "\n".join(parts)
        rows.append(_fields(record.removesuffix("\r"), line + start))
        if width is not None and len(rows[-1]) != width:
            raise _wrong_width(line + start, len(rows[-1]), width)
    return rows


def _fields(record: str, line: int) -> list[str | None]:
    raw = _FIELD.findall(record + ",")
    if sum(map(len, raw)) + len(raw) != len(record) + 1:
        raise _malformed(line, "quotes stand only around a whole field, and are doubled in one")
    return [
        (each[1:-1].replace('""', '"') if each[0] == '"' else each) if each else None
        for each in raw
    ]


def _check_size(size: int, line: int) -> None:
    if size > MAX_ROW:
        raise Problem(
            "payload_too_large",
            f"the record at line {line} or after is longer than {MAX_ROW} bytes",
            hint="is a quote left open?",
            extra={"line": line},
        )


def _wrong_width(line: int, found: int, expected: int) -> Problem:
    return _malformed(line, f"it has {found} fields, the header {expected}")


def _malformed(line: int, reason: str) -> Problem:
    return Problem(
        "bad_request",
        f"line {line} of the CSV is malformed: {reason}",
        hint="RFC 4180: commas, double quotes, UTF-8, a header line",
        extra={"line": line},
    )
