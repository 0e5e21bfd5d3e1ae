"""MySQL's and PyMySQL's errors as problems: the server's words, and what to do about them."""

from __future__ import annotations

import re
import ssl
from typing import Final

from pymysql import err
from pymysql.constants import CR

from workato_tunnel.problems import Problem

from ..settings import DatabasePolicy, MysqlSettings
from ..statements import Rendered
from .base import read_only_problem

_LONGEST: Final = 1000
_LOST: Final = frozenset(
    (CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR, 0, 1053, 1152, 1158, 1159, 1160, 1161, 1927, 3169)
)
_LATE: Final = frozenset((1969, 3024))
_READ_ONLY: Final = frozenset((1792,))
_PERMISSION: Final = frozenset((1044, 1142, 1143, 1227, 1370, 1410, 3619, 4070))
_HINTS: Final = {
    1064: "check the statement where the message quotes it",
    1205: "another transaction held the lock: try again",
    1213: "another transaction was in the way and this one was rolled back: try again",
    1146: "check the table's name and its database",
    1054: "check the column's name",
    1153: "a value is larger than the server's max_allowed_packet: raise it there",
    1290: "the server itself runs read-only, or with an option that forbids this",
    1295: "this statement takes no parameters: write the values into it",
    1317: "somebody has stopped it with KILL",
    1390: "65535 parameters at most",
    1461: "the server has no more prepared statements: raise max_prepared_stmt_count there",
    3572: "the row is locked: try again",
    4031: "the server closed the connection as it was unused for long: try again",
}
_CLASS_HINTS: Final = {
    "21": "the number of values does not fit",
    "22": "a value does not fit its type or the operation: check the parameters and the data",
    "23": "the statement breaks a rule of the table",
    "40": "nothing was changed: try again",
}
_NEAR: Final = re.compile(r"near '(.*)' at line (\d+)\Z", re.DOTALL)
_CONSTRAINT: Final = re.compile(r"CONSTRAINT `([^`]+)`|for key '([^']+)'|CONSTRAINT '?([^' `]+)'? ")


def statement_problem(
    error: Exception, rendered: Rendered | None, policy: DatabasePolicy
) -> Problem:
    """The problem that an error of a statement is."""
    number, message = _number_of(error), _message_of(error)
    state: str | None = getattr(error, "sqlstate", None)
    extra: dict[str, object] = {}
    if state:
        extra["sqlstate"] = state
    if number in _LOST or isinstance(error, OSError | err.InterfaceError):
        return Problem(
            "target_unreachable",
            f"the connection was lost during the statement: {message}",
            hint="a statement that changes data may or may not have taken effect: look before "
            "trying again",
            extra=extra,
        )
    if number:
        extra["mysql_error"] = number
    if number in _READ_ONLY and policy.read_only:
        return read_only_problem(message)
    if number in _LATE:
        hint = "the server's own limit for statements (max_statement_time, max_execution_time)"
        return Problem("deadline_exceeded", message, hint=hint, extra=extra)
    if number in _PERMISSION:
        return Problem(
            "target_permission_denied",
            message,
            hint="grant the profile's user the privilege that it lacks",
            extra=extra,
        )
    position = _position(message, rendered)
    if position is not None:
        extra["position"] = position
    if (state or "").startswith("23") and (found := _CONSTRAINT.search(message)):
        extra["constraint"] = next(name for name in found.groups() if name)
    advice = _HINTS.get(number) or _CLASS_HINTS.get((state or "")[:2])
    return Problem("query_failed", message, hint=advice, extra=extra)


def _number_of(error: Exception) -> int:
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) and number >= 0 else 0


def _message_of(error: Exception) -> str:
    """Bounded, as the server quotes values in its messages."""
    text = str(error.args[1] if len(error.args) > 1 else error) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _position(message: str, rendered: Rendered | None) -> int | None:
    """Where the text that a syntax error quotes stands, when it stands in one place only."""
    match = _NEAR.search(message)
    if rendered is None or match is None:
        return None
    quoted, line = match[1], int(match[2])
    if not quoted:
        return rendered.caller_position(max(1, len(rendered.sql)))
    starts = [found.start() for found in re.finditer(re.escape(quoted), rendered.sql)]
    starts = [start for start in starts if rendered.sql.count("\n", 0, start) == line - 1]
    return rendered.caller_position(starts[0] + 1) if len(starts) == 1 else None


