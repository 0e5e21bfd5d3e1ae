"""Patterns over paths: ``?`` one character, ``*`` any within a name, ``**`` any number of folders.

A pattern without a slash speaks of the name alone, in whatever folder; one with a slash, or ``**``
alone, of the whole path. Matching takes time linear in the name for any pattern, since callers send
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from .confinement import Names

MAX_PATTERN: Final = 1024
_ANY_FOLDERS: Final = "**"


@frozen
class Pattern:
    """One pattern, ready to match. Make it with :func:`compile_pattern`.

    :ivar parts: one per segment; None stands for ``**``.
    """

    text: str
    parts: tuple[re.Pattern[str] | None, ...] = field(repr=False)

    def matches(self, names: Names) -> bool:
        """Whether the whole path matches."""
        return len(self.parts) in self._reached(names)

    def may_contain(self, folder: Names) -> bool:
        """Whether something below that folder could match."""
        return any(place < len(self.parts) for place in self._reached(folder))

    def _reached(self, names: Names) -> set[int]:
        """Every number of parts that the names can use up (a small state machine's end states)."""
        places = self._past_any({0})
        for name in names:
            text = name.decode("utf-8", "surrogateescape")
            following: set[int] = set()
            for place in places:
                if place == len(self.parts):
                    continue
                part = self.parts[place]
                if part is None:
                    following.add(place)
                elif part.fullmatch(text):
                    following.add(place + 1)
            places = self._past_any(following)
        return places

    def _past_any(self, places: set[int]) -> set[int]:
        reached = set(places)
        for place in places:
            while place < len(self.parts) and self.parts[place] is None:
                place += 1
                reached.add(place)
        return reached


def compile_pattern(text: str) -> Pattern:
    """Read a pattern. Raises ValueError, with what is wrong, for one that can match nothing."""
    if not text or len(text) > MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters")
    segments = text.split("/")
    if "" in segments:
        raise ValueError("a pattern holds no empty segment and begins and ends without a slash")
    if "." in segments or ".." in segments:
        raise ValueError("a pattern holds no '.' or '..' segment")
    if len(segments) == 1 and text != _ANY_FOLDERS:
        segments = [_ANY_FOLDERS, text]
    if segments[-1] == _ANY_FOLDERS:
        segments.append("*")  # what lies below, not the folder itself
    return Pattern(
        text, tuple(None if part == _ANY_FOLDERS else _segment(part) for part in segments)
    )


def _segment(text: str) -> re.Pattern[str]:
    chunks = [
        "".join("." if character == "?" else re.escape(character) for character in chunk)
        for chunk in re.split(r"\*+", text)
    ]
    first, *rest = chunks
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    # Atomic groups: the leftmost place of a middle chunk is as good as any, so none is tried again.
    expression = first + "".join(f"(?>.*?{chunk})" for chunk in middle) + ".*" + last
    return re.compile(expression, re.DOTALL)


@frozen
class PathRules:
    """The policy's patterns: a path passes when one of them lets it, or when there are none."""

    patterns: tuple[Pattern, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> PathRules:
        """Raises ValueError where a pattern is malformed."""
        return cls(tuple(compile_pattern(text) for text in texts))

    def allow_file(self, names: Names) -> bool:
        """Whether a file may be seen and touched."""
        return not self.patterns or any(pattern.matches(names) for pattern in self.patterns)

    def allow_folder(self, names: Names) -> bool:
        """Whether a folder may be: where a file that may be seen could lie in it."""
        return not self.patterns or any(pattern.may_contain(names) for pattern in self.patterns)
