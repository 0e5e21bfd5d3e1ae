"""What a directory refuses, and what goes wrong between it and the agent, as problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ldaptor.protocols.ldap import ldaperrors
from OpenSSL.SSL import Error as TLSError
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError, NoRouteError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout

from workato_tunnel.problems import Problem

from .. import greetings
from ..handshakes import CertificateRefused, openssl_words
from .replies import Result
from .settings import Server

CONNECT_FAILURES: Final = (ConnectError, ConnectionClosed, DNSLookupError, TLSError, OSError)
"""What connecting may raise, short of its time being over, cancellation and bugs."""

SUCCESS: Final = 0
TIME_LIMIT: Final = 3
SIZE_LIMIT: Final = 4
COMPARE_FALSE, COMPARE_TRUE = 5, 6
BUSY, UNAVAILABLE = 51, 52
INVALID_CREDENTIALS: Final = 49
_UNENCRYPTED: Final = (8, 13)
_REFERRAL: Final = 10

_CODES: Final[Mapping[int, str]] = {
    TIME_LIMIT: "deadline_exceeded",
    SIZE_LIMIT: "overloaded",
    7: "target_login_failed",
    8: "target_login_failed",
    _REFERRAL: "not_found",
    11: "overloaded",
    13: "target_login_failed",
    16: "not_found",
    17: "bad_request",
    18: "bad_request",
    19: "bad_request",
    20: "conflict",
    21: "bad_request",
    32: "not_found",
    34: "bad_request",
    48: "target_login_failed",
    INVALID_CREDENTIALS: "target_login_failed",
    50: "target_permission_denied",
    BUSY: "overloaded",
    UNAVAILABLE: "target_unreachable",
    64: "bad_request",
    65: "bad_request",
    66: "conflict",
    67: "conflict",
    68: "conflict",
    69: "bad_request",
}
"""Problems by result code; every other is ``query_failed``."""

_HINTS: Final[Mapping[int, str]] = {
    TIME_LIMIT: "ask for less at once, or raise the directory's time limit for the agent's user",
    SIZE_LIMIT: "narrow the filter, or raise the directory's size limit for the agent's user",
    8: "the directory wants TLS: give the url with ldaps://, or startTls: true",
    _REFERRAL: "another server has it: name that one in url; referrals are not followed",
    11: "narrow the filter, or raise the directory's limits for the agent's user",
    13: "the directory wants TLS: give the url with ldaps://, or startTls: true",
    16: "the entry has no such attribute, or no such value of it",
    17: "check the attribute's spelling, and the directory's schema",
    19: "the directory's own rules forbid the value, as those for passwords",
    20: "the attribute has this value already, or may have one only",
    32: "check the DN, which is relative to the base unless it ends with that; or the agent's user"
    " may not see it",
    48: "the directory takes no login of this kind, perhaps no anonymous one",
    INVALID_CREDENTIALS: "check the profile's username and password",
    50: "grant the right to the profile's user in the directory",
    64: "the name of an entry has to consist of attributes that it may have",
    65: "the attributes do not fit the entry's object classes",
    66: "delete the entries below it first",
    67: "an attribute that names the entry is changed by rename",
    68: "an entry of that name is there already",
}
_ACCOUNT: Final[Mapping[str, str]] = {
    "525": "there is no such user",
    "52e": "the user name or the password is wrong",
    "530": "the account may not log in at this time",
    "531": "the account may not log in from this host",
    "532": "the account's password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the account's password has to be changed first",
    "775": "the account is locked",
}
"""What Active Directory means by the ``data`` of its invalidCredentials."""


class Lost(Exception):
    """A connection that can't be used any more.

    :ivar reason: ``closed``, ``notice``, ``wrong_type``, ``malformed`` or ``too_large``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def name_of(code: int) -> str:
    """``noSuchObject`` of 32: the name that RFC 4511 gives a result code."""
    known = ldaperrors.LDAPExceptionCollection.collection.get(code)
    return "unknown" if known is None else known.name.decode("ascii")


def refused(result: Result, what: str, *, login: bool = False) -> Problem:
    """The problem for a result that is an error.

    :param what: the subject of a sentence, as ``the search``.
    :param login: the result is that of the agent's own login.
    """
    code, name = result.code, name_of(result.code)
    detail = f"{what}: {name} ({code})"
    if result.message:
        detail += f", {result.message}"
    kind = _CODES.get(code, "query_failed")
    hint = _HINTS.get(code, "the detail is in the directory's own words")
    if login and kind in ("bad_request", "not_found", "query_failed"):
        kind, hint = "target_login_failed", "check the profile's username"
    account = re.search(r"\bdata ([0-9a-f]{3})\b", result.message)
    if code == INVALID_CREDENTIALS and account is not None and account[1] in _ACCOUNT:
        detail += f": {_ACCOUNT[account[1]]}"
    extra: dict[str, object] = {"result_code": code, "result_name": name}
    if result.message:
        extra["message"] = result.message
    if result.matched:
        extra["matched_dn"] = result.matched
    if result.referrals:
        extra["referrals"] = list(result.referrals)
    return Problem(kind, detail, hint=hint, retry_after=5 if code == BUSY else None, extra=extra)


