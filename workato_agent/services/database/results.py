"""Result sets as JSON, NDJSON and CSV: encoded once, here, and sent to the caller as they are.

MessagePack and Arrow have modules of their own; :mod:`~.formats` knows them all.

A row is a sequence of wire-ready values. Adapters bring their values into the form that the writer
asks for (:data:`ValueForm`). In every form decimals, dates, times, UUIDs and intervals are text.

- ``json``: None, bool, int, finite float, str, lists of them, and ``msgspec.Raw`` for JSON text
  that is taken as it is. NaN and infinities are text, bytes are base64 text.
- ``csv``: the same, but JSON columns are plain text.
- ``native``: None, bool, int (of any size), float (NaN and infinities too), str, bytes, lists of
  them. JSON columns are plain text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Literal, Protocol

import msgspec

from workato_tunnel.problems import Problem

ColumnType = Literal[
    "boolean", "integer", "float", "decimal", "string", "bytes", "date", "time", "timestamp",
    "timestamptz", "interval", "uuid", "json", "array", "unknown",
]  # fmt: skip
ValueForm = Literal["json", "csv", "native"]
Row = Sequence[object]


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of a result: its name as the database gives it and its type.

    :ivar precision: of a decimal whose digits are limited; with ``scale`` digits after the point.
    """

    name: str
    type: ColumnType
    nullable: bool | None = None
    precision: int | None = None
    scale: int | None = None


class Writer(Protocol):
    """Encodes one result, piece by piece. Used by one thread at a time."""

    media_type: ClassVar[str]
    format: ClassVar[str]
    form: ClassVar[ValueForm]
    says_truncated: ClassVar[bool]
    """Whether the end of the body can tell that rows were left out."""

    def head(self, columns: Sequence[Column]) -> bytes:
        """What comes before the first row. Called once, first."""
        ...

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        """The next rows; ``first`` when none has come before."""
        ...

    def tail(self, count: int, *, truncated: bool) -> bytes:
        """What comes after the last row."""
        ...

    def failure(self, problem: Problem, request_id: str) -> bytes:
        """The last item of a body that can't be completed; empty where the format has no place."""
        ...


_encoder: Final = msgspec.json.Encoder()


class JsonWriter:
    """One document: columns, rows as arrays, the number of rows and whether some were left out."""

    media_type: ClassVar[str] = "application/json"
    format: ClassVar[str] = "json"
    form: ClassVar[ValueForm] = "json"
    says_truncated: ClassVar[bool] = True

    def head(self, columns: Sequence[Column]) -> bytes:
        return b'{"columns":' + _encoder.encode(columns) + b',"rows":['

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        if not rows:
            return b""
        encoded = memoryview(_encoder.encode(rows))[1:-1]
        return b"".join((b"" if first else b",", encoded))

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return b'],"row_count":%d,"truncated":%s}' % (count, b"true" if truncated else b"false")

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return b""


class NdjsonWriter:
    """One object a row and line; a name that occurs again gets ``_2``, ``_3`` … after it."""

    media_type: ClassVar[str] = "application/x-ndjson"
    format: ClassVar[str] = "ndjson"
    form: ClassVar[ValueForm] = "json"
    says_truncated: ClassVar[bool] = False

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()

    def head(self, columns: Sequence[Column]) -> bytes:
        self._names = unique_names([column.name for column in columns])
        return b""

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        names = self._names
        return _encoder.encode_lines([dict(zip(names, row, strict=True)) for row in rows])

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return b""

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return problem.body(request_id) + b"\n"


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names with a number where one occurs again; no new name equals another column's own."""
    wanted = list(names)
    own = set(wanted)
    taken: set[str] = set()
    result = []
    for name in wanted:
        unique, number = name, 1
        while unique in taken or (number > 1 and unique in own):
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        result.append(unique)
    return tuple(result)


_NEEDS_QUOTES: Final = re.compile('[",\r\n]')
# Types whose values are text or numbers. For those, and without empty strings, the standard library
# writes the same, three times as fast.
_PLAIN: Final = frozenset(
    {"integer", "float", "decimal", "string", "bytes", "date", "time", "timestamp", "timestamptz",
     "interval", "uuid"}
)  # fmt: skip


class CsvWriter:
    """RFC 4180 with a header line. NULL is an empty field, an empty string is ``""``.

    Quotes stand only where they are needed, as PostgreSQL's ``COPY … (FORMAT csv)`` has them, whose
    output takes the place of :meth:`rows` where it can.
    """

    media_type: ClassVar[str] = "text/csv"
    format: ClassVar[str] = "csv"
    form: ClassVar[ValueForm] = "csv"
    says_truncated: ClassVar[bool] = False

    def __init__(self) -> None:
        self._single = False
        self._plain = False

    def head(self, columns: Sequence[Column]) -> bytes:
        self._single = len(columns) == 1
        self._plain = not self._single and all(column.type in _PLAIN for column in columns)
        if not columns:
            return b""
        return self._careful([[column.name for column in columns]])

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        if not self._plain:
            return self._careful(rows)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        if any("" in row for row in rows):
            for row in rows:
                if "" in row:
                    text.write(",".join(map(self._field, row)) + "\r\n")
                else:
                    writer.writerow(row)
        else:
            writer.writerows(rows)
        return text.getvalue().encode()

    def _careful(self, rows: Sequence[Row]) -> bytes:
        return "".join([",".join(map(self._field, row)) + "\r\n" for row in rows]).encode()

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return b""

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return b""

    def _field(self, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            text = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value)
        else:
            text = _encoder.encode(value).decode()
        if not text or _NEEDS_QUOTES.search(text) or (self._single and text == "\\."):
            return '"' + text.replace('"', '""') + '"'
        return text
