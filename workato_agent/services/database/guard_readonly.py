"""What a read-only profile refuses on top of its database's read-only transaction.

Such a transaction keeps tables from being written. It doesn't keep a caller from ending it or from
making it writable, from statements that commit by themselves, and from functions that act outside
of tables; SQL Server has none at all. So a statement has to be one query, by its words, and must
not name what changes something all the same. Functions of the customer's own are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from .guard_names import (
    MYSQL_ACTIONS,
    ORACLE_HARMLESS,
    POSTGRESQL_ACTIONS,
    POSTGRESQL_HARMLESS,
    SQLITE_ACTIONS,
    UNKNOWN_ACTIONS,
)
from .statements import GENERIC, Dialect, Kind, TableName, Token, tokens

POSTGRESQL: Final = frozenset(("postgresql", "redshift"))
_BARE: Final = frozenset(("sqlserver", "odbc", "jdbc"))
"""Products that may run a second statement without a semicolon before it."""

_QUERIES: Final = frozenset(("select", "with", "values", "table"))
_LOOKS: Final = {
    "postgresql": frozenset(("show", "explain")),
    "redshift": frozenset(("show", "explain")),
    "mysql": frozenset(("show", "explain", "describe", "desc", "help")),
    "sqlite": frozenset(("explain", "pragma")),
    "sqlserver": frozenset[str](),
    "oracle": frozenset[str](),
}
_UNKNOWN_LOOKS: Final = frozenset(("show", "explain", "describe", "desc"))
_EXPLAIN_OPTIONS: Final = frozenset(
    ("analyze", "analyse", "verbose", "extended", "partitions", "format", "json", "tree", "query",
     "traditional", "plan", "for", "true", "on")
)  # fmt: skip
_CHANGES: Final = frozenset(("insert", "update", "delete", "merge", "replace"))
_STATEMENTS: Final = _CHANGES | frozenset(
    ("alter", "analyze", "analyse", "attach", "backup", "begin", "bulk", "call", "checkpoint",
     "close", "cluster", "comment", "commit", "copy", "create", "dbcc", "deallocate", "declare",
     "deny", "detach", "discard", "do", "drop", "exec", "execute", "fetch", "grant", "handler",
     "import", "install", "kill", "listen", "load", "lock", "move", "notify", "optimize",
     "prepare", "purge", "reassign", "reconfigure", "refresh", "reindex", "release", "rename",
     "repair", "reset", "restore", "revoke", "rollback", "save", "savepoint", "security", "set",
     "shutdown", "start", "truncate", "uninstall", "unlisten", "unload", "unlock", "use", "vacuum",
     "waitfor", "xa")
)  # fmt: skip
_NOWHERE: Final = frozenset(
    ("alter", "backup", "begin", "bulk", "checkpoint", "commit", "create", "dbcc", "deallocate",
     "declare", "delete", "deny", "drop", "dump", "exec", "execute", "grant", "insert", "kill",
     "load", "merge", "opendatasource", "openquery", "openrowset", "reconfigure", "restore",
     "revert", "revoke", "rollback", "save", "set", "setuser", "shutdown", "truncate", "update",
     "updatetext", "use", "waitfor", "writetext")
)  # fmt: skip
"""Reserved words of SQL Server that begin a statement wherever they stand, or reach elsewhere."""
_ALSO_FUNCTIONS: Final = frozenset(("insert", "truncate"))

_ACTIONS: Final = {
    "postgresql": POSTGRESQL_ACTIONS,
    "redshift": POSTGRESQL_ACTIONS,
    "mysql": MYSQL_ACTIONS,
    "sqlite": SQLITE_ACTIONS,
}
_MAY_BE_POSTGRESQL: Final = POSTGRESQL | frozenset(("odbc", "jdbc"))
_PACKAGES: Final = frozenset(("oracle", "odbc", "jdbc"))
MAX_PIECES: Final = 100_000
_LETTERS: Final = re.compile(r"[\w$]+")
_ESCAPED_QUOTE: Final = re.compile(r"""\\['"\\]""")


class _Piece(NamedTuple):
    """A token that means something: ``word`` in lower case, ``name`` for a quoted one too."""

    text: str
    word: str = ""
    name: str = ""


def reason(sql: str, dialect: Dialect, product: str) -> str | None:
    """Why a statement is refused; None for a plain query."""
    pieces: list[_Piece] = []
    quoted = 0
    for token in tokens(sql, dialect):
        text = sql[token.start : token.end]
        doubt = _doubt(token.kind, text, product)
        if doubt is None and dialect == GENERIC and token.start >= quoted:
            doubt = _unsure(sql, token)
            quoted = max(quoted, _quoted_end(sql, token))
        if doubt is not None:
            return doubt
        if token.kind is Kind.WORD:
            pieces.append(_Piece(text, text.lower(), text.lower()))
        elif token.kind is Kind.LITERAL and text[0] in '"`[':
            if product in POSTGRESQL and sql.endswith(("u&", "U&"), 0, token.start):
                return "names with Unicode escapes are not allowed"
            pieces.append(_Piece(text, name=text[1:-1].lower()))
        elif token.kind is not Kind.COMMENT:
            pieces.append(_Piece(text))
        if len(pieces) > MAX_PIECES:
            return f"the statement has more than {MAX_PIECES} words"
    while pieces and pieces[-1].text == ";":
        pieces.pop()
    return _shape(pieces, product) or _words(pieces, product) or _functions(pieces, product)


def call_reason(procedure: TableName, product: str) -> str | None:
    """Why a procedure may not be called; None where a read-only transaction holds it."""
    if product != "postgresql":
        # Elsewhere a procedure can commit, and write after that.
        return "procedures can't be called: they may write"
    name = procedure.name.lower()
    if _acts(name, product) or (name.startswith("pg_") and name not in POSTGRESQL_HARMLESS):
        return f"{procedure.name} is not allowed: it acts outside of tables"
    return None


def _doubt(kind: Kind, text: str, product: str) -> str | None:
    if kind is Kind.WORD and not _LETTERS.fullmatch(text):
        return "a name with unusual characters has to be quoted"
    if kind is Kind.COMMENT:
        if text.startswith(("/*!", "/*M!", "/*m!")):
            return "comments that some databases execute are not allowed"
        if product not in POSTGRESQL and "/*" in text[2:]:
            return "comments within comments are not allowed"
    elif (
        kind is Kind.LITERAL
        and product in ("mysql", "redshift", "odbc", "jdbc")
        and text[0] in "'\""
        and _ESCAPED_QUOTE.search(text[1:])
    ):
        # Where the string ends depends on a setting of the server.
        return "a backslash before a quote or a backslash is not allowed: use a parameter"
    return None


def _unsure(sql: str, token: Token) -> str | None:
    """What is read in different ways by databases of which nothing is known but that they are."""
    text = sql[token.start : token.end]
    if token.kind is Kind.OTHER:
        quoted = sql[token.end : _quoted_end(sql, token)]
        if text in "#$" or any(mark in quoted for mark in ("'", '"', "--", "/*", "#")):
            return f"{text} is not allowed here: it may begin a comment or a name"
    elif token.kind is Kind.COMMENT:
        if text.startswith("--") and text[2:3] not in ("", " ", "\t"):
            return "a comment begins with two dashes and a blank"
    elif (
        token.kind is Kind.WORD
        and sql[token.end : token.end + 1] == "'"
        and text.lower() not in ("n", "x", "b", "date", "time", "timestamp")
    ):
        return f"a string that begins with {text}' is not allowed"
    return None


def _quoted_end(sql: str, token: Token) -> int:
    """Where a name ends that is quoted by brackets or backticks, if it is one."""
    close = {"[": "]", "`": "`"}.get(sql[token.start : token.end])
    return token.end if close is None else sql.find(close, token.end) + 1 or len(sql)


def _shape(pieces: Sequence[_Piece], product: str) -> str | None:
    if any(piece.text == ";" for piece in pieces):
        return "more than one statement is not allowed"
    at = _first(pieces, 0)
    first = pieces[at].word if at < len(pieces) else ""
    looks = _LOOKS.get(product, _UNKNOWN_LOOKS)
    if first in looks and at == 0:
        if first in ("show", "pragma", "help"):
            return None
        at = _explained(pieces)
        first = pieces[at].word if at < len(pieces) else ""
        if product == "mysql" and first not in _STATEMENTS:
            return None  # a table is described
    return None if first in _QUERIES else f"{first or 'this'} is no query"


def _first(pieces: Sequence[_Piece], at: int) -> int:
    while at < len(pieces) and pieces[at].text == "(":
        at += 1
    return at


def _explained(pieces: Sequence[_Piece]) -> int:
    """Where the statement begins that EXPLAIN shows, past its options."""
    at = 1
    if at < len(pieces) and pieces[at].text == "(" and not _begins_query(pieces, at + 1):
        while at < len(pieces) and pieces[at].text != ")":
            at += 1
        at += 1
    while at < len(pieces) and (
        pieces[at].word in _EXPLAIN_OPTIONS or pieces[at].text == "=" or pieces[at].text[0] == "'"
    ):
        at += 1
    return _first(pieces, at)


def _begins_query(pieces: Sequence[_Piece], at: int) -> bool:
    at = _first(pieces, at)
    return at < len(pieces) and pieces[at].word in _QUERIES


def _words(pieces: Sequence[_Piece], product: str) -> str | None:
    """What makes a query more than that."""
    for index, piece in enumerate(pieces):
        if not piece.word:
            continue
        before = pieces[index - 1].text.lower() if index else ""
        after = pieces[index + 1].text.lower() if index + 1 < len(pieces) else ""
        if before == ".":
            continue
        if piece.word == "into":
            return "INTO is not allowed"
        if piece.word in _CHANGES and before in ("", "(", ")") and after != "(":
            return f"{piece.text} is not allowed"
        if piece.word == "for" and after in ("update", "share", "no", "key"):
            return "locking rows is not allowed"
        if piece.word == "lock" and after == "in":
            return "locking rows is not allowed"
        if piece.word in ("next", "previous") and after == "value":
            return "sequences are not allowed"
        if piece.word in _NOWHERE and (product in _BARE or product not in _LOOKS):
            if piece.word in _ALSO_FUNCTIONS and after == "(":
                continue
            return f"{piece.text} is not allowed; a name is put in quotes"
    return None


def _functions(pieces: Sequence[_Piece], product: str) -> str | None:
    """Functions that do more than compute; also ``value.function``, which PostgreSQL calls."""
    for index, piece in enumerate(pieces):
        if not piece.name:
            continue
        called = index + 1 < len(pieces) and pieces[index + 1].text == "("
        if _acts(piece.name, product) and (called or _called_by_dot(piece.name, product)):
            return f"{piece.text} is not allowed: it acts outside of tables"
        if product in _MAY_BE_POSTGRESQL and called and _unknown_system(piece.name):
            return f"{piece.text} is not allowed: it may act outside of tables"
        if product in _BARE and piece.name.startswith(("xp_", "sp_")):
            return f"{piece.text} is not allowed"
        if (
            product in _PACKAGES
            and piece.name.startswith(("dbms_", "utl_", "owa_", "apex_"))
            and piece.name not in ORACLE_HARMLESS
        ):
            return f"the package {piece.text} is not allowed: it may act outside of tables"
    return None


def _acts(name: str, product: str) -> bool:
    return name in _ACTIONS.get(product, UNKNOWN_ACTIONS)


def _called_by_dot(name: str, product: str) -> bool:
    return product in _MAY_BE_POSTGRESQL and name in POSTGRESQL_ACTIONS


def _unknown_system(name: str) -> bool:
    return name.startswith(("pg_", "lo_", "dblink")) and name not in POSTGRESQL_HARMLESS
