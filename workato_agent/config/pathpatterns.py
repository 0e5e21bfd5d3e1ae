"""Patterns of URL paths: ``*`` within a segment, ``**`` across segments.

The customer writes the patterns, but anybody writes the paths, so matching takes time linear in the
path for any pattern: a backtracking expression would let one long path hold up every other call.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

_WITHIN: Final = "*"
_ACROSS: Final = "**"


@frozen
class PathPattern:
    """A pattern, ready to match decoded paths with a leading slash.

    A state is the number of tokens matched so far; a set of states is the bits of a number.

    :ivar literal: for each character, the states in which it is the next token.
    :ivar within: the states whose next token is ``*``; ``across``: is ``**``.
    :ivar folder: for ``/api/**``, the pattern of ``/api`` itself.
    """

    text: str
    literal: dict[str, int]
    within: int
    across: int
    end: int
    folder: PathPattern | None

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """``/api/**`` is ``/api`` and all beneath it. Raises ValueError unless it begins with /."""
        if not text.startswith("/") or re.search(r"[\x00-\x20?#\\]|//|/\.\.?(/|$)", text):
            raise ValueError("not a path pattern")
        shorter = text.removesuffix("/**")
        itself = _compile(shorter, shorter, None) if shorter and shorter != text else None
        return _compile(text, text, itself)

    def matches(self, path: str) -> bool:
        """Whether the pattern covers the whole path."""
        if self.folder is not None and self.folder.matches(path):
            return True
        literal, within, across = self.literal, self.within, self.across
        wild = within | across
        states = 1 | (1 & wild) << 1
        for character in path:
            stay = across if character == "/" else wild
            states = ((states & literal.get(character, 0)) << 1) | (states & stay)
            if not states:
                return False
            states |= (states & wild) << 1
        return bool(states & self.end)


def _compile(text: str, pattern: str, folder: PathPattern | None) -> PathPattern:
    literal: dict[str, int] = {}
    within = across = position = 0
    for token in re.findall(r"\*+|[^*]", pattern):
        if token == _WITHIN:
            within |= 1 << position
        elif token.startswith(_ACROSS):
            across |= 1 << position
        else:
            literal[token] = literal.get(token, 0) | 1 << position
        position += 1
    return PathPattern(text, literal, within, across, 1 << position, folder)
