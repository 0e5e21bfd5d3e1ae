"""What the service asks of a file system, and what it is told.

Every call blocks and belongs in a thread. Paths are names below the base; symbolic links are
followed as long as they stay below it. Failures are ``OSError`` with the system's errno, or one of
the exceptions here. Implementations: ``posix.LocalFilesystem`` and ``memory.InMemoryFilesystem``,
held to the same contract by one test suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from threading import Event
from typing import Protocol

from attrs import frozen

from .conditions import Validators
from .confinement import Names


class Kind(StrEnum):
    """What a name stands for. ``LINK`` is seen only where a link was not, or can't be, followed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    SPECIAL = "special"


class LeavesBase(Exception):
    """A symbolic link on the way leads out of the base."""


class NotRegular(Exception):
    """A FIFO, a socket or a device, which is never opened."""


class Stopped(Exception):
    """The caller no longer wants what was under way; a part of it may have been done."""


class OffsetBeyond(Exception):
    """An upload is to go on behind what has arrived of it.

    :ivar size: what has arrived, in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(str(size))
        self.size = size


class TooManyKept(Exception):
    """More uploads would be kept for their callers to go on with than one profile may keep."""


class BaseUnavailable(Exception):
    """The base folder itself can't be opened.

    :ivar error: why.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@frozen
