"""Statements that would end the agent's own transaction, for drivers that have no say in it."""

from __future__ import annotations

from typing import Final

from workato_tunnel.problems import Problem

from ..statements import Outline

_CONTROL: Final = frozenset(("commit", "rollback", "abort", "savepoint", "release"))


def control_problem(shape: Outline) -> Problem | None:
    """Why a statement by its shape is refused; None for one that leaves the transaction alone."""
    first, words = shape.first, shape.words
    if (
        first in _CONTROL
        or (first in ("begin", "end") and not {"begin", "end"} <= words)
        or (first in ("start", "prepare", "set") and "transaction" in words)
        or (first == "set" and "autocommit" in words)
    ):
        return Problem(
            "policy_denied",
            f"{first} is not allowed: every call is a transaction of its own",
            hint="open a session to do several things in one transaction",
            extra={"rule": "transaction"},
        )
    return None


def several_problem() -> Problem:
    """More than one statement was sent."""
    return Problem(
        "query_failed",
        "cannot run more than one statement in a call",
        hint="send one statement, or open a session for several in one transaction",
    )
