"""What the agent does not let through to MySQL: statements that end, or escape, its transaction.

MySQL commits silently before most statements that are not plain reading and writing, and has no
means to forbid that. So a profile that is read_only lets through only what reads, by its first
word, and any other profile all but what controls transactions or brings further statements with it.
The read-only transaction of the server stands behind that.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ..statements import MYSQL, Kind, tokens
from .base import read_only_problem

_READING: Final = frozenset(
    ("select", "with", "values", "table", "show", "describe", "desc", "explain", "help", "call")
)
_CONTROL: Final = frozenset(
    (
        "begin", "start", "commit", "rollback", "savepoint", "release", "xa", "lock", "unlock",
        "handler", "end", "return",
        # They bring statements of which nothing is seen here.
        "prepare", "execute", "deallocate", "if", "case", "while", "loop", "repeat", "for",
        "declare", "delimiter", "binlog",
    )
)  # fmt: skip
_COMMITTING: Final = frozenset(
    (
        "alter", "create", "drop", "rename", "truncate", "grant", "revoke", "analyze", "cache",
        "check", "checksum", "flush", "optimize", "repair", "reset", "install", "uninstall",
        "change", "stop", "purge", "import", "clone", "shutdown", "restart", "backup",
    )
)  # fmt: skip
_SESSION: Final = frozenset(
    (
        "autocommit", "sql_mode", "names", "charset", "character", "character_set_client",
        "character_set_connection", "character_set_results", "collation_connection", "time_zone",
        "transaction", "tx_read_only", "tx_isolation", "transaction_read_only",
        "transaction_isolation", "completion_type", "statement", "sql_select_limit",
        "net_write_timeout", "pseudo_slave_mode", "pseudo_replica_mode",
    )
)  # fmt: skip


@frozen
class Verdict:
    """What a statement may do, if it is let through.

    :ivar commits: MySQL commits before and after it.
    :ivar queries: it brings rows and is no more than a query.
    :ivar marks: something of it may outlive the session's reset.
    """

    commits: bool = False
    queries: bool = False
    marks: bool = False


def judge(sql: str, *, read_only: bool) -> Verdict:
    """Raises Problem ``policy_denied`` for what is not let through."""
    words: list[str] = []
    names: set[str] = set()
    code = early = False
    label = False
    count = 0
    for token in tokens(sql, MYSQL):
        text = sql[token.start : token.end]
        if token.kind is Kind.COMMENT:
            if text.startswith(("/*!", "/*M!")):
                code = True
                early = early or not words
            continue
        count += 1
        label = label or (count == 2 and text.startswith(":"))
        if token.kind is Kind.WORD:
            words.append(text.lower())
        named = len(words) > 1 or text.startswith("`")
        if named and not _is_user_variable(sql, token.start):
            names.add(text.strip("`").lower())
    first = words[0] if words else ""
    if early or label:
        raise _denied("neither code in a comment nor a label may begin a statement")
    if read_only:
        _check_reading(first, frozenset(words), code=code)
    if not first or first in _CONTROL:
        raise _denied(f"{first.upper() or 'this'} is not let through")
    if first == "set":
        _check_set(frozenset(names))
    if first == "load" and "local" in words:
        raise _denied("LOAD DATA LOCAL would read a file of the agent's machine")
    temporary = first in ("create", "drop") and words[1:2] == ["temporary"]
    return Verdict(
        commits=(first in _COMMITTING and not temporary)
        or (first == "set" and "password" in words)
        or (first == "load" and "data" not in words and "xml" not in words),
        queries=first in ("select", "with", "values", "table"),
        marks=first == "use",
    )


def _is_user_variable(sql: str, start: int) -> bool:
    return sql[start - 1 : start] == "@" and sql[start - 2 : start] != "@@"


def _check_reading(first: str, words: frozenset[str], *, code: bool) -> None:
    if first not in _READING:
        raise read_only_problem(
            f"{first.upper() or 'this'} is not among the statements of a read-only profile: "
            "SELECT, WITH, VALUES, TABLE, SHOW, DESCRIBE, EXPLAIN, HELP and CALL"
        )
    if code:
        raise read_only_problem("code in a comment (/*! … */) may do what is not seen")
    if not words.isdisjoint(("outfile", "dumpfile")):
        raise read_only_problem("INTO OUTFILE and INTO DUMPFILE write files on the server")


def _check_set(names: frozenset[str]) -> None:
    own = sorted(names & _SESSION)
    if own:
        raise _denied(f"{own[0].upper()} is the agent's to set")


def _denied(detail: str) -> Problem:
    return Problem(
        "policy_denied",
        detail,
        hint="the transaction and the session are the agent's: every call outside of a session is "
        "a transaction, a session has its own commit and rollback, values go into params",
        extra={"rule": "transaction"},
    )


def committing_problem() -> Problem:
    """A statement that MySQL commits comes after others of the same transaction."""
    return Problem(
        "policy_denied",
        "MySQL would commit the session's transaction before this statement",
        hint="commit or roll the session back first, or send it outside of the session",
        extra={"rule": "transaction"},
    )
