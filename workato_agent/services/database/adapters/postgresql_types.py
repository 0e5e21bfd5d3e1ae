"""PostgreSQL's types on their way to the wire.

Values come from the server as text and stay text where Python's own types would lose something:
numeric has any precision, dates and timestamps reach BC and infinity. The same rules are written
down twice, for text that the driver has read and as SQL for ``COPY``; a test holds them together.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from attrs import field, frozen
from psycopg2 import extensions

from ..results import Column, ColumnType, Row, ValueForm

_SCALARS: Final[dict[int, ColumnType]] = {
    16: "boolean",
    17: "bytes",
    **dict.fromkeys((20, 21, 23, 26), "integer"),
    **dict.fromkeys((700, 701), "float"),
    1700: "decimal",
    # "char", name, text, xml, cidr, macaddr8, money, macaddr, inet, char(n), varchar, bit, varbit,
    # tsvector, tsquery, unknown
    **dict.fromkeys(
        (18, 19, 25, 142, 650, 705, 774, 790, 829, 869, 1042, 1043, 1560, 1562, 3614, 3615),
        "string",
    ),
    1082: "date",
    **dict.fromkeys((1083, 1266), "time"),
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    2950: "uuid",
    **dict.fromkeys((114, 3802), "json"),
}
_ARRAYS: Final[dict[int, int]] = {
    1000: 16, 1001: 17, 1016: 20, 1005: 21, 1007: 23, 1028: 26, 1021: 700, 1022: 701, 1231: 1700,
    1002: 18, 1003: 19, 1009: 25, 143: 142, 651: 650, 775: 774, 791: 790, 1040: 829, 1041: 869,
    1014: 1042, 1015: 1043, 1561: 1560, 1563: 1562, 3643: 3614, 3645: 3615, 1182: 1082, 1183: 1083,
    1270: 1266, 1115: 1114, 1185: 1184, 1187: 1186, 2951: 2950, 199: 114, 3807: 3802,
}  # fmt: skip
_DRIVER_DECODES: Final = frozenset((16, 20, 21, 23, 26, 700, 701))
_FLOATS: Final = (700, 701)
BYTEA: Final = 17
_NUMERIC: Final = 1700
_UNLIMITED: Final = 0xFFFF
_TEXT_ARRAY: Final = 1009
_MOST_TYPES: Final = 10_000
_TYPE_QUESTION: Final = (
    "SELECT oid, typcategory::pg_catalog.text, typtype::pg_catalog.text,"
    " typdelim::pg_catalog.text FROM pg_catalog.pg_type WHERE oid IN "
)


@frozen
class PgType:
    """A column's type.

    :ivar oid: what decides how its text is read; that of the nearest built-in type.
    :ivar element: of an array.
    """

    kind: ColumnType
    oid: int
    element: PgType | None = field(default=None)


_UNKNOWN: Final = PgType("unknown", 0)
KNOWN: Final[dict[int, PgType]] = {oid: PgType(kind, oid) for oid, kind in _SCALARS.items()}
KNOWN.update({oid: PgType("array", oid, KNOWN[each]) for oid, each in _ARRAYS.items()})


class TypeCatalogue:
    """The types of a database: those that are built in, and what has been asked of the server."""

    def __init__(self) -> None:
        self._known = dict(KNOWN)
        self._asks = True

    def trust(self) -> None:
        """Ask for nothing: what isn't known is text."""
        self._asks = False

    def question(self, oids: Iterable[int]) -> str | None:
        """The query that brings what isn't known yet about some types."""
        missing = sorted(set(oids) - self._known.keys())
        if not missing or not self._asks:
            return None
        return _TYPE_QUESTION + f"({', '.join(map(str, missing))})"

    def learn(self, rows: Iterable[tuple[int, str, str, str]]) -> None:
        """Take the answer to :meth:`question`."""
        if len(self._known) > _MOST_TYPES:
            self._known = dict(KNOWN)
        for oid, category, type_type, delimiter in rows:
            if type_type == "e" or category == "S":
                self._known[oid] = PgType("string", 25)
            elif category == "A" and delimiter == ",":
                self._known[oid] = PgType("array", _TEXT_ARRAY, KNOWN[25])
            else:
                self._known[oid] = _UNKNOWN

    def find(self, oids: Iterable[int]) -> list[PgType]:
        """The types of these columns."""
        return [self._known.get(oid, _UNKNOWN) for oid in oids]


def use_text(string_types: dict[int, Any], *, floats: bool) -> None:
    """Have a connection or cursor give the text of all but integers, booleans (and floats)."""
    for oid in KNOWN.keys() | extensions.string_types.keys():
        if oid not in _DRIVER_DECODES or (floats and oid in _FLOATS):
            string_types[oid] = extensions.UNICODE


def result_columns(description: Sequence[Any], kinds: Sequence[PgType]) -> list[Column]:
    """The columns of a result, from the driver's description of it."""
    return [
        Column(column.name, kind.kind, None, *_digits(column, kind))
        for column, kind in zip(description, kinds, strict=True)
    ]


def _digits(column: Any, kind: PgType) -> tuple[int | None, int | None]:
    if kind.oid != _NUMERIC or column.precision in (None, _UNLIMITED):
        return None, None
    # Since PostgreSQL 15 the scale is a signed number of 11 bits.
    return column.precision, ((column.scale & 0x7FF) ^ 0x400) - 0x400


