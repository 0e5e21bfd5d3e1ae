"""JDBC's types and values to and from the wire's."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import frozen

from ..results import Column, ColumnType, Row, ValueForm
from .jdbc_reading import Reading

# java.sql.Types
ARRAY: Final = 2003
_BY_TYPE: Final[Mapping[int, tuple[ColumnType, Reading]]] = {
    **dict.fromkeys((-7, 16), ("boolean", "object")),  # BIT, BOOLEAN
    **dict.fromkeys((-6, 5, 4, -5), ("integer", "text")),  # TINYINT, SMALLINT, INTEGER, BIGINT
    **dict.fromkeys((6, 7, 8), ("float", "object")),  # FLOAT, REAL, DOUBLE
    **dict.fromkeys((2, 3), ("decimal", "decimal")),  # NUMERIC, DECIMAL
    # CHAR, VARCHAR, LONGVARCHAR, their national kinds, CLOB, NCLOB, SQLXML, DATALINK
    **dict.fromkeys((1, 12, -1, -15, -9, -16, 2005, 2011, 2009, 70), ("string", "text")),
    **dict.fromkeys((-2, -3, -4, 2004), ("bytes", "bytes")),  # BINARY, … LONGVARBINARY, BLOB
    91: ("date", "date"),
    92: ("time", "time"),
    93: ("timestamp", "timestamp"),
    2013: ("time", "timetz"),
    2014: ("timestamptz", "timestamptz"),
    ARRAY: ("array", "array"),
    -8: ("string", "text"),  # ROWID
}
# What JDBC has no type for, or drivers file under another, by the database's name for it.
_BY_NAME: Final[Mapping[str, tuple[ColumnType, Reading]]] = {
    "uuid": ("uuid", "object"),
    "uniqueidentifier": ("uuid", "object"),
    "json": ("json", "text"),
    "jsonb": ("json", "text"),
    "timestamptz": ("timestamptz", "timestamptz"),
    "timestamp with time zone": ("timestamptz", "timestamptz"),
    "timestamp with local time zone": ("timestamptz", "timestamptz"),
    "datetimeoffset": ("timestamptz", "timestamptz"),
    "timetz": ("time", "text"),
    "interval": ("interval", "text"),
    "year": ("integer", "text"),
    "money": ("string", "text"),  # PostgreSQL's, in the form of its locale
}
_UNSIGNED: Final = re.compile(r"^(tiny|small|medium|big)?int(eger)? unsigned$")
_DECIMALS_OF_ITS_OWN: Final = 1000


@frozen
class ColumnReading:
    """A column and how Java is asked for it.

    :ivar zoned: an array whose elements, for lack of a better class, come as bare instants.
    """

    column: Column
    reading: Reading
    zoned: bool = False


def column_reading(
    name: str, java_type: int, type_name: str, precision: int, scale: int
) -> ColumnReading:
    """What a column is, by what the driver's metadata say."""
    named = type_name.lower()
    kind, reading = _BY_TYPE.get(java_type, ("unknown", "text"))
    if named in _BY_NAME:
        kind, reading = _BY_NAME[named]
    elif named.startswith("interval "):
        years = "day" not in named and ("year" in named or named.endswith("month"))
        kind, reading = "interval", "period" if years else "duration"
    elif _UNSIGNED.match(named):
        kind, reading = "integer", "text"
    elif named == "bit" and precision > 1:
        # PostgreSQL's are text of 0 and 1, and MySQL's, which writes them in capitals, bytes.
        kind, reading = ("string", "text") if type_name == "bit" else ("bytes", "bytes")
    fixed = kind == "decimal" and named != "decfloat"
    if fixed and 0 < precision < _DECIMALS_OF_ITS_OWN and 0 <= scale <= precision:
        return ColumnReading(Column(name, kind, precision=precision, scale=scale), reading)
    return ColumnReading(Column(name, kind), reading, zoned=named == "_timestamptz")


Change = Callable[[Sequence[Any]], Sequence[Any]]


def converter(
    readings: Sequence[ColumnReading], form: ValueForm
) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """What makes rows of :class:`~.jdbc_reading.BlockReader` wire-ready."""
    changes = [
        (index, change)
        for index, each in enumerate(readings)
        if (change := _change(each, form)) is not None
    ]

    def convert(rows: Sequence[Row]) -> Sequence[Row]:
        if not changes or not rows:
            return rows
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for index, change in changes:
            columns[index] = change(columns[index])
        return list(zip(*columns, strict=True))

    return convert


def _change(each: ColumnReading, form: ValueForm) -> Change | None:
    kind = each.column.type
    if kind == "integer":
        return _integers
    if kind == "float":
        return _floats if form == "native" else _finite_floats
    if kind == "bytes":
        return None if form == "native" else _every(_base64)
    if kind == "json":
        return _every(_json) if form == "json" else None
    if kind == "array":
        if each.zoned:
            return _every(_instants)
        return _every(lambda value: _array(value, native=form == "native"))
    single = _SINGLE.get(kind)
    return None if single is None else _every(single)


