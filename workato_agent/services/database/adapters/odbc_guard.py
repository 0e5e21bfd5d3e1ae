"""What a statement may not be, where a driver's transaction or its policy would be left by it.

This reads words, not grammar: it refuses too much rather than too little. A word that is meant as
a name is quoted.
"""

from __future__ import annotations

from typing import Final

from workato_tunnel.problems import Problem

from ..statements import Dialect, outline
from .base import read_only_problem

_TRANSACTION: Final = frozenset(
    {"begin", "start", "commit", "rollback", "savepoint", "release", "end", "abort", "xa", "save"}
)
_WITH_BODY: Final = frozenset({"procedure", "function", "trigger", "event", "package"})
_READS: Final = frozenset(
    {"select", "with", "values", "table", "show", "explain", "describe", "desc"}
)
_WRITES: Final = frozenset(
    {
        "insert", "update", "delete", "merge", "into", "truncate", "drop", "alter", "create",
        "grant", "revoke", "deny", "exec", "execute", "call", "set", "analyze", "reindex",
        "vacuum", "attach", "detach", "pragma", "lock", "kill", "shutdown", "backup", "restore",
        "reconfigure", "dbcc", "bulk", "writetext", "updatetext", "openrowset", "opendatasource",
        "openquery", "load_extension", "use", "waitfor", "upsert", "handler", "do", "declare",
    }
)  # fmt: skip
_REUSABLE: Final = frozenset({"select", "insert", "update", "delete", "with", "values", "merge"})
_LINGERS: Final = frozenset(
    {
        "into", "temporary", "temp", "get_lock", "set", "exec", "execute", "pragma", "call",
        "set_config", "sp_set_session_context", "sp_getapplock", "last_insert_id",
    }
)  # fmt: skip


def check(
    sql: str, dialect: Dialect, *, read_only: bool, words_end: bool = False, bodies: bool = False
) -> None:
    """Refuse stacked statements and transaction control; all but plain queries if ``read_only``.

    :param words_end: statements may follow each other without a semicolon (T-SQL).
    :param bodies: ``CREATE PROCEDURE`` and its like hold statements, and nothing comes after them.

    Raises Problem.
    """
    shape = outline(sql, dialect)
    body = bodies and shape.first in ("create", "alter") and bool(shape.words & _WITH_BODY)
    if shape.several and not body:
        raise Problem(
            "query_failed",
            "the body holds more than one statement",
            hint="send one statement at a time; a session keeps them in one transaction",
        )
    if body and not read_only:
        return
    words = shape.words
    control = shape.first in _TRANSACTION
    if words_end and not control:
        control = bool(words & {"commit", "rollback"}) or (
            bool(words & {"begin", "save"}) and bool(words & {"tran", "transaction"})
        )
    if shape.first == "set" and words & {"autocommit", "implicit_transactions"}:
        control = True
    if shape.first == "prepare" and "transaction" in words:
        control = True
    if control:
        raise Problem(
            "query_failed",
            "transaction control doesn't work here: every call is a transaction of its own",
            hint="for a transaction over several calls, begin a session",
        )
    if read_only:
        _check_plain(shape.first, words)


def _check_plain(first: str, words: frozenset[str]) -> None:
    if first not in _READS:
        raise read_only_problem(
            f"the statement begins with {first.upper() or 'no word'}, and only queries are allowed"
        )
    writes = sorted(words & _WRITES)
    if {"next", "value", "for"} <= words:
        writes.append("next value for")
    if writes:
        raise read_only_problem(
            f"the query holds {', '.join(word.upper() for word in writes)}: where the database has "
            "no read-only transaction of its own, only plain queries are allowed, and names that "
            "look like it are quoted"
        )


def leaves_traces(sql: str, dialect: Dialect) -> bool:
    """Whether a statement may leave something on its connection: settings, locks, tables."""
    shape = outline(sql, dialect)
    # Variables and temporary tables of SQL Server and MySQL.
    marked = any(mark in sql for mark in ("@", "#"))
    return marked or shape.first not in _REUSABLE or bool(shape.words & _LINGERS)
