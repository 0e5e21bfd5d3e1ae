"""What is wrong with a config file, every fault at once."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from attrs import frozen

Location = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top of the file."""


def dotted(location: Location) -> str:
    """A location as the reader writes it: ``http.crm.methods[0]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """A hint for a misspelt word; None where nothing known is close."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    close = get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return f"did you mean '{by_folded[close[0]]}'?" if close else None


@frozen
class ConfigProblem:
    """One fault. ``path`` is dotted and empty for the file as a whole; ``line`` counts from 1."""

    path: str
    message: str
    line: int | None = None
    hint: str | None = None

    def describe(self, file: Path) -> str:
        """The fault on one line: file, line, path, what was expected, hint."""
        place = f"{file}:{self.line}" if self.line is not None else str(file)
        subject = f"{self.path}: " if self.path else ""
        tail = f" ({self.hint})" if self.hint else ""
        return f"{place}: {subject}{self.message}{tail}"


class ConfigError(Exception):
    """The config can't be used. ``str()`` gives every fault on a line of its own."""

    def __init__(self, file: Path, problems: Iterable[ConfigProblem]) -> None:
        self.file = file
        self.problems = tuple(
            sorted(problems, key=lambda problem: (problem.line or 0, problem.path))
        )
        super().__init__("\n".join(problem.describe(file) for problem in self.problems))
