"""Errors that belong to HTTP itself, as problem documents beside those of the tunnel."""

from __future__ import annotations

from workato_tunnel.problems import Problem, ProblemType


def refusal(status: int, title: str, detail: str, hint: str | None = None) -> Problem:
    """A ``bad_request`` whose status says more than 400 does (RFC 9110, 15.5; RFC 6585).

    The code stays ``bad_request``: who branches on codes needs no list of HTTP's own statuses.
    """
    problem = Problem("bad_request", detail, hint=hint)
    problem.type = ProblemType("bad_request", status, title, problem.hint)
    return problem
