"""What other systems lack, taken away from this one.

The standard library and what is installed stay as they are (their being portable is others'
work); our own packages are imported with the other system's ``sys.platform``, without the modules,
functions and flags that it has not. A program runs so with
``python -m tests.support.elsewhere win32|darwin MODULE … -- PROGRAM``.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from twisted.internet import selectreactor

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("workato_agent", "workato_gateway", "workato_client", "workato_tunnel")


@frozen
class System:
    """What a system has not.

    :ivar modules: that can't be imported there.
    :ivar names: by the module in which they are missing.
    """

    modules: frozenset[str]
    names: Mapping[types.ModuleType, tuple[str, ...]]


_WINDOWS: Final = System(
    frozenset(
        {
            *("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "spwd"),
            *("crypt", "nis", "readline", "posix"),
        }
    ),
    {
        os: (
            *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_PATH"),
            *("O_SYNC", "chown", "chroot", "fchdir", "fchmod", "fchown", "fdatasync", "fork"),
            *("forkpty", "fstatvfs", "getegid", "geteuid", "getgid", "getgroups", "getpgid"),
            *("getpgrp", "getsid", "getuid", "initgroups", "killpg", "lchown", "mkfifo", "mknod"),
            *("nice", "openpty", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread"),
            *("pwrite", "sched_getaffinity", "sendfile", "setegid", "seteuid", "setgid"),
            *("setgroups", "setpgid", "setsid", "setuid", "statvfs", "sync", "uname", "wait3"),
            *("wait4", "waitid"),
        ),
        signal: (
            *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP"),
            *("SIGUSR1", "SIGUSR2", "SIGWINCH", "pthread_sigmask", "setitimer"),
        ),
        socket: ("AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT", "TCP_INFO"),
        select: ("poll", "epoll", "POLLIN", "POLLHUP", "POLLERR", "POLLRDHUP"),
    },
)
_MACOS: Final = System(
    frozenset({"spwd"}),
    {
        os: (
            *("O_PATH", "O_TMPFILE", "O_DIRECT", "O_LARGEFILE", "O_NOATIME", "O_RSYNC"),
            *("fdatasync", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "splice"),
            *("copy_file_range", "memfd_create", "eventfd", "getxattr", "setxattr", "listxattr"),
            *("getrandom", "pidfd_open", "pipe2", "preadv", "pwritev"),
        ),
        signal: ("SIGPOLL", "SIGPWR", "SIGSTKFLT", "SIGRTMIN", "SIGRTMAX", "sigwaitinfo"),
        socket: (
            *("MSG_NOSIGNAL", "SO_PEERCRED", "TCP_INFO", "TCP_KEEPIDLE", "TCP_QUICKACK"),
            *("TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT", "SOCK_CLOEXEC", "SOCK_NONBLOCK"),
        ),
        select: ("epoll", "POLLRDHUP"),
    },
)
SYSTEMS: Final = {"win32": _WINDOWS, "darwin": _MACOS}


@frozen
class _Missing:
    """Finds no module that the system has not."""

    modules: frozenset[str]

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _locks() -> types.ModuleType:
    """As much of ``msvcrt`` as is used, made of what there is here."""
    import fcntl  # noqa: PLC0415 - it is gone a moment later

    flock, exclusive = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
    module: Any = types.ModuleType("msvcrt")
    module.LK_NBLCK = 2

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (module.LK_NBLCK, 1)
        flock(descriptor, exclusive)

    module.locking = locking
    found: types.ModuleType = module
    return found


def go(platform: str) -> None:
    """From here on this process has what that system has. Ours must not be imported yet."""
    assert not any(name.split(".")[0] in OURS for name in sys.modules)
    system = SYSTEMS[platform]
    if platform == "win32":
        sys.modules["msvcrt"] = _locks()
    for name in system.modules & sys.modules.keys():
        if name != "posix":
            del sys.modules[name]
    sys.meta_path.insert(0, _Missing(system.modules))  # type: ignore[arg-type]
    sys.platform = platform
    for place, names in system.names.items():
        for name in names:
            if hasattr(place, name):
                delattr(place, name)


def main(platform: str, *arguments: str) -> None:
    """See the module."""
    modules, program = _split(arguments)
    # All that ours import comes in as it is here; then ours go, to be imported anew.
    for name in modules:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    selectreactor.install()  # type: ignore[no-untyped-call]  # the default on both
    go(platform)
    for name in modules:
        importlib.import_module(name)
    if program:
        sys.argv = list(program)
        exec(Path(program[0]).read_text(encoding="utf-8"), {"__name__": "__main__"})  # noqa: S102


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]


if __name__ == "__main__":
    main(*sys.argv[1:])
