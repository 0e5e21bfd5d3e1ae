"""Files of a POSIX system below one folder, reached only through :mod:`.walk`."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from . import posix_changes as changes
from .birthtime import created_ns
from .confinement import Names, is_temporary
from .filesystem import (
    BaseFacts,
    BaseUnavailable,
    Facts,
    Found,
    Kind,
    NotRegular,
    OpenFile,
    OpenFolder,
)
from .inotify import Inotify
from .kept import KeptUploads
from .leftovers import remove_below
from .posix_changes import facts_of, remove_folder, require_file, sync_folder
from .posix_pending import LocalKeptFile, LocalPendingFile
from .walk import FOLDER, NO_FOLLOW, SWAPPED, Jail

_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | NO_FOLLOW
_RETRIES: Final = 8
"""How often a file is looked up anew when it was swapped for a link just before its opening."""

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_SEQUENTIAL_FROM: Final = 1024 * 1024


class LocalFilesystem:
    """A folder of this machine. Implements :class:`.filesystem.Filesystem`."""

    def __init__(self, base: Path) -> None:
        self._jail = Jail(base)
        # Between looking at a file and replacing it no other call of ours may come.
        self._turn = threading.Lock()
        self._search: Generator[None] | None = None
        self._kept = KeptUploads(self._jail)

    def check(self) -> BaseFacts:
        """Look at the base. Raises BaseUnavailable."""
        folder = self._jail.open_base()
        try:
            space = os.statvfs(folder)
            return BaseFacts(
                target=os.fsdecode(self._jail.base),
                readable=os.access(b".", os.R_OK | os.X_OK, dir_fd=folder, effective_ids=True),
                writable=os.access(b".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True),
                free=space.f_bavail * space.f_frsize,
            )
        except OSError as error:
            raise BaseUnavailable(error) from error
        finally:
            os.close(folder)

    def stat(self, path: Names) -> Found:
        """What is at a path, links followed."""
        with self._jail.place(path) as place:
            status = place.require()
            created = created_ns(place.folder, place.name, status)
            return Found(place.names, facts_of(status, created))

    def open_file(self, path: Names) -> LocalFile:
        """Open a regular file without ever waiting for a FIFO or waking a device."""
        for attempt in range(_RETRIES):
            with self._jail.place(path) as place:
                require_file(facts_of(place.require()))
                try:
                    file = os.open(place.name, _READ, dir_fd=place.folder)
                except OSError as error:
                    if error.errno in SWAPPED and attempt + 1 < _RETRIES:
                        continue
                    raise
                return LocalFile(file, place.names)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def open_folder(self, path: Names) -> OpenFolder:
        """Open a folder to read its names."""
        with self._jail.place(path) as place:
            place.require()
            folder = os.open(place.name, FOLDER | os.O_RDONLY, dir_fd=place.folder)
            return LocalFolder(folder, place.names)

    def notifications(self) -> Inotify | None:
        """Linux's; other systems have none here."""
        return Inotify.open()

    def begin_file(self, path: Names) -> LocalPendingFile:
        """Make a hidden file beside the one that it is to become."""
        place = self._jail.place(path)
        try:
            return LocalPendingFile(place, self._turn)
        except BaseException:
            place.close()
            raise

    def resume_file(self, path: Names, key: bytes, offset: int) -> LocalKeptFile:
        """Go on with a hidden file beside the one that it is to become."""
        place = self._jail.place(path)
        try:
            name = self._kept.admit(place, key)
            forget = partial(self._kept.forget, name)
            kept = LocalKeptFile(place, self._turn, name, offset, forget)
            self._kept.add(place.names[:-1], name)
        except BaseException:
            place.close()
            raise
        return kept

    def kept_size(self, path: Names, key: bytes) -> int:
        """What has arrived of an upload, made durable."""
        with self._jail.place(path) as place:
            return self._kept.size(place, key)

    def drop_kept(self, path: Names, key: bytes) -> None:
        """Remove an upload that is kept."""
        with self._jail.place(path) as place:
            self._kept.drop(place, key)

    def expire_kept(self) -> None:
        """Remove the uploads that nothing came to for a day."""
        self._kept.expire()

    def remove(self, path: Names, approve: Callable[[Found], None]) -> None:
        """Remove a file, an empty folder or a link."""
        with self._jail.place(path, follow=False) as place:
            place.require()
            with self._turn:
                status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
                facts = facts_of(status)
                if facts.kind is Kind.SPECIAL:
                    raise NotRegular
                approve(Found(place.names, facts))
                if facts.kind is Kind.FOLDER:
                    remove_folder(place)
                else:
                    os.unlink(place.name, dir_fd=place.folder)
            sync_folder(place)

    def remove_tree(self, path: Names, approve: Callable[[Found], None], stop: Event) -> None:
        """Remove a folder with all that is in it."""
        with self._jail.place(path, follow=False) as place:
            facts = facts_of(place.require())
            if not place.names:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            if facts.kind is Kind.SPECIAL:
                raise NotRegular
            approve(Found(place.names, facts))
            changes.remove_tree(place.folder, place.name, stop)
            sync_folder(place)

    def make_folder(self, path: Names) -> bool:
        """Make one folder; False where it is there."""
        return changes.make_folder(self._jail, path)

    def move(
        self, source: Names, target: Names, approve: Callable[[Found, Found | None], None]
    ) -> Facts:
        """Give something another place."""
        with self._turn:
            return changes.move(self._jail, source, target, approve)

    def append(
        self,
        path: Names,
        compose: Callable[[OpenFile | None], Iterable[bytes]],
        approve: Callable[[Names, Facts | None], None],
    ) -> tuple[Facts, bool]:
        """Write at the end of a file."""
        with self._turn, self._jail.place(path) as place:
            return changes.append(place, compose, approve, LocalFile)

    def remove_leftovers(self, seconds: float) -> bool:
        """Search the whole tree, some time at a time. Raises BaseUnavailable."""
        end = time.monotonic() + seconds
        if self._search is None:
            self._search = remove_below(self._jail, self._kept.add)
        for _ in self._search:
            if time.monotonic() > end:
                return False
        self._search = None
        return True

    def close(self) -> None:
        """Close the folders that a search still holds."""
        if self._search is not None:
            self._search.close()
            self._search = None


