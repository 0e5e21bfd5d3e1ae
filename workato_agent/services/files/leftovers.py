"""Temporary files of uploads: made so that a killed agent's can be told from a living one's.

Whoever writes one holds a lock (``flock``) on it, which the kernel drops with the process. Two
agents may share a base: neither takes the other's uploads for leftovers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Generator
from typing import Final

from .confinement import is_temporary, temporary_name
from .walk import FOLDER, NO_FOLLOW, Jail

MAX_DEPTH: Final = 64
"""Folders deeper than this are not searched for leftovers: each level holds two descriptors."""

_OLDER_THAN_ANY_CALL: Final = 90_000.0
"""Seconds: a call lasts a day at most. Decides where the file system has no locks."""

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_UNREACHABLE: Final = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.EROFS}
)


def create_temporary(folder: int, mode: int) -> tuple[bytes, int]:
    """A new, locked temporary file in the folder of that descriptor: its name and descriptor."""
    while True:
        name = temporary_name()
        file = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, mode | 0o600, dir_fd=folder
        )
        try:
            # A search for leftovers may have come between the two: then the file is lost to it.
            if _lock(file) is not False and os.fstat(file).st_nlink:
                return name, file
        except BaseException:
            os.close(file)
            os.unlink(name, dir_fd=folder)
            raise
        os.close(file)


def remove_below(jail: Jail) -> Generator[None]:
    """Remove the leftovers below a base, yielding after each name: the work comes in portions.

    Folders that can't be entered are passed over: nothing was uploaded there by this user.
    """
    folder = jail.open_base(FOLDER | os.O_RDONLY)
    try:
        yield from _remove_in(folder, MAX_DEPTH)
    finally:
        os.close(folder)


def remove_in(folder: int) -> None:
    """Remove the leftovers that lie directly in one folder (a descriptor good for ``dir_fd``)."""
    opened = os.open(b".", FOLDER | os.O_RDONLY, dir_fd=folder)
    try:
        for _ in _remove_in(opened, 0):
            pass
    finally:
        os.close(opened)


def _remove_in(folder: int, depth: int) -> Generator[None]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield
            name = os.fsencode(entry.name)
            if is_temporary(name):
                _remove_stale(folder, name)
            elif depth and entry.is_dir(follow_symlinks=False):
                try:
                    inner = os.open(name, FOLDER | os.O_RDONLY, dir_fd=folder)
                except OSError as error:
                    if error.errno in _UNREACHABLE:
                        continue
                    raise
                try:
                    yield from _remove_in(inner, depth - 1)
                finally:
                    os.close(inner)


def _remove_stale(folder: int, name: bytes) -> None:
    try:
        file = os.open(name, os.O_WRONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in _UNREACHABLE:
            return
        raise
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return
        locked = _lock(file)
        if locked is None:
            locked = time.time() - status.st_mtime > _OLDER_THAN_ANY_CALL
        if locked:
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    finally:
        os.close(file)


def _lock(file: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
