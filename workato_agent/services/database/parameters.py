"""The values of parameters: how each JSON or MessagePack value is to be taken."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from math import isfinite, isnan
from typing import Final, Literal, get_args

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

_MAX_DEPTH: Final = 6

ParameterType = Literal[
    "boolean", "integer", "float", "decimal", "string", "bytes", "date", "time", "timestamp",
    "timestamptz", "interval", "uuid", "json", "array", "unknown",
]  # fmt: skip
TYPES: Final = frozenset(get_args(ParameterType))


@frozen
class Number:
    """A JSON number with a fraction or an exponent, exactly as it was written."""

    text: str


@frozen
class Typed:
    """A value whose type the caller named; its text has that type's form.

    ``bytes`` come as themselves, everything that needs no name is a plain Python value.
    """

    type: ParameterType
    text: str


def refuse(detail: str, field: str | None, hint: str | None = None) -> Problem:
    """``bad_request`` that names the member."""
    text = f"{field}: {detail}" if field and field not in detail else detail
    return Problem("bad_request", text, hint=hint, extra={"field": field} if field else None)


def parameter(value: object, where: str, depth: int = 0) -> object:
    """A value as adapters take it. Raises Problem ``bad_request`` that names ``where``.

    :param value: decoded JSON whose numbers with a fraction are :class:`Number`, or MessagePack.
    """
    if value is None or isinstance(value, bool | int | str | Number | bytes):
        return value
    if isinstance(value, float):
        return Typed("float", _float_text(value))
    if isinstance(value, datetime):
        return Typed("timestamptz", value.isoformat())
    if isinstance(value, list):
        return _array(value, where, depth)
    if isinstance(value, dict):
        if value.keys() != {"type", "value"}:
            raise refuse(
                "an object is not a value",
                where,
                'a typed value is {"type": "json", "value": …}, with exactly these members',
            )
        return _typed(value["type"], value["value"], where, depth)
    raise refuse("this is not a value", where)


def _array(values: list[object], where: str, depth: int) -> list[object]:
    if depth >= _MAX_DEPTH:
        raise refuse(f"arrays have at most {_MAX_DEPTH} dimensions", where)
    return [parameter(value, f"{where}[{index}]", depth + 1) for index, value in enumerate(values)]


_OFFSET: Final = r"(?:Z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)"
_CLOCK: Final = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
_DAY: Final = r"\d{4,}-\d{1,2}-\d{1,2}"
_SHAPES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    name: (re.compile(pattern), example)
    for name, (pattern, example) in {
        "integer": (r"[+-]?\d{1,4096}", "42"),
        "float": (
            r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|Infinity)|NaN",
            "1.5",
        ),
        "decimal": (
            r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d{1,5})?|\.\d+(?:[eE][+-]?\d{1,5})?|Infinity)|NaN",
            "1234.50",
        ),
        "date": (rf"{_DAY}(?: BC)?|-?infinity", "2024-02-29"),
        "time": (rf"{_CLOCK}{_OFFSET}?", "13:45:00.5"),
        "timestamp": (rf"{_DAY}(?:[T ]{_CLOCK})?(?: BC)?|-?infinity", "2024-02-29T13:45:00"),
        "timestamptz": (
            rf"{_DAY}[T ]{_CLOCK} ?{_OFFSET}(?: BC)?|-?infinity",
            "2024-02-29T13:45:00+01:00",
        ),
        "interval": (r"[+-]?P[0-9.,+\-YMWDTHS]+|[^\0]{1,200}", "P1DT2H"),
        "uuid": (
            r"\{?[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}\}?",
            "123e4567-e89b-12d3-a456-426614174000",
        ),
    }.items()
}


def _typed(kind: object, value: object, where: str, depth: int) -> object:
    if not isinstance(kind, str) or kind not in TYPES:
        raise refuse(
            f"unknown type {kind!r}", f"{where}.type", f"one of {', '.join(sorted(TYPES))}"
        )
    if value is None:
        return None
    if kind == "json":
        return json_value(value, f"{where}.value")
    if kind == "array":
        if not isinstance(value, list):
            raise refuse("expected a JSON array", f"{where}.value")
        return _array(value, where, depth)
    if kind == "boolean":
        if not isinstance(value, bool):
            raise refuse("expected true or false", f"{where}.value")
        return value
    if kind == "bytes" and isinstance(value, bytes):
        return value
    if isinstance(value, Number):
        value = value.text
    elif isinstance(value, float):
        value = _float_text(value)
    elif isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise refuse("expected text", f"{where}.value")
    return _typed_text(kind, value, where)


def _typed_text(kind: str, value: str, where: str) -> object:
    if kind == "bytes":
        try:
            return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (ValueError, UnicodeEncodeError):
            raise refuse("expected base64", f"{where}.value", "RFC 4648, with padding") from None
    if kind == "unknown":
        return value
    if kind == "string":
        return Typed("string", value)
    pattern, example = _SHAPES[kind]
    if not pattern.fullmatch(value):
        raise refuse(f"{value[:100]!r} is no {kind}", f"{where}.value", f"for example {example!r}")
    if kind == "integer":
        return int(value)
    return Typed(kind, value)  # type: ignore[arg-type]  # kind is a key of _SHAPES


def _float_text(value: float) -> str:
    if isfinite(value):
        return repr(value)
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_value(value: object, where: str) -> Typed:
    """Any decoded value as a JSON document. Raises Problem ``bad_request``."""
    try:
        return Typed("json", msgspec.json.encode(_exact(value, where)).decode())
    except (RecursionError, OverflowError) as error:
        raise refuse(f"this is no JSON: {error}", where) from None


def _exact(value: object, where: str) -> object:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    if isinstance(value, list):
        return [_exact(item, where) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise refuse("the names of a JSON object are text", where)
        return {name: _exact(item, where) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise refuse("this is no JSON", where, "JSON has no bytes, timestamps, NaN or infinities")
