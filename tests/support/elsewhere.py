"""What a Windows machine lacks, taken away from this one.

The standard library and what is installed stay as they are (their being portable is others'
work); our own packages are imported with ``sys.platform`` ``win32``, without the modules and
functions that exist on Unix only. A program runs so with
``python -m tests.support.elsewhere MODULE … -- PROGRAM``.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet import selectreactor

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("workato_agent", "workato_gateway", "workato_client", "workato_tunnel")
UNIX_MODULES: Final = frozenset(
    {
        *("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "spwd", "crypt"),
        *("nis", "readline", "posix"),
    }
)
UNIX_OS: Final = (
    *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_PATH", "O_SYNC"),
    *("chown", "chroot", "fchdir", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fstatvfs"),
    *("getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getsid", "getuid"),
    *("initgroups", "killpg", "lchown", "mkfifo", "mknod", "nice", "openpty", "posix_fadvise"),
    *("posix_fallocate", "pread", "pwrite", "sched_getaffinity", "sendfile", "setegid", "seteuid"),
    *("setgid", "setgroups", "setpgid", "setsid", "setuid", "statvfs", "sync", "uname", "wait3"),
    *("wait4", "waitid", "posix_spawn"),
)
UNIX_SIGNALS: Final = (
    *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1"),
    *("SIGUSR2", "SIGWINCH", "pthread_sigmask", "setitimer"),
)


class _Missing:
    """Finds no module that exists on Unix only."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in UNIX_MODULES:
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


def leave_unix() -> None:
    """From here on this process has what Windows has. Ours must not be imported yet."""
    assert not any(name.split(".")[0] in OURS for name in sys.modules)
    sys.modules["msvcrt"] = _locks()
    for name in UNIX_MODULES & sys.modules.keys():
        if name != "posix":
            del sys.modules[name]
    sys.meta_path.insert(0, _Missing())  # type: ignore[arg-type]
    sys.platform = "win32"
    for place, names in (
        (os, UNIX_OS),
        (signal, UNIX_SIGNALS),
        (socket, ("AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT", "TCP_INFO")),
        (select, ("poll", "epoll", "POLLIN", "POLLHUP", "POLLERR", "POLLRDHUP")),
    ):
        for name in names:
            if hasattr(place, name):
                delattr(place, name)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    modules, program = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    # All that ours import comes in as it is here; then ours go, to be imported anew.
    for name in modules:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    selectreactor.install()  # type: ignore[no-untyped-call]  # Windows' default
    leave_unix()
    for name in modules:
        importlib.import_module(name)
    if program:
        sys.argv = list(program)
        exec(Path(program[0]).read_text(encoding="utf-8"), {"__name__": "__main__"})  # noqa: S102


if __name__ == "__main__":
    main(sys.argv[1:])
