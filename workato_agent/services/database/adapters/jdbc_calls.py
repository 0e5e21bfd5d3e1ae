"""Procedures and functions, by way of ``CallableStatement``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import define, frozen

from workato_tunnel.problems import Problem

from ..results import Column, Row, ValueForm
from ..statements import TableName
from .base import Params
from .driver import DriverCursor
from .jdbc_catalogue import Record, pattern, thd_place, thd_records
from .jdbc_values import column_reading, wire_value

if TYPE_CHECKING:
    from .jdbc_connection import JdbcConnection
    from .jdbc_cursor import JdbcCursor

# java.sql.DatabaseMetaData
_IN, _IN_OUT, _OUT, _RETURN, _RESULT = 1, 2, 4, 5, 3
_FUNCTION_OUT, _FUNCTION_RETURN, _FUNCTION_RESULT = 3, 4, 5
_AS_PROCEDURES: Final = {
    _FUNCTION_OUT: _OUT,
    _FUNCTION_RETURN: _RETURN,
    _FUNCTION_RESULT: _RESULT,
}
_RETURNS_TABLE: Final = "2"
RETURN: Final = "return"


@frozen
class Parameter:
    """Of a procedure; ``mode`` is one of ``DatabaseMetaData``'s numbers."""

    name: str
    mode: int
    java_type: int
    type_name: str

    @property
    def taken(self) -> bool:
        """Whether the caller gives it a value."""
        return self.mode in (_IN, _IN_OUT)

    @property
    def given(self) -> bool:
        """Whether the procedure gives it one."""
        return self.mode in (_IN_OUT, _OUT, _RETURN)


@frozen
class Routine:
    """A procedure or function.

    :ivar names: to call it by: schema and name.
    :ivar is_table: it gives back rows, as a table does.
    """

    names: Sequence[str]
    parameters: Sequence[Parameter]
    is_function: bool
    is_table: bool


def thd_call(
    connection: JdbcConnection, procedure: TableName, params: Params | None
) -> tuple[DriverCursor | None, Mapping[str, object]]:
    """See :class:`~.driver.DriverConnection`."""
    routine = _find(connection, procedure, params)
    values = _values(routine.parameters, params)
    name = ".".join(connection.quoted(part) for part in routine.names)
    if routine.is_table or (routine.is_function and connection.product == "postgresql"):
        return _thd_select(connection, routine, name, values)
    return _thd_call(connection, routine, name, values)


def _thd_select(
    connection: JdbcConnection, routine: Routine, name: str, values: Sequence[object]
) -> tuple[DriverCursor | None, Mapping[str, object]]:
    """A function whose rows, or whose one row, are a query's."""
    taken = [each for each in routine.parameters if each.taken]
    marks = ", ".join(_mark(connection, each) for each in taken)
    sql = f"SELECT * FROM {name}({marks})"  # noqa: S608 - quoted names
    statement = connection.raw.prepareStatement(sql)
    connection.thd_adopt(statement)
    for index, (each, value) in enumerate(zip(taken, values, strict=True), 1):
        connection.setters.thd_set_named(statement, index, value, each.name)
    has_rows = bool(connection.thd_running(statement, "execute"))
    cursor = connection.cursor(statement, has_rows=has_rows)
    if routine.is_table:
        return cursor, {}
    rows = cursor.convert(cursor.thd_read(1, 1), "json")
    row = rows[0] if rows else [None for _ in cursor.columns]
    has_out = any(each.mode in (_OUT, _IN_OUT) for each in routine.parameters)
    names = [column.name if has_out else RETURN for column in cursor.columns]
    connection.thd_forget(statement)
    return None, dict(zip(names, row, strict=True))


def _thd_call(
    connection: JdbcConnection, routine: Routine, name: str, values: Sequence[object]
) -> tuple[DriverCursor | None, Mapping[str, object]]:
    left = iter(values)
    returned = [each for each in routine.parameters if each.mode == _RETURN]
    arguments = [each for each in routine.parameters if each.mode in (_IN, _IN_OUT, _OUT)]
    marks = ", ".join(_mark(connection, each) for each in arguments)
    head = "? = " if returned else ""
    statement = connection.raw.prepareCall(f"{{{head}call {name}({marks})}}")
    connection.thd_adopt(statement)
    placed = [*returned, *arguments]
    for index, each in enumerate(placed, 1):
        if each.taken:
            connection.setters.thd_set_named(statement, index, next(left), each.name)
        if each.given:
            statement.registerOutParameter(index, each.java_type)
    has_rows = bool(connection.thd_running(statement, "execute"))
    out: dict[str, object] = {}
    if returned:  # H2 has it in what looks like a result
        _thd_fill(out, statement, placed)
        connection.thd_forget(statement)
        return None, out
    cursor = connection.cursor(statement, has_rows=has_rows)
    return CallCursor(cursor, statement, placed, out), out


