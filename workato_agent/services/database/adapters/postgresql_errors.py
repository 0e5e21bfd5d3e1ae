"""PostgreSQL's and libpq's errors as problems: the server's words, and what to do about them."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg2

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, PostgresqlSettings
from ..statements import Rendered
from .base import read_only_problem

_LONGEST: Final = 1000
_HINTS: Final = {
    "25001": "every call runs in a transaction of its own, and this statement can't",
    "40001": "nothing was changed: try again",
    "40P01": "nothing was changed: try again",
    "42601": "check the statement at the position given",
    "42883": "check the name and the types: a parameter may need a cast, as in ?::uuid",
    "42P01": "check the name, its schema and the search_path",
    "42804": "a parameter may need a cast, as in ?::date",
    "0A000": "transaction control and COPY from or to the client don't work here",
}
_CLASS_HINTS: Final = {
    "22": "a value does not fit its type or the operation: check the parameters and the data",
    "23": "the statement breaks a rule of the table; nothing was changed",
    "40": "nothing was changed: try again",
    "53": "the database server is short of resources: try again later",
    "55": "the object is in use or not in the state that the statement needs: try again later",
}


def statement_problem(
    error: psycopg2.Error, rendered: Rendered | None, policy: DatabasePolicy
) -> Problem:
    """The problem that an error of a statement is."""
    state: str | None = error.pgcode
    diagnosis: Any = error.diag
    detail = _bounded(diagnosis.message_primary or str(error).strip() or type(error).__name__)
    if diagnosis.message_detail:
        detail = f"{detail}\n{_bounded(diagnosis.message_detail)}"
    extra: dict[str, object] = {}
    if state is not None:
        extra["sqlstate"] = state
    position = _position(diagnosis, rendered)
    if position is not None:
        extra["position"] = position
    if diagnosis.constraint_name:
        extra["constraint"] = diagnosis.constraint_name
    hint = diagnosis.message_hint or _HINTS.get(state or "") or _CLASS_HINTS.get((state or "")[:2])
    if state == "25006" and policy.read_only:
        return read_only_problem(detail)
    if state == "57014" and "user request" not in detail:
        return timeout_problem(detail, policy)
    if state == "42501":
        hint = hint or "grant the profile's user the privilege that it lacks"
        return Problem("target_permission_denied", detail, hint=hint, extra=extra)
    if _connection_is_gone(error, state):
        return Problem(
            "target_unreachable",
            f"the connection was lost during the statement: {detail}",
            hint="a statement that changes data may or may not have taken effect: look before "
            "trying again",
            extra=extra,
        )
    return Problem("query_failed", detail, hint=hint, extra=extra)


def several_problem() -> Problem:
    """A call holds one statement."""
    return Problem(
        "query_failed",
        "there is more than one statement",
        hint="send one statement a call",
        extra={"sqlstate": "42601"},
    )


def _bounded(text: str) -> str:
    """The server quotes values in its messages, whatever their size."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def timeout_problem(detail: str, policy: DatabasePolicy) -> Problem:
    """A statement took longer than the policy or the server's own settings allow."""
    limit = policy.statement_timeout
    cause = f"the profile's statement_timeout is {limit:g} s" if limit else "the server's own limit"
    return Problem(
        "deadline_exceeded", detail, hint=f"{cause}; narrow the statement or raise the limit"
    )


def _connection_is_gone(error: psycopg2.Error, state: str | None) -> bool:
    if state is None:
        # A COPY that is cut is no more than a DatabaseError.
        lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        return lost or type(error) is psycopg2.DatabaseError
    return state.startswith("08") or state in ("57P01", "57P02", "57P03")


def _position(diagnosis: Any, rendered: Rendered | None) -> int | None:
    if rendered is None or diagnosis.internal_query != rendered.sql:
        return None
    position = diagnosis.internal_position
    return rendered.caller_position(int(position)) if position else None


