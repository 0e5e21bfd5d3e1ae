"""Rows on their way into a SQLite table."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from workato_tunnel.problems import Problem

from ..catalogue import TableShape
from ..loading import Conflict
from ..results import Row
from .sqlite_values import parameter

_BOOLEANS: Final = {"true": 1, "false": 0}


def insertion(
    shape: TableShape, columns: Sequence[str], on_conflict: Conflict, keys: Sequence[str]
) -> str:
    """The statement that writes one row. Raises Problem ``bad_request``."""
    known = {column.name.lower() for column in shape.columns}
    for field, names in (("columns", columns), ("keys", keys)):
        for name in names:
            if name.lower() not in known:
                raise Problem(
                    "bad_request",
                    f"the table {shape.name} has no column {name!r}",
                    hint=f"it has {', '.join(column.name for column in shape.columns[:30])}",
                    extra={"field": field},
                )
    values = ", ".join("?" * len(columns))
    names = _list(columns)
    into = f"INSERT INTO {quoted(shape.name)} ({names}) VALUES ({values})"  # noqa: S608 - quoted
    if on_conflict == "error":
        return into
    keys = keys or shape.primary_key
    target = f" ({_list(keys)})" if keys else ""
    changed = [name for name in columns if name.lower() not in {key.lower() for key in keys}]
    if on_conflict == "ignore" or (keys and not changed):
        return f"{into} ON CONFLICT{target} DO NOTHING"
    if not keys:
        raise Problem(
            "bad_request",
            f"the table {shape.name} has no primary key to find rows by",
            hint="name columns that have a unique index: keys=a,b",
            extra={"field": "keys"},
        )
    updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in changed)
    return f"{into} ON CONFLICT{target} DO UPDATE SET {updates}"


def conversions(
    shape: TableShape, columns: Sequence[str]
) -> Callable[[Sequence[Row], int], Iterator[Sequence[Any]]]:
    """What makes rows the driver's; a type that text has no form for is the column's.

    It is given a block and the number of rows before it.
    """
    types = {column.name.lower(): column.type for column in shape.columns}
    kinds = [types[name.lower()] for name in columns]
    special = any(kind in ("boolean", "bytes") for kind in kinds)

    def convert(block: Sequence[Row], before: int) -> Iterator[Sequence[Any]]:
        for number, row in enumerate(block, before + 1):
            if special or not _PLAIN.issuperset(value.__class__ for value in row):
                yield [
                    _value(value, kind, number, name)
                    for value, kind, name in zip(row, kinds, columns, strict=True)
                ]
            else:
                yield row

    return convert


_PLAIN: Final = {str, float, type(None)}


def quoted(name: str) -> str:
    """A name of the catalogue's as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _value(value: object, kind: str, number: int, name: str) -> object:
    if isinstance(value, str):
        if kind == "boolean":
            return _BOOLEANS.get(value.lower(), value)
        if kind == "bytes":
            return _bytes(value, number, name)
        return value
    return parameter(value, f"row {number}, column {name}")


def _bytes(text: str, number: int, name: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise Problem(
            "bad_request",
            f"row {number}, column {name}: expected base64",
            hint="bytes are base64 (RFC 4648, with padding) in a body, as they are in results",
            extra={"row": number, "column": name},
        ) from None
