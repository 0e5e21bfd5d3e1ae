"""Rows of ``COPY … (FORMAT csv)`` as what the caller asked for, without decoding them.

CSV needs only its line ends. With a backslash as ``ESCAPE``, all text quoted and ``null`` for NULL,
PostgreSQL's CSV is the inside of a JSON array already, but for control characters, which are rare
enough to be looked after one row at a time. NDJSON is JSON with names put in. Arrow is parsed from
CSV (:mod:`.postgresql_arrow`), MessagePack from JSON.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from attrs import frozen

from ..results import Column, Writer, unique_names
from .postgresql_arrow import ARROW_BLOCK, ARROW_OPTIONS, can_be_arrow, thd_arrow_transform
from .postgresql_projection import NOT_A_NUMBER, csv_projection, json_projection
from .postgresql_types import PgType

Transform = Callable[[list[bytes], bool], bytes]
"""Rows as they came, each with its newline, and whether they are the result's first."""

_rows_decoder: Final = msgspec.json.Decoder(list[list[Any]])
_BARE: Final = frozenset(("boolean", "integer", "float"))
_CONTROLS_BUT_NEWLINE: Final = bytes(code for code in range(32) if code != 10)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
_FIELD: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|' + NOT_A_NUMBER.encode() + rb"[^,]+", re.DOTALL)
_SHORT_ESCAPES: Final = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r"}
_ESCAPES: Final = [_SHORT_ESCAPES.get(code, b"\\u%04x" % code) for code in range(32)]
_DELIMITER: Final = b"\x02"
_CONTROLS: Final = bytes(range(32))
# A field and the delimiter after it, or the end.
_FIELD_AND_DELIMITER: Final = re.compile(rb'("(?:[^"\\]|\\.)*"|[^"\x02]*)(?:\x02|\Z)', re.DOTALL)


@frozen
class CopyForm:
    """How a result is copied in one of the formats.

    :ivar names: what the query's columns are called in between.
    :ivar values: the SQL of each column.
    :ivar options: of COPY.
    :ivar transform: makes rows the body of a response.
    :ivar block: bytes of the rows that are transformed together.
    """

    names: Sequence[str]
    values: Sequence[str]
    options: str
    transform: Transform
    block: int = 192 * 1024


def thd_copy_form(
    writer: Writer, columns: Sequence[Column], kinds: Sequence[PgType], zone: str
) -> CopyForm | None:
    """How to copy for this writer; None where it can't be done, or would not be the same.

    ``zone``: the session's time zone.
    """
    names = [f"c{index}" for index in range(len(kinds))]
    if writer.format == "arrow":
        if not can_be_arrow(kinds):
            return None
        transform = thd_arrow_transform(columns, kinds)
        return CopyForm(names, names, ARROW_OPTIONS, transform, ARROW_BLOCK)
    project = csv_projection if writer.format == "csv" else json_projection
    found = [project(kind, name, zone) for kind, name in zip(kinds, names, strict=True)]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return None
    if writer.format == "csv":
        return CopyForm(names, values, "FORMAT csv, ENCODING 'UTF8'", _csv)
    options = _json_options(kinds, names, writer.format)
    if writer.format == "json":
        return CopyForm(names, values, options, _json)
    if writer.format == "ndjson":
        return CopyForm(names, values, options, _ndjson([column.name for column in columns]))
    return CopyForm(names, values, options, _decoded(writer, kinds))


def _json_options(kinds: Sequence[PgType], names: Sequence[str], form: str) -> str:
    quoted = [name for kind, name in zip(kinds, names, strict=True) if kind.kind not in _BARE]
    force = f", FORCE_QUOTE ({', '.join(quoted)})" if quoted else ""
    delimiter = ", DELIMITER E'\\x02'" if form == "ndjson" else ""
    return f"FORMAT csv, ENCODING 'UTF8', NULL 'null', ESCAPE E'\\\\'{delimiter}{force}"


def _decoded(writer: Writer, kinds: Sequence[PgType]) -> Transform:
    """By way of JSON, which is decoded faster than the driver makes values one by one."""
    data = [index for index, kind in enumerate(kinds) if kind.kind == "bytes"]
    floats = [index for index, kind in enumerate(kinds) if kind.kind == "float"]
    marked = NOT_A_NUMBER.encode()

    def change(rows: list[bytes], first: bool) -> bytes:
        values = _rows_decoder.decode(b"[%b]" % _json(rows, True))
        for index in data:
            for row in values:
                if row[index] is not None:
                    row[index] = a2b_base64(row[index])
        if floats and any(marked in row for row in rows):
            for index in floats:
                for row in values:
                    if isinstance(row[index], str):
                        row[index] = float(row[index])
        return writer.rows(values, first=first)

    return change


def _ndjson(columns: Sequence[str]) -> Transform:
    keys = [b"%b%b:" % (b",", msgspec.json.encode(name)) for name in unique_names(columns)]
    keys[0] = b"}\n{" + keys[0][1:]
    width = len(keys)

    def change(rows: list[bytes], first: bool) -> bytes:
        data = b"".join(rows)
        if _is_plain(data, len(rows), width):
            fields = data[:-1].replace(b"\n", _DELIMITER).split(_DELIMITER)
        else:
            fields = [
                _FIELD.sub(_field, value)
                for row in rows
                for value in _FIELD_AND_DELIMITER.findall(row[:-1])[:width]
            ]
        pieces = [b""] * (2 * len(fields))
        pieces[0::2] = keys * len(rows)
        pieces[1::2] = fields
        return b"".join(pieces)[2:] + b"}\n"

    return change


def _is_plain(data: bytes, rows: int, width: int) -> bool:
    """Whether all control characters are those that COPY puts between fields and rows."""
    newlines, delimiters = data.count(b"\n"), data.count(_DELIMITER)
    if newlines != rows or delimiters != rows * (width - 1):
        return False
    return len(data.translate(None, _CONTROLS)) == len(data) - newlines - delimiters


def _csv(rows: list[bytes], first: bool) -> bytes:
    if len(rows) == 1:
        return rows[0][:-1] + b"\r\n"
    data = b"".join(rows)
    if data.count(b"\n") == len(rows):
        return data.replace(b"\n", b"\r\n")
    # A newline within a value stays what it is.
    return b"".join([row[:-1] + b"\r\n" for row in rows])


def _json(rows: list[bytes], first: bool) -> bytes:
    data = b"".join(rows)
    plain = data.count(b"\n") == len(rows)
    if plain and len(data.translate(None, _CONTROLS_BUT_NEWLINE)) == len(data):
        inside = data[:-1].replace(b"\n", b"],[")
    else:
        inside = b"],[".join([_FIELD.sub(_field, row[:-1]) for row in rows])
    return b"%b%b]" % (b"[" if first else b",[", inside)


def _field(match: re.Match[bytes]) -> bytes:
    text = match[0]
    if text[:1] == b'"':
        return _CONTROL.sub(lambda control: _ESCAPES[control[0][0]], text)
    return b'"%b"' % text[1:]
