"""MariaDB and MySQL through ODBC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final

from workato_tunnel.problems import Problem

from ..loading import Conflict
from ..parameters import Number, Typed
from ..statements import MYSQL, Dialect, TableName
from .base import Params
from .odbc_dbms import Calling, Dbms, Link
from .odbc_errors import LOST, READ_ONLY, Meaning
from .odbc_reach import Speaks
from .odbc_values import INT64, Placed, digits, exact, finite, no_arrays, plain, refused

_SQL_CHAR: Final = 1
_SQL_WCHAR: Final = -8
_MOST_AT_ONCE: Final = 2**30
_MOST_DIGITS: Final = 65
_MOST_SCALE: Final = 38
_CASTS: Final = {"date": "DATE", "time": "TIME(6)", "timestamp": "DATETIME(6)"}
# TIMESTAMP columns are written and read in the session's zone.
_INSTANT: Final = "CONVERT_TZ(CAST(? AS DATETIME(6)), '+00:00', @@session.time_zone)"
_STRANGE_MODES: Final = frozenset(
    ("NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI", "ORACLE", "MSSQL", "DB2", "POSTGRESQL")
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class Mysql(Dbms):
    """Parameters are the server's own; times are read as the server's text."""

    names: ClassVar[str] = r"maria|mysql|maodbc|myodbc"
    dialect: ClassVar[Dialect] = MYSQL
    speaks: ClassVar[Speaks] = "mysql"
    port: ClassVar[int | None] = 3306
    exact_decimals: ClassVar[bool] = True
    bodies: ClassVar[bool] = True
    own_keys: ClassVar[frozenset[str]] = frozenset({"charset"})
    meanings: ClassVar[Sequence[Meaning]] = (
        Meaning(READ_ONLY, "", states=("25006",), natives=(1792,)),
        Meaning(
            "target_permission_denied",
            "grant the profile's user the privilege it lacks",
            natives=(1044, 1142, 1143, 1227, 1370, 1410),
        ),
        Meaning("deadline_exceeded", "the server's own time limit", natives=(1969, 3024)),
        Meaning("target_unreachable", LOST, natives=(2006, 2013, 2026, 5014, 1927, 1053)),
        Meaning("query_failed", "nothing was changed: try again", natives=(1205, 1213)),
        Meaning(
            "query_failed",
            "the value is longer than the server's max_allowed_packet",
            natives=(1153, 2020),
        ),
    )

    def keys(self, given: Mapping[str, str], timeout: float) -> dict[str, str]:
        # Version 3.2 and later read a result row by row then; earlier ones always read all of it.
        return {"CHARSET": "utf8mb4", "FORWARDONLY": "1", "NO_CACHE": "1"}

    def thd_prepare(self, link: Link) -> None:
        # Long text is sent whole, and read as UTF-8: the driver's own pieces of UTF-16 get mixed
        # up at their edges. It is sent as UTF-16, for UnixODBC would take a statement in UTF-8 for
        # Latin-1.
        link.raw.maxwrite = _MOST_AT_ONCE
        for number in (_SQL_CHAR, _SQL_WCHAR):
            link.raw.setdecoding(number, encoding="utf-8", ctype=_SQL_CHAR)
        ((link.number, mode),) = link.thd_own("select connection_id(), @@sql_mode")
        modes = mode.split(",")
        kept = [each for each in modes if each not in _STRANGE_MODES]
        if len(kept) < len(modes):
            link.thd_own("set session sql_mode = ?", ",".join(kept))
        if link.policy.read_only:
            link.thd_own("set session transaction read only")
        link.raw.rollback()

    def thd_begin(self, link: Link, *, writing: bool) -> None:
        if not writing:
            link.thd_own("start transaction read only")

    def thd_renew(self, link: Link) -> bool:
        link.raw.rollback()
        if link.spoilt:
            return False
        link.thd_own("set last_insert_id = 0")
        return True

    def thd_stop(self, link: Link) -> None:
        # The driver's own cancelling knows nothing of TLS.
        other = link.open()
        try:
            other.cursor().execute(f"kill query {int(link.number)}")
        finally:
            other.close()

    def place(self, value: object, where: str) -> Placed:
        if isinstance(value, bool):
            return Placed("?", int(value))
        if isinstance(value, int):
            return Placed("?", value) if value in INT64 else _decimal(str(value), where)
        if isinstance(value, Number):
            return _decimal(value.text, where)
        if isinstance(value, bytes):
            return Placed("CAST(? AS BINARY)", value)
        if isinstance(value, list):
            raise no_arrays(where, "this database")
        if isinstance(value, Typed):
            if value.type == "float":
                return Placed("?", finite(value.text, where, "this database"))
            if value.type == "decimal":
                return _decimal(value.text, where)
            if value.type == "timestamptz":
                return Placed(_INSTANT, _in_utc(value.text, where))
            if value.type in _CASTS:
                return Placed(f"CAST(? AS {_CASTS[value.type]})", value.text)
            return Placed("?", value.text)
        return Placed("?", value)

    def _comment(self, text: str) -> str:
        # The beginning of code in a comment is no comment.
        return text if text.startswith(("/*!", "/*M!")) else super()._comment(text)

    def converters(self) -> Mapping[int, Callable[[bytes], object]]:
        # Times beyond a day, dates of zeros and fractions are lost in ODBC's structures.
        return {91: _text, 92: _text, 93: _text}

    def thd_facts(self, link: Link) -> dict[str, object]:
        ((version, database, user),) = link.thd_own("select version(), database(), current_user()")
        ((_, cipher),) = link.thd_own("show status like 'Ssl_version'")
        maria = "mariadb" in version.lower()
        return {
            "target": f"{'MariaDB' if maria else 'MySQL'} {version.partition('-')[0]}",
            "database": database,
            "user": user,
            "tls": cipher or False,
        }

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

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
        changed = [self.quote(each) for each in columns if each not in keys]
        if on_conflict == "ignore" or not changed:
            # INSERT IGNORE would let wrong values in as well.
            first = self.quote(columns[0])
            return before, f" ON DUPLICATE KEY UPDATE {first} = {first}"
        changes = ", ".join(f"{name} = VALUES({name})" for name in changed)
        return before, f" ON DUPLICATE KEY UPDATE {changes}"

    def thd_call(self, link: Link, procedure: TableName, params: Params | None) -> Calling:
        name = self.table(procedure)
        rows = link.thd_own(
            "select r.routine_type, p.parameter_mode, p.parameter_name from "
            "information_schema.routines r left join information_schema.parameters p on "
            "p.specific_schema = r.routine_schema and p.specific_name = r.specific_name and "
            "p.ordinal_position > 0 where r.routine_schema = coalesce(?, database()) and "
            "r.routine_name = ? order by p.ordinal_position",
            procedure.schema,
            procedure.name,
        )
        if not rows:
            raise Problem(
                "not_found",
                f"there is no procedure or function {procedure}",
                hint="check the name and its schema, and the right to execute it",
            )
        declared = [(mode or "IN", each) for _, mode, each in rows if each is not None]
        if isinstance(params, Mapping):
            unknown = sorted(set(params) - {each for _, each in declared})
            if unknown:
                raise refused(
                    "params", f"{procedure} has no {unknown[0]}", "names as they are declared"
                )
            given: list[object] = [params.get(each) for _, each in declared]
        else:
            given = list(params or ())
        if rows[0][0] == "FUNCTION":
            marks = ", ".join("?" * len(given))
            return Calling(f"SELECT {name}({marks}) AS `return`", given, is_out=True)
        places: list[str] = []
        values: list[object] = []
        out: list[str] = []
        for index, (mode, each) in enumerate(declared):
            value = given[index] if index < len(given) else None
            if mode == "IN":
                places.append("?")
                values.append(value)
                continue
            variable = f"@onprem_{index}"
            placed = self.place(None if mode == "OUT" else value, f"params[{index}]")
            link.thd_own(f"set {variable} = {placed.marker}", placed.value)
            places.append(variable)
            out.append(f"{variable} AS {self.quote(each)}")
        link.spoilt = True
        surplus = given[len(declared) :]
        places += "?" * len(surplus)
        return Calling(
            f"CALL {name}({', '.join(places)})",
            [*values, *surplus],
            after=f"SELECT {', '.join(out)}" if out else None,
        )


def _in_utc(text: str, where: str) -> str:
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refused(
            where, f"{text[:50]!r} is no instant that MySQL can hold", "ISO 8601 with an offset"
        ) from None
    return instant.replace(tzinfo=None).isoformat(" ")


def _decimal(text: str, where: str) -> Placed:
    number = exact(text, where)
    if not number.is_finite():
        raise refused(where, f"this database has no {text}", "send null")
    whole, scale = digits(number)
    if whole > _MOST_DIGITS or scale > _MOST_SCALE:
        return Placed("?", plain(number))
    return Placed(f"CAST(? AS DECIMAL({whole},{scale}))", plain(number))
