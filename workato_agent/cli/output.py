"""How the commands speak: results on stdout, the rest on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from ..system import config_folder

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

_COLOURS: Final = {"good": "32", "bad": "31", "doubtful": "33", "dim": "2"}


def show(text: str) -> None:
    """A line of the result."""
    print(text)


def show_json(value: object) -> None:
    """The result as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str) -> None:
    """A line that is not the result."""
    print(text, file=sys.stderr)


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in a colour of what it says, where somebody looks at a terminal."""
    stream = stream or sys.stdout
    if not stream.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def progress(label: str, total: int) -> tuple[Callable[[int], None], Callable[[], None]]:
    """A progress bar on a terminal's stderr: one function tells how far, one takes it away."""
    if not sys.stderr.isatty() or total <= 0:
        return (lambda done: None), (lambda: None)
    width = 30

    def update(done: int) -> None:
        filled = min(width, width * done // total)
        bar = "#" * filled + "-" * (width - filled)
        sys.stderr.write(f"\r{label} [{bar}] {min(100, 100 * done // total)} %")
        sys.stderr.flush()

    def clear() -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return update, clear


def default_config() -> Path:
    """The config file where ``--config`` is left out."""
    return Path(os.environ.get("WORKATO_AGENT_CONFIG", config_folder() / "config.yml"))
