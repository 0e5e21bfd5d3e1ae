"""SQLite files, through the standard library's driver.

A column's type is taken from its declaration, and from its values where it has none (an
expression). SQLite itself has types of values only, so a value is always sent as what it is.
"""

from __future__ import annotations

import sqlite3
from typing import ClassVar, Final
from urllib.parse import quote

from attrs import frozen

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, SqliteSettings
from ..statements import SQLITE, Dialect
from .sqlite_connection import BUSY_STEP, SqliteConnection
from .sqlite_errors import file_problem

_OPEN_SECONDS: Final = 30.0
"""A file server that takes longer to open a file hangs."""


@frozen
class SqliteDriver:
    """Opens one file; see :class:`~.driver.Driver`."""

    type: ClassVar[str] = "sqlite"
    dialect: ClassVar[Dialect] = SQLITE
    connect_timeout: ClassVar[float] = _OPEN_SECONDS

    _settings: SqliteSettings
    _policy: DatabasePolicy

    def thd_open(self) -> SqliteConnection:
        path = self._settings.path
        if not self._settings.create and not path.exists():
            raise Problem(
                "target_not_found",
                f"there is no file {path}",
                hint="check the profile's database, or set create: true",
            )
        mode = "ro" if self._policy.read_only else "rwc" if self._settings.create else "rw"
        try:
            raw = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?mode={mode}",
                uri=True,
                timeout=BUSY_STEP,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=16,
            )
        except sqlite3.Error as error:
            raise file_problem(error, self._settings, self._policy) from None
        return SqliteConnection(raw, self._settings, self._policy)
