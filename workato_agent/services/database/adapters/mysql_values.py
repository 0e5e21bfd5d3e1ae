"""MySQL's values as results have them.

Rows come from :mod:`.mysql_results` with every value as text whose characters are the server's
bytes (Latin-1), or, of a prepared statement, as int and float.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from pymysql.constants import FIELD_TYPE, FLAG

from workato_tunnel.problems import Problem

from ..results import Column, ColumnType, Row, ValueForm
from .mysql_wire import Field

Values = Sequence[object]
Change = Callable[[Values], Values]

BINARY: Final = 63
_VECTOR: Final = 242
_INTEGERS: Final = frozenset(
    (
        FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG,
        FIELD_TYPE.YEAR,
    )
)  # fmt: skip
_DECIMALS: Final = frozenset((FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL))
_BY_CODE: Final[dict[int, ColumnType]] = {
    FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "float",
    FIELD_TYPE.NULL: "unknown",
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date",
    FIELD_TYPE.TIME: "time",
    FIELD_TYPE.DATETIME: "timestamp",
    FIELD_TYPE.TIMESTAMP: "timestamptz",
    FIELD_TYPE.JSON: "json",
    FIELD_TYPE.GEOMETRY: "bytes",
    _VECTOR: "bytes",
}
_OWN_TYPES: Final[dict[str, ColumnType]] = {"uuid": "uuid", "json": "json"}
_OWN_TEXTS: Final = frozenset(("inet4", "inet6"))


def column_of(field: Field) -> Column:
    """What a column is to the caller.

    ``TINYINT(1)``, which ``BOOLEAN`` stands for, and ``BIT(1)`` are booleans. A ``TIMESTAMP`` is an
    instant, which the agent's sessions read in UTC.
    """
    if field.code in _DECIMALS:
        scale = min(field.decimals, 30)
        signs = int(scale > 0) + int(not field.flags & FLAG.UNSIGNED)
        precision = field.length - signs
        if 1 <= precision <= 65 and scale <= precision:
            return Column(field.name, "decimal", precision=precision, scale=scale)
        return Column(field.name, "decimal")
    return Column(field.name, _type_of(field))


def _type_of(field: Field) -> ColumnType:
    if field.kind in _OWN_TYPES:
        return _OWN_TYPES[field.kind]
    if field.code in _INTEGERS:
        boolean = field.code == FIELD_TYPE.TINY and field.length == 1
        return "boolean" if boolean else "integer"
    if field.code == FIELD_TYPE.BIT:
        return "boolean" if field.length == 1 else "integer"
    if field.code in _BY_CODE:
        return _BY_CODE[field.code]
    if field.charset == BINARY and field.kind not in _OWN_TEXTS:
        return "bytes"
    return "string"


def converter(fields: Sequence[Field], form: ValueForm) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """What makes rows wire-ready in a form."""
    changes = [
        (index, change)
        for index, field in enumerate(fields)
        if (change := _change(field, form)) is not None
    ]

    def convert(rows: Sequence[Row]) -> Sequence[Row]:
        if not rows or not changes:
            return rows
        columns: list[Values] = list(zip(*rows, strict=True))
        try:
            for index, change in changes:
                columns[index] = change(columns[index])
        except UnicodeDecodeError as error:
            raise Problem(
                "query_failed",
                f"column {fields[index].name!r} holds text that is not UTF-8: {error.reason}",
                hint="cast the column in the statement, as in CAST(column AS BINARY)",
            ) from None
        return list(zip(*columns, strict=True))

    return convert


def _change(field: Field, form: ValueForm) -> Change | None:
    kind = _type_of(field) if field.code not in _DECIMALS else "decimal"
    if field.code == FIELD_TYPE.BIT:
        return _bits_as_boolean if kind == "boolean" else _bits
    if kind == "integer":
        # Their text is theirs already, but for ZEROFILL.
        return None if form == "csv" and not field.flags & FLAG.ZEROFILL else _numbers(int)
    if kind == "float":
        return _numbers(float)
    if kind == "boolean":
        return _booleans
    if kind == "bytes":
        return _raw if form == "native" else _base64
    if kind == "json":
        return _documents if form == "json" else _texts
    if kind == "timestamp":
        return _timestamps
    if kind == "timestamptz":
        return _instants
    # The rest of them are ASCII.
    return _texts if kind in ("string", "unknown") else None


def _numbers(number: Callable[[str], object]) -> Change:
    def change(values: Values) -> Values:
        if None in values:
            return [None if value is None else number(value) for value in values]  # type: ignore[arg-type]  # text
        return list(map(number, values))  # type: ignore[arg-type]  # text

    return change


_BOOLEANS: Final[dict[object, object]] = {"0": False, "1": True, 0: False, 1: True, None: None}


def _booleans(values: Values) -> Values:
    """What is neither 0 nor 1 stays the number that it is."""
    return [
        _BOOLEANS[value] if value in _BOOLEANS else int(value)  # type: ignore[call-overload]  # text
        for value in values
    ]


def _bytes(value: object) -> bytes:
    data: bytes = value.encode("latin-1")  # type: ignore[attr-defined]  # text
    return data


def _bits(values: Values) -> Values:
    return [None if value is None else int.from_bytes(_bytes(value), "big") for value in values]


def _bits_as_boolean(values: Values) -> Values:
    return [None if value is None else value == "\x01" for value in values]


def _texts(values: Values) -> Values:
    return [
        value if value is None or value.isascii() else _bytes(value).decode()  # type: ignore[attr-defined]
        for value in values
    ]


def _raw(values: Values) -> Values:
    return [None if value is None else _bytes(value) for value in values]


def _base64(values: Values) -> Values:
    return [
        None if value is None else base64.b64encode(_bytes(value)).decode("ascii")
        for value in values
    ]


def _documents(values: Values) -> Values:
    return [None if value is None else _document(value) for value in _texts(values)]


def _document(text: object) -> object:
    """JSON text that is embedded, on one line; a text that is not JSON stays text."""
    try:
        msgspec.json.decode(text)  # type: ignore[call-overload]
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())  # type: ignore[attr-defined]


def _timestamps(values: Values) -> Values:
    return [None if value is None else value.replace(" ", "T") for value in values]  # type: ignore[attr-defined]


def _instants(values: Values) -> Values:
    return [
        None if value is None else value.replace(" ", "T") + "+00:00"  # type: ignore[attr-defined]
        for value in values
    ]


def single(value: float) -> float:
    """A 32-bit float as the shortest number that is the same in 32 bits."""
    for digits in range(6, 9):
        number = float(f"{value:.{digits}g}")
        if struct.pack("<f", number) == struct.pack("<f", value):
            return number
    return float(f"{value:.9g}")
