"""Finds the parameters in a SQL statement without being fooled by what only looks like one.

The scanner follows PostgreSQL's lexical rules (manual, "Lexical Structure"; ``scan.l``), SQLite's
("SQL As Understood By SQLite") and MySQL's ("Language Structure"), as the dialect says. It has to
agree with the server on where strings and comments end, because values are put where it finds a
parameter.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import accumulate
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem


@frozen
class Dialect:
    """Lexical rules in which databases differ.

    :ivar escape_strings: ``E'…'`` with backslashes.
    :ivar dollar_quotes: ``$tag$…$tag$``.
    :ivar nested_comments: ``/* /* */ */`` is one comment.
    :ivar brackets_quote: ``[name]`` and ```name``` are identifiers, and there are no arrays.
    :ivar doubled_brackets: ``[a]]b]`` is one identifier.
    :ivar backslashes: a backslash escapes in ``'…'`` and ``"…"``, and backticks quote identifiers.
    :ivar mysql_comments: ``#`` begins a comment, ``--`` does before white space only, and
        ``/*! … */`` is code: only its beginning is a comment.
    :ivar q_quotes: Oracle's ``q'[…]'``, whose end is the closing character and a quote.
    """

    escape_strings: bool
    dollar_quotes: bool
    nested_comments: bool
    brackets_quote: bool
    doubled_brackets: bool = False
    backslashes: bool = False
    mysql_comments: bool = False
    q_quotes: bool = False


POSTGRESQL: Final = Dialect(
    escape_strings=True, dollar_quotes=True, nested_comments=True, brackets_quote=False
)
SQLITE: Final = Dialect(
    escape_strings=False, dollar_quotes=False, nested_comments=False, brackets_quote=True
)
MSSQL: Final = Dialect(
    escape_strings=False,
    dollar_quotes=False,
    nested_comments=True,
    brackets_quote=True,
    doubled_brackets=True,
)
MYSQL: Final = Dialect(
    escape_strings=False,
    dollar_quotes=False,
    nested_comments=False,
    brackets_quote=False,
    backslashes=True,
    mysql_comments=True,
)
GENERIC: Final = Dialect(
    escape_strings=False, dollar_quotes=False, nested_comments=False, brackets_quote=False
)
ORACLE: Final = Dialect(
    escape_strings=False,
    dollar_quotes=False,
    nested_comments=False,
    brackets_quote=False,
    q_quotes=True,
)


class Kind(Enum):
    """What a token is, as far as parameters are concerned."""

    WORD = auto()
    LITERAL = auto()  # string, quoted name or number
    COMMENT = auto()
    QUESTION = auto()
    ESCAPED_QUESTION = auto()
    NAMED = auto()
    OTHER = auto()  # one operator or punctuation character, ``::`` or ``:=``


@frozen
class Token:
    """A piece of the statement; what lies between tokens is white space."""

    kind: Kind
    start: int
    end: int


_WORD: Final = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"
_START: Final = re.compile(
    rf"""
      (?P<space>\s+)
    | (?P<line>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<escape>[eE]')
    | (?P<q_quote>[nN]?[qQ]'(?=[^\s]))
    | (?P<word>{_WORD})
    | (?P<number>\.?[0-9][0-9_.]*)
    | (?P<quote>['"])
    | (?P<bracket>[`\[])
    | (?P<hash>\#)
    | (?P<dollar>\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\$)
    | (?P<double_question>\?\?)
    | (?P<question>\?)
    | (?P<colons>::|:=)
    | (?P<named>:[A-Za-z_][A-Za-z0-9_]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_END: Final = {
    "'": re.compile(r"[^']*(?:''[^']*)*'"),
    '"': re.compile(r'[^"]*(?:""[^"]*)*"'),
    "`": re.compile(r"[^`]*(?:``[^`]*)*`"),
    "[": re.compile(r"[^\]]*\]"),
}
_DOUBLED_BRACKET_END: Final = re.compile(r"[^\]]*(?:\]\][^\]]*)*\]")
_ESCAPE_END: Final = re.compile(r"[^'\\]*(?:(?:\\.|'')[^'\\]*)*'", re.DOTALL)
# A string goes on after white space that holds a newline, in the manner in which it began.
_CONTINUATION: Final = re.compile(
    r"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'"
)
_BACKSLASH_END: Final = {
    "'": _ESCAPE_END,
    '"': re.compile(r'[^"\\]*(?:(?:\\.|"")[^"\\]*)*"', re.DOTALL),
}
_MYSQL_LINE: Final = re.compile(r"(?:#|--(?=[\x00-\x20\x7f]|\Z))[^\n]*")
_MYSQL_CODE: Final = re.compile(r"/\*M?![0-9]*")
_Q_PAIRS: Final = {"[": "]", "(": ")", "{": "}", "<": ">"}
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_COMMENT_CLOSE: Final = re.compile(r"\*/")


def tokens(sql: str, dialect: Dialect) -> Iterator[Token]:
    """Split a statement.

    Never fails: what is not closed reaches to the end, and the server says so.
    """
    at = 0
    depth = 0
    after_operand = False
    while match := _START.match(sql, at):
        start = at
        if match["space"]:
            at = match.end()
            continue
        kind, at = _classify(sql, match, dialect)
        if kind is Kind.NAMED and depth and after_operand:
            # The colon of an array slice, ``a[1:n]``: the name is a column.
            kind, at = Kind.OTHER, start + 1
        if kind is Kind.OTHER:
            character = sql[start:at]
            depth = max(0, depth + (character == "[") - (character == "]"))
            after_operand = character in ("]", ")")
        elif kind is not Kind.COMMENT:
            after_operand = True
        yield Token(kind, start, at)


_SIMPLE: Final = {
    "line": Kind.COMMENT,
    "word": Kind.WORD,
    "number": Kind.LITERAL,
    "double_question": Kind.ESCAPED_QUESTION,
    "question": Kind.QUESTION,
    "colons": Kind.OTHER,
    "named": Kind.NAMED,
}


def _classify(sql: str, match: re.Match[str], dialect: Dialect) -> tuple[Kind, int]:
    group = match.lastgroup or ""
    start, end = match.span()
    if dialect.mysql_comments and group in ("line", "hash", "block"):
        return _mysql_comment(sql, start)
    if group in _SIMPLE:
        return _SIMPLE[group], end
    if group == "block":
        return Kind.COMMENT, _comment_end(sql, end, nested=dialect.nested_comments)
    if group == "escape" and not dialect.escape_strings:
        return Kind.WORD, start + 1
    if group == "escape":
        return Kind.LITERAL, _escape_string_end(sql, end)
    if group == "q_quote" and not dialect.q_quotes:
        return Kind.WORD, end - 1
    if group == "q_quote":
        close = sql.find(_Q_PAIRS.get(sql[end], sql[end]) + "'", end + 1)
        return Kind.LITERAL, len(sql) if close < 0 else close + 2
    if group == "dollar" and dialect.dollar_quotes:
        close = sql.find(match[0], end)
        return Kind.LITERAL, len(sql) if close < 0 else close + len(match[0])
    if dialect.backslashes and match[0] in _BACKSLASH_END:
        return Kind.LITERAL, _end_of(_BACKSLASH_END[match[0]], sql, end)
    if (
        group == "quote"
        or (group == "bracket" and dialect.brackets_quote)
        or (match[0] == "`" and dialect.backslashes)
    ):
        doubled = match[0] == "[" and dialect.doubled_brackets
        closing = _DOUBLED_BRACKET_END if doubled else _PLAIN_END[match[0]]
        return Kind.LITERAL, _end_of(closing, sql, end)
    return Kind.OTHER, start + 1


def _mysql_comment(sql: str, start: int) -> tuple[Kind, int]:
    if comment := _MYSQL_LINE.match(sql, start) or _MYSQL_CODE.match(sql, start):
        return Kind.COMMENT, comment.end()
    if sql.startswith("/*", start):
        return Kind.COMMENT, _comment_end(sql, start + 2, nested=False)
    return Kind.OTHER, start + 1


def _end_of(pattern: re.Pattern[str], sql: str, at: int) -> int:
    match = pattern.match(sql, at)
    return match.end() if match else len(sql)


def _escape_string_end(sql: str, at: int) -> int:
    while True:
        at = _end_of(_ESCAPE_END, sql, at)
        more = _CONTINUATION.match(sql, at)
        if more is None:
            return at
        at = more.end()


def _comment_end(sql: str, at: int, *, nested: bool) -> int:
    depth = 1
    edges = _COMMENT_EDGE if nested else _COMMENT_CLOSE
    while edge := edges.search(sql, at):
        at = edge.end()
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return at
    return len(sql)


@frozen
class Outline:
    """The shape of a statement, for choosing a path; never for granting anything.

    :ivar words: its unquoted words in lower case.
    :ivar first: the first of them, ``""`` without one.
    :ivar end: where it ends without its last semicolons and what follows them.
    :ivar several: whether there are statements after the first.
    """

    words: frozenset[str]
    first: str
    end: int
    several: bool


def outline(sql: str, dialect: Dialect) -> Outline:
    """What a statement seems to be."""
    words: set[str] = set()
    first = ""
    end = 0
    several = semicolon = False
    for token in tokens(sql, dialect):
        if token.kind is Kind.WORD:
            word = sql[token.start : token.end].lower()
            first = first or word
            words.add(word)
        if sql[token.start : token.end] == ";":
            semicolon = semicolon or end > 0
        elif token.kind is not Kind.COMMENT:
            several = several or semicolon
            end = token.end
    return Outline(frozenset(words), first, end, several)


@frozen
class Text:
    """The caller's own text; ``offset`` is where it stands in the caller's statement."""

    offset: int
    text: str


@frozen
class Slot:
    """A parameter at ``offset``, and its value."""

    offset: int
    value: object


@frozen
class Rendered:
    """A statement as the database gets it, and where each piece of it came from.

    :ivar starts: where each piece begins in ``sql``.
    :ivar origins: where it stands in the caller's text, and whether it is the caller's own text.
    """

    sql: str
    starts: tuple[int, ...]
    origins: tuple[tuple[int, bool], ...]

    def caller_position(self, position: int) -> int:
        """Where in the caller's text the character at ``position`` came from; both count from 1."""
        index = max(0, bisect_right(self.starts, position - 1) - 1)
        origin, own = self.origins[index]
        return origin + 1 + (position - 1 - self.starts[index] if own else 0)


@frozen
class Statement:
    """A statement and the values of its parameters, not yet put together.

    :ivar sql: as the caller wrote it.
    """

    sql: str
    pieces: tuple[Text | Slot, ...]

    @property
    def values(self) -> list[object]:
        """The values in the order in which the parameters stand."""
        return [piece.value for piece in self.pieces if isinstance(piece, Slot)]

    def given(self, values: Sequence[object]) -> Statement:
        """The same statement with other values, in the order in which the parameters stand."""
        left = iter(values)
        return Statement(
            self.sql,
            tuple(
                piece if isinstance(piece, Text) else Slot(piece.offset, next(left))
                for piece in self.pieces
            ),
        )

    def render(self, literal: Callable[[object], str]) -> Rendered:
        """Put ``literal(value)`` in the place of each parameter."""
        texts = [
            piece.text if isinstance(piece, Text) else literal(piece.value) for piece in self.pieces
        ]
        starts = accumulate((len(text) for text in texts), initial=0)
        return Rendered(
            "".join(texts),
            tuple(starts)[:-1],
            tuple((piece.offset, isinstance(piece, Text)) for piece in self.pieces),
        )


@frozen
class Batch:
    """One statement and many sets of values.

    :ivar statement: with the values of the first set.
    :ivar rows: the values of every set, in the order in which the parameters stand.
    """

    statement: Statement
    rows: Sequence[Sequence[object]]


@frozen
class TableName:
    """The name of a table or procedure as the database's catalogue has it, without quotes.

    :ivar schema: None for the first on the search path, or the current database.
    """

    schema: str | None
    name: str

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


Params = Sequence[object] | Mapping[str, object]


def bind(sql: str, params: Params | None, dialect: Dialect) -> Statement:
    """Find the parameters and give each its value.

    A list goes with ``?`` (``??`` is a question mark of the statement's own), a mapping with
    ``:name``. Without values nothing is looked for and nothing is changed.
    Raises Problem ``bad_request`` when parameters and values don't match.
    """
    if not params:
        return Statement(sql, (Text(0, sql),))
    pieces: list[Text | Slot] = []
    begin = 0
    count = 0
    for token in tokens(sql, dialect):
        if isinstance(params, Mapping):
            if token.kind is not Kind.NAMED:
                continue
            piece: Text | Slot = Slot(token.start, _named(params, sql[token.start + 1 : token.end]))
        elif token.kind is Kind.QUESTION:
            piece = Slot(token.start, params[count] if count < len(params) else None)
            count += 1
        elif token.kind is Kind.ESCAPED_QUESTION:
            piece = Text(token.start + 1, "?")
        else:
            continue
        pieces += (Text(begin, sql[begin : token.start]), piece)
        begin = token.end
    pieces.append(Text(begin, sql[begin:]))
    if not isinstance(params, Mapping) and count != len(params):
        raise Problem(
            "bad_request",
            f"the statement has {count} parameters (?), the list holds {len(params)} values",
            hint="a question mark that is an operator is written ?? when values are given",
            extra={"field": "params"},
        )
    return Statement(sql, tuple(pieces))


def _named(params: Mapping[str, object], name: str) -> object:
    if name not in params:
        raise Problem(
            "bad_request",
            f"the statement's parameter :{name} has no value",
            hint=f"params holds {', '.join(sorted(params)[:20])}",
            extra={"field": f"params.{name}"},
        )
    return params[name]
