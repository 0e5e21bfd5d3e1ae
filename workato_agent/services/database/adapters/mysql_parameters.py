"""Parameters as a prepared statement takes them: bound by the server, never part of its text."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Final

from pymysql.constants import FIELD_TYPE

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed
from .mysql_wire import Prepared, lenenc_encoded

_UNSIGNED: Final = 0x80
_MOST_DIGITS: Final = 65
_MOST_SCALE: Final = 30
Bound = tuple[int, bytes]
"""The type's number (the flag for unsigned in the upper byte), and the value."""

_DATE: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?")
_OFFSET: Final = re.compile(r"([+-])(\d{2})(?::?(\d{2}))?(?::?(\d{2}))?")
_DURATION: Final = re.compile(
    r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?"
)
_HOURS: Final = re.compile(r"(-?)(\d{1,3}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,9}))?)?")
_LONGEST_TIME: Final = timedelta(hours=838, minutes=59, seconds=59, microseconds=999999)


def bound(value: object, index: int) -> Bound | None:
    """A parameter's type and value; None for NULL. Raises Problem ``bad_request``."""
    if value is None:
        return None
    if isinstance(value, bool):
        return FIELD_TYPE.TINY, bytes((value,))
    if isinstance(value, int):
        return _integer(value, index)
    if isinstance(value, str):
        return FIELD_TYPE.VAR_STRING, _text(value, index)
    if isinstance(value, bytes):
        return FIELD_TYPE.LONG_BLOB, lenenc_encoded(value)
    if isinstance(value, Number):
        return _number(value.text, index)
    if isinstance(value, Typed):
        return _typed(value, index)
    raise _refuse(index, "MySQL has no arrays", 'send {"type": "json", "value": […]}')