def _every(change: Callable[[Any], object]) -> Change:
    return lambda values: [None if value is None else change(value) for value in values]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _integers(values: Sequence[Any]) -> Sequence[Any]:
    try:
        return [None if value is None else int(value) for value in values]
    except ValueError:  # SQLite's driver calls a column INTEGER whatever it holds
        return [value if value is None else _maybe_integer(value) for value in values]


def _maybe_integer(value: str) -> object:
    try:
        return int(value)
    except ValueError:
        return value


def _floats(values: Sequence[Any]) -> Sequence[Any]:
    return [None if value is None else float(value) for value in values]


def _finite_floats(values: Sequence[Any]) -> Sequence[Any]:
    numbers = _floats(values)
    return [
        value if value is None or math.isfinite(value) else text
        for value, text in zip(numbers, values, strict=True)
    ]


_TRUE: Final = frozenset(("true", "t", "1"))
_FALSE: Final = frozenset(("false", "f", "0"))


def _boolean(text: str) -> object:
    lower = text.lower()
    return True if lower in _TRUE else False if lower in _FALSE else text


_MOMENT: Final = re.compile(
    r"(?P<day>[+-]?\d{4,}-\d\d-\d\d)"
    r"(?:[T ](?P<clock>\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?)?"
    r" ?(?P<offset>Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?"
)
_BEYOND: Final = 999_999  # years: java.time's own ends stand for infinity


def _moment(text: str) -> str:
    """A date or timestamp of java.time, or of the driver's own, as the wire has it."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return text
    day, clock, fraction, offset = match.group("day", "clock", "fraction", "offset")
    before_christ = False
    if day[0] in "+-":
        year, rest = int(day[:-6]), day[-6:]
        if abs(year) > _BEYOND:
            return "infinity" if year > 0 else "-infinity"
        before_christ = year <= 0
        day = f"{1 - year if before_christ else year:04d}{rest}"
    parts = [day]
    if clock is not None:
        parts += ("T", clock, "" if fraction is None else fraction.rstrip("0").rstrip("."))
    if offset is not None:
        parts.append("+00:00" if offset == "Z" else _offset(offset))
    return "".join(parts) + (" BC" if before_christ else "")


def _offset(text: str) -> str:
    return text if ":" in text else f"{text[:3]}:{text[3:] or '00'}"


_LAST_MOMENT: Final = "23:59:59.999999999"


def _time(text: str) -> str:
    """A time of day; PostgreSQL's 24:00 is java.time's last moment."""
    if text.startswith(_LAST_MOMENT):
        return "24:00:00" + _time_offset(text[len(_LAST_MOMENT) :])
    clock, sign, offset = text, "", ""
    for each in ("Z", "+", "-"):
        head, found, tail = text[1:].partition(each)  # a MariaDB time may be negative
        if found:
            clock, sign, offset = text[0] + head, found, tail
            break
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    return clock + _time_offset(sign + offset)


def _time_offset(text: str) -> str:
    return "" if not text else "+00:00" if text == "Z" else _offset(text)


_SINGLE: Final[Mapping[ColumnType, Callable[[str], object]]] = {
    "boolean": _boolean,
    "date": _moment,
    "timestamp": _moment,
    "timestamptz": _moment,
    "time": _time,
    "uuid": str.lower,
}


def _json(text: str) -> object:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    # A newline in JSON text can only be white space; in NDJSON it would end the row.
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())


def _array(value: Any, *, native: bool) -> object:
    """A Java array, of any depth, as lists."""
    return [_element(each, native=native) for each in value]


def _instants(value: Any) -> object:
    """An array of ``java.sql.Timestamp``, which are points in time."""
    return [
        None
        if each is None
        else _instants(each)
        if str(each.getClass().getName()).startswith("[")
        else _moment(str(each.toInstant().toString()))
        for each in value
    ]


def wire_value(value: Any, kind: ColumnType) -> object:
    """A single object of Java's, wire-ready for JSON."""
    found = _element(value, native=False)
    if kind == "decimal" and isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, str) and kind in _SINGLE:
        return _SINGLE[kind](found)
    return _json(found) if isinstance(found, str) and kind == "json" else found


def _element(value: Any, *, native: bool) -> object:
    if value is None or isinstance(value, bool):
        return value
    name = str(value.getClass().getName()) if hasattr(value, "getClass") else ""
    if name.startswith("["):
        if name == "[B":
            data = bytes(value)
            return data if native else _base64(data)
        return _array(value, native=native)
    if name == "java.lang.Boolean" or isinstance(value, int | float):
        return _number(value, name, native=native)
    if name == "java.math.BigDecimal":
        return str(value.toPlainString())
    text = str(value.toString()) if name else str(value)
    if name.startswith(("java.time.", "java.sql.")):
        return _time(_clock(text)) if name.endswith("Time") and "-" not in text else _moment(text)
    return text


def _number(value: Any, name: str, *, native: bool) -> object:
    if name == "java.lang.Boolean":
        return bool(value)
    if isinstance(value, int):
        return int(value)
    number = float(str(value.toString())) if name else float(value)
    if native or math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _clock(text: str) -> str:
    """``10:15`` as ``10:15:00``: java.time leaves seconds of zero out."""
    return f"{text}:00" if len(text) == 5 else text
