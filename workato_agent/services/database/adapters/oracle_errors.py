"""Oracle's and its driver's errors as problems: the database's words, and what to do."""

from __future__ import annotations

import re
from typing import Any, Final

from workato_tunnel.problems import Problem

from ..settings import OracleSettings
from ..statements import Rendered
from .base import read_only_problem

_LONGEST: Final = 1000
_HELP: Final = re.compile(r"\n(?:Help|Docs): https?://\S+\s*$")
_CAUSE: Final = re.compile(r"\b(?:ORA|DPY|DPI|TNS)-\d{4,5}\b")
_HINTS: Final = {
    "ORA-00001": "the statement breaks a rule of the table; nothing was changed",
    "ORA-00060": "nothing was changed: try again",
    "ORA-00904": "check the names of the columns; without quotes they are upper case",
    "ORA-00942": "check the name and its schema, and whether the profile's user may see it",
    "ORA-01722": "a parameter or a text is no number",
    "ORA-01858": "a date's text is ISO 8601, or its format is given with TO_DATE",
    "ORA-01861": "a date's text is ISO 8601, or its format is given with TO_DATE",
    "ORA-08177": "nothing was changed: try again",
    "ORA-00933": "check the end of the statement; only one is sent in a call",
    "ORA-30006": "another transaction holds the row: try again later",
    "ORA-00054": "another transaction holds the object: try again later",
    "ORA-01555": "the query ran for longer than the database keeps old rows: narrow it",
}
_PERMISSION: Final = frozenset(("ORA-01031", "ORA-41900", "ORA-00990", "ORA-01720", "ORA-01749"))
_READ_ONLY: Final = frozenset(("ORA-01456", "ORA-16000"))
_STOPPED: Final = frozenset(("ORA-01013", "DPY-4024"))
_LOST: Final = frozenset(
    ("ORA-03113", "ORA-03114", "ORA-03135", "ORA-00028", "ORA-01012", "ORA-02396", "ORA-12537",
     "ORA-01089", "ORA-01092", "DPY-1001", "DPY-4011", "DPI-1080", "DPI-1010")
)  # fmt: skip


def code_of(error: Exception) -> str:
    """``ORA-00942`` or ``DPY-6005``; empty where there is none."""
    return str(getattr(_inner(error), "full_code", "") or "")


def is_lost(error: Exception) -> bool:
    """Whether the connection is of no more use."""
    return bool(getattr(_inner(error), "is_session_dead", False)) or code_of(error) in _LOST


def _inner(error: Exception) -> Any:
    return error.args[0] if error.args else None


def _words(error: Exception) -> str:
    text = str(getattr(_inner(error), "message", "") or error).strip()
    text = _HELP.sub("", text).strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def statement_problem(
    error: Exception, rendered: Rendered | None, *, read_only: bool = False
) -> Problem:
    """The problem that an error of a statement is."""
    code = code_of(error)
    detail = _words(error)
    extra: dict[str, object] = {"oracle_error": code} if code else {}
    offset = getattr(_inner(error), "offset", None)
    if rendered is not None and isinstance(offset, int) and offset > 0:
        extra["position"] = rendered.caller_position(offset + 1)
    if code in _READ_ONLY and read_only:
        return read_only_problem(detail)
    if code in _PERMISSION:
        hint = "grant the profile's user the privilege that it lacks"
        return Problem("target_permission_denied", detail, hint=hint, extra=extra)
    if code in _STOPPED:
        return Problem("deadline_exceeded", detail, hint="the statement was stopped")
    if is_lost(error):
        return Problem(
            "target_unreachable",
            f"the connection was lost during the statement: {detail}",
            hint="a statement that changes data may or may not have taken effect: look before "
            "trying again",
            extra=extra,
        )
    return Problem("query_failed", detail, hint=_HINTS.get(code), extra=extra)


_LISTENER: Final = "the listener there has no such database: check service, database (SID) or dsn"
# By code; the listener's own codes come within the driver's words.
_CONNECT: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "ORA-01017|ORA-01005|ORA-01045|ORA-28009|ORA-01004|DPY-4001|DPY-4000",
        "target_login_failed",
        "check the profile's username and password, and that the user may CREATE SESSION",
    ),
    (
        "ORA-28000|ORA-28001|ORA-28002|ORA-28003",
        "target_login_failed",
        "the account is locked or its password has expired: ask the database's administrator",
    ),
    (
        "ORA-12514|ORA-12505|ORA-12504|ORA-12154|ORA-12521|DPY-6001|DPY-6003|DPY-4026|DPY-4027|DPY-4017",
        "target_not_found",
        _LISTENER,
    ),
    (
        "ORA-12516|ORA-12518|ORA-12519|ORA-12520|ORA-00018|ORA-00020|ORA-02391",
        "overloaded",
        "the server's connections are used up: lower pool.max or raise its processes",
    ),
    (
        "ORA-01033|ORA-01034|ORA-01090|ORA-12528|ORA-12526|ORA-12527|ORA-27101|ORA-01035",
        "target_unreachable",
        "the database is not open: try again in a moment, or ask its administrator",
    ),
    (
        (
            "ORA-28759|ORA-28860|ORA-28864|ORA-29024|ORA-28365|ORA-29002|DPY-6006|DPY-3012|"
            "CERTIFICATE_VERIFY|certificate verify|SSLError|WRONG_VERSION_NUMBER"
        ),
        "target_tls_failed",
        (
            "the server's certificate must come from ssl_ca, be in date and name the profile's "
            "host; the port must be the listener's for TCPS"
        ),
    ),
    (
        "DPY-3010|DPY-3015|DPY-3001|DPY-3016|ORA-12660|ORA-12649",
        "target_wrong_type",
        (
            "the server asks for what this driver has not (a release before 12.1, native network "
            "encryption, old password verifiers): use adapter jdbc with Oracle's own driver"
        ),
    ),
    (
        "Name or service not known|nodename nor servname|Temporary failure in name|getaddrinfo",
        "target_unreachable",
        "the host's name is unknown: check it and the agent's name servers",
    ),
    (
        "Connection refused|ORA-12541|Errno 111",
        "target_unreachable",
        "nothing listens there: check host and port and the firewall",
    ),
    (
        "ORA-12170|ORA-12535|ORA-12606|timed out|No route to host|unreachable",
        "target_unreachable",
        "check host and port and the firewalls between the agent and the server",
    ),
    (
        "DPY-4011|DPY-6002|DPY-5|invalid packet|unexpected",
        "target_wrong_type",
        "something else than an Oracle listener answers there: check host, port and tls",
    ),
)


def connect_problem(error: Exception, where: str, settings: OracleSettings) -> Problem:
    """The problem that a failed connection is."""
    text = _words(error)
    cause: BaseException | None = error.__cause__ or error.__context__
    if cause is not None and str(cause) and str(cause) not in text:
        text = f"{text} ({cause})"
    if settings.password:
        text = text.replace(settings.password, "…")
    detail = f"{where}: {text}"
    codes = _CAUSE.findall(f"{code_of(error)} {text}")
    extra: dict[str, object] = {"oracle_error": codes[0]} if codes else {}
    for pattern, code, hint in _CONNECT:
        if re.search(pattern, f"{code_of(error)} {text}"):
            retry_after = 5 if code == "overloaded" else None
            return Problem(code, detail, hint=hint, retry_after=retry_after, extra=extra)
    return Problem(
        "target_unreachable", detail, hint="check host, port and the listener's log", extra=extra
    )
