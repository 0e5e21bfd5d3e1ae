"""Changes of the tree on a POSIX system: folders made, moved and removed, files made longer."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from threading import Event
from typing import Final

from .confinement import Names
from .filesystem import Facts, Found, Kind, NotRegular, OpenFile, Stopped
from .leftovers import remove_in
from .walk import FOLDER, NO_FOLLOW, Jail, Place

MAX_DEPTH: Final = 256
"""Folders within one another that are removed at once: each level holds two descriptors."""

_APPEND: Final = os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | NO_FOLLOW
_FOLDER_MODE: Final = 0o777
_FILE_MODE: Final = 0o666
_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_CANNOT_LINK: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
)


def facts_of(status: os.stat_result, created: int | None = None) -> Facts:
    """What a stat call tells."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        kind = Kind.FILE
    elif stat.S_ISDIR(mode):
        kind = Kind.FOLDER
    else:
        kind = Kind.LINK if stat.S_ISLNK(mode) else Kind.SPECIAL
    size = status.st_size if kind is Kind.FILE else 0
    return Facts(kind, size, status.st_mtime_ns, status.st_ino, created, changed=status.st_ctime_ns)


def require_file(facts: Facts) -> None:
    """Raises where it is no regular file."""
    if facts.kind is Kind.FOLDER:
        raise _failure(errno.EISDIR)
    if facts.kind is not Kind.FILE:
        raise NotRegular


def sync_folder(place: Place, file: int | None = None) -> None:
    """Make a change of names durable.

    A folder that may be written but not read can't be opened for that; then the file itself is
    synced again, which on the journaling file systems takes its name along.
    """
    try:
        folder = os.open(b".", FOLDER | os.O_RDONLY, dir_fd=place.folder)
    except PermissionError:
        if file is not None:
            os.fsync(file)
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(folder)


def link_into(folder: int, source: bytes, target: Place) -> bool:
    """Move a file to an empty place, never replacing what appears there. False: rename it."""
    try:
        os.link(
            source,
            target.name,
            src_dir_fd=folder,
            dst_dir_fd=target.folder,
            follow_symlinks=False,
        )
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    os.unlink(source, dir_fd=folder)
    return True


def remove_folder(place: Place) -> None:
    """Remove an empty folder; leftovers of uploads in it don't count."""
    try:
        os.rmdir(place.name, dir_fd=place.folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        inner = os.open(place.name, FOLDER | os.O_RDONLY, dir_fd=place.folder)
        try:
            remove_in(inner)
        finally:
            os.close(inner)
        os.rmdir(place.name, dir_fd=place.folder)


def make_folder(jail: Jail, path: Names) -> bool:
    """See :meth:`.filesystem.Filesystem.make_folder`."""
    with jail.place(path) as place:
        if place.status is None:
            try:
                os.mkdir(place.name, _FOLDER_MODE, dir_fd=place.folder)
            except FileExistsError:
                status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            else:
                sync_folder(place)
                return True
        else:
            status = place.status
        if not stat.S_ISDIR(status.st_mode):
            raise _failure(errno.EEXIST)
        return False


def move(
    jail: Jail, source: Names, target: Names, approve: Callable[[Found, Found | None], None]
) -> Facts:
    """See :meth:`.filesystem.Filesystem.move`. Called with the file system's turn held."""
    with (
        jail.place(source, follow=False) as old,
        jail.place(target, follow=False) as new,
    ):
        if not (old.names and new.names):
            raise _failure(errno.EBUSY)
        moved = facts_of(old.require())
        there = None if new.status is None else facts_of(new.status)
        if moved.kind is Kind.SPECIAL:
            raise NotRegular
        approve(Found(old.names, moved), None if there is None else Found(new.names, there))
        if there is None:
            if moved.kind is not Kind.FILE or not link_into(old.folder, old.name, new):
                _require_empty(new)
                _rename(old, new)
        elif moved.kind is there.kind is Kind.FILE:
            _rename(old, new)
        else:
            raise _failure(errno.EEXIST)
        sync_folder(new)
        if old.names[:-1] != new.names[:-1]:
            sync_folder(old)
        status = os.stat(new.name, dir_fd=new.folder, follow_symlinks=False)
        return facts_of(status)


def _require_empty(place: Place) -> None:
    """A rename would replace an empty folder, or a file that came meanwhile."""
    try:
        os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise _failure(errno.EEXIST)


def _rename(old: Place, new: Place) -> None:
    os.rename(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)


def remove_tree(folder: int, name: bytes, stop: Event, depth: int = MAX_DEPTH) -> None:
    """Remove what has that name in a folder, and all below it. Raises Stopped."""
    if not depth:
        raise _failure(errno.ELOOP)
    try:
        inner = os.open(name, FOLDER | os.O_RDONLY, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
            raise
        os.unlink(name, dir_fd=folder)
        return
    try:
        with os.scandir(inner) as entries:
            for entry in entries:
                if stop.is_set():
                    raise Stopped
                inside = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(inner, inside, stop, depth - 1)
                else:
                    os.unlink(inside, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def append(
    place: Place,
    compose: Callable[[OpenFile | None], Iterable[bytes]],
    approve: Callable[[Names, Facts | None], None],
    opened: Callable[[int, Names], OpenFile],
) -> tuple[Facts, bool]:
    """See :meth:`.filesystem.Filesystem.append`. Called with the file system's turn held.

    :param opened: makes a file of a descriptor, which it takes over.
    """
    new = place.status is None
    if place.status is not None:
        require_file(facts := facts_of(place.status))
        approve(place.names, facts)
        file = os.open(place.name, _APPEND, dir_fd=place.folder)
    else:
        approve(place.names, None)
        flags = _APPEND | os.O_CREAT | os.O_EXCL
        file = os.open(place.name, flags, _FILE_MODE, dir_fd=place.folder)
    whole = False
    before: int | None = None
    try:
        status = os.fstat(file)
        require_file(facts_of(status))
        before = status.st_size
        existing = None if new else opened(os.dup(file), place.names)
        try:
            for block in compose(existing):
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(file, rest) :]
        finally:
            if existing is not None:
                existing.close()
        os.fsync(file)
        after = facts_of(os.fstat(file))
        whole = True
    finally:
        try:
            if not whole and before is not None:
                os.ftruncate(file, before)
            if not whole and new:
                os.unlink(place.name, dir_fd=place.folder)
        finally:
            os.close(file)
    if new:
        sync_folder(place)
    return after, new


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
