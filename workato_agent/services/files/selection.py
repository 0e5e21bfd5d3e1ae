"""What of a file a GET or HEAD is to have, decided in the thread that opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from .conditions import Conditions, Verdict
from .confinement import Names
from .filesystem import Filesystem, Found, OpenFile
from .ranges import Span, span_of
from .reading import shrunk

SMALL: Final = 64 * 1024
"""Content up to this many bytes is read while the file is being opened: one turn in a thread."""


@frozen
class Ask:
    """The parts of a request that decide.

    :ivar approve: the policy: told what was opened and how many bytes would go out; raises.
    :ivar now: Unix seconds.
    """

    path: Names
    conditions: Conditions
    range: str | None
    body: bool
    now: float
    approve: Callable[[Found, int], None]


@frozen
class Selection:
    """What was decided.

    :ivar span: None for a part that is empty or not asked for.
    :ivar partial: whether the span answers a Range.
    :ivar content: all of the span, where it is small.
    :ivar file: still open, where the span is not small.
    """

    found: Found
    verdict: Verdict
    span: Span | None = None
    partial: bool = False
    content: bytes = b""
    file: OpenFile | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()


def thd_select(filesystem: Filesystem, ask: Ask) -> Selection:
    """Open, decide, and read what is small. Raises as ``Filesystem.open_file``, and Problem."""
    file = filesystem.open_file(ask.path)
    selection: Selection | None = None
    try:
        selection = _selection(file, ask)
    finally:
        if selection is None or selection.file is None:
            file.close()
    return selection


def _selection(file: OpenFile, ask: Ask) -> Selection:
    found = file.found
    size = found.facts.size
    current = found.facts.validators
    ask.approve(found, 0)
    verdict = ask.conditions.verdict(current, reading=True)
    if verdict is not Verdict.PROCEED:
        return Selection(found, verdict)
    span = None
    if ask.range is not None and ask.body and ask.conditions.range_applies(current, ask.now):
        span = span_of(ask.range, size)
    partial = span is not None
    if span is None and size:
        span = Span(0, size)
    if span is None or not ask.body:
        return Selection(found, verdict)
    ask.approve(found, span.length)
    if span.length > SMALL:
        return Selection(found, verdict, span, partial, file=file)
    content = file.read(span.start, span.length)
    if len(content) < span.length:
        raise shrunk(ask.path, span.start + len(content))
    return Selection(found, verdict, span, partial, content)
