"""What the kernel knows of a caller's connection and Twisted does not ask. Linux; else no-ops."""

from __future__ import annotations

import socket
from typing import Final

from twisted.internet.interfaces import ISSLTransport, ISystemHandle

UNSENT: Final = 128 * 1024
"""Bytes that may wait in the kernel, beyond what is on its way to the caller."""

_ENDED: Final = (7, 8)  # TCP_CLOSE (reset), TCP_CLOSE_WAIT; linux/tcp_states.h


def keep_little_unsent(transport: ISystemHandle) -> None:
    """Let a slow reader hold 128 KiB of the kernel's memory, not the megabytes it would give."""
    handle = _socket(transport)
    if handle is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def peer_has_ended(transport: ISystemHandle) -> bool:
    """Whether the peer has closed or reset the connection. The reactor learns that only by reading,
    so while nothing is read it does not."""
    handle = _socket(transport)
    if handle is None or not hasattr(socket, "TCP_INFO"):
        return False
    return handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ENDED


def _socket(transport: ISystemHandle) -> socket.socket | None:
    if ISSLTransport.providedBy(transport):
        transport = getattr(transport, "transport", transport)
    handle = transport.getHandle()
    if not isinstance(handle, socket.socket):
        return None
    return handle if handle.family in (socket.AF_INET, socket.AF_INET6) else None
