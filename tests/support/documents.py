"""What a reader of the documentation does: runs the commands of a page, in order, in a real shell.

A command stands in a ``console`` block behind ``$ ``; below it what it shows, where ``…`` stands
for anything. A comment before a block says what else it is:

- ``<!-- not run: WHY -->`` a command that a test can't run;
- ``<!-- exit: N -->`` the last command ends with that status;
- ``<!-- config -->`` a part of config.yml (a ``yaml`` block); ``<!-- config: not connected -->``
  one whose target a test has not.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from attrs import frozen

_FENCE: Final = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<note>[^\n]*?) -->\n(?P=indent))?"
    r"```(?P<language>\w+)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_MARK: Final = "@@the-command-has-ended@@"
SECONDS: Final = 180


@frozen
class Block:
    """A fenced block. ``note``: what the comment before it says."""

    language: str
    note: str
    body: str
    line: int


@frozen
class Command:
    """A command, what the page says that it shows, and where it stands."""

    text: str
    shown: tuple[str, ...]
    status: int
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["body"].splitlines())
        line = text.count("\n", 0, match.start("body")) + 1
        found.append(Block(match["language"], match["note"] or "", body, line))
    return found


def commands(page: Path) -> list[Command]:
    """Those that a test can run."""
    found = []
    for block in blocks(page):
        if block.language != "console" or block.note.startswith("not run: "):
            continue
        match = re.fullmatch(r"exit: (\d+)", block.note)
        found += _commands(block, int(match[1]) if match else 0)
    return found


def _commands(block: Block, status: int) -> list[Command]:
    found: list[tuple[str, list[str], int]] = []
    going_on = False
    for offset, line in enumerate(block.body.splitlines()):
        if line.startswith("$ "):
            found.append((line[2:], [], block.line + offset))
        elif going_on:
            text, shown, at = found[-1]
            found[-1] = (f"{text}\n{line}", shown, at)
        else:
            found[-1][1].append(line)
        going_on = line.endswith("\\")
    return [
        Command(text, tuple(shown), status if number == len(found) else 0, line)
        for number, (text, shown, line) in enumerate(found, 1)
    ]


def run(page: Path, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Run a page's commands in one shell; what was not as the page says, a text for each."""
    wanted = commands(page)
    assert wanted, f"{page} has no command to run"
    script = "".join(
        f"{{ {command.text}\n}} 2>&1 </dev/null; ended=$?; echo; echo {_MARK} $ended\n"
        for command in wanted
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    outcomes = re.split(rf"\n{_MARK} (\d+)\n", done.stdout)
    faults = []
    for number, command in enumerate(wanted):
        where = f"{page.name}:{command.line}: $ {command.text}"
        if 2 * number + 1 >= len(outcomes):
            faults.append(f"{where}\nthe shell has ended before\n{done.stderr}")
            break
        output, status = outcomes[2 * number], int(outcomes[2 * number + 1])
        if status != command.status:
            faults.append(f"{where}\nended with {status}:\n{output}")
        elif missing := _missing(command.shown, output):
            faults.append(f"{where}\ndoes not show {missing!r}, but\n{output}")
    return faults


def _missing(shown: tuple[str, ...], output: str) -> str | None:
    """The first line that the output has not, after those before it."""
    lines = iter(_plain(line) for line in output.splitlines())
    for line in shown:
        pattern = _plain(re.sub(r"([\[\]*?])", r"[\1]", line)).replace("…", "*")
        if not any(fnmatchcase(found, pattern) for found in lines):
            return line
    return None


def _plain(line: str) -> str:
    """Columns may be as wide as they like."""
    return " ".join(line.split())
