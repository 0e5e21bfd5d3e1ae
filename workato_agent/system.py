"""What differs from one operating system to the other, in one place."""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path
from typing import Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

ON_WINDOWS: Final = sys.platform == "win32"

PRIVATE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Flags that open a file of the agent's own: no link is followed, and Windows writes the bytes as
they are."""


def lock_alone(descriptor: int) -> None:
    """Lock a file for this process, until the descriptor is closed or the process ends.

    Raises BlockingIOError where another process has it, OSError where there are no locks.
    """
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_content(descriptor: int) -> None:
    """Force what was written to the disk. Windows and macOS know only ``fsync``."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk. Windows opens no folders, and does it by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(descriptor: int) -> None:
    """Take a file's rights from everybody but its owner. On Windows the folder's count."""
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)


def is_superuser() -> bool:
    """Whether the agent runs as root."""
    return sys.platform != "win32" and os.geteuid() == 0


def is_readable(descriptor: int) -> bool:
    """Whether something waits to be read on a socket now, its end included."""
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def has_hung_up(descriptor: int) -> bool:
    """Whether the peer of a socket has closed it, as far as the system tells without reading."""
    if sys.platform == "win32":
        return False
    poll = select.poll()
    ended = getattr(select, "POLLRDHUP", 0)  # Linux alone
    poll.register(descriptor, ended | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def probe_when_idle(link: socket.socket, idle: int, interval: int, probes: int) -> None:
    """Have the system ask a silent peer, after ``idle`` seconds, whether it is still there."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        if hasattr(socket, name):  # macOS has other names for some
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def config_folder() -> Path:
    """Where the config file is, unless it is named."""
    if sys.platform == "win32":
        return _program_data()
    return Path("/etc/workato-agent")


def state_folder() -> Path:
    """Where the identity is, unless the config names a folder."""
    if sys.platform == "win32":
        return _program_data()
    if sys.platform == "darwin":
        return Path("/usr/local/var/workato-agent")
    return Path("/var/lib/workato-agent")


def longest_socket_path() -> int:
    """Bytes; ``sockaddr_un`` of each system, without its NUL."""
    return 103 if sys.platform == "darwin" else 107


def _program_data() -> Path:
    return Path(os.environ.get("PROGRAMDATA", "C:\\ProgramData")) / "workato-agent"
