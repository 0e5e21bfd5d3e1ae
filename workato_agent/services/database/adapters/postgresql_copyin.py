"""Rows on their way in, as ``COPY … FROM STDIN`` reads them.

CSV goes in as it came where every column takes its text; elsewhere, and for NDJSON and Arrow, rows
are written in COPY's text form. What stands in results may stand in a body too: base64 for bytes,
a JSON array for an array; PostgreSQL's own forms (``\\x…``, ``{…}``) as well.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed
from ..results import Row
from .postgresql_types import PgType

_SPECIAL: Final = re.compile(r"[\\\b\f\n\r\t\v\0]")
_ESCAPES: Final = {
    "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip
_IN_ARRAY: Final = re.compile(r'["\\]')
_END_MARK: Final = b"\\."
_MARK_AND_END: Final = re.compile(rb"\\\.(?=\r?\n|\r?\Z)")

Field = Callable[[object], str]


def takes_text(kind: PgType) -> bool:
    """Whether a column's values are the same in CSV results and in ``COPY``'s CSV."""
    return kind.kind not in ("bytes", "array")


class EndMarks:
    """Takes the meaning from lines that hold only ``\\.``.

    Until PostgreSQL 17 such a line ends the data, whatever follows it, even within quotes. Outside
    of quotes it gets some.
    """

    def __init__(self) -> None:
        self._inside = False
        self._at_start = True
        self._tail = b""
        self._line = 1

    def feed(self, chunk: bytes) -> bytes:
        """A chunk, without an end that may be half a mark. Raises Problem."""
        chunk = self._tail + chunk
        rest = chunk[chunk.rfind(b"\n") + 1 :]
        self._tail = rest if len(rest) <= 3 and _END_MARK.startswith(rest[:2]) else b""
        return self._pass(chunk[: len(chunk) - len(self._tail)])

    def end(self) -> bytes:
        """What is left."""
        return self._pass(self._tail)

    def _pass(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        fixed = self._marked(chunk) if _END_MARK in chunk else chunk
        self._inside ^= bool(chunk.count(b'"') & 1)
        self._line += chunk.count(b"\n")
        self._at_start = chunk.endswith(b"\n")
        return fixed

    def _marked(self, chunk: bytes) -> bytes:
        parts = []
        begin = 0
        for match in _MARK_AND_END.finditer(chunk):
            at = match.start()
            if not (chunk[at - 1 : at] == b"\n" if at else self._at_start):
                continue
            if self._inside ^ bool(chunk.count(b'"', 0, at) & 1):
                line = self._line + chunk.count(b"\n", 0, at)
                raise Problem(
                    "bad_request",
                    f"line {line} of the CSV, within a value, holds only \\., which PostgreSQL "
                    "takes for the end of the data",
                    hint="send the rows as NDJSON",
                    extra={"line": line},
                )
            parts += [chunk[begin:at], b'"\\."']
            begin = match.end()
        return b"".join((*parts, chunk[begin:]))


def encode_rows(rows: Sequence[Row], fields: Sequence[Field], number: int) -> bytes:
    """Rows in COPY's text form; ``number`` is that of the first. Raises Problem."""
    try:
        return "".join(
            [
                "\t".join([write(value) for write, value in zip(fields, row, strict=True)]) + "\n"
                for row in rows
            ]
        ).encode()
    except (Problem, UnicodeEncodeError):
        pass
    for index, row in enumerate(rows):
        for position, (write, value) in enumerate(zip(fields, row, strict=True)):
            try:
                write(value).encode()
            except Problem as problem:
                raise _of_row(problem.detail, number + index, position) from None
            except UnicodeEncodeError:
                raise _of_row("this is not Unicode text", number + index, position) from None
    raise AssertionError("a row that could not be written could be")


def _of_row(detail: str, number: int, position: int) -> Problem:
    return Problem(
        "bad_request",
        f"row {number}, column {position + 1}: {detail}",
        hint="rows are counted from 1",
        extra={"row": number},
    )


def field_writer(kind: PgType) -> Field:
    """What writes the values of a column."""
    if kind.kind == "json":
        return _json
    if kind.kind == "bytes":
        return _bytes
    if kind.element is not None:
        element = kind.element
        return lambda value: "\\N" if value is None else _escaped(_array(value, element))
    return _plain


def _plain(value: object) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return _escaped(value) if _SPECIAL.search(value) else value
    if isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    if isinstance(value, list):
        # The column is of a type of somebody's own, or of text.
        return _escaped(msgspec.json.encode(_as_json(value)).decode())
    return _escaped(_text(value))


def _json(value: object) -> str:
    if isinstance(value, list | Number | bool | int):
        return _escaped(msgspec.json.encode(_as_json(value)).decode())
    return _plain(value)


def _bytes(value: object) -> str:
    return _plain(_decoded(value) if isinstance(value, str) else value)


def _decoded(text: str) -> bytes:
    try:
        if text.startswith("\\x"):
            return bytes.fromhex(text[2:])
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=bool(text))
    except (ValueError, UnicodeEncodeError):
        raise Problem("bad_request", f"{text[:50]!r} is not base64") from None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, Typed | Number):
        return value.text
    return str(value)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    escape = _ESCAPES.get(match[0])
    if escape is None:
        raise Problem("bad_request", "PostgreSQL's text can't hold the NUL character")
    return escape


def _array(value: object, element: PgType) -> str:
    if isinstance(value, Typed):
        value = value.text
    if isinstance(value, str):
        if not value.lstrip().startswith("[") or not value.rstrip().endswith("]"):
            return value
        try:
            value = _ARRAY_DECODER.decode(value)
        except msgspec.DecodeError as error:
            raise Problem("bad_request", f"the array is not JSON: {error}") from None
    if not isinstance(value, list):
        raise Problem("bad_request", "an array is expected")
    return "{" + ",".join([_element(item, element) for item in value]) + "}"


_ARRAY_DECODER: Final = msgspec.json.Decoder(float_hook=Number)


def _element(value: object, kind: PgType) -> str:
    if value is None:
        return "NULL"
    if kind.kind == "json":
        text = msgspec.json.encode(_as_json(value)).decode()
    elif isinstance(value, list):
        return _array(value, kind)
    elif kind.kind == "bytes":
        data = _decoded(value) if isinstance(value, str) else value
        text = "\\x" + data.hex() if isinstance(data, bytes) else _text(data)
    else:
        text = _text(value)
    return '"' + _IN_ARRAY.sub(r"\\\g<0>", text) + '"'


def _as_json(value: object) -> object:
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    if isinstance(value, Typed):
        return msgspec.Raw(value.text.encode()) if value.type == "json" else value.text
    return value
