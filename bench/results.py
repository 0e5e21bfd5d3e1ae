"""What a run found: figures with their peers and targets, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from attrs import frozen

ROUNDS = 5


@frozen
class Target:
    """What a figure has to reach, about our value or about ours divided by the peer's."""

    of: str
    """``ours`` or ``ratio``."""
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        return f"{self.of} >= {self.least:g}" if self.least is not None else self._most()

    def _most(self) -> str:
        return f"{self.of} <= {self.most:g}"

    def met(self, ours: float, ratio: float | None) -> bool:
        """Whether it is reached; a missing ratio reaches nothing."""
        value = ours if self.of == "ours" else ratio
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


@frozen
class Result:
    """A figure of ours, and one peer's in the same run."""

    figure: str
    ours: float | None
    peer: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        if self.ours is None or not self.peer:
            return None
        return self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """None where there is no target."""
        if self.target is None or self.ours is None:
            return None
        return self.target.met(self.ours, self.ratio)


def interleaved(
    measures: dict[str, Callable[[], dict[str, float]]], rounds: int = ROUNDS
) -> dict[str, dict[str, float]]:
    """For each way the medians of its figures over rounds in which each way has its turn.

    The order turns round by round, so that none always follows the same other.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
    names = list(measures)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(measures[name]())
    return {
        name: {figure: median(each[figure] for each in each_round) for figure in each_round[0]}
        for name, each_round in found.items()
    }


def compared(
    figure: str,
    medians: dict[str, dict[str, float]],
    key: str,
    targets: dict[str, Target] | None = None,
) -> list[Result]:
    """One result a peer: ``figure / peer``. ``targets`` by the peer's name."""
    mine = medians.get("ours")
    return [
        Result(
            f"{figure} / {peer}",
            mine[key] if mine else None,
            theirs[key],
            (targets or {}).get(peer),
        )
        for peer, theirs in medians.items()
        if peer != "ours"
    ]


def table(results: Sequence[Result]) -> str:
    """The results for people."""
    rows = [("figure", "ours", "peer", "ratio", "target", "met")]
    rows += [
        (
            result.figure,
            _number(result.ours),
            _number(result.peer),
            _number(result.ratio),
            str(result.target or ""),
            {True: "yes", False: "NO", None: ""}[result.met],
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in {0, 4} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def save(results: Sequence[Result], path: Path) -> None:
    """The results for programs."""
    document = [
        {
            "figure": result.figure,
            "ours": result.ours,
            "peer": result.peer,
            "ratio": result.ratio,
            "target": str(result.target) if result.target else None,
            "met": result.met,
        }
        for result in results
    ]
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