_TLS_HINT: Final = "check sslrootcert, and the host's name where sslmode is verify-full"


def login_problem(error: Exception, settings: MysqlSettings, *, secure: bool) -> Problem:
    """The problem that an error while logging in is."""
    where = place(settings)
    number, message = _number_of(error), _message_of(error)
    detail = f"{where}: {message}"
    original = getattr(error, "original_exception", None)
    cause = original if isinstance(original, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Problem(
            "target_tls_failed",
            f"{where}: the server's certificate is not accepted: {cause.verify_message}",
            hint=_TLS_HINT,
        )
    if isinstance(cause, ssl.SSLError):
        return Problem(
            "target_tls_failed",
            f"{where}: the TLS handshake failed: {cause.reason or cause}",
            hint="the server may not know TLS 1.2, or asks for a client certificate",
        )
    if number == CR.CR_SSL_CONNECTION_ERROR:
        return Problem(
            "target_tls_failed",
            f"{where}: the server does not offer TLS",
            hint="set up TLS in the server, or set sslmode: prefer",
        )
    if isinstance(cause, TimeoutError):
        return timeout_problem(settings)
    if isinstance(cause, OSError):
        return Problem(
            "target_unreachable", f"{where}: {cause}", hint="check the server and its log"
        )
    if number in (1040, 1203, 1226, 1041):
        return Problem(
            "overloaded",
            detail,
            hint="the server's connections are used up: lower pool.max, or raise max_connections "
            "or the user's limit",
            retry_after=5,
        )
    if number in (1044, 1142):
        return Problem(
            "target_permission_denied",
            detail,
            hint="grant the profile's user a privilege on the database",
        )
    if number == 1049:
        return Problem("target_not_found", detail, hint="check the profile's database name")
    if number in (1129, 1130):
        hint = (
            "the server blocks the agent's machine: mysqladmin flush-hosts"
            if number == 1129
            else "no user of the server may log in from the agent's machine: CREATE USER name@host"
        )
        return Problem("target_login_failed", detail, hint=hint)
    if number in (1053, 1927, CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR):
        return Problem("target_unreachable", detail, hint="the server may be starting or stopping")
    if number in (3159, 1698, 1045, 1820, 1862, 3118, 4151, 3955, 1251, 1275, 2059, 2061, 1524):
        return Problem("target_login_failed", detail, hint=_login_hint(number, secure=secure))
    if isinstance(error, err.InternalError) and number in (0, CR.CR_MALFORMED_PACKET):
        return wrong_type_problem(settings, "something")
    return Problem("target_unreachable", detail, hint="check host, port and the server's log")


def _login_hint(number: int, *, secure: bool) -> str:
    hint = "check the profile's user and password, and from which hosts the user may log in"
    if number in (1820, 1862):
        return "the user's password has expired: set a new one"
    if number in (3118, 4151, 3955):
        return "the user's account is locked"
    if number in (1251, 1275, 2059, 2061, 1524):
        return (
            "the user's authentication plugin is not supported: take caching_sha2_password, "
            "ed25519 or mysql_native_password"
        )
    if not secure:
        hint += "; the user may have to log in with TLS (sslmode: require)"
    return hint


def timeout_problem(settings: MysqlSettings) -> Problem:
    """Nothing came in time."""
    return Problem(
        "target_unreachable",
        f"{place(settings)}: no connection within {settings.connect_timeout:g} s",
        hint="check host, port and the firewalls between the agent and the server",
    )


def wrong_type_problem(settings: MysqlSettings, name: str) -> Problem:
    """Something else than MySQL answers."""
    return Problem(
        "target_wrong_type",
        f"{place(settings)}: {name} answers there, not MySQL or MariaDB",
        hint="check the profile's host, port and adapter",
    )


def place(settings: MysqlSettings) -> str:
    """Where the server is, for messages."""
    host = settings.host
    return host if host.startswith("/") else f"{host}:{settings.port}"
