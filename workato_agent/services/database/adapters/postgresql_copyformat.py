"""Rows of ``COPY … (FORMAT csv)`` as what the caller asked for, without decoding them.

CSV needs only its line ends. With a backslash as ``ESCAPE``, all text quoted and ``null`` for NULL,
PostgreSQL's CSV is the inside of a JSON array already, but for control characters, which are rare
enough to be looked after one row at a time. NDJSON is JSON with names put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ..results import Column, unique_names
from .postgresql_types import NOT_A_NUMBER, PgType, csv_projection, json_projection

Transform = Callable[[list[bytes], bool], bytes]
"""Rows as they came, each with its newline, and whether they are the result's first."""

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


def projections(kinds: Sequence[PgType], names: Sequence[str], form: str) -> list[str] | None:
    """The SQL of each column in a format; None when one can't be had that way."""
    project = csv_projection if form == "csv" else json_projection
    values = [project(kind, name) for kind, name in zip(kinds, names, strict=True)]
    return [value for value in values if value is not None] if None not in values else None


def options(kinds: Sequence[PgType], names: Sequence[str], form: str) -> str:
    """The options of COPY for a format."""
    if form == "csv":
        return "FORMAT csv, ENCODING 'UTF8'"
    quoted = [name for kind, name in zip(kinds, names, strict=True) if kind.kind not in _BARE]
    force = f", FORCE_QUOTE ({', '.join(quoted)})" if quoted else ""
    delimiter = ", DELIMITER E'\\x02'" if form == "ndjson" else ""
    return f"FORMAT csv, ENCODING 'UTF8', NULL 'null', ESCAPE E'\\\\'{delimiter}{force}"


def transform(columns: Sequence[Column], form: str) -> Transform:
    """What makes rows the body of a response."""
    if form == "csv":
        return _csv
    if form == "json":
        return _json
    return _ndjson([column.name for column in columns])


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
