"""What a caller is told when a stream ends before its time."""

from __future__ import annotations

from typing import Final

from workato_tunnel.errors import ErrorCode, StreamRefused, StreamReset
from workato_tunnel.problems import PROBLEM_TYPES, Problem

from .groups import RETRY_AFTER

ELSEWHERE: Final = frozenset({ErrorCode.REFUSED, ErrorCode.DRAINING})
"""Resets of a stream whose work was not begun: another agent may be asked."""

_LOST: Final = frozenset(
    {ErrorCode.TUNNEL_LOST, ErrorCode.CANCELLED, ErrorCode.REVOKED, ErrorCode.NO_ERROR}
)


def problem_of_refusal(refusal: StreamRefused, agent: str) -> Problem:
    """A stream could not be opened, on the last agent that there was to ask."""
    if refusal.code == ErrorCode.OVERLOADED:
        return _overloaded(f"agent {agent!r} takes no more calls now: {refusal}")
    return Problem(
        "agent_inactive",
        f"agent {agent!r} did not take the call: {refusal}",
        hint="Nothing was done; try again.",
        retry_after=RETRY_AFTER,
    )


def problem_of_reset(reset: StreamReset, agent: str) -> Problem:
    """The problem that a reset means for the caller: its own where it carries one of the table."""
    reason = reset.reason
    said = reset.detail or reset.message
    if reason in ELSEWHERE:
        return Problem(
            "agent_inactive",
            f"agent {agent!r} did not take the call: {said or reason}",
            hint="Nothing was done; try again.",
            retry_after=RETRY_AFTER,
        )
    if reason in _LOST:
        return Problem(
            "tunnel_lost",
            f"agent {agent!r} was lost during the call{f' ({said})' if said else ''};"
            " its work may have been done, in whole or in part",
            hint="Check the effect before repeating a call that changes something.",
        )
    if reason == ErrorCode.OVERLOADED or reason == ErrorCode.FLOOD:
        return _overloaded(said or f"agent {agent!r} is at its limit")
    if reason == ErrorCode.DEADLINE_EXCEEDED:
        return Problem(
            "deadline_exceeded",
            said or "the agent stopped the work at the call's deadline",
            hint="Allow more time with X-Timeout.",
        )
    if reason in PROBLEM_TYPES and reason != ErrorCode.INTERNAL_ERROR:
        return Problem(reason, said or PROBLEM_TYPES[reason].title)
    return Problem(
        "internal_error",
        f"agent {agent!r} ended the call with {reason}",
        hint="The agent's log has the request id.",
    )


def _overloaded(detail: str) -> Problem:
    return Problem("overloaded", detail, hint="Try again shortly.", retry_after=1)
