"""Oracle's values to and from the wire's.

What the driver's own Python types would lose is asked for in other ways: NUMBER as Decimal; dates
and times of parameters as text that the database reads by a format (``TO_TIMESTAMP(:p1, …)``).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed
from ..results import Column, ColumnType, Row, ValueForm

INTEGER_DIGITS: Final = 18
_MICROSECONDS: Final = 6

_KINDS: Final[Mapping[str, ColumnType]] = {
    "NUMBER": "decimal",
    "BINARY_INTEGER": "integer",
    "BINARY_FLOAT": "float",
    "BINARY_DOUBLE": "float",
    **dict.fromkeys(
        ("VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "LONG", "LONG_NVARCHAR", "CLOB", "NCLOB",
         "ROWID", "UROWID", "XMLTYPE"),
        "string",
    ),
    **dict.fromkeys(("RAW", "LONG_RAW", "BLOB", "BFILE"), "bytes"),
    **dict.fromkeys(("DATE", "TIMESTAMP"), "timestamp"),
    "TIMESTAMP_LTZ": "timestamptz",
    **dict.fromkeys(("INTERVAL_DS", "INTERVAL_YM"), "interval"),
    "JSON": "json",
    "BOOLEAN": "boolean",
    "VECTOR": "array",
}  # fmt: skip
_REMEDIES: Final[Mapping[str, tuple[str, str]]] = {
    "TIMESTAMP_TZ": (
        "the driver can't read the zone of a TIMESTAMP WITH TIME ZONE",
        (
            "CAST(… AS TIMESTAMP WITH LOCAL TIME ZONE) keeps the moment, "
            "TO_CHAR(…, 'YYYY-MM-DD\"T\"HH24:MI:SS.FFTZH:TZM') the zone too"
        ),
    ),
    "OBJECT": ("objects and collections can't be read", "select their attributes"),
    "CURSOR": (
        "a cursor within a row can't be read",
        "select its rows with a statement of its own",
    ),
}


def kind_of(info: Any) -> str:
    """The driver's name of a column's type, without its prefix."""
    return str(info.type_code.name).removeprefix("DB_TYPE_")


def column_of(info: Any) -> Column:
    """A column of a result. Raises Problem for a type that would lose something."""
    kind = kind_of(info)
    if kind in _REMEDIES:
        detail, hint = _REMEDIES[kind]
        raise Problem("query_failed", f"column {info.name}: {detail}", hint=hint)
    if kind in ("TIMESTAMP", "TIMESTAMP_LTZ") and (info.scale or 0) > _MICROSECONDS:
        raise Problem(
            "query_failed",
            f"column {info.name}: the driver reads 6 digits of a second, and it has {info.scale}",
            hint="CAST(… AS TIMESTAMP(6)) leaves the others out, TO_CHAR(…, '… .FF9') keeps them",
        )
    if getattr(info, "is_json", False):
        return Column(info.name, "json", nullable=info.null_ok)
    wire = _KINDS.get(kind, "unknown")
    precision, scale = info.precision or 0, info.scale
    if wire == "decimal":
        if scale == 0 and 0 < precision <= INTEGER_DIGITS:
            return Column(info.name, "integer", nullable=info.null_ok)
        if precision > 0 and scale is not None and 0 <= scale <= precision:
            return Column(info.name, wire, info.null_ok, precision, scale)
    return Column(info.name, wire, nullable=info.null_ok)


def output_handler(oracledb: Any) -> Callable[[Any, Any], Any]:
    """What a connection is told to fetch otherwise than it would by itself."""

    def handle(cursor: Any, info: Any) -> Any:
        if info.type_code is oracledb.DB_TYPE_NUMBER:
            return cursor.var(Decimal, arraysize=cursor.arraysize)
        return None

    return handle


def converter(columns: Sequence[Column], form: ValueForm) -> Callable[[Sequence[Row]], list[Row]]:
    """What makes the driver's rows wire-ready. The value's own class decides, and the type."""

    def convert(rows: Sequence[Row]) -> list[Row]:
        if not rows:
            return []
        wire = [
            [None if value is None else _wire(value, column.type, form) for value in values]
            for column, values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
        return list(zip(*wire, strict=True))

    return convert


def _wire(value: Any, kind: ColumnType, form: ValueForm) -> object:
    if isinstance(value, Decimal):
        return int(value) if kind == "integer" else plain(value)
    if kind == "json":
        text = value if isinstance(value, str) else json_text(value)
        return _raw(text) if form == "json" else text
    if isinstance(value, float):
        return value if form == "native" or math.isfinite(value) else _special(value)
    if isinstance(value, bytes):
        return value if form == "native" else base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return _moment(value) + ("+00:00" if kind == "timestamptz" else "")
    if isinstance(value, timedelta):
        return day_time(value)
    if hasattr(value, "years") and hasattr(value, "months"):
        return year_month(value.years, value.months)
    if isinstance(value, str | bool | int):
        return value
    if kind == "array":
        return [_wire(each, "unknown", form) for each in value]
    return str(value)


def plain(value: Decimal) -> str:
    """Digits without an exponent."""
    return format(value, "f") if value.is_finite() else str(value)


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _moment(value: datetime) -> str:
    text = value.replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def day_time(value: timedelta) -> str:
    """ISO 8601; the parts of a negative interval are negative each."""
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-" if micros < 0 else ""), abs(micros)
    seconds, fraction = divmod(micros, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    text = f"{sign}{days}D" if days else ""
    clock = "".join(
        f"{sign}{amount}{unit}" for amount, unit in ((hours, "H"), (minutes, "M")) if amount
    )
    if seconds or fraction:
        tail = f".{fraction:06d}".rstrip("0") if fraction else ""
        clock += f"{sign}{seconds}{tail}S"
    return f"P{text}{'T' + clock if clock else ''}" if text or clock else "PT0S"


def year_month(years: int, months: int) -> str:
    """ISO 8601."""
    parts = (f"{years}Y" if years else "") + (f"{months}M" if months else "")
    return f"P{parts or '0M'}"


def _raw(text: str) -> object:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())


def json_text(value: Any) -> str:
    """A JSON value of the database's own type, its numbers exact."""
    return msgspec.json.encode(_exact(value)).decode()


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return msgspec.Raw(plain(value).encode()) if value.is_finite() else str(value)
    if isinstance(value, dict):
        return {str(name): _exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, timedelta):
        return day_time(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


@frozen
class Bound:
    """A parameter as the driver takes it.

    :ivar pattern: SQL around its placeholder, ``{}``.
    :ivar type_name: of the driver's type, where the value alone doesn't say.
    """

    value: object
    pattern: str = "{}"
    type_name: str | None = None


_SECONDS: Final = re.compile(
    r"(?P<day>\d{4,}-\d{1,2}-\d{1,2})(?:[T ](?P<clock>\d{1,2}:\d{2}(?::\d{2})?)"
    r"(?:\.(?P<fraction>\d{1,9}))?)? ?(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)?(?P<bc> BC)?"
)
_DATE: Final = "TO_DATE({}, '%sYYYY-MM-DD')"
_TIMESTAMP: Final = "TO_TIMESTAMP({}, '%sYYYY-MM-DD\"T\"HH24:MI:SS.FF')"
_TIMESTAMP_TZ: Final = "TO_TIMESTAMP_TZ({}, '%sYYYY-MM-DD\"T\"HH24:MI:SS.FFTZH:TZM')"


def bound(value: object, where: str, *, booleans: bool) -> Bound:
    """A caller's value. ``booleans`` says whether the database has such a type.

    Raises Problem ``bad_request``.
    """
    if isinstance(value, bool):
        return Bound(value) if booleans else Bound(int(value))
    if isinstance(value, Number):
        return Bound(_decimal(value.text, where))
    if isinstance(value, list):
        hint = 'send {"type": "json", "value": […]}'
        raise _refuse(where, "Oracle has no arrays for parameters", hint)
    if isinstance(value, Typed):
        return _typed(value, where)
    if isinstance(value, str):
        return Bound(_text(value, where))
    if isinstance(value, int) and len(str(abs(value))) > 40:
        raise _refuse(where, "a NUMBER has 40 digits at most", "send it as text")
    return Bound(value)


def _typed(value: Typed, where: str) -> Bound:
    kind, text = value.type, value.text
    if kind == "decimal":
        return Bound(_decimal(text, where))
    if kind == "float":
        return Bound(float(text), type_name="DB_TYPE_BINARY_DOUBLE")
    if kind in ("date", "timestamp", "timestamptz"):
        return _temporal(kind, text, where)
    if kind == "interval":
        return _interval(text)
    return Bound(_text(text, where))


def _temporal(kind: str, text: str, where: str) -> Bound:
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise _refuse(where, f"{text!r} has no place in Oracle", "dates end with the year 9999")
    year, month, day = match["day"].split("-")
    before_christ = "S" if match["bc"] else ""
    stem = f"{'-' if before_christ else ''}{int(year):04d}-{int(month):02d}-{int(day):02d}"
    if kind == "date":
        return Bound(stem, _DATE % before_christ)
    clock = match["clock"] or "00:00"
    clock = clock if clock.count(":") == 2 else f"{clock}:00"
    stem += f"T{clock:0>8}.{(match['fraction'] or '0'):0<9}"
    if kind == "timestamp":
        return Bound(stem, _TIMESTAMP % before_christ)
    offset = match["offset"] or "Z"
    digits = "0000" if offset == "Z" else offset[1:].replace(":", "").ljust(4, "0")
    sign = "-" if offset[0] == "-" else "+"
    return Bound(f"{stem}{sign}{digits[:2]}:{digits[2:]}", _TIMESTAMP_TZ % before_christ)


def _interval(text: str) -> Bound:
    if not re.fullmatch(r"[+-]?P[0-9.,+\-YMWDTHS]+", text):
        return Bound(text)
    days = "T" in text or text.endswith("D")
    return Bound(text, "TO_DSINTERVAL({})" if days else "TO_YMINTERVAL({})")


def _decimal(text: str, where: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise _refuse(where, f"{text!r} is no number", None) from None
    if not value.is_finite():
        raise _refuse(where, f"{text} is no NUMBER", 'send it as {"type": "float", …}')
    return value


def _text(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _refuse(where, "half of a character (a lone surrogate) is no text", None) from None
    return text


def _refuse(where: str, detail: str, hint: str | None) -> Problem:
    return Problem("bad_request", f"{where}: {detail}", hint=hint, extra={"field": where})


def uniform(rows: Sequence[Sequence[Bound]]) -> Iterator[Sequence[Sequence[Bound]]]:
    """Rows in runs that have the same types, so that one statement does for each run.

    A NULL goes with any type.
    """
    run: list[Sequence[Bound]] = []
    shape: list[tuple[str, str | None, type] | None] = []
    for row in rows:
        found = [
            None if each.value is None else (each.pattern, each.type_name, type(each.value))
            for each in row
        ]
        if run and any(
            a is not None and b is not None and a != b for a, b in zip(shape, found, strict=True)
        ):
            yield _filled(run, shape)
            run, shape = [], []
        shape = [a or b for a, b in zip(shape, found, strict=True)] if run else found
        run.append(row)
    if run:
        yield _filled(run, shape)


def _filled(
    run: Sequence[Sequence[Bound]], shape: Sequence[tuple[str, str | None, type] | None]
) -> Sequence[Sequence[Bound]]:
    """The run with the patterns of its types on the NULLs too: the first row makes the SQL."""
    first = [
        each if kind is None or each.value is not None else Bound(None, kind[0], kind[1])
        for each, kind in zip(run[0], shape, strict=True)
    ]
    return [first, *run[1:]]
