"""What a caller sends: the statement, its parameters and how each JSON value is to be taken."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

MAX_SQL: Final = 1024 * 1024
MAX_BODY: Final = 16 * 1024 * 1024
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


class QueryBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of ``query``; ``params`` as they came."""

    sql: str
    params: list[object] | dict[str, object] | None = None
    max_rows: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class ExecuteBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of ``execute``."""

    sql: str
    params: list[object] | dict[str, object] | None = None

    @property
    def max_rows(self) -> None:
        """``execute`` has no such member; what RETURNING brings is bounded by the agent."""


_DECODERS: Final[
    Mapping[str, msgspec.json.Decoder[QueryBody] | msgspec.json.Decoder[ExecuteBody]]
] = {
    "query": msgspec.json.Decoder(QueryBody, float_hook=Number),
    "execute": msgspec.json.Decoder(ExecuteBody, float_hook=Number),
}


@frozen
class Call:
    """A decoded body.

    ``params`` hold None, bool, int, str, bytes, Number, Typed and lists of them.
    """

    sql: str
    params: list[object] | dict[str, object] | None
    max_rows: int | None


def decode_call(operation: str, body: bytes) -> Call:
    """Parse the body of ``query`` or ``execute``.

    Raises Problem ``bad_request`` that names the field, or ``payload_too_large``.
    """
    try:
        decoded = _DECODERS[operation].decode(body)
    except msgspec.ValidationError as error:
        raise _refuse(str(error), _field_of(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            "bad_request",
            f"the body is not JSON: {error}",
            hint='send {"sql": "select …", "params": […]} as application/json',
        ) from None
    sql = decoded.sql
    if not sql.strip():
        raise _refuse("the statement is empty", "sql")
    if "\0" in sql:
        raise _refuse("a statement holds no NUL character", "sql")
    if len(sql) > MAX_SQL or len(sql.encode("utf-8", "surrogatepass")) > MAX_SQL:
        raise Problem(
            "payload_too_large",
            f"the statement is longer than {MAX_SQL} bytes",
            hint="send large values as params",
            extra={"field": "sql"},
        )
    params = decoded.params
    converted: list[object] | dict[str, object] | None = None
    if isinstance(params, list):
        converted = [_parameter(value, f"params[{index}]") for index, value in enumerate(params)]
    elif params is not None:
        converted = {name: _parameter(value, f"params.{name}") for name, value in params.items()}
    return Call(sql, converted, decoded.max_rows)


def _field_of(message: str) -> str | None:
    match = re.search(r"`\$\.?([^`]*)`$", message)
    if match:
        return match[1] or None
    match = re.search(r"(?:unknown|required) field `([^`]*)`", message)
    return match[1] if match else None


def _refuse(detail: str, field: str | None, hint: str | None = None) -> Problem:
    text = f"{field}: {detail}" if field and field not in detail else detail
    return Problem("bad_request", text, hint=hint, extra={"field": field} if field else None)


def _parameter(value: object, where: str, depth: int = 0) -> object:
    if value is None or isinstance(value, bool | int | str | Number):
        return value
    if isinstance(value, list):
        return _array(value, where, depth)
    if isinstance(value, dict):
        if value.keys() != {"type", "value"}:
            raise _refuse(
                "an object is not a value",
                where,
                'a typed value is {"type": "json", "value": …}, with exactly these members',
            )
        return _typed(value["type"], value["value"], where, depth)
    raise _refuse("this is not a value", where)


def _array(values: list[object], where: str, depth: int) -> list[object]:
    if depth >= _MAX_DEPTH:
        raise _refuse(f"arrays have at most {_MAX_DEPTH} dimensions", where)
    return [_parameter(value, f"{where}[{index}]", depth + 1) for index, value in enumerate(values)]


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
        raise _refuse(
            f"unknown type {kind!r}", f"{where}.type", f"one of {', '.join(sorted(TYPES))}"
        )
    if value is None:
        return None
    if kind == "json":
        return Typed("json", _json_text(value))
    if kind == "array":
        if not isinstance(value, list):
            raise _refuse("expected a JSON array", f"{where}.value")
        return _array(value, where, depth)
    if kind == "boolean":
        if not isinstance(value, bool):
            raise _refuse("expected true or false", f"{where}.value")
        return value
    if isinstance(value, Number):
        value = value.text
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _refuse("expected text", f"{where}.value")
    return _typed_text(kind, value, where)


def _typed_text(kind: str, value: str, where: str) -> object:
    if kind == "bytes":
        try:
            return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (ValueError, UnicodeEncodeError):
            raise _refuse("expected base64", f"{where}.value", "RFC 4648, with padding") from None
    if kind == "unknown":
        return value
    if kind == "string":
        return Typed("string", value)
    pattern, example = _SHAPES[kind]
    if not pattern.fullmatch(value):
        raise _refuse(f"{value[:100]!r} is no {kind}", f"{where}.value", f"for example {example!r}")
    if kind == "integer":
        return int(value)
    return Typed(kind, value)  # type: ignore[arg-type]  # kind is a key of _SHAPES


def _json_text(value: object) -> str:
    return msgspec.json.encode(_exact(value)).decode()


def _exact(value: object) -> object:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return value
