"""The store's schema: numbered SQL files, applied in order, each in a transaction of its own.

The version in force is SQLite's ``user_version``; ``application_id`` marks the file as ours.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from attrs import frozen

from .interface import StoreError

APPLICATION_ID: Final = 0x6F6E7072
_FILE: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@frozen
class Migration:
    """One step; ``version`` is what the schema has after it."""

    version: int
    name: str
    sql: str


def shipped_migrations() -> tuple[Migration, ...]:
    """The steps that come with this release, in order and without a gap."""
    steps = [
        Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
        for entry in files(__package__).joinpath("schema").iterdir()
        if (match := _FILE.fullmatch(entry.name))
    ]
    return tuple(sorted(steps, key=lambda step: step.version))


def _statements(sql: str) -> Iterator[str]:
    """The single statements, so that they can run inside a transaction that is already open."""
    pending = ""
    for piece in re.split(r"(?<=;)", sql):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


def schema_version(connection: sqlite3.Connection) -> int:
    """The version in force. Raises StoreError when the file belongs to another program."""
    # In one statement: another process may be making the schema at this moment.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application == APPLICATION_ID:
        return int(version)
    if application != 0 or version != 0 or tables != 0:
        raise StoreError("the file is a database of another program, not a gateway's store")
    return 0


def migrate(
    connection: sqlite3.Connection, steps: Sequence[Migration], *, allowed: bool = True
) -> int:
    """Bring the schema to the last step's version; returns the version that was found.

    ``allowed`` False: only check. Two processes may do this at once: one waits for the other.
    Raises StoreError when the schema is newer than the steps, or older and ``allowed`` is False.
    """
    newest = steps[-1].version
    found = schema_version(connection)
    if found > newest:
        raise StoreError(
            f"its schema has version {found}, this release knows up to {newest}: "
            "it was written by a newer release; install that one or restore a backup"
        )
    if found < newest and not allowed:
        raise StoreError(
            f"its schema has version {found}, this release needs {newest}: "
            "start the gateway once, which brings it up to date"
        )
    for step in steps:
        if step.version > found:
            _apply(connection, step)
    return found


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if schema_version(connection) < step.version:
            for statement in _statements(step.sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {step.version}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.execute("ROLLBACK")
        raise StoreError(f"the migration {step.name} failed: {error}") from error
