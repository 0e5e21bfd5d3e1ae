"""Linux tells when something happens in a folder: ``inotify(7)``, which Python lacks.

Used only to look sooner. What has changed is seen by looking, so nothing is lost when the kernel's
queue overflows, and a file system that tells nothing (as a remote one) is only slower.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from .filesystem import OpenFolder

MAX_FOLDERS: Final = 4096
"""Folders that one watch has the kernel observe; a larger tree is only polled."""

_MASK: Final = (
    0x002  # IN_MODIFY
    | 0x004  # IN_ATTRIB
    | 0x008  # IN_CLOSE_WRITE
    | 0x080  # IN_MOVED_TO
    | 0x100  # IN_CREATE
    | 0x01000000  # IN_ONLYDIR
    | 0x04000000  # IN_EXCL_UNLINK
)
_BUFFER: Final = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Inotify:
    """One queue of the kernel. Close it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._folders: set[int] = set()

    @classmethod
    def open(cls) -> Inotify | None:
        """None where the system has none, or has given out as many as it may."""
        if _libc is None or not hasattr(_libc, "inotify_init1"):
            return None
        descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return None if descriptor < 0 else cls(descriptor)

    def fileno(self) -> int:
        """For a reactor."""
        return self._descriptor

    def add(self, folder: OpenFolder) -> bool:
        """Observe a folder, again too; False where that is one too many.

        The folder is named by its descriptor: no path is walked that could lead elsewhere.
        """
        if _libc is None or folder.descriptor is None:
            return False
        path = b"/proc/self/fd/%d" % folder.descriptor
        watch: int = _libc.inotify_add_watch(self._descriptor, path, _MASK)
        if watch < 0 or len(self._folders) >= MAX_FOLDERS:
            return False
        self._folders.add(watch)
        return True

    def clear(self) -> None:
        """Take what the kernel has told so far."""
        try:
            while os.read(self._descriptor, _BUFFER):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