def execution(prepared: Prepared, values: Sequence[Bound | None]) -> bytes:
    """The body of COM_STMT_EXECUTE without a cursor."""
    nulls = bytearray((len(values) + 7) // 8)
    types = bytearray()
    data = []
    for index, value in enumerate(values):
        if value is None:
            nulls[index >> 3] |= 1 << (index & 7)
            types += b"\x06\x00"
        else:
            code, encoded = value
            types += code.to_bytes(2, "little")
            data.append(encoded)
    head = struct.pack("<IBI", prepared.number, 0, 1)
    return b"".join((head, nulls, b"\x01", types, *data)) if values else head


def _integer(value: int, index: int) -> Bound:
    if -(2**63) <= value < 2**63:
        return FIELD_TYPE.LONGLONG, value.to_bytes(8, "little", signed=True)
    if 0 <= value < 2**64:
        return FIELD_TYPE.LONGLONG | _UNSIGNED << 8, value.to_bytes(8, "little")
    return _decimal(str(value), index)


def _text(value: str, index: int) -> bytes:
    try:
        return lenenc_encoded(value.encode())
    except UnicodeEncodeError:
        raise _refuse(index, "the text holds half a surrogate pair", "send bytes") from None


def _number(text: str, index: int) -> Bound:
    """A JSON number with a fraction: exact, or floating where no decimal can hold it."""
    plain = _plain(text)
    if plain is not None:
        return FIELD_TYPE.NEWDECIMAL, lenenc_encoded(plain.encode())
    return _float(text, index)


def _decimal(text: str, index: int) -> Bound:
    plain = _plain(text)
    if plain is None:
        raise _refuse(
            index,
            f"MySQL's decimals have at most {_MOST_DIGITS} digits, {_MOST_SCALE} of them after the "
            "point, and no NaN",
            "send it as text",
        )
    return FIELD_TYPE.NEWDECIMAL, lenenc_encoded(plain.encode())


def _plain(text: str) -> str | None:
    """A decimal without an exponent; None when MySQL has none for it."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return None
    plain = f"{number:f}"
    whole, _, fraction = plain.lstrip("-").partition(".")
    digits = len(whole.lstrip("0")) + len(fraction)
    return plain if digits <= _MOST_DIGITS and len(fraction) <= _MOST_SCALE else None


def _float(text: str, index: int) -> Bound:
    number = float(text)
    if not isfinite(number):
        raise _refuse(index, "MySQL has neither NaN nor infinities", "send null, or text")
    return FIELD_TYPE.DOUBLE, struct.pack("<d", number)


def _typed(value: Typed, index: int) -> Bound:
    text = value.text
    if value.type == "float":
        return _float(text, index)
    if value.type == "decimal":
        return _decimal(text, index)
    try:
        if value.type == "date":
            return FIELD_TYPE.DATE, _day(_parsed(_DATE, text))
        if value.type == "time" and _CLOCK.fullmatch(text):
            return FIELD_TYPE.TIME, _span(_time_of(_parsed(_HOURS, text)))
        if value.type == "timestamp":
            return FIELD_TYPE.DATETIME, _moment(_timestamp(text))
        if value.type == "timestamptz":
            return FIELD_TYPE.DATETIME, _moment(_instant(text))
        if value.type == "interval":
            duration = _DURATION.fullmatch(text) or _HOURS.fullmatch(text)
            if duration is not None:
                return FIELD_TYPE.TIME, _span(_time_of(duration))
    except (ValueError, OverflowError) as error:
        raise _refuse(
            index,
            f"{text[:100]!r} is no {value.type} that MySQL can hold: {error}",
            "the years 1 to 9999, six digits of a second, no infinities; 838 hours at most",
        ) from None
    return FIELD_TYPE.VAR_STRING, _text(text, index)


def _parsed(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError("out of range")
    return match


def _micro(digits: str | None) -> int:
    digits = digits or ""
    if digits[6:].strip("0"):
        raise ValueError("more than six digits of a second")
    return int(digits[:6].ljust(6, "0"))


def _day(match: re.Match[str]) -> bytes:
    day = date(*map(int, match.groups()))
    return struct.pack("<BHBB", 4, day.year, day.month, day.day)


def _timestamp(text: str) -> datetime:
    day, _, clock = text.replace("T", " ").partition(" ")
    year, month, number = map(int, _parsed(_DATE, day).groups())
    if not clock:
        return datetime(year, month, number)  # noqa: DTZ001 - of no time zone
    hour, minute, second, digits = _parsed(_CLOCK, clock).groups()
    day_time = (int(hour), int(minute), int(second or 0), _micro(digits))
    return datetime(year, month, number, *day_time)  # noqa: DTZ001 - of no time zone


def _instant(text: str) -> datetime:
    """In UTC, which is the sessions' time zone."""
    text = text.replace("Z", "+00:00")
    at = max(text.rfind("+"), text.rfind("-", 11))
    sign, hours, minutes, seconds = _parsed(_OFFSET, text[at:]).groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0), seconds=int(seconds or 0))
    zone = timezone(-offset if sign == "-" else offset)
    local = _timestamp(text[:at].rstrip()).replace(tzinfo=zone)
    return local.astimezone(UTC)


def _moment(value: datetime) -> bytes:
    return struct.pack(
        "<BHBBBBBI", 11, value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond,
    )  # fmt: skip


def _time_of(match: re.Match[str]) -> timedelta:
    """Of a duration with days, or of hours, minutes and seconds."""
    sign, *parts, digits = match.groups()
    if len(parts) == 3:
        parts.insert(0, None)
    days, hours, minutes, seconds = (int(part or 0) for part in parts)
    span = timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=_micro(digits)
    )
    if span > _LONGEST_TIME:
        raise ValueError("more than 838 hours")
    return -span if sign else span


def _span(value: timedelta) -> bytes:
    size = abs(value)
    minutes, seconds = divmod(size.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return struct.pack(
        "<BBIBBBI", 12, value < timedelta(0), size.days, hours, minutes, seconds, size.microseconds
    )


def _refuse(index: int, detail: str, hint: str) -> Problem:
    field = f"params[{index}]"
    return Problem("bad_request", f"{field}: {detail}", hint=hint, extra={"field": field})
