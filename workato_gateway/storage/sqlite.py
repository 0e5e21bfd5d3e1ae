"""The store on SQLite: one file, one connection, one thread.

WAL, so that the command line writes while the gateway reads; ``synchronous=FULL``, so that what was
answered survives a power cut. A copy is made with SQLite's own backup (``sqlite3 FILE .backup``) at
any time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from twisted.internet.interfaces import IReactorFromThreads

from .interface import StoreError, Transaction
from .migrate import migrate, shipped_migrations
from .rows import SqliteTransaction
from .threads import CallingThread, OwnThread, WorkThread

T = TypeVar("T")

BUSY_TIMEOUT: Final = 5.0
"""Seconds for which a writer waits for another process."""


def thd_connect(path: Path, *, migrations_allowed: bool) -> sqlite3.Connection:
    """Open an existing file. Raises StoreError, which names the file."""
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}; check that it exists and may be written") from error
    try:
        if _thd_journal(connection) != "wal":
            raise StoreError("write-ahead logging is not possible here; use a local file system")
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection, shipped_migrations(), allowed=migrations_allowed)
    except (sqlite3.Error, StoreError) as error:
        connection.close()
        raise StoreError(f"{path}: {error}") from error
    return connection


def _thd_journal(connection: sqlite3.Connection) -> str:
    """Turn the write-ahead log on; the journal in force then. SQLite itself doesn't wait here for
    another process that does the same."""
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def check_file(path: Path) -> None:
    """Open the store once, bring its schema up to date, and let go of it. Raises StoreError."""
    thd_connect(path, migrations_allowed=True).close()


def create_file(path: Path) -> None:
    """An empty file that only its owner reads; SQLite gives the same mode to the files beside it.

    Raises StoreError, also when it is there already.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


class SqliteStore:
    """A :class:`Store` on one file. Made by :meth:`beside` or :meth:`open_here`."""

    def __init__(self, path: Path, thread: WorkThread, *, migrations_allowed: bool) -> None:
        self._path = path
        self._thread = thread
        self._migrations_allowed = migrations_allowed
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    @classmethod
    def beside(cls, path: Path, reactor: IReactorFromThreads) -> SqliteStore:
        """For the gateway: works in a thread of its own, and brings the schema up to date.

        The file is opened by :meth:`open` or with the first work.
        """
        return cls(path, OwnThread(reactor), migrations_allowed=True)

    @classmethod
    def open_here(cls, path: Path, *, create: bool = False) -> SqliteStore:
        """For commands and synchronous tests: works in the calling thread; every awaitable has its
        result at once. The schema is brought up to date only with ``create``, so that a command of
        a newer release doesn't change it under a running gateway. Raises StoreError.
        """
        if create:
            create_file(path)
        store = cls(path, CallingThread(), migrations_allowed=create)
        store._thd_connection()
        return store

    async def open(self) -> None:
        """Open the file now. Raises StoreError."""
        await self._thread.run(self._thd_connection)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See :class:`Store`."""
        return await self._run("BEGIN", work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """See :class:`Store`."""
        return await self._run("BEGIN IMMEDIATE", work)

    async def close(self) -> None:
        """See :class:`Store`. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._thread.run(self._thd_close)
        finally:
            self._thread.stop()

    async def _run(self, begin: str, work: Callable[[Transaction], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._path}: the store is closed")
        return await self._thread.run(lambda: self._thd_transact(begin, work))

    def _thd_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = thd_connect(self._path, migrations_allowed=self._migrations_allowed)
        return self._connection

    def _thd_close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _thd_transact(self, begin: str, work: Callable[[Transaction], T]) -> T:
        connection = self._thd_connection()
        try:
            connection.execute(f"PRAGMA query_only = {int(begin == 'BEGIN')}")
            connection.execute(begin)
            try:
                result = work(SqliteTransaction(connection))
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error
        return result
