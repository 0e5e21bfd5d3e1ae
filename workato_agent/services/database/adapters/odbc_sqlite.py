"""SQLite through sqliteodbc."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..results import ColumnType
from ..settings import DatabasePolicy
from ..statements import SQLITE, Dialect, TableName, outline
from .base import Params
from .odbc_columns import OdbcColumn
from .odbc_dbms import Calling, Dbms, Link
from .odbc_errors import READ_ONLY, Meaning
from .odbc_keys import Braces
from .odbc_values import Placed
from .sqlite_values import declared_type, parameter

_SQL_CHAR: Final = 1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\0")


class Sqlite(Dbms):
    """The transaction is begun and ended by statements, so that a profile may ask for ``StepAPI``.

    With it the driver reads row by row, but knows no type of an expression; without it a result is
    in memory whole, and the types are those of its first row.
    """

    names: ClassVar[str] = r"sqlite"
    dialect: ClassVar[Dialect] = SQLITE
    bodies: ClassVar[bool] = True
    meanings: ClassVar[Sequence[Meaning]] = (
        Meaning(READ_ONLY, "", natives=(8,), pattern=r"readonly database"),
        Meaning("query_failed", "another process held the file: try again", natives=(5, 6)),
        Meaning(
            "query_failed",
            "the statement breaks a rule of the table; nothing was changed",
            natives=(19,),
        ),
    )

    def keys(self, given: Mapping[str, str], timeout: float) -> dict[str, str]:
        return {"NoTXN": "1", "BigInt": "1", "Timeout": "5000", "NoCreat": "1"}

    def braces(self, keys: Mapping[str, str]) -> Braces:
        return "none"

    def thd_prepare(self, link: Link) -> None:
        # In UTF-16 the driver takes a surrogate for the statement's end.
        link.raw.setencoding("utf-8", ctype=_SQL_CHAR)
        # Only a statement that looks at the file shows whether it is a database.
        link.thd_own("select count(*) from sqlite_master")
        if link.policy.read_only:
            link.thd_own("pragma query_only = 1")

    def thd_begin(self, link: Link, *, writing: bool) -> None:
        link.thd_own("begin")
        link.in_transaction = True

    def thd_commit(self, link: Link) -> None:
        if link.policy.read_only:
            self.thd_rollback(link)
            return
        link.thd_own("commit")
        link.in_transaction = False

    def thd_rollback(self, link: Link) -> None:
        if link.in_transaction:
            link.in_transaction = False
            link.thd_own("rollback")

    def guard(self, sql: str, policy: DatabasePolicy) -> None:
        super().guard(sql, policy)
        shape = outline(sql, self.dialect)
        if shape.first in ("attach", "detach") or (
            shape.first == "vacuum" and "into" in shape.words
        ):
            raise Problem(
                "policy_denied",
                f"{shape.first.upper()} is refused: a profile is one file",
                hint="give the other file a profile of its own",
                extra={"rule": "sqlite"},
            )

    def place(self, value: object, where: str) -> Placed:
        placed = parameter(value, where)
        return Placed("?", int(placed) if isinstance(placed, bool) else placed)

    def armour(self, sql: str) -> str:
        # What follows a semicolon is a second statement to the driver, though it be a comment.
        sql = super().armour(sql)
        end = outline(sql, self.dialect).end
        return sql[:end] if end else sql

    def _quoted(self, text: str) -> str:
        return self.quote(text[1:-1].replace("``", "`") if text[0] == "`" else text[1:-1])

    def kind(self, column: OdbcColumn) -> ColumnType:
        return declared_type(column.type_name) or super().kind(column)

    def converters(self) -> Mapping[int, Callable[[bytes], object]]:
        # The driver's own dates and times lose fractions, and text that is none.
        return dict.fromkeys((91, 92, 93), _text)

    def thd_facts(self, link: Link) -> dict[str, object]:
        ((version,),) = link.thd_own("select sqlite_version()")
        return {"target": f"SQLite {version}"}

    def insert(
        self,
        link: Link,
        table: TableName,
        columns: Sequence[str],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> tuple[str, str]:
        before, _ = super().insert(link, table, columns, "error", keys)
        if on_conflict == "error":
            return before, ""
        names = f"({', '.join(map(self.quote, keys))})" if keys else ""
        changed = [self.quote(each) for each in columns if each not in keys]
        if on_conflict == "ignore" or not changed:
            return before, f" ON CONFLICT {names} DO NOTHING"
        changes = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return before, f" ON CONFLICT {names} DO UPDATE SET {changes}"

    def thd_call(self, link: Link, procedure: TableName, params: Params | None) -> Calling:
        raise Problem(
            "operation_not_found",
            "SQLite has no procedures",
            hint="use query or execute",
        )
