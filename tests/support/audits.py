"""Audit files for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from workato_agent.calls import CallEnd
from workato_agent.chain import Call, ChainFile, Record
from workato_agent.chain_check import Report, find_chains, verify
from workato_tunnel.frames import Open

NOW = 1_772_442_927.123


class DirectReactor:
    """Calls from threads are run by whoever calls ``run``, as the reactor would."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None:  # noqa: A002, N802
        self.calls.append((callable, args))

    def run(self) -> None:
        while self.calls:
            function, args = self.calls.pop(0)
            function(*args)


def a_call(number: int = 0) -> Record:
    return Call(
        0, "", "me", "t", f"r{number}", "files", "hr", "read", "allowed", "ok", None, 1, 2, 0.5
    )


def an_end(
    code: str = "ok",
    *,
    caller: str = "me",
    denied: bool = False,
    request_id: str = "r1",
    rows: int | None = 3,
) -> CallEnd:
    head = Open(
        "database", "sales", "POST", "query", caller=caller, trace="t", request_id=request_id
    )
    return CallEnd(head, "query", code, 200, denied, rows, 10, 20, 0.0125)


def a_chain(path: Path, lines: int, max_size: int = 1 << 20, keep: int = 100) -> ChainFile:
    """A chain of so many calls, still open."""
    chain = ChainFile(path, max_size, keep)
    chain.open(NOW)
    for number in range(lines):
        chain.append([a_call(number)])
    return chain


def lines_of(path: Path) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def verified(path: Path, wanted: str | None = None) -> Report:
    (files,) = find_chains(path)
    return verify(files, wanted)
