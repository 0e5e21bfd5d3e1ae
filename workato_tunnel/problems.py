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
    """A row of the error table: the code, its HTTP status and what it means in a few words."""

    code: str
    status: int
    title: str


_ROWS: Final = (
    ("unauthenticated", 401, "No valid token"),
    ("forbidden", 403, "The token does not cover this call"),
    ("group_not_found", 404, "No such group"),
    ("profile_not_found", 404, "No such profile"),
    ("service_not_found", 404, "No such service"),
    ("operation_not_found", 404, "No such operation"),
    ("agent_inactive", 503, "No agent is ready for this call"),
    ("bad_request", 400, "The request is malformed"),
    ("policy_denied", 403, "The agent's policy refuses this call"),
    ("target_unreachable", 502, "The target can't be reached"),
    ("target_tls_failed", 502, "TLS with the target failed"),
    ("target_login_failed", 502, "The target rejected the credentials"),
    ("target_permission_denied", 403, "The target denies this to the profile's user"),
    ("target_not_found", 502, "The target has nothing of that name"),
    ("target_wrong_type", 502, "The target speaks another protocol"),
    ("not_found", 404, "Not found"),
    ("conflict", 409, "In conflict with what is there"),
    ("precondition_failed", 412, "A precondition does not hold"),
    ("range_not_satisfiable", 416, "The range lies outside the content"),
    ("payload_too_large", 413, "The body is too large"),
    ("query_failed", 422, "The database refused the statement"),
    ("deadline_exceeded", 504, "The deadline has passed"),
    ("overloaded", 429, "A limit is reached"),
    ("tunnel_lost", 502, "The tunnel to the agent broke"),
    ("internal_error", 500, "Internal error"),
)

PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {row[0]: ProblemType(*row) for row in _ROWS}


class Problem(Exception):
    """An answer that is an error.

    :param code: a key of :data:`PROBLEM_TYPES`.
    :param detail: what happened, in the target's own words where it has some. Never a secret.
    :param hint: what the reader should check or do next.
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
        self.type = PROBLEM_TYPES[code]
        self.code = code
        self.detail = detail
        self.hint = hint
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
        }
        if self.hint is not None:
            document["hint"] = self.hint
        document["request_id"] = request_id
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
