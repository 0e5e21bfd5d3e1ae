"""The call ``load``: what its query and head say, and which body that makes."""

from __future__ import annotations

from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from workato_tunnel.problems import Problem

from ...requests import Request
from .adapters.base import Work
from .bodies import check_encoding
from .formats import ALIASES
from .loading import Conflict, Load, LoadBody
from .loading_arrow import ArrowBody
from .loading_csv import CsvBody, parse_records
from .loading_ndjson import NdjsonBody
from .parameters import refuse
from .results import CsvWriter, NdjsonWriter
from .results_arrow import MEDIA_TYPE as ARROW
from .statements import TableName
from .work import Threads

_CONFLICTS: Final = get_args(Conflict)
_PARAMETERS: Final = ("columns", "on_conflict", "keys")
_MAX_PARAMETERS: Final = 100
_TYPES: Final = f"{CsvWriter.media_type}, {NdjsonWriter.media_type} or {ARROW}"


async def load_rows(
    reactor: Any, threads: Threads, request: Request, table: TableName, work: Work
) -> int:
    """Write the rows of a request's body into a table; how many there were. Raises Problem."""
    options = _options(request.query)
    columns = _names(options, "columns")
    keys = _names(options, "keys")
    conflict = _conflict(options.get("on_conflict", "error"))
    if keys and conflict == "error":
        raise refuse("keys go with on_conflict=ignore or update", "keys")
    kind = _media_type(request)
    if kind == ARROW:
        body = ArrowBody.of(reactor, aiter(request.body))
        try:
            return await _load(work, table, body, columns, conflict, keys)
        finally:
            await body.close()
    if kind == NdjsonWriter.media_type:
        # An object's members have no order: the list says which there are.
        rows = NdjsonBody(aiter(request.body), threads, columns or None)
        return await _load(work, table, rows, (), conflict, keys)
    return await _load(work, table, CsvBody(aiter(request.body), threads), columns, conflict, keys)


async def _load(
    work: Work,
    table: TableName,
    body: LoadBody,
    columns: tuple[str, ...],
    conflict: Conflict,
    keys: tuple[str, ...],
) -> int:
    names = await body.columns()
    if columns and len(columns) != len(names):
        raise refuse(f"the body has {len(names)} columns, {len(columns)} are named", "columns")
    targets = columns or names
    for key in keys:
        if key not in targets:
            raise refuse(f"{key[:100]!r} is not among the columns that are loaded", "keys")
    if not targets:
        return 0
    return await work.load(Load(table, body, columns or None, conflict, keys))


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise refuse("there are too many parameters", "query") from None
    for name, value in pairs:
        if name not in _PARAMETERS:
            raise refuse(
                "there is no such parameter", name[:100], f"there are {', '.join(_PARAMETERS)}"
            )
        if name in options:
            raise refuse("it is there twice", name)
        options[name] = value
    return options


def _names(options: dict[str, str], name: str) -> tuple[str, ...]:
    text = options.get(name)
    if text is None:
        return ()
    try:
        names = parse_records(text.encode(), None, 1)[0] if text else [None]
    except Problem:
        names = [None]
    found = tuple(each for each in names if each is not None)
    if len(found) != len(names) or len(set(found)) != len(found):
        raise refuse(
            "expected names with commas between them, each once",
            name,
            'a name with a comma in it stands in quotes: "a,b",c',
        )
    return found


def _conflict(text: str) -> Conflict:
    for each in _CONFLICTS:
        if text == each:
            chosen: Conflict = each
            return chosen
    raise refuse(f"expected one of {', '.join(_CONFLICTS)}", "on_conflict")


def _media_type(request: Request) -> str:
    name, *parameters = (
        part.strip().lower() for part in (request.header("content-type") or "").split(";")
    )
    kind = ALIASES.get(name, name)
    if kind not in (CsvWriter.media_type, NdjsonWriter.media_type, ARROW):
        raise refuse(
            f"rows can't be taken from {name or 'a body without a type'}",
            "Content-Type",
            f"send {_TYPES}",
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise refuse("the body has to be UTF-8", "Content-Type")
        if (key, value) == ("header", "absent"):
            raise refuse("the body has to have a header line", "Content-Type")
    check_encoding(request.header("content-encoding"))
    return kind