def unreachable(server: Server, reason: str, detail: str, hint: str) -> Problem:
    """No connection, or one that broke."""
    return Problem(
        "target_unreachable", f"{server}: {detail}", hint=hint, extra=_extra(server, reason)
    )


def not_connected(server: Server, error: Exception) -> Problem:
    """The problem for a connection that could not be made."""
    if isinstance(error, DNSLookupError):
        return unreachable(
            server,
            "dns",
            "the name can't be resolved on the agent's host",
            "check the host in url, and the DNS of the agent's host",
        )
    if isinstance(error, Refused):
        return unreachable(
            server,
            "refused",
            "the connection was refused",
            "check the port in url, and that the directory runs",
        )
    if isinstance(error, NoRouteError):
        return unreachable(
            server,
            "no_route",
            "there is no route to it",
            "check the address in url, and the network of the agent's host",
        )
    if isinstance(error, ConnectTimeout):
        return silent(server, "connect", 0)
    return unreachable(
        server,
        "connect",
        str(error) or type(error).__name__,
        "check the address in url, and the network of the agent's host",
    )


def silent(server: Server, stage: str, seconds: float) -> Problem:
    """The time to connect is over. ``stage``: ``connect``, ``tls`` or ``login``."""
    within = f" within {seconds:g} s" if seconds else ""
    if stage == "tls":
        detail = f"{server}: the TLS handshake was not answered{within}"
        hint = "if the directory has no TLS on that port, url begins with ldap://"
        return Problem("target_tls_failed", detail, hint=hint, extra=_extra(server, "timeout"))
    if stage == "login":
        return unreachable(
            server,
            "timeout",
            f"it took the connection and did not answer{within}",
            "check that the directory works, and that its port speaks LDAP",
        )
    return unreachable(
        server,
        "timeout",
        f"no answer{within}",
        "check the address in url, and for a firewall that drops the agent's packets",
    )


def tls_failed(server: Server, error: Exception) -> Problem:
    """The problem for a TLS handshake that failed."""
    if isinstance(error, CertificateRefused):
        return Problem(
            "target_tls_failed",
            f"{server}: {error.detail}",
            hint=error.hint,
            extra=_extra(server, error.cause),
        )
    words = openssl_words(error)
    return Problem(
        "target_tls_failed",
        f"{server}: the TLS handshake failed: {words}",
        hint="if the directory has no TLS on that port, url begins with ldap://; else check its"
        " TLS versions, and whether it demands a certificate",
        extra=_extra(server, "handshake"),
    )


def no_starttls(server: Server, result: Result) -> Problem:
    """The directory refused to begin with TLS."""
    return Problem(
        "target_tls_failed",
        f"{server}: it refused StartTLS: {name_of(result.code)} ({result.code}), {result.message}",
        hint="give the url with ldaps:// and its port, if the directory has TLS there",
        extra=_extra(server, "no_tls"),
    )


def lost(
    server: Server, error: Lost, greeting: bytes, *, wrote: bool = False, login: bool = False
) -> Problem:
    """The connection ended instead of an answer.

    :param wrote: to what may have changed something. ``login``: to the agent's login.
    """
    if error.reason == "wrong_type":
        name = greetings.describe(greeting) or "something else"
        return Problem(
            "target_wrong_type",
            f"{server}: {name} answers there, not a directory: {error.detail}",
            hint="check host and port in url, and ldaps:// where the port has TLS",
            extra=_extra(server, error.reason),
        )
    if error.reason == "malformed":
        return Problem(
            "target_wrong_type",
            f"{server}: what it sent is not LDAP: {error.detail}",
            hint="check host and port in url",
            extra=_extra(server, error.reason),
        )
    if error.reason == "too_large":
        return Problem(
            "overloaded",
            f"{server}: {error.detail}",
            hint="ask for less: name the attributes",
            extra=_extra(server, error.reason),
        )
    hint = "look into the directory's log, and for a firewall that cuts connections"
    if login and not server.secure:
        hint = "if that port has TLS, url begins with ldaps://; else " + hint
    if wrote:
        hint += "; the work may have been done"
    return unreachable(server, error.reason, error.detail, hint)


def together(problems: list[Problem]) -> Problem:
    """What to say when none of the servers would do: all of it, under the last one's code."""
    last = problems[-1]
    if len(problems) == 1:
        return last
    reasons = [
        {key: each.extra.get(key) for key in ("host", "port", "reason")} for each in problems
    ]
    return Problem(
        last.code,
        "; ".join(problem.detail for problem in problems),
        hint=last.hint,
        retry_after=last.retry_after,
        extra={**last.extra, "servers": reasons},
    )


def _extra(server: Server, reason: str) -> dict[str, object]:
    return {"reason": reason, "host": server.host, "port": server.port}
