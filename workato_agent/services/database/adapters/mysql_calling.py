"""Calls of MySQL's procedures and functions, whose OUT parameters come back with their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import frozen

from workato_tunnel.problems import Problem

from ..statements import TableName
from .base import Params
from .mysql_catalogue import Asked, qualified
from .mysql_cursor import MysqlCursor
from .mysql_parameters import Bound, bound


class Caller(Asked, Protocol):
    """The connection, as far as it is used here."""

    def thd_execute(
        self, sql: str, values: Sequence[Bound | None], *, stoppable: bool = False
    ) -> MysqlCursor:
        """Run a statement with bound values."""
        ...


@frozen
class _Parameter:
    name: str
    mode: str


def thd_call(
    connection: Caller, procedure: TableName, params: Params | None
) -> tuple[MysqlCursor | None, Mapping[str, object]]:
    """Call a procedure, or a function where there is no such procedure.

    The server itself sends OUT and INOUT parameters of a prepared CALL as a last result. Raises
    Problem ``operation_not_found``, and ``bad_request`` for parameters that don't match.
    """
    found = connection.thd_texts(
        "SELECT routine_type, routine_schema, routine_name FROM information_schema.routines"
        " WHERE routine_schema = COALESCE(?, DATABASE()) AND routine_name = ?"
        " ORDER BY routine_type DESC",
        (procedure.schema, procedure.name),
    )
    if not found:
        raise Problem(
            "operation_not_found",
            f"there is no procedure or function {procedure}",
            hint="name its database, as in shop.total; the profile's user needs EXECUTE on it",
        )
    kind, schema, name = (str(each) for each in found[0])
    declared = [
        _Parameter(str(row[0] or ""), str(row[1]))
        for row in connection.thd_texts(
            "SELECT parameter_name, parameter_mode FROM information_schema.parameters"
            " WHERE specific_schema = ? AND specific_name = ? AND routine_type = ?"
            " AND ordinal_position > 0 ORDER BY ordinal_position",
            (schema, name, kind),
        )
    ]
    values = [bound(value, index) for index, value in enumerate(_matched(declared, params))]
    call = f"{qualified(TableName(schema, name))}({', '.join('?' for _ in values)})"
    if kind == "FUNCTION":
        cursor = connection.thd_execute(f"SELECT {call} AS `return`", values)
        cursor.thd_take_out()
        cursor.thd_close()
        return None, cursor.out
    cursor = connection.thd_execute(f"CALL {call}", values)
    if cursor.thd_first():
        return cursor, cursor.out
    cursor.thd_close()
    return None, cursor.out


def _matched(declared: Sequence[_Parameter], params: Params | None) -> list[object]:
    """A value for every declared parameter; OUT parameters need none."""
    if isinstance(params, Mapping):
        return _by_name(declared, params)
    given = list(params or ())
    if len(given) == len(declared):
        return given
    taking = [each for each in declared if each.mode != "OUT"]
    if len(given) != len(taking):
        raise _refuse(
            f"{len(given)} values for {len(taking)} parameters",
            "params",
            f"it takes {', '.join(f'{each.mode} {each.name}' for each in declared) or 'none'}",
        )
    left = iter(given)
    return [None if each.mode == "OUT" else next(left) for each in declared]


def _by_name(declared: Sequence[_Parameter], params: Mapping[str, object]) -> list[object]:
    by_name = {name.lower(): value for name, value in params.items()}
    names = [each.name.lower() for each in declared]
    for name in params:
        if name.lower() not in names:
            known = ", ".join(each.name for each in declared) or "none"
            raise _refuse(f"there is no parameter {name}", f"params.{name}", f"there are {known}")
    for each in declared:
        if each.mode != "OUT" and each.name.lower() not in by_name:
            raise _refuse(f"parameter {each.name} has no value", f"params.{each.name}", None)
    return [by_name.get(name) for name in names]


def _refuse(detail: str, field: str, hint: str | None) -> Problem:
    return Problem("bad_request", f"{field}: {detail}", hint=hint, extra={"field": field})
