"""Values on their way to an ODBC driver and back."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal, localcontext
from typing import Any, Final

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed
from ..results import ColumnType, Row, ValueForm

INT32: Final = range(-(2**31), 2**31)
INT64: Final = range(-(2**63), 2**63)
MOST_DIGITS: Final = 4096


@frozen
class Placed:
    """A parameter as the driver takes it.

    :ivar marker: what stands in the statement for it: ``?``, or ``?`` with a cast, or a constant.
    :ivar bound: whether the value is bound to a ``?`` at all.
    """

    marker: str
    value: object
    bound: bool = True


NULL: Final = Placed("?", None)


def refused(where: str, detail: str, hint: str) -> Problem:
    """A value that the database or its driver can't take."""
    return Problem("bad_request", f"{where}: {detail}", hint=hint, extra={"field": where})


def exact(text: str, where: str) -> Decimal:
    """A number as it was written. Raises Problem for one that has no end of zeros."""
    with localcontext() as context:
        context.prec = MOST_DIGITS
        number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > MOST_DIGITS:
        raise refused(where, f"{text[:50]} is out of range", "send it as a float")
    return number


def plain(number: Decimal) -> str:
    """Digits without an exponent."""
    return format(number, "f")


def digits(number: Decimal) -> tuple[int, int]:
    """How many digits a decimal has, and how many of them after the point."""
    scale = max(0, -int(number.as_tuple().exponent))
    return max(1, number.adjusted() + 1, 0) + scale if number else max(1, scale + 1), scale


def finite(text: str, where: str, database: str) -> float:
    """A float that is a number. Raises Problem."""
    number = float(text)
    if not math.isfinite(number):
        raise refused(where, f"{database} has no {text}", "send null")
    return number


def no_arrays(where: str, database: str) -> Problem:
    """There are no arrays."""
    return refused(where, f"{database} has no arrays", 'send {"type": "json", "value": […]}')


def generic(value: object, where: str) -> Placed:
    """A value for a database of which nothing is known: as ODBC's own types."""
    if isinstance(value, Number):
        return Placed("?", exact(value.text, where))
    if isinstance(value, list):
        raise no_arrays(where, "this database")
    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        return Placed("?", Decimal(value))
    if not isinstance(value, Typed):
        return Placed("?", value)
    if value.type == "float":
        return Placed("?", float(value.text))
    if value.type == "decimal":
        return Placed("?", exact(value.text, where))
    try:
        if value.type == "date":
            return Placed("?", date.fromisoformat(value.text))
        if value.type == "time":
            return Placed("?", time.fromisoformat(value.text))
        if value.type == "timestamp":
            return Placed("?", datetime.fromisoformat(value.text))
    except ValueError:
        return Placed("?", value.text)
    return Placed("?", value.text)


KINDS: Final[dict[int, ColumnType]] = {
    -7: "boolean",
    -6: "integer", 5: "integer", 4: "integer", -5: "integer", -25: "integer",
    6: "float", 7: "float", 8: "float",
    2: "decimal", 3: "decimal",
    1: "string", 12: "string", -1: "string", -8: "string", -9: "string", -10: "string",
    -2: "bytes", -3: "bytes", -4: "bytes", -151: "bytes",
    91: "date", 9: "date", 92: "time", 10: "time", -154: "time", 93: "timestamp", 11: "timestamp",
    -155: "timestamptz", -11: "uuid", -152: "string", -150: "unknown",
    **dict.fromkeys(range(101, 114), "interval"),
}  # fmt: skip
"""ODBC's types and SQL Server's own, by number."""

_OFFSET: Final = struct.Struct("<hHHHHHIhh")


def offset_time(data: bytes) -> str:
    """SQL Server's datetimeoffset (SQL_SS_TIMESTAMPOFFSET_STRUCT, or its text) in ISO 8601."""
    if len(data) != _OFFSET.size:
        return data.decode("utf-8", "replace").strip("\0").replace(" ", "T", 1).replace(" ", "")
    year, month, day, hour, minute, second, nanoseconds, hours, minutes = _OFFSET.unpack(data)
    fraction = f"{nanoseconds:09d}".rstrip("0")
    sign = "-" if hours < 0 or minutes < 0 else "+"
    return (
        f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
        f"{'.' + fraction if fraction else ''}{sign}{abs(hours):02d}:{abs(minutes):02d}"
    )


Change = Callable[[Any], object]


def _general(value: Any) -> object:
    """A value by its own class, in JSON and CSV."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return _text_if_special(value)


def _native(value: Any) -> object:
    if isinstance(value, bytearray):
        return bytes(value)
    return _text_if_special(value)


def _text_if_special(value: Any) -> object:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return stamp_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return _trimmed(value.isoformat())
    return value


def decimal_text(value: object) -> str:
    """Digits; NaN and infinities by their names."""
    if isinstance(value, Decimal) and value.is_finite():
        return plain(value)
    return str(value)


def stamp_text(value: object) -> str:
    """ISO 8601; text that the driver gave has its blank replaced."""
    if isinstance(value, datetime):
        return _trimmed(value.isoformat())
    return str(value).replace(" ", "T", 1)


def _trimmed(text: str) -> str:
    return text.rstrip("0") if "." in text else text


def _utc(value: object) -> str:
    text = stamp_text(value)
    return f"{text}+00:00" if isinstance(value, datetime) and value.tzinfo is None else text


def _json(value: object) -> object:
    if not isinstance(value, str):
        return _general(value)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value
    return msgspec.Raw(value.replace("\n", " ").replace("\r", " ").encode())


_CHANGES: Final[dict[ColumnType, Change]] = {
    "decimal": decimal_text,
    "timestamp": stamp_text,
    "timestamptz": _utc,
    "uuid": lambda value: str(value).lower(),
    "boolean": lambda value: bool(value) if value in (0, 1) else _general(value),
}
_PLAIN: Final[frozenset[type]] = frozenset({int, str, bool, type(None)})


def converted(rows: Sequence[Row], kinds: Sequence[ColumnType], form: ValueForm) -> Sequence[Row]:
    """Rows made wire-ready, column by column; what needs nothing is not touched."""
    if not rows:
        return rows
    fallback = _native if form == "native" else _general
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for index, kind in enumerate(kinds):
        change = _CHANGES.get(kind)
        if kind == "json" and form == "json":
            change = _json
        values = columns[index]
        if change is not None:
            columns[index] = [None if value is None else change(value) for value in values]
        elif not {value.__class__ for value in values} <= _PLAIN:
            columns[index] = [fallback(value) for value in values]
    return list(zip(*columns, strict=True))
