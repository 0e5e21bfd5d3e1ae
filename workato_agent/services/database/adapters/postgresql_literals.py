"""Parameter values as PostgreSQL literals, and statements that carry other statements as text.

psycopg2 has no server-side parameters; a value becomes a literal here, which no value can leave: a
string without backslashes reads the same in both of the server's string syntaxes, and one with
backslashes is always written as ``E'…'``.
"""

from __future__ import annotations

from typing import Final

from workato_tunnel.problems import Problem

from ..parameters import Number, ParameterType, Typed

_CASTS: Final[dict[ParameterType, str]] = {
    "float": "float8",
    "decimal": "numeric",
    "string": "text",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "uuid": "uuid",
    "json": "jsonb",
}
PORTAL: Final = "onprem_rows"
COUNT_COLUMN: Final = "onprem.row_count"
LARGE_COLUMN: Final = "onprem.large"
LARGE_ROWS: Final = 5_000
LARGE_BYTES: Final = 1_000_000


def literal(value: object) -> str:
    """A value as SQL, with spaces around it. Raises Problem ``bad_request``."""
    return f" {_literal(value)} "


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, Number):
        return f"({value.text})" if value.text.startswith("-") else value.text
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bytes):
        return f"E'\\\\x{value.hex()}'::pg_catalog.bytea"
    if isinstance(value, list):
        return _array(value)
    if isinstance(value, Typed):
        return _typed(value)
    raise TypeError(f"no literal for {type(value).__name__}")


def _integer(value: int) -> str:
    if value == -(2**63):
        return f"'{value}'::pg_catalog.int8"
    return f"({value})" if value < 0 else str(value)


def _typed(value: Typed) -> str:
    if value.type == "time":
        has_offset = value.text[-1:] == "Z" or "+" in value.text or "-" in value.text
        return f"{quote(value.text)}::pg_catalog.{'timetz' if has_offset else 'time'}"
    return f"{quote(value.text)}::pg_catalog.{_CASTS[value.type]}"


def _array(values: list[object]) -> str:
    if not values or values == [[]]:
        return "'{}'"
    return f"ARRAY[{', '.join(map(_literal, values))}]"


def quote(text: str) -> str:
    """A string literal. Raises Problem ``bad_request`` for what PostgreSQL's text can't hold."""
    if "\0" in text:
        raise Problem(
            "bad_request",
            "PostgreSQL's text can't hold the NUL character",
            hint="send it as bytes to a bytea column",
            extra={"field": "params"},
        )
    doubled = text.replace("'", "''")
    if "\\" in doubled:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


def identifier(name: str) -> str:
    """A quoted identifier. Raises Problem ``bad_request``."""
    if "\0" in name or not name:
        raise Problem("bad_request", "a name is not empty and holds no NUL character")
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def opening(sql: str, *, unless_large: bool = False) -> str:
    """A statement that opens the portal ``onprem_rows`` for another one, given as text.

    As text the server itself makes sure that it is a single statement and no transaction control,
    so nothing in it can end the transaction that the policy rests on. What brings rows can then be
    fetched in pieces, ``INSERT … RETURNING`` and ``SHOW`` too; what brings none is run at once, and
    the portal holds the number of rows changed in a column of a name of its own.

    ``unless_large``: a query by whose plan more than some thousand rows or a megabyte are to be
    expected is not opened; the portal holds a row with a column that says so.
    """
    measure = (
        " EXECUTE 'EXPLAIN (FORMAT JSON) ' || s INTO p;"
        " rows := (p->0->'Plan'->>'Plan Rows')::pg_catalog.float8;"
        " width := (p->0->'Plan'->>'Plan Width')::pg_catalog.float8;"
        f" IF rows > {LARGE_ROWS} OR rows * width > {LARGE_BYTES} THEN"
        f' CLOSE c; OPEN c FOR SELECT rows AS "{LARGE_COLUMN}"; END IF;'
    )
    body = (
        f"DECLARE s pg_catalog.text := {quote(sql)};"
        f" c pg_catalog.refcursor := '{PORTAL}'; n pg_catalog.int8; p pg_catalog.json;"
        " rows pg_catalog.float8; width pg_catalog.float8; opened pg_catalog.bool := false; BEGIN"
        " BEGIN OPEN c FOR EXECUTE s; opened := true;"
        " EXCEPTION WHEN invalid_cursor_definition THEN NULL; END;"
        f" IF opened THEN{measure if unless_large else ''} RETURN; END IF;"
        " EXECUTE s; GET DIAGNOSTICS n = ROW_COUNT;"
        f' OPEN c FOR SELECT n AS "{COUNT_COLUMN}"; END'
    )
    return f"DO {dollar_quoted(body)}"


def checking(sql: str) -> str:
    """A statement that fails unless another, given as text, is one query; it is not run."""
    body = f"DECLARE c pg_catalog.refcursor; BEGIN OPEN c FOR EXECUTE {quote(sql)}; CLOSE c; END"
    return f"DO {dollar_quoted(body)}"


def dollar_quoted(body: str) -> str:
    """A dollar-quoted string with a tag that the text doesn't hold."""
    tag = "$onprem$"
    number = 0
    while tag[:-1] in body:
        number += 1
        tag = f"$onprem{number}$"
    return f"{tag}{body}{tag}"
