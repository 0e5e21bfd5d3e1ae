"""How commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence


def say(text: str) -> None:
    """A remark for the human, on stderr."""
    print(text, file=sys.stderr)


def result(text: str) -> None:
    """A line of the result, on stdout."""
    print(text)


def result_json(document: object) -> None:
    """The result for programs."""
    result(json.dumps(document, indent=2, ensure_ascii=False))


def result_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The result for humans: columns as wide as they need to be, ``-`` for what is not there."""
    texts = [tuple(header), *(tuple(_cell(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for row in texts:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        result("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "-"
    return "".join(c if c.isprintable() else "?" for c in str(value))
