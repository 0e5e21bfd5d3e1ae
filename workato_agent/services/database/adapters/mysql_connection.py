"""A MySQL connection as the adapter that runs it in threads sees it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pymysql import err
from pymysql.constants import COMMAND, FIELD_TYPE

from workato_tunnel.problems import Problem

from ....system import is_readable
from ..catalogue import Table, TableShape
from ..loading import Conflict
from ..results import Row
from ..settings import DatabasePolicy, MysqlSettings
from ..statements import MYSQL, Batch, Statement, TableName, outline
from .base import Params
from .mysql_calling import thd_call
from .mysql_catalogue import thd_shape, thd_tables
from .mysql_cursor import MysqlCursor
from .mysql_errors import statement_problem
from .mysql_guard import committing_problem, judge
from .mysql_login import Login
from .mysql_parameters import Bound, bound, execution
from .mysql_stopping import IDENTITY, Victim, thd_kill
from .mysql_wire import STATUS_IN_TRANSACTION, Answer, Prepared, Wire, lost
from .mysql_writing import thd_batch, thd_load

COM_RESET_CONNECTION: Final = 0x1F
STOP_SECONDS: Final = 2.0
_RENEW_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0
_NO_PREPARE: Final = 1295
# Modes in which the server would not read quotes as the scanner does, and names that imply them.
_QUOTING_MODES: Final = frozenset(
    (
        "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI", "DB2", "MAXDB", "MSSQL", "ORACLE",
        "POSTGRESQL",
    )
)  # fmt: skip
_WRITE_TIMEOUT: Final = 86_400


def _single(sql: str) -> str:
    """Without a semicolon at the end, and what follows it."""
    end = outline(sql, MYSQL).end
    return sql[:end] if ";" in sql[end:] else sql


class MysqlConnection:
    """A connection, logged in, whose session is set up for the agent.

    :ivar wire: the protocol.
    """

    def __init__(
        self, wire: Wire, login: Login, settings: MysqlSettings, policy: DatabasePolicy
    ) -> None:
        self.wire = wire
        self.errors: tuple[type[Exception], ...] = (err.MySQLError, OSError)
        self._login = login
        self._settings = settings
        self._policy = policy
        self._victim = Victim(wire, login, 0, ())
        self._set_up: Sequence[str] = ()
        self._largest = 16 * 1024 * 1024
        self._begin = "START TRANSACTION"
        self._open: MysqlCursor | None = None
        self._worked = False
        self._uncertain = False
        self._marked = False
        self._stopped = threading.Event()
        self._busy = False
        self._idle = threading.Event()

    def thd_set_up(self) -> None:
        """Learn about the server and bring the session into a known state.

        Quotes have to mean what the scanner takes them for, times are UTC, and a caller may read as
        slowly as the call's deadline allows.
        """
        row = self.wire.thd_texts(
            f"SELECT CONNECTION_ID(), @@sql_mode, @@max_allowed_packet, {IDENTITY}"
        )[0]
        self._victim = Victim(self.wire, self._login, int(row[0]), row[3:])
        self._largest = int(row[2])
        modes = [
            mode
            for mode in row[1].split(",")
            if re.fullmatch("[A-Z0-9_]+", mode) and mode not in _QUOTING_MODES
        ]
        settings = (
            "SET NAMES utf8mb4, autocommit = 1, time_zone = '+00:00',"
            f" net_write_timeout = {_WRITE_TIMEOUT}, sql_mode = '{','.join(modes)}'"
        )
        self._set_up = [settings]
        if self._policy.read_only:
            # What a procedure does after a COMMIT of its own is read-only too.
            self._set_up = [settings, "SET SESSION TRANSACTION READ ONLY"]
        for sql in self._set_up:
            self.wire.thd_query(sql)

    def thd_begin(self, *, writing: bool) -> None:
        self._begin = "START TRANSACTION" if writing else "START TRANSACTION READ ONLY"
        self._worked = self._uncertain = False
        self.thd_own(self._begin)

    def thd_run(self, statement: Statement) -> MysqlCursor:
        rendered = statement.render(lambda _value: "?")
        sql = _single(rendered.sql)
        verdict = judge(sql, read_only=self._policy.read_only)
        if verdict.commits and self._worked:
            raise committing_problem()
        values = [bound(value, index) for index, value in enumerate(statement.values)]
        self.thd_in_transaction()
        self._marked = self._marked or verdict.marks
        self._worked = self._worked or not verdict.commits
        if values:
            return self.thd_execute(sql, values, stoppable=verdict.queries)
        if verdict.queries and (prepared := self._thd_with_singles(sql)) is not None:
            return self._thd_executed(prepared, (), stoppable=True)
        self._check_size(len(sql.encode()))
        return self._cursor(self.thd_own(sql), None, stoppable=verdict.queries)

    def thd_execute(
        self, sql: str, values: Sequence[Bound | None], *, stoppable: bool = False
    ) -> MysqlCursor:
        """Run a statement with bound values."""
        prepared = self.thd_prepare(sql)
        if prepared.parameters != len(values):
            self.wire.thd_forget(prepared)
            raise Problem(
                "bad_request",
                f"the server sees {prepared.parameters} parameters in the statement, "
                f"{len(values)} were found in it",
                hint="is one of them in a comment with code (/*! … */)?",
                extra={"field": "sql"},
            )
        return self._thd_executed(prepared, values, stoppable=stoppable)

    def thd_prepare(self, sql: str) -> Prepared:
        """Have a statement parsed."""
        self._check_size(len(sql.encode()))
        found: list[Prepared] = []
        self.thd_working(lambda: found.append(self.wire.thd_prepare(sql)))
        return found[0]

    def thd_executed(self, prepared: Prepared, values: Sequence[Bound | None]) -> Answer:
        """Run a prepared statement; how its answer begins."""
        body = execution(prepared, values)
        self._check_size(len(body))
        return self.thd_command(COMMAND.COM_STMT_EXECUTE, body)

    def thd_own(self, sql: str) -> Answer:
        """Run a statement as it is."""
        return self.thd_command(COMMAND.COM_QUERY, sql.encode())

    def thd_command(self, command: int, body: bytes) -> Answer:
        """Send a command and wait for how its answer begins."""
        found: list[Answer] = []
        self.thd_working(lambda: found.append(self.wire.thd_command(command, body)))
        return found[0]

    def thd_working(self, step: Callable[[], object]) -> None:
        """Run a step that waits for the server. Raises PyMySQL's errors."""
        self._idle.clear()
        self._busy = True
        try:
            # Set before the look: who stops sees either that, or that a statement runs.
            if self._stopped.is_set():
                raise lost("the work was stopped")
            step()
        except err.MySQLError:
            self._uncertain = True
            raise
        finally:
            self._busy = False
            self._idle.set()

    def thd_in_transaction(self) -> None:
        """Begin a transaction, if the last statement has ended it (DDL, a deadlock)."""
        if self._uncertain:
            self.thd_command(COMMAND.COM_PING, b"")
            self._uncertain = False
        if not self.wire.status & STATUS_IN_TRANSACTION:
            self._worked = False
            self.thd_own(self._begin)

    def thd_batch(self, batch: Batch) -> int:
        verdict = judge(batch.statement.render(lambda _v: "?").sql, read_only=False)
        if self._policy.read_only:
            judge(batch.statement.sql, read_only=True)
        if verdict.commits:
            raise committing_problem()
        self.thd_in_transaction()
        self._worked = True
        return thd_batch(self, batch)

    def thd_call(
        self, procedure: TableName, params: Params | None
    ) -> tuple[MysqlCursor | None, Mapping[str, object]]:
        self.thd_in_transaction()
        self._worked = True
        return thd_call(self, procedure, params)

    def thd_load(
        self,
        table: TableName,
        columns: Sequence[str],
        blocks: Iterator[Sequence[Row]],
        on_conflict: Conflict,
        keys: Sequence[str],
    ) -> int:
        self.thd_in_transaction()
        self._worked = True
        return thd_load(self, table, columns, blocks, on_conflict, keys)

    def thd_tables(self) -> Sequence[Table]:
        return thd_tables(self)

    def thd_shape(self, table: TableName) -> TableShape:
        return thd_shape(self, table)

    def thd_facts(self) -> Mapping[str, object]:
        row = self.thd_texts("SELECT VERSION(), DATABASE(), CURRENT_USER(), @@version_comment")[0]
        version, database, user, comment = row
        product = "MariaDB" if "mariadb" in f"{version} {comment}".lower() else "MySQL"
        return {
            "target": f"{product} {str(version).split('-')[0]}",
            "database": database,
            "user": user,
            "tls": self.wire.tls,
            "read_only": self._policy.read_only,
        }

    def thd_texts(self, sql: str, values: Sequence[object] = ()) -> list[list[str | None]]:
        """A small result of the agent's own as text."""
        cursor = (
            self.thd_execute(sql, [bound(value, at) for at, value in enumerate(values)])
            if values
            else self._cursor(self.thd_own(sql), None, stoppable=False)
        )
        found: list[list[str | None]] = []
        while rows := cursor.thd_read(1000, 1 << 20):
            found.extend(
                [None if value is None else str(value) for value in row]
                for row in cursor.convert(rows, "csv")
            )
        cursor.thd_close()
        return found

    def thd_commit(self) -> None:
        self._thd_leave()
        self.thd_own("COMMIT")
        self._worked = False

    def thd_rollback(self) -> None:
        self._thd_leave()
        self.thd_own("ROLLBACK")
        self._worked = False

    def thd_renew(self) -> bool:
        if self._stopped.is_set() or self._marked or not self.wire.open:
            return False
        try:
            self._thd_leave()
            self.wire.limit(_RENEW_SECONDS)
            # It rolls back, too.
            self.wire.thd_command(COM_RESET_CONNECTION, b"")
            for sql in self._set_up:
                self.wire.thd_query(sql)
            self.wire.limit(None)
        except self.errors:
            return False
        self._worked = self._uncertain = False
        return True

    def thd_answers(self) -> bool:
        if not self.wire.open:
            return False
        try:
            self.wire.limit(_ANSWER_SECONDS)
            self.wire.thd_command(COMMAND.COM_PING, b"")
            self.wire.limit(None)
        except self.errors:
            return False
        return True

    def seems_alive(self) -> bool:
        sock = self.wire.socket
        if self._stopped.is_set() or sock is None:
            return False
        # A server says nothing unasked, but that it closes the connection.
        return not is_readable(sock.fileno())

    def thd_stop(self) -> None:
        self._stopped.set()
        until = time.monotonic() + STOP_SECONDS
        if self._busy:
            thd_kill(self._victim, until, self._idle)
        if self._busy:
            # What waits for the server is woken at least; the server sees a closed connection.
            self.wire.thd_shut()

    def thd_interrupt(self) -> None:
        """Have the server end the query whose rows are being read in this thread."""
        thd_kill(self._victim, time.monotonic() + STOP_SECONDS, None)

    def thd_close(self) -> None:
        self._stopped.set()
        self.wire.thd_end()

    def problem(self, error: Exception, statement: Statement | None) -> Problem:
        rendered = None if statement is None else statement.render(lambda _value: "?")
        return statement_problem(error, rendered, self._policy)

    def done(self, cursor: MysqlCursor) -> None:
        """A cursor is closed."""
        if self._open is cursor:
            self._open = None

    def cursor(self, answer: Answer, prepared: Prepared | None) -> MysqlCursor:
        """The cursor of what was run in another module."""
        return self._cursor(answer, prepared, stoppable=False)

    def _cursor(self, answer: Answer, prepared: Prepared | None, *, stoppable: bool) -> MysqlCursor:
        self._open = MysqlCursor(self, answer, prepared, stoppable=stoppable)
        return self._open

    def _thd_executed(
        self, prepared: Prepared, values: Sequence[Bound | None], *, stoppable: bool
    ) -> MysqlCursor:
        try:
            answer = self.thd_executed(prepared, values)
        except (err.MySQLError, Problem):
            if self.wire.open:
                self.wire.thd_forget(prepared)
            raise
        return self._cursor(answer, prepared, stoppable=stoppable)

    def _thd_with_singles(self, sql: str) -> Prepared | None:
        """The query, prepared, if one of its columns is a FLOAT: its text has six digits only."""
        try:
            prepared = self.thd_prepare(sql)
        except err.MySQLError as error:
            if error.args[0] != _NO_PREPARE:
                raise
            return None
        if any(field.code == FIELD_TYPE.FLOAT for field in prepared.fields):
            return prepared
        self.wire.thd_forget(prepared)
        return None

    def _thd_leave(self) -> None:
        if self._open is not None:
            self._open.thd_close()

    def _check_size(self, size: int) -> None:
        if size >= self._largest:
            raise Problem(
                "payload_too_large",
                f"the statement and its values take {size} bytes, the server's max_allowed_packet "
                f"is {self._largest}",
                hint="raise max_allowed_packet in the server's configuration",
            )
