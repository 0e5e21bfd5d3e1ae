"""WebSockets (RFC 6455): how a request asks for one, and what it takes to switch to it.

Past the target's 101 the connection carries bytes that nobody here looks at.
"""

from __future__ import annotations

import socket
from typing import Final

from twisted.protocols.policies import ProtocolWrapper

from ...requests import Request
from .fields import MalformedFields, incoming

WEBSOCKET: Final = "websocket"
ASKING: Final = ("Connection: Upgrade", "Upgrade: websocket")
_IDLE: Final = 60
_INTERVAL: Final = 15
_PROBES: Final = 4
_OPTIONS: Final = (
    ("TCP_KEEPIDLE", _IDLE),
    ("TCP_KEEPINTVL", _INTERVAL),
    ("TCP_KEEPCNT", _PROBES),
    ("TCP_USER_TIMEOUT", (_IDLE + _INTERVAL * _PROBES) * 1000),
)


def asks(request: Request) -> bool:
    """Whether a call goes on as WebSocket: its body begins when the target has agreed."""
    return request.method == "GET" and (request.header("upgrade") or "").lower() == WEBSOCKET


def accepted(raw: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """The fields of a 101 to pass on. Raises MalformedFields for any protocol but WebSocket."""
    said: dict[bytes, list[str]] = {b"upgrade": [], b"connection": []}
    for name, value in raw:
        said.get(name.lower(), []).extend(
            token.strip().lower() for token in value.decode("latin-1").split(",")
        )
    if said[b"upgrade"] != [WEBSOCKET] or "upgrade" not in said[b"connection"]:
        raise MalformedFields("status 101, but not for a WebSocket")
    return incoming(raw).fields


def watch(transport: object) -> None:
    """Have the kernel end the connection two minutes after the other host has fallen silent.

    A WebSocket may rest for hours: no deadline of a call tells that its target's host is gone.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, socket.socket):
        return
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
