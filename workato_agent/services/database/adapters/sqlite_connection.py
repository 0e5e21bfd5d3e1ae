"""An open SQLite file, what is forbidden on it, and its errors."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeVar
from urllib.parse import quote

from attrs import define, field

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, SqliteSettings
from ..work import Lane
from .base import read_only_problem

_BUSY_STEP: Final = 0.05
_PROGRESS_STEPS: Final = 20_000
_ALLOWED: Final = sqlite3.SQLITE_OK
_DENIED: Final = sqlite3.SQLITE_DENY
# Other files are out of reach, and the transaction is the agent's own.
_FORBIDDEN: Final = {
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_TRANSACTION: "transaction control",
    sqlite3.SQLITE_SAVEPOINT: "transaction control",
}
_TEMPORARY: Final = (
    sqlite3.SQLITE_CREATE_TEMP_TABLE,
    sqlite3.SQLITE_CREATE_TEMP_VIEW,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    sqlite3.SQLITE_CREATE_TEMP_INDEX,
)

T = TypeVar("T")


@define(eq=False)
class SqliteConnection:
    """An open file. ``stop`` ends whatever runs on it; it is of no more use then.

    :ivar spoilt: something of the last call may be left on it (a PRAGMA, a temporary table).
    :ivar refused: what the last call was denied, if it was.
    :ivar budget: seconds that the caller's statement may still run; None without a limit.
    """

    raw: sqlite3.Connection
    lane: Lane
    busy_timeout: float
    kind: str = "sqlite"
    stopped: Event = field(factory=Event)
    spoilt: bool = False
    refused: str | None = None
    budget: float | None = None
    _own: bool = False
    _until: float = 0.0

    def thd_watch(self) -> None:
        """Install what limits the caller's statements."""
        self.raw.set_authorizer(self._authorize)
        self.raw.set_progress_handler(self._progress, _PROGRESS_STEPS)

    def prepare(self, budget: float | None) -> None:
        """Begin a call."""
        self.refused = None
        self.budget = budget

    def thd_own(self, sql: str) -> sqlite3.Cursor:
        """Run a statement of the agent's own, which nothing is forbidden."""
        self._own = True
        try:
            return self.thd_patient(lambda: self.raw.execute(sql))
        finally:
            self._own = False

    def thd_patient(self, step: Callable[[], T]) -> T:
        """Repeat a step while another process holds the file, in slices that ``stop`` can end."""
        until = time.monotonic() + self.busy_timeout
        while True:
            try:
                return step()
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode != sqlite3.SQLITE_BUSY
                    or time.monotonic() > until
                    or self.stopped.wait(_BUSY_STEP)
                ):
                    raise

    def thd_timed(self, step: Callable[[], T]) -> T:
        """Run a step within what is left of the statement's time."""
        if self.budget is None:
            return step()
        began = time.monotonic()
        self._until = began + self.budget
        try:
            return step()
        finally:
            self.budget -= time.monotonic() - began

    def stop(self) -> None:
        """Interrupt what runs, from any thread."""
        self.stopped.set()
        self.raw.interrupt()

    def seems_alive(self) -> bool:
        return not self.stopped.is_set()

    async def answers(self) -> bool:
        return True

    async def renew(self) -> bool:
        if self.spoilt or self.stopped.is_set():
            return False
        return await self.lane.run(self._thd_rolled_back)

    def _thd_rolled_back(self) -> bool:
        try:
            if self.raw.in_transaction:
                self.thd_own("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    async def close(self) -> None:
        await self.lane.settled()
        await self.lane.run(self.raw.close)

    def _authorize(self, action: int, first: str | None, second: str | None, *_rest: Any) -> int:
        if self._own:
            return _ALLOWED
        if action in _FORBIDDEN:
            self.refused = _FORBIDDEN[action]
            return _DENIED
        if action == sqlite3.SQLITE_PRAGMA:
            if (first or "").lower() in ("temp_store_directory", "data_store_directory"):
                self.refused = f"PRAGMA {first}"
                return _DENIED
            self.spoilt = True
        elif action in _TEMPORARY:
            self.spoilt = True
        return _ALLOWED

    def _progress(self) -> int:
        late = self.budget is not None and time.monotonic() > self._until
        return int(late or self.stopped.is_set())


def thd_open(settings: SqliteSettings, policy: DatabasePolicy, lane: Lane) -> SqliteConnection:
    """Open the file. Raises Problem."""
    path = settings.path
    if not settings.create and not path.exists():
        raise Problem(
            "target_not_found",
            f"there is no file {path}",
            hint="check the profile's database, or set create: true",
        )
    mode = "ro" if policy.read_only else "rwc" if settings.create else "rw"
    try:
        raw = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=_BUSY_STEP,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=16,
        )
    except sqlite3.Error as error:
        raise file_problem(error, settings, policy) from None
    connection = SqliteConnection(raw, lane, settings.busy_timeout)
    connection.thd_watch()
    return connection


def file_problem(error: Exception, settings: SqliteSettings, policy: DatabasePolicy) -> Problem:
    """The problem that an error of the driver is."""
    name = getattr(error, "sqlite_errorname", None) or ""
    detail = str(error)
    if name.startswith("SQLITE_NOTADB"):
        return Problem(
            "target_wrong_type",
            f"{settings.path} is no SQLite database: {detail}",
            hint="check the profile's database, and whether the file is encrypted",
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM")):
        code = "target_permission_denied" if Path(settings.path).exists() else "target_not_found"
        return Problem(
            code,
            f"{settings.path}: {detail}",
            hint="the agent's user needs the right to read the file and to write its folder",
        )
    if name.startswith("SQLITE_READONLY"):
        if policy.read_only:
            return read_only_problem(detail)
        return Problem("target_permission_denied", detail, hint="check the file's rights")
    hint: str | None = None
    if name.startswith("SQLITE_BUSY"):
        hint = f"another process held the file for {settings.busy_timeout:g} s: try again"
    elif isinstance(error, UnicodeError) or "decode to UTF-8" in detail:
        hint = "the column holds text that is not UTF-8: CAST(… AS BLOB) reads it as bytes"
    extra = {"sqlite_error": name} if name else None
    return Problem("query_failed", detail, hint=hint, extra=extra)
