"""What can go wrong between the agent and the target, and how the caller is told."""

from __future__ import annotations

from typing import Final

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    UnknownHostError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from ..handshakes import CertificateRefused, openssl_words
from .target import Origin

CONNECT_FAILURES: Final = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    DeferredTimeout,
    TLSError,
    OSError,
)
"""What connecting may raise, short of cancellation and bugs."""


class ConnectionDied(Exception):
    """The connection ended before any byte of the response.

    :ivar unsent: nothing of the request has left this host.
    """

    def __init__(self, reason: Failure | None, *, unsent: bool = False) -> None:
        super().__init__("the connection ended before the response")
        self.reason = reason
        self.unsent = unsent


def _unreachable(origin: Origin, reason: str, detail: str, hint: str) -> Problem:
    extra = {"reason": reason, "host": origin.host, "port": origin.port}
    return Problem("target_unreachable", detail, hint=hint, extra=extra)


def not_connected(origin: Origin, error: Exception, timeout: float) -> Problem:
    """The problem for a connection that could not be made."""
    if isinstance(error, CertificateRefused):
        return tls_failed(origin, error)
    if isinstance(error, TLSError):
        return tls_failed(origin, error)
    if isinstance(error, DNSLookupError | UnknownHostError):
        return _unreachable(
            origin,
            "dns",
            f"The name {origin.host} can't be resolved on the agent's host",
            "Check the host in the profile's base_url and the DNS of the agent's host",
        )
    if isinstance(error, Refused):
        return _unreachable(
            origin,
            "refused",
            f"{origin} refused the connection",
            "Check that the application runs and listens there, and that no firewall rejects it",
        )
    if isinstance(error, NoRouteError):
        return _unreachable(
            origin,
            "no_route",
            f"There is no route from the agent's host to {origin}",
            "Check the address in base_url and the network of the agent's host",
        )
    if isinstance(error, DeferredTimeout | ConnectTimeout | TCPTimedOutError):
        return _unreachable(
            origin,
            "timeout",
            f"{origin} did not answer the connection attempt within {timeout:g} s",
            "Check the address in base_url, and for a firewall that drops the agent's packets",
        )
    return _unreachable(
        origin,
        "connect",
        f"No connection to {origin}: {error}",
        "Check the address in base_url and the network of the agent's host",
    )


def tls_failed(origin: Origin, error: Exception) -> Problem:
    """The problem for a TLS handshake that failed."""
    if isinstance(error, CertificateRefused):
        return _tls_problem(origin, error.cause, error.detail, error.hint)
    if isinstance(error, DeferredTimeout):
        return _tls_problem(
            origin,
            "timeout",
            "the connection was accepted but the TLS handshake not answered",
            "If the application has no TLS on that port, base_url starts with http://",
        )
    words = openssl_words(error)
    plain = any(
        word in words for word in ("wrong version number", "record layer failure", "packet length")
    )
    if plain or "http request" in words:
        return _tls_problem(
            origin,
            "no_tls",
            f"the port does not speak TLS: {words}",
            "If the application has no TLS on that port, base_url starts with http://",
        )
    return _tls_problem(
        origin,
        "handshake",
        f"the TLS handshake failed: {words}",
        "Check the application's TLS versions and ciphers, and whether it demands a certificate",
    )


def _tls_problem(origin: Origin, reason: str, detail: str, hint: str) -> Problem:
    extra = {"reason": reason, "host": origin.host, "port": origin.port}
    return Problem("target_tls_failed", f"{origin}: {detail}", hint=hint, extra=extra)


def closed_early(origin: Origin, *, reused: bool, idempotent: bool) -> Problem:
    """The target hung up instead of answering."""
    hint = (
        "Look into the application's log: it closed the connection on this request. If it never"
        " answers, check the port in base_url, and https:// where the port has TLS"
    )
    if not idempotent:
        hint += "; the work may have been done"
    elif reused:
        hint += ", on a kept connection and again on a new one"
    return _unreachable(origin, "closed", f"{origin} closed the connection without an answer", hint)


def cut(origin: Origin, received: int, expected: int | None) -> Problem:
    """The target hung up in the middle of its answer."""
    of = "" if expected is None else f" of {expected}"
    return _unreachable(
        origin,
        "cut",
        f"{origin} closed the connection after {received}{of} bytes of the response's body",
        "The body is incomplete; look into the application's log",
    )


def silent(origin: Origin, timeout: float) -> Problem:
    """The target has the request and sends nothing, or no more."""
    return _unreachable(
        origin,
        "timeout",
        f"{origin} sent nothing for {timeout:g} s",
        "Look into the application's log, or raise http_socket_timeout (0: no limit)",
    )


def no_login(origin: Origin, what: str) -> Problem:
    """NTLM came to no end."""
    return Problem(
        "target_login_failed",
        f"{origin}: the NTLM login failed: {what}",
        hint="Check that the application offers NTLM and that no proxy stands before it",
        extra={"host": origin.host, "port": origin.port},
    )


def no_handshake(origin: Origin, timeout: float) -> Problem:
    """The target answered nothing to a request for a WebSocket."""
    return _unreachable(
        origin,
        "timeout",
        f"{origin} did not answer the request for a WebSocket within {timeout:g} s",
        "Check that the application speaks WebSocket at this path",
    )


def another(origin: Origin, name: str) -> Problem:
    """Something answered, and it is known what: ``name``, the subject of a sentence."""
    return Problem(
        "target_wrong_type",
        f"{origin}: {name} answers there, not an HTTP application",
        hint="Check host and port in the profile's base_url",
        extra={"host": origin.host, "port": origin.port},
    )


def not_http(origin: Origin, what: str) -> Problem:
    """Something answered, but no HTTP/1.1 that can be relied on."""
    return Problem(
        "target_wrong_type",
        f"{origin} sent no valid HTTP response: {what}",
        hint="Check that base_url names an HTTP application, and https:// where the port has TLS",
        extra={"host": origin.host, "port": origin.port},
    )
