"""Uploads that are kept between calls, on a POSIX system: where they lie and how many they are."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from attrs import define, field

from .confinement import Names, kept_name
from .filesystem import BaseUnavailable, LeavesBase, TooManyKept
from .leftovers import KEPT_SECONDS, remove_kept
from .walk import NO_FOLLOW, Jail, Place

MAX_KEPT: Final = 256
"""Uploads that one profile keeps at a time."""


@define
class KeptUploads:
    """What is known of those below one base: begun by this process, or found by the search."""

    _jail: Jail
    _folders: dict[bytes, Names] = field(factory=dict)

    def admit(self, place: Place, key: bytes) -> bytes:
        """The hidden name for a place. Raises TooManyKept where it would be one too many."""
        name = _name(place, key)
        if name not in self._folders and len(self._folders) >= MAX_KEPT:
            self.expire()
            if len(self._folders) >= MAX_KEPT:
                raise TooManyKept
        return name

    def add(self, folder: Names, name: bytes) -> None:
        """There is one of that name in that folder."""
        self._folders[name] = folder

    def forget(self, name: bytes) -> None:
        """There is none of that name any more."""
        self._folders.pop(name, None)

    def size(self, place: Place, key: bytes) -> int:
        """Bytes of it, made durable before they are told. Raises FileNotFoundError."""
        name = _name(place, key)
        file = os.open(name, os.O_WRONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=place.folder)
        try:
            os.fsync(file)
            status = os.fstat(file)
            if status.st_nlink != 1:  # in its place, and the agent killed before this name was gone
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return status.st_size
        finally:
            os.close(file)

    def drop(self, place: Place, key: bytes) -> None:
        """Remove it. Raises FileNotFoundError."""
        name = _name(place, key)
        os.stat(name, dir_fd=place.folder, follow_symlinks=False)
        if remove_kept(place.folder, name):
            raise OSError(errno.EBUSY, "another agent is writing this upload")
        self.forget(name)

    def expire(self) -> None:
        """Remove those that nothing came to for a day, and forget those that are gone."""
        for name, folder in list(self._folders.items()):
            there = False
            with (
                contextlib.suppress(OSError, LeavesBase, BaseUnavailable),
                self._jail.place((*folder, name)) as place,
            ):
                there = remove_kept(place.folder, name, KEPT_SECONDS)
            if not there:
                self.forget(name)


def _name(place: Place, key: bytes) -> bytes:
    if not place.names:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    return kept_name(key, place.names)
