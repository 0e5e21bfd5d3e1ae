"""The errors that a caller can see, each with a stable code (RFC 9457 problem details).

One table for the agent, which answers most of them, and the gateway, which adds its own, so that a
code means the same whoever answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from attrs import frozen

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:onprem:problem:"


@frozen
class ProblemType:
    """A row of the error table: the code, its HTTP status and what it means in a few words.

    :ivar hint: what to check, for a problem that has nothing more to the point to say.
    """

    code: str
    status: int
    title: str
    hint: str


_ROWS: Final = (
    (
        "unauthenticated",
        401,
        "No valid token",
        "send Authorization: Bearer TOKEN with a token of this gateway",
    ),
    (
        "forbidden",
        403,
        "The token does not cover this call",
        "ask the gateway's administrator for a token with the scope that is missing",
    ),
    ("group_not_found", 404, "No such group", "`workato-gateway group list` shows the groups"),
    (
        "profile_not_found",
        404,
        "No such profile",
        "profiles are named in the agent's config.yml",
    ),
    (
        "service_not_found",
        404,
        "No such service",
        "services are the sections of the agent's config.yml",
    ),
    (
        "operation_not_found",
        404,
        "No such operation",
        "the service's documentation lists its paths and methods",
    ),
    (
        "agent_inactive",
        503,
        "No agent is ready for this call",
        "check on the agent's machine with `workato-agent status`",
    ),
    (
        "bad_request",
        400,
        "The request is malformed",
        "correct what the detail names and send the request again",
    ),
    (
        "policy_denied",
        403,
        "The agent's policy refuses this call",
        "the customer sets the policy in the agent's config.yml",
    ),
    (
        "target_unreachable",
        502,
        "The target can't be reached",
        "check the profile's host and port, and the network between the agent and it",
    ),
    (
        "target_tls_failed",
        502,
        "TLS with the target failed",
        "check the target's certificate and the profile's TLS settings",
    ),
    (
        "target_login_failed",
        502,
        "The target rejected the credentials",
        "check the profile's user and password",
    ),
    (
        "target_permission_denied",
        403,
        "The target denies this to the profile's user",
        "grant the profile's user the right that it lacks",
    ),
    (
        "target_not_found",
        502,
        "The target has nothing of that name",
        "check the name in the agent's config.yml",
    ),
    (
        "target_wrong_type",
        502,
        "The target speaks another protocol",
        "check the profile's host, port and type",
    ),
    ("not_found", 404, "Not found", "check the spelling; names are case-sensitive"),
    (
        "conflict",
        409,
        "In conflict with what is there",
        "look at what is there now, then decide anew",
    ),
    (
        "precondition_failed",
        412,
        "A precondition does not hold",
        "read it again, then decide anew",
    ),
    (
        "range_not_satisfiable",
        416,
        "The range lies outside the content",
        "ask for a range that begins before the end",
    ),
    ("payload_too_large", 413, "The body is too large", "send less at once"),
    (
        "insufficient_storage",
        507,
        "There is no room for it",
        "free space on the target, or raise its quota",
    ),
    (
        "query_failed",
        422,
        "The database refused the statement",
        "check the statement; the detail is in the database's own words",
    ),
    (
        "deadline_exceeded",
        504,
        "The deadline has passed",
        "allow more time with X-Timeout, or ask for less at once",
    ),
    ("overloaded", 429, "A limit is reached", "try again shortly"),
    (
        "tunnel_lost",
        502,
        "The tunnel to the agent broke",
        "check what was done before trying again",
    ),
    ("internal_error", 500, "Internal error", "the log has the request id"),
)

PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {row[0]: ProblemType(*row) for row in _ROWS}


_MEMBERS: Final = frozenset({"type", "code", "title", "status", "detail", "hint", "request_id"})


class Problem(Exception):
    """An answer that is an error.

    :param code: a key of :data:`PROBLEM_TYPES`.
    :param detail: what happened, in the target's own words where it has some. Never a secret.
    :param hint: what the reader should check or do next; without one the table's own.
    :param retry_after: seconds, for ``overloaded`` and ``agent_inactive``.
    :param extra: members of this code only, as ``sqlstate`` or ``field``.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        retry_after: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        if extra and not _MEMBERS.isdisjoint(extra):
            raise ValueError(f"{', '.join(_MEMBERS & extra.keys())} is a member of every problem")
        self.type = PROBLEM_TYPES[code]
        self.code = code
        self.detail = detail
        self.hint = hint or self.type.hint
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    @property
    def status(self) -> int:
        """The HTTP status of this code."""
        return self.type.status

    def members(self, request_id: str) -> dict[str, object]:
        """The members of the problem document, in the order a reader wants them."""
        document: dict[str, object] = {
            "type": TYPE_PREFIX + self.code,
            "code": self.code,
            "title": self.type.title,
            "status": self.type.status,
            "detail": self.detail,
            "hint": self.hint,
            "request_id": request_id,
        }
        return document | self.extra

    def body(self, request_id: str) -> bytes:
        """The problem document as JSON (media type :data:`CONTENT_TYPE`)."""
        return msgspec.json.encode(self.members(request_id))

    def headers(self) -> list[tuple[str, str]]:
        """The header fields that go with the document, without Content-Length."""
        fields = [("content-type", CONTENT_TYPE)]
        if self.retry_after is not None:
            fields.append(("retry-after", str(self.retry_after)))
        if self.code == "unauthenticated":
            fields.append(("www-authenticate", 'Bearer realm="onprem"'))
        return fields
