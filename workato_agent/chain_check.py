"""Verifying a chain of audit files, offline or beside a writing agent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from attrs import define, field, frozen

from .chain import GENESIS, ChainError, Sealed, rotated_files, unseal

_LONGEST_LINE: Final = 64 * 1024
_ROTATED: Final = re.compile(r"(.+)\.\d{12,}")
_PATIENCE: Final = 5
_NOTES: Final = {
    "torn": "a crash left a line torn, which was set aside",
    "missing": "the file was removed or cut while it was being written",
    "unrecorded": "calls were refused, and not served, while the disk took no lines",
}


@frozen
class Break:
    """The first line that does not hold."""

    file: Path
    line: int
    reason: str


@define
class Report:
    """What was found in one chain.

    :ivar first: its oldest line that was read; its predecessors are gone where ``seq`` is above 1.
    :ivar last: the newest line that holds.
    :ivar notes: the numbers of lines that note damage, each with what they say of it.
    :ivar anchored: whether the hash that was asked for is in the chain; None where none was.
    """

    files: tuple[Path, ...]
    lines: int = 0
    first: Sealed | None = None
    last: Sealed | None = None
    notes: list[tuple[int, str]] = field(factory=list)
    broken: Break | None = None
    anchored: bool | None = None

    @property
    def intact(self) -> bool:
        """Whether every line holds and the wanted one is there."""
        return self.broken is None and self.anchored is not False


def find_chains(path: Path) -> list[tuple[Path, ...]]:
    """The files of each chain, oldest first: of a file itself, or of all in a folder.

    Raises ChainError where there is none.
    """
    if path.is_file():
        return [(path,)]
    if not path.is_dir():
        raise ChainError(f"{path}: no such file or folder")
    names: set[str] = set()
    for entry in path.iterdir():
        if match := _ROTATED.fullmatch(entry.name):
            names.add(match[1])
        elif entry.suffix == ".jsonl" or entry.with_name(f"{entry.name}.lock").exists():
            names.add(entry.name)
    chains = []
    for name in sorted(names):
        active = path / name
        files = rotated_files(active)
        if active.is_file():
            files.append(active)
        if files:
            chains.append(tuple(files))
    if not chains:
        raise ChainError(f"{path}: no audit log in this folder")
    return chains


def verify(
    files: tuple[Path, ...],
    wanted: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Read a chain from its oldest line to its newest, up to the first that does not hold.

    :param wanted: a hash noted earlier that must be in the chain: it shows that the end was not cut
        off nor the whole chain written anew.
    :param progress: told the number of bytes read, now and then.

    Raises OSError where a file can't be read.
    """
    report = Report(files, anchored=None if wanted is None else False)
    with ExitStack() as stack:
        # Opened at once, so that a rotation meanwhile takes none of them away.
        streams = [stack.enter_context(file.open("rb")) for file in files]
        for position, stream in enumerate(streams):
            growing = position == len(streams) - 1
            _verify_file(report, files[position], stream, growing, wanted, progress)
            if report.broken is not None:
                break
    if report.lines == 0 and report.broken is None:
        report.broken = Break(files[-1], 1, "is not there: an audit log is never empty")
    return report


def _verify_file(
    report: Report,
    file: Path,
    stream: BinaryIO,
    growing: bool,
    wanted: str | None,
    progress: Callable[[int], None] | None,
) -> None:
    number = 0
    while line := _whole_line(stream, growing):
        number += 1
        try:
            sealed = _next(report, line)
        except ValueError as error:
            report.broken = Break(file, number, str(error))
            return
        report.lines += 1
        report.first = report.first or sealed
        report.last = sealed
        if sealed.kind in _NOTES:
            report.notes.append((sealed.seq, _NOTES[sealed.kind]))
        if sealed.hash == wanted:
            report.anchored = True
        if progress is not None and number % 4096 == 0:
            progress(stream.tell())


def _next(report: Report, line: bytes) -> Sealed:
    """The line, if it is whole and follows the last one. Raises ValueError."""
    if not line.endswith(b"\n"):
        if len(line) >= _LONGEST_LINE:
            raise ValueError("is longer than any line of an audit log")
        raise ValueError("is cut off: after a crash the agent's next start sets it aside")
    sealed = unseal(line[:-1])
    last = report.last
    if last is None:
        if sealed.seq == 1 and sealed.prev != GENESIS:
            raise ValueError("claims to be the first, but follows another")
    elif sealed.seq != last.seq + 1:
        raise ValueError(f"has number {sealed.seq} where {last.seq + 1} is due: lines are missing")
    elif sealed.prev != last.hash:
        raise ValueError("does not follow the line before it")
    return sealed


def _whole_line(stream: BinaryIO, growing: bool) -> bytes:
    """The next line; one that is being written is waited for a moment."""
    start = stream.tell()
    line = stream.readline(_LONGEST_LINE)
    for _ in range(_PATIENCE):
        if not growing or not line or line.endswith(b"\n") or len(line) >= _LONGEST_LINE:
            break
        time.sleep(0.1)
        stream.seek(start)
        line = stream.readline(_LONGEST_LINE)
    return line