def converters(
    types: Sequence[PgType], form: ValueForm
) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """What makes rows of the driver wire-ready; only columns that need it are touched."""
    changes = [
        (index, change)
        for index, each in enumerate(types)
        if (change := _column_change(each, form)) is not None
    ]
    return _on_columns(changes)


def text_converters(types: Sequence[PgType]) -> Callable[[Sequence[Row]], Sequence[Row]]:
    """What makes rows of the server's text wire-ready in the ``native`` form."""
    changes: list[tuple[int, Change]] = []
    for index, each in enumerate(types):
        change = _column_change(each, "native")
        if change is None and (convert := _NATIVE_FROM_TEXT.get(each.kind)) is not None:
            change = _each(convert)
        if change is not None:
            changes.append((index, change))
    return _on_columns(changes)


def _on_columns(changes: Sequence[tuple[int, Change]]) -> Callable[[Sequence[Row]], Sequence[Row]]:
    def convert(rows: Sequence[Row]) -> Sequence[Row]:
        if not changes or not rows:
            return rows
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for index, change in changes:
            columns[index] = change(columns[index])
        return list(zip(*columns, strict=True))

    return convert


Change = Callable[[Sequence[Any]], Sequence[Any]]


def _column_change(each: PgType, form: ValueForm) -> Change | None:
    """What makes the values of a column wire-ready; None where they are."""
    if each.element is not None:
        element = _text_change(each.element, form)
        return _each(lambda text: read_array(text, element))
    if each.oid in _FLOATS:
        return _finite_column if form == "json" else None
    if each.kind in ("boolean", "integer") or (form != "json" and each.kind == "json"):
        return None
    if each.kind == "timestamp":
        return _timestamp_column
    if each.kind == "timestamptz":
        return _timestamptz_column
    change = _text_change(each, form)
    return None if change is None else _each(change)


def _each(change: Callable[[Any], object]) -> Change:
    return lambda values: [None if value is None else change(value) for value in values]


def _finite_column(values: Sequence[Any]) -> Sequence[Any]:
    # The sum of numbers that are not all finite is not finite; filter() drops None, and zeros.
    if math.isfinite(sum(filter(None, values))):
        return values
    return [value if value is None else _finite(value) for value in values]


def _timestamp_column(values: Sequence[Any]) -> Sequence[Any]:
    if None not in values:
        text = "\n".join(values)
        if "BC" not in text:
            return text.replace(" ", "T").split("\n")
    return [None if value is None else _timestamp(value) for value in values]


def _timestamptz_column(values: Sequence[Any]) -> Sequence[Any]:
    # Most often all offsets of a column are the same whole hours: then a few calls do for all.
    if None not in values:
        text = "\n".join(values) + "\n"
        offset = text[-4:]
        if offset[0] in "+-" and text.count(offset) == len(values):
            return text.replace(" ", "T").replace(offset, f"{offset[:-1]}:00\n").split("\n")[:-1]
    return [None if value is None else _timestamptz(value) for value in values]


def _text_change(each: PgType, form: ValueForm) -> Callable[[str], object] | None:
    if form == "native":
        return _NATIVE_FROM_TEXT.get(each.kind)
    if each.kind == "json":
        return _verbatim if form == "csv" else _on_one_line
    if each.oid == BYTEA:
        return _base64
    return _FROM_TEXT.get(each.kind)


def _finite(value: float) -> object:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _float_text(text: str) -> object:
    return text if text[-1] in "Ny" else msgspec.Raw(text.encode())


def _base64(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text[2:])).decode("ascii")


def _timestamp(text: str) -> str:
    return text.replace(" ", "T", 1)


def _timestamptz(text: str) -> str:
    """``2020-01-01 00:00:00+02`` as ``2020-01-01T00:00:00+02:00``; BC stays at the end."""
    text = text.replace(" ", "T", 1)
    if text[-3] in "+-":
        return f"{text}:00"
    if text.endswith(" BC") and text[-6] in "+-":
        return f"{text[:-3]}:00 BC"
    return text


def _verbatim(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _on_one_line(text: str) -> msgspec.Raw:
    # A newline in JSON text can only be white space; in NDJSON it would end the row.
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())


_FROM_TEXT: Final[dict[ColumnType, Callable[[str], object]]] = {
    "boolean": lambda text: text == "t",
    "integer": int,
    "float": _float_text,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}
_NATIVE_FROM_TEXT: Final[dict[ColumnType, Callable[[str], object]]] = {
    **_FROM_TEXT,
    "float": float,
    "bytes": lambda text: bytes.fromhex(text[2:]),
}
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^{},"]+)|([{},])', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def read_array(text: str, change: Callable[[str], object] | None = None) -> Any:
    """PostgreSQL's text form of an array (manual, "Array Input and Output Syntax")."""
    if text[0] == "[":  # explicit bounds, as in [0:1]={1,2}
        text = text[text.index("=") + 1 :]
    stack: list[list[object]] = [[]]
    for quoted, bare, mark in (match.groups() for match in _ELEMENT.finditer(text)):
        if mark == "{":
            inner: list[object] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif mark == "}":
            stack.pop()
        elif mark != ",":
            if bare == "NULL":
                stack[-1].append(None)
                continue
            value = _ESCAPED.sub(r"\1", quoted) if bare is None else bare
            stack[-1].append(change(value) if change else value)
    return stack[0][0]