def undecodable_problem() -> Problem:
    """Text of a database without an encoding (SQL_ASCII) that is not UTF-8."""
    return Problem(
        "query_failed",
        "the result holds text that is not UTF-8",
        hint="the database's encoding is SQL_ASCII: convert the column, as in "
        "convert_from(column::bytea, 'LATIN1')",
    )


_KINDS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        (
            r"invalid response to SSL negotiation|expected authentication request|"
            r"unsupported frontend protocol|wrong version number|packet length too long|"
            r"unexpected message from server"
        ),
        "target_wrong_type",
        "the port belongs to something else than PostgreSQL: check host and port",
    ),
    (
        (
            r"password authentication failed|no password supplied|role .* does not exist|"
            r"authentication failed|is not permitted to log in|SCRAM|certificate authentication"
        ),
        "target_login_failed",
        "check the profile's user and password",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "target_login_failed",
        (
            "the server's pg_hba.conf has no line for this user, database and address; "
            "it may ask for TLS (sslmode: require)"
        ),
    ),
    (r"database .* does not exist", "target_not_found", "check the profile's database name"),
    (
        r"permission denied for database",
        "target_permission_denied",
        "grant the profile's user CONNECT on the database",
    ),
    (
        r"too many (clients|connections)|remaining connection slots",
        "overloaded",
        "the server's connections are used up: lower pool.max or raise max_connections",
    ),
    (
        r"starting up|shutting down|in recovery mode|not currently accepting",
        "target_unreachable",
        "the server is up but not ready: try again in a moment",
    ),
    (
        r"server does not support SSL",
        "target_tls_failed",
        "the server has TLS switched off: set ssl = on there, or sslmode: prefer in the profile",
    ),
    (
        r"certificate|\bSSL\b|\bTLS\b|private key",
        "target_tls_failed",
        (
            "the server's certificate must come from the profile's sslrootcert, be in date and "
            "name the profile's host; the server may also refuse the profile's sslcert and sslkey"
        ),
    ),
    (
        r"Connection refused|No such file or directory",
        "target_unreachable",
        "nothing listens there: check host, port, listen_addresses and the firewall",
    ),
    (
        r"reset by peer|closed the connection",
        "target_unreachable",
        (
            "something listens there and hangs up: check that host and port are PostgreSQL's, then "
            "the server's log"
        ),
    ),
    (
        r"timeout|timed out|No route|unreachable",
        "target_unreachable",
        "check host, port and the firewalls between the agent and the server",
    ),
)
_ATTEMPT: Final = re.compile(
    r'^connection to server (?:at "[^"]*"(?: \([^)]*\))?, port \d+|on socket "[^"]*") failed: ',
    re.MULTILINE,
)


def connect_problem(error: psycopg2.Error, settings: PostgresqlSettings) -> Problem:
    """The problem that a failed connection is.

    libpq gives no code for it, only text: its own is English, the server's may be in any language.
    """
    # With sslmode=prefer libpq tries again without TLS: what was said first is the cause.
    first = _ATTEMPT.split(str(error).strip())
    text = next((each.strip() for each in first if each.strip()), str(error).strip())
    detail = f"{settings.host}:{settings.port}: {text}"
    for pattern, code, hint in _KINDS:
        if re.search(pattern, text):
            retry_after = 5 if code == "overloaded" else None
            return Problem(code, detail, hint=hint, retry_after=retry_after)
    if settings.user in text and settings.database not in text:
        return Problem("target_login_failed", detail, hint="check the profile's user and password")
    if settings.database in text:
        return Problem("target_not_found", detail, hint="check the profile's database name")
    return Problem("target_unreachable", detail, hint="check host, port and the server's log")


def refused_by_peer(problem: Problem) -> bool:
    """Whether something took the connection without being clear about what it is."""
    return problem.code in ("target_wrong_type", "target_tls_failed") or (
        problem.code == "target_unreachable" and "closed the connection" in problem.detail
    )
