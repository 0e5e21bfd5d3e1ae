"""The jail: from names to an open folder, component by component, never by a string.

Each component is opened relative to the folder opened before it and never through a symbolic link;
links are read and walked by us. So whatever is swapped for a link while we walk, an open either
finds a folder of that very place or fails: there is no moment between a check and a use. ``..``
exists only inside links and is answered by walking anew from the base.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .confinement import Names, is_temporary
from .filesystem import BaseUnavailable, LeavesBase

MAX_LINKS: Final = 40
MAX_STEPS: Final = 20_000
"""Opens in one walk: bounds what links with many ``..`` can cost. A plain path has far fewer."""

NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | NO_FOLLOW
SEARCH: Final = FOLDER | getattr(os, "O_PATH", 0)
"""Flags that open a folder to walk through: with O_PATH its search permission is enough."""

_RELATIVE: Final = os.open in os.supports_dir_fd

SWAPPED: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})
"""What opening a link with O_NOFOLLOW fails with, on one system or another."""


class Place:
    """Where a walk has ended: an open folder and a name in it. Close it, or use it in ``with``.

    :ivar folder: descriptor of the folder, good for ``dir_fd`` only.
    :ivar name: the last name; ``.`` for the base itself.
    :ivar names: the whole path with links followed.
    :ivar status: of what the name stands for, not following a link; None where there is nothing.
    """

    def __init__(self, folder: int, names: Names, status: os.stat_result | None) -> None:
        self.folder = folder
        self.names = names
        self.name = names[-1] if names else b"."
        self.status = status

    def require(self) -> os.stat_result:
        """The status. Raises FileNotFoundError where there is nothing."""
        if self.status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.status

    def close(self) -> None:
        """Idempotent."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Jail:
    """Walks below one base folder. The base is opened anew for each walk, so it may come and go."""

    def __init__(self, base: Path) -> None:
        self.base = os.fsencode(base.absolute())

    def open_base(self, flags: int = SEARCH) -> int:
        """A descriptor of the base. Raises :class:`BaseUnavailable`.

        The base itself may be a link: it is the customer's own word.
        """
        try:
            if not _RELATIVE:
                raise OSError(errno.ENOSYS, "this system can't open files relative to a folder")
            return os.open(self.base, flags & ~getattr(os, "O_NOFOLLOW", 0))
        except OSError as error:
            raise BaseUnavailable(error) from error

    def place(self, path: Names, *, follow: bool = True) -> Place:
        """Walk. The last name need not exist; ``follow`` says whether a link there is followed.

        Raises :class:`LeavesBase`, and OSError as the system says: a component that is missing,
        no folder (ENOTDIR), not to be searched (EACCES), or too many links (ELOOP).
        """
        walk = _Walk(self, path)
        try:
            return walk.run(follow)
        except BaseException:
            os.close(walk.folder)
            raise

    def below_base(self, target: bytes) -> list[bytes]:
        """The components of an absolute link target below the base. Raises :class:`LeavesBase`."""
        components = _components(target)
        for base in (self.base, os.path.realpath(self.base)):
            beginning = _components(base)
            if components[: len(beginning)] == beginning:
                return components[len(beginning) :]
        raise LeavesBase


class _Walk:
    def __init__(self, jail: Jail, path: Names) -> None:
        self.jail = jail
        self.ahead = deque(path)
        self.behind: list[bytes] = []
        self.links = 0
        self.steps = 0
        self.folder = jail.open_base()

    def run(self, follow: bool) -> Place:
        while self.ahead:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            name = self.ahead.popleft()
            if name == b"..":
                self._up()
            elif self.ahead:
                self._enter(name)
            else:
                status = self._status(name)
                if status is None or not (follow and stat.S_ISLNK(status.st_mode)):
                    return Place(self.folder, (*self.behind, name), status)
                self._link(name)
        return Place(self.folder, (), os.fstat(self.folder))

    def _status(self, name: bytes) -> os.stat_result | None:
        if is_temporary(name):
            return None
        try:
            return os.stat(name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _enter(self, name: bytes) -> None:
        try:
            inner = os.open(name, SEARCH, dir_fd=self.folder)
        except OSError as error:
            if error.errno not in SWAPPED:
                raise
            self._link(name)
        else:
            os.close(self.folder)
            self.folder = inner
            self.behind.append(name)

    def _link(self, name: bytes) -> None:
        self.links += 1
        if self.links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        try:
            target = os.readlink(name, dir_fd=self.folder)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
            raise
        if target.startswith(b"/"):
            components = self.jail.below_base(target)
            self._restart()
        else:
            components = _components(target)
        self.ahead.extendleft(reversed(components))

    def _up(self) -> None:
        if not self.behind:
            raise LeavesBase
        parents = self.behind[:-1]
        self._restart()
        self.ahead.extendleft(reversed(parents))

    def _restart(self) -> None:
        base = self.jail.open_base()
        os.close(self.folder)
        self.folder = base
        self.behind = []


def _components(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]
