"""Patterns of table names: ``sales.*``, ``orders``, ``"Stock"``, ``hq.dbo.orders``."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

_PART: Final = re.compile(
    r"""
      "(?P<double>[^"\x00-\x1f]+)"
    | `(?P<back>[^`\x00-\x1f]+)`
    | \[(?P<bracket>[^\[\]\x00-\x1f]+)\]
    | (?P<bare>[^\s."'`\[\](),;\x00-\x1f]+)
    """,
    re.VERBOSE,
)
_PARTS: Final = 3


@frozen
class PatternPart:
    """A name, or a pattern of names. In a quoted one, ``*`` and upper case are themselves."""

    text: str
    quoted: bool


@frozen
class TablePattern:
    """One entry of ``policy.tables``.

    :ivar parts: the table's name last, before it the schema and the catalogue if they are given.
    """

    text: str
    parts: tuple[PatternPart, ...]

    @classmethod
    def parse(cls, text: str) -> TablePattern:
        """One to three parts with dots between them. Raises ValueError."""
        parts: list[PatternPart] = []
        at = 0
        while match := _PART.match(text, at):
            bare = match["bare"]
            name = bare or match["double"] or match["back"] or match["bracket"]
            parts.append(PatternPart(name, quoted=bare is None))
            at = match.end()
            if at == len(text):
                break
            if text[at] != "." or at + 1 == len(text):
                raise ValueError("not a pattern of table names")
            at += 1
        if at != len(text) or not 1 <= len(parts) <= _PARTS:
            raise ValueError("not a pattern of table names")
        return cls(text, tuple(parts))
