"""Procedures and functions, by way of ``CallableStatement``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import define, frozen

from workato_tunnel.problems import Problem

from ..results import Column, Row, ValueForm
from ..statements import TableName
from .base import Params
from .jdbc_catalogue import Record, thd_place, thd_records
from .jdbc_values import column_reading, wire_value

if TYPE_CHECKING:
    from .jdbc_connection import JdbcConnection, JdbcCursor

# java.sql.DatabaseMetaData
_IN, _IN_OUT, _OUT, _RETURN, _RESULT = 1, 2, 4, 5, 3
_FUNCTION_OUT, _FUNCTION_RETURN, _FUNCTION_RESULT = 3, 4, 5
_AS_PROCEDURES: Final = {
    _FUNCTION_OUT: _OUT,
    _FUNCTION_RETURN: _RETURN,
    _FUNCTION_RESULT: _RESULT,
}
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


def thd_call(
    connection: JdbcConnection, procedure: TableName, params: Params | None
) -> tuple[JdbcCursor | None, Mapping[str, object]]:
    """See :class:`~.driver.DriverConnection`."""
    found, parameters = _find(connection, procedure, params)
    values = iter(_values(parameters, params))
    name = ".".join(connection.quoted(part) for part in found)
    has_return = any(each.mode == _RETURN for each in parameters)
    arguments = [each for each in parameters if each.mode in (_IN, _IN_OUT, _OUT)]
    marks = ", ".join("?" for _ in arguments)
    if any(each.mode == _RESULT for each in parameters):  # a function that is a table
        taken = ", ".join("?" for each in arguments if each.taken)
        sql = f"SELECT * FROM {name}({taken})"  # noqa: S608 - quoted names
        statement = connection.raw.prepareStatement(sql)
        arguments = [each for each in arguments if each.taken]
        has_return = False
    else:
        head = "? = " if has_return else ""
        statement = connection.raw.prepareCall(f"{{{head}call {name}({marks})}}")
    connection.thd_adopt(statement)
    placed = [each for each in parameters if has_return and each.mode == _RETURN] + arguments
    for index, each in enumerate(placed, 1):
        if each.taken:
            connection.setters.thd_set_named(statement, index, next(values), each.name)
        if each.given:
            statement.registerOutParameter(index, each.java_type)
    has_rows = bool(connection.thd_running(statement, "execute"))
    out: dict[str, object] = {}
    if has_return:  # H2 has it in what looks like a result
        _thd_fill(out, statement, placed)
        connection.thd_forget(statement)
        return None, out
    cursor = connection.cursor(statement, has_rows=has_rows)
    return CallCursor(cursor, statement, placed, out), out  # type: ignore[return-value]  # the same protocol


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


def _find(
    connection: JdbcConnection, procedure: TableName, params: Params | None
) -> tuple[Sequence[str], Sequence[Parameter]]:
    """The names to call it by and its parameters. Raises Problem ``operation_not_found``."""
    data = connection.raw.getMetaData()
    catalog, schema = thd_place(connection, procedure.schema)
    for kind in ("PROCEDURE", "FUNCTION"):
        list_of, columns_of = f"get{kind.title()}s", f"get{kind.title()}Columns"
        try:
            listed = getattr(data, list_of)(catalog, schema, procedure.name)
            entries = thd_records(connection, listed)
            described = getattr(data, columns_of)(catalog, schema, procedure.name, "%")
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
        names = [part for part in (own, procedure.name) if part]
        return names, _fitting(list(overloads.values()), params, procedure)
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
