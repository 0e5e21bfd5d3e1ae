"""Temporary files of uploads: made so that a killed agent's can be told from a living one's.

Whoever writes one holds a lock (``flock``) on it, which the kernel drops with the process. Two
agents may share a base: neither takes the other's uploads for leftovers. Those of uploads that can
be resumed are kept without a lock between the calls, for a day.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Generator
from typing import Final

from ...system import lock_alone
from .confinement import Names, is_kept, is_temporary, temporary_name
from .walk import FOLDER, NO_FOLLOW, Jail

MAX_DEPTH: Final = 64
"""Folders deeper than this are not searched for leftovers: each level holds two descriptors."""

_OLDER_THAN_ANY_CALL: Final = 90_000.0
"""Seconds: a call lasts a day at most. Decides where the file system has no locks."""

KEPT_SECONDS: Final = 86_400.0
"""How long an upload that can be resumed is kept after the last byte that came."""

Found = Callable[[Names, bytes], None]

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


def open_kept(folder: int, name: bytes, mode: int, *, create: bool) -> int:
    """The locked descriptor of an upload that can be resumed, made where it is not there.

    Raises FileNotFoundError, and OSError ``EBUSY`` where another process is writing it.
    """
    flags = os.O_RDWR | os.O_NONBLOCK | NO_FOLLOW | (os.O_CREAT if create else 0)
    while True:
        file = os.open(name, flags, mode | 0o600, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            if _lock(file) is False:
                raise OSError(errno.EBUSY, "another agent is writing this upload")
            links = os.fstat(file).st_nlink
            if links == 1:
                return file
            if links:
                # It is in its place already: the agent was killed before this name was gone.
                os.unlink(name, dir_fd=folder)
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def remove_below(jail: Jail, found: Found) -> Generator[None]:
    """Remove the leftovers below a base, yielding after each name: the work comes in portions.

    Folders that can't be entered are passed over: nothing was uploaded there by this user.

    :param found: told folder and name of each upload that is kept.
    """
    folder = jail.open_base(FOLDER | os.O_RDONLY)
    try:
        yield from _remove_in(folder, (), MAX_DEPTH, KEPT_SECONDS, found)
    finally:
        os.close(folder)


def remove_in(folder: int) -> None:
    """Remove the leftovers that lie directly in one folder (a descriptor good for ``dir_fd``).

    Uploads that are kept go too: the folder is to be removed, and with it their place.
    """
    opened = os.open(b".", FOLDER | os.O_RDONLY, dir_fd=folder)
    try:
        for _ in _remove_in(opened, (), 0, 0, lambda _folder, _name: None):
            pass
    finally:
        os.close(opened)


def _remove_in(
    folder: int, names: Names, depth: int, kept_seconds: float, found: Found
) -> Generator[None]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield
            name = os.fsencode(entry.name)
            if is_kept(name):
                if remove_kept(folder, name, kept_seconds):
                    found(names, name)
            elif is_temporary(name):
                _remove_stale(folder, name)
            elif depth and entry.is_dir(follow_symlinks=False):
                try:
                    inner = os.open(name, FOLDER | os.O_RDONLY, dir_fd=folder)
                except OSError as error:
                    if error.errno in _UNREACHABLE:
                        continue
                    raise
                try:
                    yield from _remove_in(inner, (*names, name), depth - 1, kept_seconds, found)
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


def remove_kept(folder: int, name: bytes, seconds: float = 0) -> bool:
    """Remove an upload that nobody writes and nothing came to for so long; whether it is there."""
    try:
        file = os.open(name, os.O_WRONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in _UNREACHABLE:
            return False
        raise
    try:
        if _lock(file) is False:
            return True
        status = os.fstat(file)
        if status.st_nlink == 1 and time.time() - status.st_mtime < seconds:
            return True
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    finally:
        os.close(file)
    return False


def _lock(file: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    try:
        lock_alone(file)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
