"""Microsoft SQL Server through FreeTDS or Microsoft's own driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..parameters import Number, Typed
from ..statements import MSSQL, Dialect, TableName
from .base import Params
from .odbc_dbms import Calling, Dbms, Link
from .odbc_errors import LOST, READ_ONLY, Meaning
from .odbc_keys import Braces, value_of
from .odbc_reach import Speaks
from .odbc_values import (
    INT64,
    Placed,
    digits,
    exact,
    finite,
    no_arrays,
    offset_time,
    refused,
)

_LONGEST: Final = 8000
_MOST_DIGITS: Final = 38
_CASTS: Final = {
    "date": "date",
    "time": "time(7)",
    "timestamp": "datetime2(7)",
    "timestamptz": "datetimeoffset(7)",
    "uuid": "uniqueidentifier",
}
_OUT: Final = "onprem_return"


class Sqlserver(Dbms):
    """It has no read-only transactions: with ``read_only`` nothing but plain queries passes."""

    names: ClassVar[str] = r"sql server|msodbcsql|freetds|tdsodbc"
    dialect: ClassVar[Dialect] = MSSQL
    speaks: ClassVar[Speaks] = "tds"
    port: ClassVar[int | None] = 1433
    words_end: ClassVar[bool] = True
    exact_decimals: ClassVar[bool] = True
    bodies: ClassVar[bool] = True
    meanings: ClassVar[Sequence[Meaning]] = (
        Meaning(READ_ONLY, "", natives=(3906, 3908)),
        Meaning(
            "target_permission_denied",
            "grant the profile's user the permission it lacks",
            natives=(229, 230, 262, 297, 300, 916, 2104, 15247),
        ),
        Meaning("query_failed", "nothing was changed: try again", natives=(1205, 1222, 3960)),
        Meaning(
            "query_failed",
            "the statement breaks a rule of the table; nothing was changed",
            natives=(515, 547, 2601, 2627),
        ),
        Meaning("query_failed", "check the statement's syntax", natives=(102, 105, 156, 170)),
        Meaning("query_failed", "check the name and its schema", natives=(207, 208, 2812)),
        Meaning("target_unreachable", LOST, natives=(10054, 20004, 20006, 20047)),
        # All that FreeTDS says of a server that has hung up.
        Meaning("target_unreachable", LOST, pattern=r"^Unknown error$"),
    )

    def keys(self, given: Mapping[str, str], timeout: float) -> dict[str, str]:
        if _is_freetds(given):
            return {"TDS_Version": "7.4", "ClientCharset": "UTF-8"}
        return {}

    def braces(self, keys: Mapping[str, str]) -> Braces:
        # FreeTDS ends such a value at its first "};", and leaves doubled braces doubled.
        return "plain" if _is_freetds(keys) else "doubled"

    def thd_prepare(self, link: Link) -> None:
        # What is longer than nvarchar(4000) and varbinary(8000) goes as a long type.
        link.raw.maxwrite = _LONGEST
        link.thd_own("SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET XACT_ABORT ON")
        link.raw.rollback()

    def place(self, value: object, where: str) -> Placed:
        if value is None:
            # A bound NULL has a type, and not every type becomes every other.
            return Placed("NULL", None, bound=False)
        if isinstance(value, int) and not isinstance(value, bool):
            return Placed("?", value) if value in INT64 else _decimal(str(value), where)
        if isinstance(value, Number):
            return _decimal(value.text, where)
        if isinstance(value, list):
            raise no_arrays(where, "SQL Server")
        if isinstance(value, Typed):
            if value.type == "float":
                return Placed("?", finite(value.text, where, "SQL Server"))
            if value.type == "decimal":
                return _decimal(value.text, where)
            if value.type in _CASTS:
                return Placed(f"CAST(? AS {_CASTS[value.type]})", value.text)
            return Placed("?", value.text)
        return Placed("?", value)

    def _quoted(self, text: str) -> str:
        return self.quote(text[1:-1].replace("]]", "]"))

    def converters(self) -> Mapping[int, Callable[[bytes], object]]:
        return {-155: offset_time}

    def thd_facts(self, link: Link) -> dict[str, object]:
        rows = link.thd_own(
            "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), DB_NAME(), "
            "SUSER_SNAME()"
        )
        ((version, database, user),) = rows
        return {"target": f"SQL Server {version}", "database": database, "user": user}

    def insert(
        self,
        link: Link,
        table: TableName,
        columns: Sequence[str],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> tuple[str, str]:
        if on_conflict == "error":
            return super().insert(link, table, columns, "error", keys)
        names = [self.quote(each) for each in columns]
        same = " AND ".join(f"t.{name} = s.{name}" for name in map(self.quote, keys))
        changed = [self.quote(each) for each in columns if each not in keys]
        update = ""
        if on_conflict == "update" and changed:
            changes = ", ".join(f"{name} = s.{name}" for name in changed)
            update = f" WHEN MATCHED THEN UPDATE SET {changes}"
        source = ", ".join(f"s.{name}" for name in names)
        listed = ", ".join(names)
        before = f"MERGE INTO {self.table(table)} WITH (HOLDLOCK) AS t USING ("
        after = f") AS s ({listed}) ON {same}{update} WHEN NOT MATCHED THEN"
        return before, f"{after} INSERT ({listed}) VALUES ({source});"  # noqa: S608 - quoted

    def thd_call(self, link: Link, procedure: TableName, params: Params | None) -> Calling:
        name = self.table(procedure)
        rows = link.thd_own(
            "SELECT o.type, p.name, p.is_output, TYPE_NAME(p.system_type_id), p.max_length, "
            "p.precision, p.scale FROM sys.objects o LEFT JOIN sys.parameters p ON "
            "p.object_id = o.object_id AND p.parameter_id > 0 WHERE o.object_id = OBJECT_ID(?) "
            "ORDER BY p.parameter_id",
            name,
        )
        if not rows:
            raise Problem(
                "not_found",
                f"there is no procedure or function {procedure}",
                hint="check the name and its schema, and the right to execute it",
            )
        declared = [row for row in rows if row[1] is not None]
        given = _given(procedure, [row[1].lstrip("@") for row in declared], params)
        kind = rows[0][0].strip()
        if kind in ("FN", "FS", "IF", "TF", "FT"):
            marks = ", ".join("?" if i in given else "DEFAULT" for i in range(len(declared)))
            call = f"{name}({marks})"
            if kind in ("FN", "FS"):
                return Calling(f"SELECT {call} AS [return]", list(given.values()), is_out=True)
            return Calling(f"SELECT * FROM {call}", list(given.values()))  # noqa: S608 - quoted
        declarations, arguments, out = [f"DECLARE @{_OUT} int"], [], [f"@{_OUT} AS [return]"]
        early: list[object] = []
        late: list[object] = []
        for index, (_, parameter, is_output, type_name, length, precision, scale) in enumerate(
            declared
        ):
            if not is_output:
                if index in given:
                    arguments.append(f"{parameter} = ?")
                    late.append(given[index])
                continue
            variable = f"@onprem_{index}"
            declared_type = _declared(type_name, length, precision, scale)
            declarations.append(f"{variable} {declared_type} = ?")
            early.append(given.get(index))
            arguments.append(f"{parameter} = {variable} OUTPUT")
            out.append(f"{variable} AS {self.quote(parameter.lstrip('@'))}")
        link.spoilt = True
        names = ("return", *(row[1].lstrip("@") for row in declared if row[2]))
        statement = (
            f"{', '.join(declarations)}; EXEC @{_OUT} = {name} {', '.join(arguments)}; "
            f"SELECT {', '.join(out)}"
        )
        return Calling(statement, early + late, last=names)


def _is_freetds(keys: Mapping[str, str]) -> bool:
    driver = (value_of(keys, "Driver") or "").lower()
    return "freetds" in driver or "tdsodbc" in driver


def _given(procedure: TableName, names: Sequence[str], params: Params | None) -> dict[int, object]:
    if not isinstance(params, Mapping):
        if len(params or ()) > len(names):
            raise refused(
                "params", f"{procedure} has {len(names)} parameters", "send as many, or fewer"
            )
        return dict(enumerate(params or ()))
    positions = {name.lower(): index for index, name in enumerate(names)}
    given: dict[int, object] = {}
    for name, value in params.items():
        index = positions.get(name.lstrip("@").lower())
        if index is None:
            raise refused(
                f"params.{name}",
                f"{procedure} has no such parameter",
                f"it has {', '.join(names)}",
            )
        given[index] = value
    return dict(sorted(given.items()))


def _declared(name: str, length: int, precision: int, scale: int) -> str:
    if name in ("decimal", "numeric"):
        return f"{name}({precision},{scale})"
    if name in ("time", "datetime2", "datetimeoffset"):
        return f"{name}({scale})"
    if name in ("char", "varchar", "binary", "varbinary"):
        return f"{name}({'max' if length < 0 else length})"
    if name in ("nchar", "nvarchar"):
        return f"{name}({'max' if length < 0 else length // 2})"
    return name


def _decimal(text: str, where: str) -> Placed:
    number = exact(text, where)
    if not number.is_finite():
        raise refused(where, f"SQL Server has no {text}", "send null")
    if digits(number)[0] > _MOST_DIGITS:
        raise refused(
            where, f"SQL Server's decimals have {_MOST_DIGITS} digits", "send it as a float"
        )
    return Placed("?", number)
