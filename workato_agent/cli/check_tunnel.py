"""How ``workato-agent check`` tells of the tunnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..tunnel.diagnosis import State, Step
from .output import painted, show

TUNNEL: Final = "tunnel"
"""What to name on the command line for the tunnel alone."""

_LABELS: Final[Mapping[State, tuple[str, str]]] = {
    State.OK: ("ok", "good"),
    State.WARNING: ("warning", "doubtful"),
    State.FAILED: ("FAILED", "bad"),
    State.SKIPPED: ("-", "dim"),
}


def tunnel_good(steps: Sequence[Step]) -> bool:
    """Whether an agent could connect; warnings don't count."""
    return all(step.state is not State.FAILED for step in steps)


def tell_tunnel(steps: Sequence[Step]) -> None:
    """A line for each step."""
    width = max((len(step.name) for step in steps), default=0) + len(TUNNEL) + 1
    for step in steps:
        word, colour = _LABELS[step.state]
        hint = f" ({step.hint})" if step.hint else ""
        label = painted(word, colour) + " " * (7 - len(word))
        show(f"{label} {f'{TUNNEL}/{step.name}':<{width}}  {step.detail}{hint}")
