"""``workato-agent verify-audit``: is the record of calls as the agent wrote it?"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..chain import ChainError
from ..chain_check import Report, find_chains, verify
from .commands import Command, add_json
from .output import DONE, FAILED, WRONG_USE, painted, progress, say, show, show_json

_ATTEMPTS = 3


def _hash(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise argparse.ArgumentTypeError("expected a hash: 64 digits 0-9 a-f")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path, help="an audit file, or its folder")
    parser.add_argument(
        "--contains",
        metavar="HASH",
        type=_hash,
        help="a line's hash noted earlier: it must be in the chain",
    )
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        reports = [
            _verified(arguments.path, position, arguments.contains)
            for position in range(len(find_chains(arguments.path)))
        ]
    except ChainError as error:
        say(str(error))
        return WRONG_USE
    except OSError as error:
        say(f"{error.filename or arguments.path}: {error.strerror}")
        return FAILED
    missing = arguments.contains is not None and not any(report.anchored for report in reports)
    intact = not missing and all(report.broken is None for report in reports)
    if arguments.json:
        show_json({"ok": intact, "chains": [_document(report) for report in reports]})
    else:
        for report in reports:
            _tell(report)
        if missing:
            show(f"{painted('BROKEN', 'bad')}  no line has the hash {arguments.contains}:")
            show("        the end was cut off, or the chain was written anew")
    return DONE if intact else FAILED


def _verified(path: Path, position: int, wanted: str | None) -> Report:
    """Verify the n-th chain; once more if the agent rotated its files meanwhile."""
    for _ in range(_ATTEMPTS):
        files = find_chains(path)[position]
        update, clear = progress("verifying", sum(file.stat().st_size for file in files))
        try:
            report = verify(files, wanted, update)
        except FileNotFoundError:
            continue
        finally:
            clear()
        if report.broken is None or find_chains(path)[position] == files:
            return report
    raise ChainError(f"{path}: the files change while they are read; try again")


def _document(report: Report) -> dict[str, object]:
    first, last, broken = report.first, report.last, report.broken
    return {
        "ok": report.intact,
        "files": [str(file) for file in report.files],
        "lines": report.lines,
        "first": None if first is None else {"seq": first.seq, "time": first.time},
        "last": None if last is None else {"seq": last.seq, "time": last.time, "hash": last.hash},
        "notes": [{"seq": seq, "note": note} for seq, note in report.notes],
        "contains": report.anchored,
        "broken": None
        if broken is None
        else {"file": str(broken.file), "line": broken.line, "reason": broken.reason},
    }


def _tell(report: Report) -> None:
    first, last, broken = report.first, report.last, report.broken
    if broken is not None:
        show(f"{painted('BROKEN', 'bad')}  {broken.file}:{broken.line}: this line {broken.reason}")
    if first is not None and last is not None:
        word = painted("INTACT", "good") if broken is None else "before:"
        files = f"{len(report.files)} file{'s' if len(report.files) > 1 else ''}"
        show(
            f"{word}  {report.files[-1].name}: {report.lines} lines in {files}, whole and in order"
        )
        show(f"        from {first.seq} ({first.time}) to {last.seq} ({last.time})")
        show(f"        last hash {last.hash}")
        if first.seq > 1:
            show(f"        lines before {first.seq} are not here (rotated away, or in other files)")
    for seq, note in report.notes:
        show(f"        note at {seq}: {note}")


COMMAND = Command(
    "verify-audit",
    "check that no line of an audit log was changed, removed or added",
    "workato-agent verify-audit /var/lib/workato-agent/audit",
    _arguments,
    _run,
)
