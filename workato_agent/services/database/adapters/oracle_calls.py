"""Procedures and functions, called in an anonymous block with their arguments by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from workato_tunnel.problems import Problem

from ..results import Column, ColumnType, Row, ValueForm
from ..statements import TableName
from .base import Params
from .oracle_catalogue import column_type
from .oracle_cursor import OracleCursor
from .oracle_load import quoted
from .oracle_values import Bound, bound, converter

if TYPE_CHECKING:
    from .oracle_connection import OracleConnection

_ARGUMENTS: Final = """
SELECT owner, package_name, object_name, argument_name, position, data_type, in_out, overload,
data_precision, data_scale, defaulted FROM all_arguments
WHERE object_name = :name AND data_level = 0 AND ((package_name IS NULL
AND owner = NVL(:owner, SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA'))) OR (package_name = :owner
AND owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA')))
ORDER BY package_name NULLS FIRST, overload, position"""
_EXISTS: Final = """
SELECT owner, object_name FROM all_procedures WHERE object_type IN ('PROCEDURE', 'FUNCTION')
AND object_name = :name AND owner = NVL(:owner, SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA'))"""
RETURN: Final = "return"
_LARGEST_TEXT: Final = 32767
# The driver's type for a value that comes back, by the data dictionary's.
_VARIABLES: Final[Mapping[str, str]] = {
    "NUMBER": "DB_TYPE_NUMBER",
    "FLOAT": "DB_TYPE_NUMBER",
    "BINARY_INTEGER": "DB_TYPE_BINARY_INTEGER",
    "PL/SQL BOOLEAN": "DB_TYPE_BOOLEAN",
    "BOOLEAN": "DB_TYPE_BOOLEAN",
    "BINARY_FLOAT": "DB_TYPE_BINARY_FLOAT",
    "BINARY_DOUBLE": "DB_TYPE_BINARY_DOUBLE",
    "DATE": "DB_TYPE_DATE",
    "CLOB": "DB_TYPE_CLOB",
    "NCLOB": "DB_TYPE_NCLOB",
    "BLOB": "DB_TYPE_BLOB",
    "RAW": "DB_TYPE_RAW",
    "JSON": "DB_TYPE_JSON",
    "REF CURSOR": "DB_TYPE_CURSOR",
    "VARCHAR2": "DB_TYPE_VARCHAR",
    "NVARCHAR2": "DB_TYPE_NVARCHAR",
    "CHAR": "DB_TYPE_VARCHAR",
    "NCHAR": "DB_TYPE_NVARCHAR",
    "TIMESTAMP": "DB_TYPE_TIMESTAMP",
    "TIMESTAMP WITH LOCAL TIME ZONE": "DB_TYPE_TIMESTAMP_LTZ",
    "INTERVAL DAY TO SECOND": "DB_TYPE_INTERVAL_DS",
    "INTERVAL YEAR TO MONTH": "DB_TYPE_INTERVAL_YM",
}
_WITH_SIZE: Final = frozenset(("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "RAW"))


@frozen
class Argument:
    """Of a procedure; ``name`` is empty for what a function returns."""

    name: str
    data_type: str
    mode: str
    kind: ColumnType
    optional: bool

    @property
    def taken(self) -> bool:
        """Whether the caller gives it a value."""
        return bool(self.name) and self.mode in ("IN", "IN/OUT")

    @property
    def given(self) -> bool:
        """Whether the procedure gives it one."""
        return self.mode in ("OUT", "IN/OUT")


def thd_call(
    connection: OracleConnection, procedure: TableName, params: Params | None
) -> tuple[ProcedureResults, Mapping[str, object]]:
    """See :class:`~.driver.DriverConnection`."""
    name, overloads = _find(connection, procedure)
    arguments, values = _fitting(overloads, params, procedure)
    cursor = connection.thd_cursor()
    binds: list[Any] = []
    passed: list[str] = []
    outs: list[tuple[str, Argument, Any]] = []
    head = ""
    for each in arguments:
        value = values.get(each.name) if each.taken else None
        if each.taken and each.name not in values:
            continue  # it has a default
        given = bound(value, f"params.{each.name}", booleans=True)
        if each.given:
            variable = _variable(connection, cursor, each)
            if each.taken:
                variable.setvalue(0, given.value)
            outs.append((each.name.lower() or RETURN, each, variable))
            binds.append(variable)
            given = Bound(variable)
        else:
            binds.append(given.value)
        mark = given.pattern.format(f":p{len(binds)}")
        if each.name:
            passed.append(f"{quoted(each.name)} => {mark}")
        else:
            head = f"{mark} := "
    sql = (
        f"BEGIN {head}{name}({', '.join(passed)}); END;" if passed else f"BEGIN {head}{name}; END;"
    )
    if binds:
        cursor.execute(sql, binds)
    else:
        cursor.execute(sql)
    out: dict[str, object] = {}
    cursors = []
    for label, each, variable in outs:
        value = variable.getvalue()
        if each.data_type == "REF CURSOR":
            cursors.append(value)
        else:
            out[label] = _wire(value, each.kind)
    cursors += list(cursor.getimplicitresults() or ())
    results = ProcedureResults(connection, cursor, [each for each in cursors if each is not None])
    return results, out


@define(eq=False)
class ProcedureResults:
    """The cursors that a procedure has opened, one after the other."""

    _connection: OracleConnection
    _cursor: Any
    _left: list[Any]
    columns: Sequence[Column] = field(init=False, default=())
    changed: int | None = field(init=False, default=None)
    _current: OracleCursor | None = field(init=False, default=None)

    def thd_read(self, rows: int, size: int) -> Sequence[Row]:
        return [] if self._current is None else self._current.thd_read(rows, size)

    def convert(self, rows: Sequence[Row], form: ValueForm) -> Sequence[Row]:
        return rows if self._current is None else self._current.convert(rows, form)

    def thd_next(self) -> bool:
        if not self._left:
            return False
        self._current = OracleCursor(self._left.pop(0), self._connection.thd_forget)
        self.columns = self._current.columns
        return True

    def thd_close(self) -> None:
        self._connection.thd_forget(self._cursor)


def _find(
    connection: OracleConnection, procedure: TableName
) -> tuple[str, Sequence[Sequence[Argument]]]:
    """How to call it and its overloads. Raises Problem ``operation_not_found``."""
    rows = connection.thd_own(_ARGUMENTS, name=procedure.name, owner=procedure.schema)
    if not rows:
        found = connection.thd_own(_EXISTS, name=procedure.name, owner=procedure.schema)
        if not found:
            raise Problem(
                "operation_not_found",
                f"there is no procedure {procedure}",
                hint="names are as the data dictionary has them, most often in upper case; one "
                "of a package is PACKAGE.NAME",
            )
        return ".".join(quoted(str(part)) for part in found[0]), [[]]
    first = rows[0][:2]
    overloads: dict[object, list[Argument]] = {}
    for row in rows:
        if row[:2] == first:
            arguments = overloads.setdefault(row[7], [])
            if row[5] is not None:  # a procedure of a package without arguments has such a row
                arguments.append(_argument(row))
    parts = [str(part) for part in rows[0][:3] if part is not None]
    return ".".join(quoted(part) for part in parts), list(overloads.values())


def _argument(row: Sequence[Any]) -> Argument:
    precision, scale = (None if each is None else int(each) for each in row[8:10])
    data_type = str(row[5])
    kind: ColumnType = column_type(data_type, precision, scale)
    if data_type in ("PL/SQL BOOLEAN", "BINARY_INTEGER"):
        kind = "boolean" if data_type == "PL/SQL BOOLEAN" else "integer"
    return Argument(str(row[3] or ""), data_type, str(row[6]), kind, row[10] == "Y")


def _fitting(
    overloads: Sequence[Sequence[Argument]], params: Params | None, procedure: TableName
) -> tuple[Sequence[Argument], Mapping[str, object]]:
    for arguments in overloads:
        taken = [each for each in arguments if each.taken]
        if isinstance(params, Mapping):
            names = {name.lower(): value for name, value in params.items()}
            values = {
                each.name: names[each.name.lower()] for each in taken if each.name.lower() in names
            }
            fits = len(values) == len(params)
        else:
            values = dict(zip((each.name for each in taken), params or (), strict=False))
            fits = len(params or ()) <= len(taken)
        if fits and all(each.optional or each.name in values for each in taken):
            return arguments, values
    takes = "; ".join(
        ", ".join(each.name for each in arguments if each.taken) or "none"
        for arguments in overloads
    )
    raise Problem(
        "bad_request",
        f"{procedure} doesn't take these parameters; it takes {takes}",
        hint="OUT parameters are left out; every other without a default has a value",
        extra={"field": "params"},
    )


def _variable(connection: OracleConnection, cursor: Any, argument: Argument) -> Any:
    name = _VARIABLES.get(argument.data_type)
    if name is None:
        raise Problem(
            "query_failed",
            f"{argument.name or RETURN} is a {argument.data_type}, which can't be given back",
            hint="write a procedure around it that gives back text or numbers",
        )
    if name == "DB_TYPE_NUMBER":
        return cursor.var(Decimal)
    size = _LARGEST_TEXT if argument.data_type in _WITH_SIZE else 0
    return cursor.var(getattr(connection.oracledb, name), size)


def _wire(value: Any, kind: ColumnType) -> object:
    if hasattr(value, "read"):
        value = value.read()
    return converter([Column("", kind)], "json")([[value]])[0][0]
