"""What the process of an extension prints: lines of the agent's log, and not too many at once."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

LONGEST: Final = 2000
"""Characters of a line; what is longer is cut into several."""
MOST_LINES: Final = 200
"""Lines in a second; with more, the process waits in its ``print``."""


@define(eq=False)
class PrintedLines:
    """One of stdout and stderr.

    :ivar line: is given each line.
    :ivar pause: stops the reading; ``resume`` goes on with it.
    """

    _reactor: Any
    _line: Callable[[str], None]
    _pause: Callable[[], None]
    _resume: Callable[[], None]
    _decoder: codecs.IncrementalDecoder = field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")("backslashreplace"), init=False
    )
    _held: str = field(default="", init=False)
    _lines: deque[str] = field(factory=deque, init=False)
    _left: int = field(default=MOST_LINES, init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    def receive(self, data: bytes) -> None:
        """Bytes that were printed: what one read gives, so that what waits here is little."""
        *lines, self._held = (self._held + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._add(line)
        while len(self._held) > LONGEST:
            self._lines.append(self._held[:LONGEST])
            self._held = self._held[LONGEST:]
        self._tell()
        if self._lines:
            self._pause()

    def end(self) -> None:
        """There is no more."""
        self._add(self._held)
        self._held = ""
        self._left = MOST_LINES
        self._tell()
        if self._lines:
            self._line(f"({len(self._lines)} lines more)")
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _add(self, line: str) -> None:
        line = line.rstrip("\r")
        self._lines += [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)]

    def _tell(self) -> None:
        while self._lines and self._left:
            self._left -= 1
            self._line(self._lines.popleft())
        if self._next is None and self._left < MOST_LINES:
            self._next = self._reactor.callLater(1.0, self._second_over)

    def _second_over(self) -> None:
        self._next = None
        self._left = MOST_LINES
        waited = bool(self._lines)
        self._tell()
        if waited and not self._lines:
            self._resume()