class LocalFile:
    """A file opened for reading."""

    def __init__(self, file: int, names: Names) -> None:
        self._file = file
        try:
            facts = facts_of(os.fstat(file))
            require_file(facts)
            if facts.size > _SEQUENTIAL_FROM and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            self.close()
            raise
        self.found = Found(names, facts)

    def read(self, offset: int, size: int) -> bytes:
        """That many bytes, fewer only where the file ends."""
        block = os.pread(self._file, size, offset)
        if len(block) in (size, 0):
            return block
        parts = [block]
        taken = len(block)
        while taken < size and (block := os.pread(self._file, size - taken, offset + taken)):
            parts.append(block)
            taken += len(block)
        return b"".join(parts)

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)


class LocalFolder:
    """A folder opened for reading."""

    def __init__(self, folder: int, names: Names) -> None:
        self._folder = folder
        try:
            self.found = Found(names, facts_of(os.fstat(folder)))
        except BaseException:
            self.close()
            raise

    def names(self) -> Iterator[tuple[bytes, Kind]]:
        """Every name but those of uploads under way."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, _ERRORS)
                if entry.is_symlink():
                    yield name, Kind.LINK
                elif entry.is_dir(follow_symlinks=False):
                    yield name, Kind.FOLDER
                elif not entry.is_file(follow_symlinks=False):
                    yield name, Kind.SPECIAL
                elif not is_temporary(name):
                    yield name, Kind.FILE

    @property
    def descriptor(self) -> int | None:
        """The open folder."""
        return self._folder

    def facts(self, name: bytes, *, with_created: bool = True) -> Facts:
        """Of one name in it, a link not followed."""
        status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        created = created_ns(self._folder, name, status) if with_created else None
        return facts_of(status, created)

    def close(self) -> None:
        """Idempotent."""
        if self._folder >= 0:
            folder, self._folder = self._folder, -1
            os.close(folder)
