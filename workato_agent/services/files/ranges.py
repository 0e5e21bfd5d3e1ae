"""Byte ranges (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from workato_tunnel.problems import Problem

_SINGLE: Final = re.compile(r"bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE | re.ASCII)
_MAX_DIGITS: Final = 1000


@frozen
class Span:
    """``length`` bytes from ``start``, within the content; never empty."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range field of the answer that carries it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class RangeNotSatisfiable(Problem):
    """416: the range lies outside the content. Tells the size, as RFC 9110 15.5.17 wants it."""

    def __init__(self, value: str, size: int) -> None:
        super().__init__(
            "range_not_satisfiable",
            f"the range {value[:100]!r} lies outside the content of {size} bytes",
            hint="Ask for a range that begins before the end, or for the whole content.",
            extra={"size": size},
        )
        self.size = size

    def headers(self) -> list[tuple[str, str]]:
        """The problem's fields and Content-Range."""
        return [*super().headers(), ("content-range", f"bytes */{self.size}")]


def span_of(value: str, size: int) -> Span | None:
    """The one range that a Range field asks of a content of ``size`` bytes.

    None where the field is to be ignored and the whole content sent: another unit, malformed, or
    several ranges (14.2 leaves that to the server). Raises :class:`RangeNotSatisfiable`.
    """
    match = _SINGLE.fullmatch(value)
    if match is None:
        return None
    first, last = match.groups()
    if not (first or last) or max(len(first), len(last)) > _MAX_DIGITS:
        return None
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable(value, size)
        return Span(size - length, length)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable(value, size)
    end = min(int(last), size - 1) if last else size - 1
    return Span(start, end - start + 1)
