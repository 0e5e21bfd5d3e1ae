"""Finds out what answers at a server's port, before a driver that waits for long or says little.

Drivers differ in which time-outs they keep and in how much they tell. A look of one's own, in a
fraction of a second, tells names that can't be resolved, closed ports, silence and strangers apart.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final, Literal

from attrs import frozen

from workato_tunnel.problems import Problem

from ...greetings import describe

Speaks = Literal["postgresql", "mysql", "tds", "anything"]

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
# TDS pre-login (MS-TDS 2.2.6.5) of version 9 without encryption.
_PRELOGIN: Final = bytes.fromhex(
    "1201002f0000010000001a00060100200001020021000103002200040400260001ff0900000000000200000000 00"
    "0000".replace(" ", "")
)
_HTTP_REQUEST: Final = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"
_OPENING: Final = {"postgresql": _SSL_REQUEST, "tds": _PRELOGIN}
_PATIENCE: Final = 0.5
_SILENCE: Final = 5.0
_NAMES: Final = {
    "postgresql": "PostgreSQL",
    "mysql": "MySQL or MariaDB",
    "tds": "SQL Server",
    "anything": "the database",
}


@frozen
class Endpoint:
    """Where a server listens, and what it should speak."""

    host: str
    port: int
    speaks: Speaks

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def thd_look(endpoint: Endpoint, seconds: float) -> None:
    """Connect and hear whether it is what it should be. Raises Problem where it isn't."""
    until = time.monotonic() + seconds
    link = _thd_connect(endpoint, until)
    try:
        if endpoint.speaks != "anything":
            _thd_listen(link, endpoint, until)
    finally:
        link.close()


def _thd_connect(endpoint: Endpoint, until: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Problem(
            "target_unreachable",
            f"{endpoint}: the name {endpoint.host} can't be resolved",
            hint="check the profile's server and the DNS of the agent's machine",
        ) from None
    failure: OSError = TimeoutError("timed out")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        left = (until - time.monotonic()) / (len(found) - index)
        if left <= 0:
            break
        link = socket.socket(family, kind, protocol)
        link.settimeout(left)
        try:
            link.connect(address)
        except OSError as error:
            link.close()
            failure = error
            continue
        return link
    if isinstance(failure, ConnectionRefusedError):
        hint = "nothing listens there: check server, port and whether the database runs"
    else:
        hint = "check server, port and the firewalls between the agent and the server"
    raise Problem(
        "target_unreachable", f"{endpoint}: {failure.strerror or failure}", hint=hint
    ) from None


def _thd_listen(link: socket.socket, endpoint: Endpoint, until: float) -> None:
    opening = _OPENING.get(endpoint.speaks)
    silence = min(until, time.monotonic() + _SILENCE)
    try:
        if opening is not None:
            link.sendall(opening)
        heard = _thd_hear(link, _PATIENCE)
        if not heard and opening is None:
            link.sendall(_HTTP_REQUEST)
        while not heard and time.monotonic() < silence:
            heard = _thd_hear(link, max(0.05, silence - time.monotonic()))
        # A server that was offered another's greeting may say who it is when it is asked.
        if not _is_right(heard, endpoint.speaks) and describe(heard) is None:
            link.sendall(_HTTP_REQUEST)
            heard += _thd_hear(link, _PATIENCE)
    except ConnectionError:
        raise _stranger(endpoint, None) from None
    except TimeoutError:
        raise _silent(endpoint) from None
    if not heard:
        raise _silent(endpoint)
    if not _is_right(heard, endpoint.speaks):
        raise _stranger(endpoint, describe(heard))


def _thd_hear(link: socket.socket, seconds: float) -> bytes:
    link.settimeout(seconds)
    try:
        heard = link.recv(256)
    except TimeoutError:
        if seconds <= _PATIENCE:
            return b""
        raise
    if not heard:
        raise ConnectionResetError
    return heard


def _is_right(heard: bytes, speaks: Speaks) -> bool:
    if speaks == "postgresql":
        return heard[:1] in (b"S", b"N", b"G") or heard[:1] == b"E"
    if speaks == "mysql":
        return describe(heard) == "a MySQL or MariaDB server"
    return heard[:1] == b"\x04"


def _silent(endpoint: Endpoint) -> Problem:
    return Problem(
        "target_unreachable",
        f"{endpoint}: timeout: the connection is taken, and then nothing is said",
        hint="the server hangs, or a firewall or proxy in between swallows what is said",
    )


def _stranger(endpoint: Endpoint, name: str | None) -> Problem:
    wanted = _NAMES[endpoint.speaks]
    if name is None:
        detail = f"{endpoint}: something listens there and hangs up; it isn't {wanted}"
    else:
        detail = f"{endpoint}: {name} answers there, not {wanted}"
    return Problem("target_wrong_type", detail, hint="check the profile's driver, server and port")
