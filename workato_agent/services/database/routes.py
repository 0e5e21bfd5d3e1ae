"""Which call a method and a path ask for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from attrs import evolve, frozen

from workato_tunnel.problems import Problem

OPERATIONS: Final = (
    "test", "query", "execute", "batch", "call", "load", "schema", "queries", "sessions",
)  # fmt: skip
"""What policies speak of. In a session each call counts as what it is elsewhere, and opening,
ending, committing and rolling back as ``sessions``."""


class Action(Enum):
    """What is to be done."""

    TEST = auto()
    QUERY = auto()
    EXECUTE = auto()
    BATCH = auto()
    CALL = auto()
    LOAD = auto()
    TABLES = auto()
    SHAPE = auto()
    NAMES = auto()
    NAMED = auto()
    OPEN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    CLOSE = auto()


@frozen
class Route:
    """A call that has been recognised.

    :ivar operation: its name for policy and audit.
    :ivar name: the table, procedure or named query in the path, decoded.
    :ivar session: the id of the session in which it is to be done.
    """

    action: Action
    operation: str
    name: str = ""
    session: str | None = None


_Routes = Mapping[tuple[str, ...], tuple[str, Action, str]]
_READ: Final = "GET"
_WORK: Final[_Routes] = {
    ("query",): ("POST", Action.QUERY, "query"),
    ("execute",): ("POST", Action.EXECUTE, "execute"),
    ("batch",): ("POST", Action.BATCH, "batch"),
    ("call", "*"): ("POST", Action.CALL, "call"),
    ("load", "*"): ("POST", Action.LOAD, "load"),
    ("schema",): (_READ, Action.TABLES, "schema"),
    ("schema", "*"): (_READ, Action.SHAPE, "schema"),
    ("queries", "*"): ("POST", Action.NAMED, "queries"),
}
_OUTSIDE: Final[_Routes] = {
    **_WORK,
    ("",): (_READ, Action.TEST, "test"),
    ("queries",): (_READ, Action.NAMES, "queries"),
    ("sessions",): ("POST", Action.OPEN, "sessions"),
    ("sessions", "*"): ("DELETE", Action.CLOSE, "sessions"),
}
_INSIDE: Final[_Routes] = {
    **_WORK,
    ("commit",): ("POST", Action.COMMIT, "sessions"),
    ("rollback",): ("POST", Action.ROLLBACK, "sessions"),
}
_CALLS: Final = (
    "GET (test), POST query, execute, batch, call/{procedure}, load/{table}, queries/{name} and "
    "sessions, GET schema, schema/{table} and queries, DELETE sessions/{id}"
)
_CALLS_INSIDE: Final = (
    "POST query, execute, batch, call/{procedure}, load/{table}, queries/{name}, commit and "
    "rollback, GET schema and schema/{table}"
)


def find_route(method: str, path: str) -> Route:
    """The call that is asked for; ``path`` is percent-encoded, without a leading slash.

    Raises Problem ``operation_not_found`` that names what there is.
    """
    segments = [_decoded(segment) for segment in path.split("/")]
    if len(segments) > 2 and segments[0] == "sessions":
        inside = _find(_INSIDE, method, segments[2:], _CALLS_INSIDE)
        return evolve(inside, session=segments[1])
    found = _find(_OUTSIDE, method, segments, _CALLS)
    if found.action is Action.CLOSE:
        return evolve(found, session=segments[1])
    return found


def _find(routes: _Routes, method: str, segments: list[str], calls: str) -> Route:
    shape = (segments[0], *("*" for _ in segments[1:]))
    found = routes.get(shape)
    if found is None or not all(segments[1:]):
        raise Problem(
            "operation_not_found",
            f"a database has no operation {method} {_shown(segments)}",
            hint=f"there are {calls}",
        )
    expected, action, operation = found
    if method != expected and not (method == "HEAD" and expected == _READ):
        raise Problem(
            "operation_not_found",
            f"{_shown(segments)} is asked for with {expected}, not {method}",
            hint=f"there are {calls}",
        )
    return Route(action, operation, segments[1] if len(segments) > 1 else "")


def _shown(segments: list[str]) -> str:
    """A path without what may be an id or a name."""
    return repr("/".join((segments[0][:64], *("…" for _ in segments[1:]))))


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Problem("bad_request", "the path is not UTF-8", hint="percent-encode UTF-8") from None