class Facts:
    """What is known of a file or folder.

    :ivar size: bytes; 0 for what is no file.
    :ivar modified: nanoseconds since 1970.
    :ivar created: likewise; None where the file system does not tell.
    :ivar changed: likewise, of the last change to content, name or rights (``ctime``).
    """

    kind: Kind
    size: int
    modified: int
    inode: int
    created: int | None = None
    changed: int = 0

    @property
    def etag(self) -> str | None:
        """A strong entity tag, quoted. Only files have one.

        Replacing a file changes its inode, writing into it its time of change and mostly its size.
        """
        if self.kind is not Kind.FILE:
            return None
        return f'"{self.inode:x}-{self.size:x}-{self.modified:x}"'

    @property
    def validators(self) -> Validators:
        """For preconditions."""
        return Validators(self.etag, self.modified // 1_000_000_000)


@frozen
class Found:
    """What a path leads to.

    :ivar names: where it really lies, with every link followed.
    """

    names: Names
    facts: Facts


@frozen
class BaseFacts:
    """The base folder, for the profile's test. ``free``: bytes that this user may still write."""

    target: str
    readable: bool
    writable: bool
    free: int


class OpenFile(Protocol):
    """A file opened for reading, which keeps its content even when it is replaced meanwhile."""

    found: Found

    def read(self, offset: int, size: int) -> bytes:
        """That many bytes, fewer only where the file ends."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class OpenFolder(Protocol):
    """A folder opened for reading.

    :ivar descriptor: for the system's notifications; None where there are none.
    """

    found: Found

    @property
    def descriptor(self) -> int | None: ...

    def names(self) -> Iterator[tuple[bytes, Kind]]:
        """Every name, in no order, links not followed, uploads under way left out."""
        ...

    def facts(self, name: bytes, *, with_created: bool = True) -> Facts:
        """Of one name in it, a link not followed; sooner without the time of its making."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Notifications(Protocol):
    """Where a system tells that something has happened in folders."""

    def fileno(self) -> int:
        """Readable when there is something to tell."""
        ...

    def add(self, folder: OpenFolder) -> bool:
        """Tell of that folder too; False where that is one too many."""
        ...

    def clear(self) -> None:
        """Forget what has happened so far."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class PendingFile(Protocol):
    """A file that is being written out of sight. It ends with ``commit`` or ``discard``."""

    names: Names
    existing: Facts | None

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append all of them."""
        ...

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """Make the content durable and put it in its place, whole or not at all.

        :param approve: told what is there now, as the last step before; raises to prevent it.
            No other commit or removal through this file system comes between the two.

        Returns what is there after it, and whether it is new.
        """
        ...

    def discard(self) -> None:
        """Leave no trace, unless it has been committed. Idempotent."""
        ...


class KeptFile(PendingFile, Protocol):
    """One that can be written in several calls. ``keep`` ends a call without ending the file."""

    def read(self, offset: int, size: int) -> bytes:
        """What has been written, by earlier calls too; empty at the end, else at least a byte."""
        ...

    def keep(self) -> int:
        """Make what has been written durable and leave it for a later call; its size.

        After ``commit``, ``discard`` or ``keep`` it does nothing.
        """
        ...


class Filesystem(Protocol):
    """A tree of files below a base. May be used by several threads at once."""

    def check(self) -> BaseFacts:
        """Look at the base. Raises :class:`BaseUnavailable`."""
        ...

    def stat(self, path: Names) -> Found:
        """What is at a path. Raises also for links that lead nowhere."""
        ...

    def open_file(self, path: Names) -> OpenFile:
        """Open a regular file; a folder is ``EISDIR``, anything else :class:`NotRegular`."""
        ...

    def open_folder(self, path: Names) -> OpenFolder:
        """Open a folder; anything else is ``ENOTDIR``."""
        ...

    def notifications(self) -> Notifications | None:
        """None where the system has none, or no more of them."""
        ...

    def begin_file(self, path: Names) -> PendingFile:
        """Begin a file, new or instead of the one there. Its folder must exist."""
        ...

    def resume_file(self, path: Names, key: bytes, offset: int) -> KeptFile:
        """Go on with a file that was begun with the same key, or begin it (``offset`` 0).

        :param offset: what has arrived behind it is dropped.

        Raises :class:`OffsetBeyond`, :class:`TooManyKept`; ``EBUSY`` where another process is
        writing it.
        """
        ...

    def kept_size(self, path: Names, key: bytes) -> int:
        """What has arrived, durably, of a file that can be resumed; ``ENOENT`` for none."""
        ...

    def drop_kept(self, path: Names, key: bytes) -> None:
        """Remove a file that could be resumed; ``ENOENT`` for none."""
        ...

    def expire_kept(self) -> None:
        """Remove those files that could be resumed and that nothing came to for a day."""
        ...

    def remove(self, path: Names, approve: Callable[[Found], None]) -> None:
        """Remove a file, an empty folder, or a link (itself, not what it leads to), for good.

        :param approve: told what it is, as the last step before; raises to prevent it.
        """
        ...

    def remove_tree(self, path: Names, approve: Callable[[Found], None], stop: Event) -> None:
        """Remove a folder with all that is in it, links themselves and not what they lead to.

        Anything else is removed as by :meth:`remove`. What ends it early (``stop``, an error)
        leaves the rest as it was.
        """
        ...

    def make_folder(self, path: Names) -> bool:
        """Make a folder in one that exists; False where it is there. ``EEXIST`` for a file."""
        ...

    def move(
        self, source: Names, target: Names, approve: Callable[[Found, Found | None], None]
    ) -> Facts:
        """Give a file, folder or link (itself) another place, in one step; what is there after it.

        :param approve: told what is moved and what is in the place, as the last step before;
            raises to prevent it. A file takes the place of a file only: else ``EEXIST``.
        """
        ...

    def append(
        self,
        path: Names,
        compose: Callable[[OpenFile | None], Iterable[bytes]],
        approve: Callable[[Names, Facts | None], None],
    ) -> tuple[Facts, bool]:
        """Write at the end of a file, or into a new one, and make it durable.

        :param compose: given the file as it is, None for a new one, makes what is to be appended.
            No other change through this file system comes between the two.
        :param approve: told where the file lies, links followed, and what it is (None for a new
            one) before it is opened for writing; raises to prevent it.

        What fails leaves the file as it was. Returns what is there after it, and whether it is new.
        """
        ...

    def remove_leftovers(self, seconds: float) -> bool:
        """Remove what uploads of a killed agent have left, for about that long at a time.

        Returns whether all has been seen to. Called again, it goes on where it was.
        """
        ...

    def close(self) -> None:
        """Let go of what ``remove_leftovers`` holds."""
        ...