def _mark(connection: JdbcConnection, parameter: Parameter) -> str:
    """A placeholder; PostgreSQL's arrays find their function by the exact type of elements only."""
    is_array = connection.product == "postgresql" and re.fullmatch(r"_\w+", parameter.type_name)
    return f"?::{parameter.type_name}" if is_array and parameter.mode == _IN else "?"


@define(eq=False)
class CallCursor:
    """A procedure's results; its OUT parameters are there when these have been read."""

    _cursor: JdbcCursor
    _statement: Any
    _parameters: Sequence[Parameter]
    _out: dict[str, object]

    @property
    def columns(self) -> Sequence[Column]:
        return self._cursor.columns

    @property
    def changed(self) -> int | None:
        return self._cursor.changed

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        return self._cursor.thd_read(rows, size)

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return self._cursor.convert(rows, form)

    def thd_next(self) -> bool:
        if self._cursor.thd_next():
            return True
        _thd_fill(self._out, self._statement, self._parameters)
        return False

    def thd_close(self) -> None:
        self._cursor.thd_close()


def _thd_fill(out: dict[str, object], statement: Any, parameters: Sequence[Parameter]) -> None:
    """Take what a procedure has given back."""
    for index, each in enumerate(parameters, 1):
        if each.given:
            name = RETURN if each.mode == _RETURN else each.name or str(index)
            kind = column_reading(name, each.java_type, each.type_name, 0, 0).column.type
            out[name] = wire_value(statement.getObject(index), kind)


def _find(connection: JdbcConnection, procedure: TableName, params: Params | None) -> Routine:
    """What the database calls so. Raises Problem ``operation_not_found``."""
    data = connection.raw.getMetaData()
    catalog, schema = thd_place(connection, procedure.schema)
    where = (catalog, pattern(data, schema), pattern(data, procedure.name))
    for kind in ("PROCEDURE", "FUNCTION"):
        try:
            listed = getattr(data, f"get{kind.title()}s")(*where)
            entries = thd_records(connection, listed)
            described = getattr(data, f"get{kind.title()}Columns")(*where, "%")
            columns = thd_records(connection, described)
        except connection.errors:
            continue  # not every driver knows functions
        if not entries:
            continue
        own = entries[0].get(f"{kind}_SCHEM") or (
            entries[0].get(f"{kind}_CAT") if schema is None else None
        )
        overloads: dict[str, list[Parameter]] = {
            each.get("SPECIFIC_NAME") or "": [] for each in entries
        }
        for each in columns:
            overloads.setdefault(each.get("SPECIFIC_NAME") or "", []).append(_parameter(each, kind))
        if len(overloads) > 1:
            overloads = {name: each for name, each in overloads.items() if each} or overloads
        parameters = _fitting(list(overloads.values()), params, procedure)
        return Routine(
            [part for part in (own, procedure.name) if part],
            parameters,
            kind == "FUNCTION",
            entries[0].get("FUNCTION_TYPE") == _RETURNS_TABLE
            or any(each.mode == _RESULT for each in parameters),
        )
    raise Problem(
        "operation_not_found",
        f"there is no procedure {procedure}",
        hint="names are as the database's catalogue has them: check case and schema",
    )


def _parameter(record: Record, kind: str) -> Parameter:
    mode = int(record.get("COLUMN_TYPE") or 0)
    if kind == "FUNCTION":
        mode = _AS_PROCEDURES.get(mode, mode)
    if record.get("ORDINAL_POSITION") == "0" and mode not in (_RESULT, _RETURN):
        mode = _RETURN
    name = (record.get("COLUMN_NAME") or "").lstrip("@")
    return Parameter(name, mode, int(record.get("DATA_TYPE") or 0), record.get("TYPE_NAME") or "")


def _fitting(
    overloads: Sequence[Sequence[Parameter]], params: Params | None, procedure: TableName
) -> Sequence[Parameter]:
    count = len(params or ())
    for parameters in overloads:
        if sum(each.taken for each in parameters) == count:
            return parameters
    takes = ", ".join(
        sorted({str(sum(each.taken for each in parameters)) for parameters in overloads})
    )
    raise Problem(
        "bad_request",
        f"{procedure} takes {takes} parameters, params holds {count}",
        hint="OUT parameters are left out; every other has a value",
        extra={"field": "params"},
    )


def _values(parameters: Sequence[Parameter], params: Params | None) -> list[object]:
    if not isinstance(params, Mapping):
        return list(params or ())
    given = {name.lower(): value for name, value in params.items()}
    values = []
    for each in parameters:
        if not each.taken:
            continue
        if each.name.lower() not in given:
            raise Problem(
                "bad_request",
                f"the parameter {each.name} has no value",
                hint=f"params holds {', '.join(sorted(params))}",
                extra={"field": f"params.{each.name}"},
            )
        values.append(given[each.name.lower()])
    return values
