"""SQL whose text is the wire's: what ``COPY`` is asked for in place of a column.

The rules are those of :mod:`.postgresql_types`, for the server to keep; a test holds them together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from .postgresql_types import BYTEA, PgType

_FROM, _UNTIL = datetime(1975, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(days=5)


@cache
def has_whole_hours(zone: str) -> bool:
    """Whether a time zone is known, and a whole number of hours from UTC, from 1975 until 2037."""
    try:
        known = ZoneInfo(zone)
    except (ValueError, OSError):
        return False
    at = _FROM
    while at < _UNTIL:
        offset = at.astimezone(known).utcoffset()
        if offset is None or offset % timedelta(hours=1):
            return False
        at += _STEP
    return True


NOT_A_NUMBER: Final = "\x01"
"""Marks NaN and the infinities, which JSON can't write as numbers."""


def csv_projection(each: PgType, column: str, zone: str) -> str | None:
    """SQL whose text in ``COPY … (FORMAT csv)`` is the wire's; None where there is none."""
    if each.element is not None:
        return _array_projection(each.element, column)
    if each.kind == "boolean":
        return f"{column}::pg_catalog.text"
    if each.oid == BYTEA:
        return f"pg_catalog.replace(pg_catalog.encode({column}, 'base64'), E'\\n', '')"
    if each.kind == "timestamp":
        # The first way is three times as fast, and right for years that have no BC after them.
        return (
            f"CASE WHEN {column} OPERATOR(pg_catalog.>=) '0001-01-01'"
            f" THEN pg_catalog.replace({column}::pg_catalog.text, ' ', 'T')"
            f" ELSE pg_catalog.btrim(pg_catalog.to_json({column})::pg_catalog.text, '\"') END"
        )
    if each.kind == "timestamptz":
        exact = f"pg_catalog.btrim(pg_catalog.to_json({column})::pg_catalog.text, '\"')"
        if not has_whole_hours(zone):
            return exact
        # Half the work where the offset needs only its minutes.
        return (
            f"CASE WHEN {column} OPERATOR(pg_catalog.>=) '{_FROM:%Y-%m-%d}Z'"
            f" AND {column} OPERATOR(pg_catalog.<) '{_UNTIL:%Y-%m-%d}Z'"
            f" THEN pg_catalog.replace({column}::pg_catalog.text, ' ', 'T')"
            f" OPERATOR(pg_catalog.||) ':00' ELSE {exact} END"
        )
    return column


def json_projection(each: PgType, column: str, zone: str) -> str | None:
    """SQL whose text is JSON's once CSV has put quotes around what is text; see the CSV form."""
    if each.element is not None or each.kind == "json":
        return None
    if each.kind == "float":
        # A whole number keeps a fraction, so that readers take it for what it is.
        number = f"{column}::pg_catalog.float8"
        return (
            f"CASE WHEN {number} OPERATOR(pg_catalog.=) pg_catalog.trunc({number})"
            f" AND pg_catalog.abs({number}) OPERATOR(pg_catalog.<) 1e15"
            f" THEN {column}::pg_catalog.text OPERATOR(pg_catalog.||) '.0'"
            f" WHEN pg_catalog.abs({number}) OPERATOR(pg_catalog.<) 'Infinity'"
            f" THEN {column}::pg_catalog.text"
            f" ELSE '{NOT_A_NUMBER}' OPERATOR(pg_catalog.||) {column}::pg_catalog.text END"
        )
    return csv_projection(each, column, zone)


_JSON_NATIVE: Final = frozenset(
    ("boolean", "float", "string", "date", "timestamp", "timestamptz", "interval", "uuid", "json")
)


def _array_projection(element: PgType, column: str) -> str | None:
    if element.oid == BYTEA:
        return None
    if element.kind == "integer":
        cast = "::pg_catalog.int8[]"
    elif element.kind in _JSON_NATIVE and element.oid != 25:
        cast = ""
    else:
        cast = "::pg_catalog.text[]"
    return f"pg_catalog.to_json({column}{cast})::pg_catalog.text"
