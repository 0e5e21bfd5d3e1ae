"""SQLite's values to and from the wire's."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed
from ..results import ColumnType, Row, ValueForm

# The first that matches names the type, as SQLite's own affinity rules go by substring.
_DECLARATIONS: Final[tuple[tuple[str, ColumnType], ...]] = (
    ("BOOL", "boolean"),
    ("TIMESTAMPTZ|WITH TIME ZONE", "timestamptz"),
    ("DATETIME|TIMESTAMP", "timestamp"),
    ("^DATE", "date"),
    ("^TIME", "time"),
    ("^INTERVAL", "interval"),
    ("UUID|GUID|UNIQUEIDENTIFIER", "uuid"),
    ("JSON", "json"),
    ("DECIMAL|NUMERIC|NUMBER|MONEY", "decimal"),
    ("INT", "integer"),
    ("CHAR|CLOB|TEXT|STRING", "string"),
    ("BLOB|BINARY|BYTEA", "bytes"),
    ("REAL|FLOA|DOUB", "float"),
)
_BY_CLASS: Final[dict[type, ColumnType]] = {
    int: "integer",
    float: "float",
    str: "string",
    bytes: "bytes",
}


def declared_type(declaration: str) -> ColumnType | None:
    """The wire's type for a declaration; None where that says nothing."""
    upper = declaration.upper()
    return next((kind for pattern, kind in _DECLARATIONS if re.search(pattern, upper)), None)


def value_type(values: Iterable[object]) -> ColumnType:
    """The one type of all values that are not NULL, or ``unknown``."""
    classes = {value.__class__ for value in values if value is not None}
    if len(classes) != 1:
        return "float" if classes == {int, float} else "unknown"
    return _BY_CLASS[classes.pop()]


def converters(
    types: Sequence[ColumnType], form: ValueForm
) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """What makes rows wire-ready. The value's own class decides; the type only refines it."""
    native = form == "native"
    general = _as_it_is if native else _general
    special = {
        index: _converter(kind, general, as_json=form == "json")
        for index, kind in enumerate(types)
        if kind in ("boolean", "decimal", "json", "timestamp", "timestamptz")
    }
    ready = _READY[native]

    def convert(rows: Sequence[Row]) -> Sequence[Row]:
        columns: list[Sequence[object]] = list(zip(*rows, strict=True))
        for index, values in enumerate(columns):
            change = special.get(index)
            if change is not None:
                columns[index] = [None if value is None else change(value) for value in values]
            elif not {value.__class__ for value in values} <= ready:
                columns[index] = [general(value) for value in values]
        return list(zip(*columns, strict=True))

    return convert


_READY: Final[Mapping[bool, set[type]]] = {
    False: {int, str, type(None)},
    True: {int, str, type(None), float, bytes},
}


def _as_it_is(value: object) -> object:
    return value


def _general(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and math.isinf(value):
        return _infinity(value)
    return value


def _infinity(value: float) -> str:
    return "Infinity" if value > 0 else "-Infinity"


def _converter(
    kind: ColumnType, general: Callable[[object], object], *, as_json: bool
) -> Callable[[object], object]:
    if kind == "boolean":
        return lambda value: bool(value) if value in (0, 1) else general(value)
    if kind == "decimal":
        return _decimal
    if kind == "json":
        return _json if as_json else _json_text
    return lambda value: _timestamp(value, general)


def _decimal(value: object) -> object:
    return str(_general(value))


def _timestamp(value: object, general: Callable[[object], object]) -> object:
    if isinstance(value, str) and value[10:11] == " ":
        return f"{value[:10]}T{value[11:]}"
    return general(value)


def _json_text(value: object) -> object:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _json(value: object) -> object:
    if not isinstance(value, str):
        return _general(value)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value
    return msgspec.Raw(value.replace("\n", " ").replace("\r", " ").encode())


def parameter(value: object, where: str) -> object:
    """A parameter as the driver takes it. Raises Problem ``bad_request`` with its place."""
    if isinstance(value, Number):
        return float(value.text)
    if isinstance(value, list):
        raise _refuse(where, "SQLite has no arrays", 'send {"type": "json", "value": […]}')
    if isinstance(value, Typed):
        if value.type != "float":
            return value.text
        number = float(value.text)
        if math.isnan(number):
            raise _refuse(where, "SQLite can't store NaN", "send null")
        return number
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _refuse(where, "SQLite's integers have 64 bits", "send it as a decimal or as text")
    return value


def _refuse(where: str, detail: str, hint: str) -> Problem:
    return Problem("bad_request", f"{where}: {detail}", hint=hint, extra={"field": where})
