"""The lexical rules on which every reader of a statement agrees, and no others.

A statement is judged by what a parser makes of it, and run by what the server makes of it. Where
strings, names and comments end must not depend on who reads, so a spelling that is known to be
read in more than one way (executable or nested comments, ``U&'…'``, dollar quotes, backslashes
where a setting gives them their meaning, characters that some take for white space) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from attrs import frozen

MAX_LENGTH: Final = 128 * 1024
MAX_LEXEMES: Final = 20_000
MAX_DEPTH: Final = 60
MAX_SIGNS: Final = 40


class Doubtful(Exception):
    """A statement that may be read in more than one way, or can't be read at all.

    :ivar offset: of the character at which it is.
    """

    def __init__(self, why: str, offset: int) -> None:
        super().__init__(why)
        self.offset = offset


class Mark(Enum):
    """What a lexeme is."""

    WORD = auto()
    NAME = auto()  # in quotes
    STRING = auto()
    NUMBER = auto()
    SYMBOL = auto()  # one character


@frozen
class Lexeme:
    """A piece of a statement. ``text`` is as it stands there, of a word in lower case."""

    mark: Mark
    start: int
    end: int
    text: str


@frozen
class Plain:
    """A statement that everybody reads alike.

    :ivar sql: with blanks in place of comments, so that offsets are the same.
    """

    sql: str
    lexemes: tuple[Lexeme, ...]


@frozen
class _Rules:
    names: str
    symbols: frozenset[str]
    prefixes: frozenset[str]
    backslash: bool = False
    strict_dashes: bool = False


_COMMON: Final = frozenset("+-*/%<>=!(),.;|&~^")
_ARRAYS: Final = _COMMON | frozenset("[]:@#?")
_RULES: Final[Mapping[str, _Rules]] = {
    "postgresql": _Rules('"', _ARRAYS, frozenset("nexb")),
    "redshift": _Rules('"', _ARRAYS, frozenset("nexb"), backslash=True),
    "mysql": _Rules("`", _COMMON, frozenset("nxb"), backslash=True, strict_dashes=True),
    "sqlite": _Rules('"`[', _COMMON, frozenset("x")),
    "sqlserver": _Rules('"[', _COMMON, frozenset("n")),
    "oracle": _Rules('"', _COMMON, frozenset("n")),
}
PRODUCTS: Final = tuple(_RULES)

_ODD: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff]|\r(?!\n)")
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_LINE: Final = re.compile(r"--[^\r\n]*")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.$'\"`])")
_STRING: Final = re.compile(r"'[^']*(?:''[^']*)*'(?![\w'\"`])")
_AMBIGUOUS: Final = re.compile(r"""\\['"\\]""")
_NAMES: Final = {
    '"': re.compile(r'"[^"\\\r\n]+"(?![\w\'"`])'),
    "`": re.compile(r"`[^`'\"\\\r\n]+`(?![\w'\"`])"),
    "[": re.compile(r"\[[^\[\]'\"`\\\r\n]+\](?![\w'\"`\]])"),
}
_DIGITS: Final = {"x": re.compile(r"'[0-9A-Fa-f]*'"), "b": re.compile(r"'[01]*'")}
_BEFORE_NUMBER: Final = frozenset("(,+-*/=<>%")
_OPENING: Final = frozenset(("(", "[", "case"))
_CLOSING: Final = frozenset((")", "]", "end"))
_SIGNS: Final = frozenset(("not", "-", "+", "~", "!"))


def read(sql: str, product: str) -> Plain:
    """Split a statement. ``product`` is one of :data:`PRODUCTS`. Raises Doubtful."""
    if len(sql) > MAX_LENGTH:
        raise Doubtful(f"it is longer than {MAX_LENGTH} characters", MAX_LENGTH)
    odd = _ODD.search(sql)
    if odd is not None:
        raise Doubtful("a control character is not allowed: use a parameter", odd.start())
    return _Reader(sql, product).read()


class _Reader:
    def __init__(self, sql: str, product: str) -> None:
        self._sql = sql
        self._rules = _RULES[product]
        self._lexemes: list[Lexeme] = []
        self._comments: list[tuple[int, int]] = []

    def read(self) -> Plain:
        at = 0
        while at < len(self._sql):
            at = self._step(at)
        _bound(self._lexemes)
        parts: list[str] = []
        kept = 0
        for start, end in self._comments:
            parts += (self._sql[kept:start], " " * (end - start))
            kept = end
        return Plain("".join((*parts, self._sql[kept:])), tuple(self._lexemes))

    def _step(self, at: int) -> int:
        sql = self._sql
        character = sql[at]
        if space := _SPACE.match(sql, at):
            return space.end()
        if sql.startswith("--", at):
            return self._line_comment(at)
        if sql.startswith("/*", at):
            return self._block_comment(at)
        if word := _WORD.match(sql, at):
            return self._word(at, word.end())
        if character == "'":
            return self._string(at, at)
        if character == '"' and '"' not in self._rules.names:
            return self._double_quoted(at)
        if character in self._rules.names:
            name = _NAMES[character].match(sql, at)
            if name is None:
                raise Doubtful("a quoted name is not closed, or holds odd characters", at)
            if at and sql[at - 1] == "&":
                raise Doubtful("a name with Unicode escapes is not allowed", at)
            return self._add(Mark.NAME, at, name.end())
        if character in "0123456789" or _NUMBER.match(sql, at):
            return self._number(at)
        if character not in self._rules.symbols or sql.startswith("*/", at):
            raise Doubtful(_unusual(character), at)
        return self._add(Mark.SYMBOL, at, at + 1)

    def _add(self, mark: Mark, start: int, end: int) -> int:
        text = self._sql[start:end]
        if mark is Mark.WORD:
            text = text.lower()
        self._lexemes.append(Lexeme(mark, start, end, text))
        if len(self._lexemes) > MAX_LEXEMES:
            raise Doubtful(f"it has more than {MAX_LEXEMES} words: use parameters", start)
        return end

    def _line_comment(self, at: int) -> int:
        match = _LINE.match(self._sql, at)
        assert match is not None  # noqa: S101 - it begins with two dashes
        if self._rules.strict_dashes and match[0][2:3] not in ("", " ", "\t"):
            raise Doubtful("a comment begins with two dashes and a blank", at)
        self._comments.append(match.span())
        return match.end()

    def _block_comment(self, at: int) -> int:
        end = self._sql.find("*/", at + 2) + 2
        text = self._sql[at:end]
        if end < at + 4:
            raise Doubtful("a comment is not closed", at)
        if "/*" in text[2:]:
            raise Doubtful("a comment within a comment is not allowed", at)
        if text[2] in "!+" or text[2:4].upper() == "M!":
            raise Doubtful("a comment that some databases act upon is not allowed", at)
        self._comments.append((at, end))
        return end

    def _word(self, at: int, end: int) -> int:
        following = self._sql[end : end + 1]
        if following == "'":
            return self._prefixed(at, end)
        if following and (following in '"`$#@\\' or ord(following) > 127):
            raise Doubtful("a name with unusual characters has to be quoted", at)
        return self._add(Mark.WORD, at, end)

    def _prefixed(self, at: int, quote: int) -> int:
        prefix = self._sql[at:quote].lower()
        if prefix not in self._rules.prefixes:
            raise Doubtful(f"a string that begins with {prefix}' is not allowed", at)
        digits = _DIGITS.get(prefix)
        if digits is not None and not digits.match(self._sql, quote):
            raise Doubtful("a string of digits holds something else", at)
        end = self._string(at, quote)
        if prefix == "e" and "\\" in self._sql[at:end]:
            raise Doubtful("a string with escapes is not allowed: use a parameter", at)
        return end

    def _string(self, start: int, quote: int) -> int:
        match = _STRING.match(self._sql, quote)
        if match is None:
            raise Doubtful("a string is not closed, or runs into what follows", start)
        if self._rules.backslash and _AMBIGUOUS.search(match[0]):
            raise Doubtful(
                "a backslash before a quote or a backslash is not allowed: use a parameter", start
            )
        return self._add(Mark.STRING, start, match.end())

    def _double_quoted(self, at: int) -> int:
        """A string, or a name where the server's mode is ANSI; it ends in the same place."""
        match = _NAMES['"'].match(self._sql, at)
        if match is None:
            raise Doubtful("what is in double quotes holds odd characters: use a parameter", at)
        return self._add(Mark.STRING, at, match.end())

    def _number(self, at: int) -> int:
        match = _NUMBER.match(self._sql, at)
        if match is None:
            raise Doubtful("a number runs into what follows", at)
        before = self._lexemes[-1] if self._lexemes else None
        if match[0][0] == "." and before and before.end == at and before.text not in _BEFORE_NUMBER:
            raise Doubtful("a number follows too closely", at)
        return self._add(Mark.NUMBER, at, match.end())


def _unusual(character: str) -> str:
    if ord(character) > 127:
        return "a name with unusual characters has to be quoted"
    return f"the character {character} is not allowed here"


def _bound(lexemes: list[Lexeme]) -> None:
    """Keep what is nested within what a parser can take without trouble. Raises Doubtful."""
    depth = signs = 0
    for lexeme in lexemes:
        if lexeme.text in _OPENING:
            depth += 1
        elif lexeme.text in _CLOSING:
            depth = max(0, depth - 1)
        signs = signs + 1 if lexeme.text in _SIGNS else 0
        if depth > MAX_DEPTH or signs > MAX_SIGNS:
            raise Doubtful("it is nested too deeply", lexeme.start)
