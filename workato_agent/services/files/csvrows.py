"""A row that is added to a CSV file under the order of its header (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from workato_tunnel.problems import Problem

from .confinement import Names, shown
from .filesystem import OpenFile

LONGEST_HEADER: Final = 64 * 1024
MAX_BODY: Final = 1024 * 1024
_BOM: Final = "\ufeff"

Value = str | int | float | bool | None


class CsvBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is to be added: ``row`` by column or in order; ``delimiter`` is one character."""

    row: dict[str, Value] | list[Value]
    delimiter: str = ","


def decode_row(body: bytes) -> CsvBody:
    """Raises Problem ``bad_request``, naming the field."""
    try:
        decoded = msgspec.json.decode(body, type=CsvBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            "bad_request",
            f"the body is none that csv takes: {error}",
            hint='Send {"row": {"column": "value"}} or {"row": ["value"]} as JSON.',
            extra={"field": "row"},
        ) from None
    if not decoded.row:
        raise _bad("row", "the row is empty")
    delimiter = decoded.delimiter
    if (
        len(delimiter) != 1
        or delimiter in '"\r\n'
        or not delimiter.isprintable() | (delimiter == "\t")
    ):
        raise _bad("delimiter", "the delimiter is one character, and none of quotes and line ends")
    return decoded


def composed(body: CsvBody, path: Names, existing: OpenFile | None) -> Iterator[bytes]:
    """What has to be written at the file's end. Raises Problem, and OSError of reading.

    A file that is new or empty gets a header first where the row names its columns.
    """
    size = 0 if existing is None else existing.found.facts.size
    if existing is None or not size:
        if isinstance(body.row, dict):
            yield _line(list(body.row), body.delimiter, "\r\n")
            yield _line(list(body.row.values()), body.delimiter, "\r\n")
        else:
            yield _line(body.row, body.delimiter, "\r\n")
        return
    header, line_end = _header(existing, path, body.delimiter)
    if isinstance(body.row, dict):
        unknown = [name for name in body.row if name not in header]
        if unknown:
            raise _bad(
                f"row.{unknown[0][:100]}",
                f"{shown(path)} has no column {unknown[0][:100]!r}; its header has "
                f"{', '.join(header[:20])[:500]}",
            )
        values: Sequence[Value] = [body.row.get(name) for name in header]
    else:
        values = body.row
        if len(values) != len(header):
            raise _bad(
                "row", f"the row has {len(values)} values, {shown(path)} has {len(header)} columns"
            )
    if existing.read(size - 1, 1) != b"\n":
        yield line_end.encode()
    yield _line(values, body.delimiter, line_end)


def _header(file: OpenFile, path: Names, delimiter: str) -> tuple[list[str], str]:
    """The columns' names, and how lines end here."""
    start = file.read(0, LONGEST_HEADER)
    try:
        text = start.decode() if len(start) < LONGEST_HEADER else start.decode(errors="ignore")
    except UnicodeDecodeError:
        raise Problem(
            "conflict",
            f"{shown(path)}: its header is no UTF-8 text",
            hint="Rows can be added to UTF-8 files only; use append/{path} with your own encoding.",
        ) from None
    source = io.StringIO(text.removeprefix(_BOM), newline="")
    try:
        header = next(csv.reader(source, delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        raise Problem(
            "conflict",
            f"{shown(path)}: its header is no CSV: {error}",
            hint="Check the file's first line, and 'delimiter'.",
        ) from None
    if not header or (len(start) == LONGEST_HEADER and source.tell() >= len(text) - 1):
        raise Problem(
            "conflict",
            f"{shown(path)}: it has no header line of at most {LONGEST_HEADER} bytes",
            hint="The first line has to name the columns.",
        )
    if len(set(header)) < len(header):
        raise Problem(
            "conflict",
            f"{shown(path)}: two columns of its header have the same name",
            hint="Send the row as an array, in the order of the columns, with append/{path}.",
        )
    line_end = "\r\n" if text.removeprefix(_BOM)[: source.tell()].endswith("\r\n") else "\n"
    return header, line_end


def _line(values: Sequence[Value], delimiter: str, line_end: str) -> bytes:
    line = io.StringIO(newline="")
    # With this end of lines both of its characters are quoted in values, whatever ends lines here.
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(
        [_text(value) for value in values]
    )
    try:
        return (line.getvalue()[:-2] + line_end).encode()
    except UnicodeEncodeError:
        raise _bad("row", "a value holds half of a surrogate pair, which is no text") from None


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _bad(field: str, detail: str) -> Problem:
    return Problem(
        "bad_request", detail, hint="See csv under files in the HTTP API.", extra={"field": field}
    )
