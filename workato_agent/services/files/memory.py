"""A file system in memory: what tests of the files service run on instead of a disk.

It passes the contract suite that the real one passes, links and their limits included.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Final

from attrs import define

from .confinement import Names
from .filesystem import (
    BaseFacts,
    Facts,
    Found,
    Kind,
    LeavesBase,
    NotRegular,
    OffsetBeyond,
    OpenFile,
    TooManyKept,
)
from .memory_files import MemoryFile, MemoryFolder, Node, failure, require_file

_MAX_NAME: Final = 255
_MAX_LINKS: Final = 40
MAX_KEPT: Final = 256
_START: Final = 1_700_000_000_000_000_000
_TICK: Final = 1_000_000_000


@define
class _Spot:
    """A folder and a name in it that may or may not exist; the base itself has no name."""

    names: Names
    folder: Node
    node: Node | None

    def require(self) -> Node:
        if self.node is None:
            raise failure(errno.ENOENT)
        return self.node


class InMemoryFilesystem:
    """Implements :class:`.filesystem.Filesystem`. Time goes on by a second at each change.

    :ivar base: the path that absolute link targets may begin with.
    """

    def __init__(self, base: bytes = b"/base") -> None:
        self.base = base
        self._inodes = itertools.count(1)
        self._clock = itertools.count(_START, _TICK)
        self._turn = threading.RLock()
        self._root = self._node(Kind.FOLDER)
        self._kept: dict[tuple[bytes, Names], bytearray] = {}

    def add(self, path: Names, kind: Kind, value: bytes = b"") -> None:
        """Put something in place as if from outside: ``value`` is a content or a link's target."""
        with self._turn:
            spot = self._spot(path, follow=False)
            node = self._node(kind)
            if kind is Kind.LINK:
                node.target = value
            else:
                node.content = value
            spot.folder.children[spot.names[-1]] = node

    def truncate(self, path: Names, size: int) -> None:
        """Cut a file short in place."""
        with self._turn:
            node = self._spot(path).require()
            node.content = node.content[:size]
            node.modified = node.changed = next(self._clock)

    def check(self) -> BaseFacts:
        """There is always a base, and always room."""
        return BaseFacts(os.fsdecode(self.base), readable=True, writable=True, free=1 << 40)

    def stat(self, path: Names) -> Found:
        """What is at a path, links followed."""
        with self._turn:
            spot = self._spot(path)
            return Found(spot.names, spot.require().facts())

    def open_file(self, path: Names) -> MemoryFile:
        """Open a regular file."""
        with self._turn:
            spot = self._spot(path)
            require_file(node := spot.require())
            return MemoryFile(Found(spot.names, node.facts()), node)

    def open_folder(self, path: Names) -> MemoryFolder:
        """Open a folder."""
        with self._turn:
            spot = self._spot(path)
            node = spot.require()
            if node.kind is not Kind.FOLDER:
                raise failure(errno.ENOTDIR)
            return MemoryFolder(Found(spot.names, node.facts()), node)

    def notifications(self) -> None:
        """Nothing is told here."""

    def begin_file(self, path: Names) -> MemoryPendingFile:
        """Begin a file; nothing shows until its commit."""
        with self._turn:
            spot = self._spot(path)
            if spot.node is not None:
                require_file(spot.node)
            return MemoryPendingFile(self, spot)

    def resume_file(self, path: Names, key: bytes, offset: int) -> MemoryKeptFile:
        """Go on with a file."""
        with self._turn:
            spot = self._spot(path)
            if spot.node is not None:
                require_file(spot.node)
            content = self._kept.get((key, spot.names), bytearray())
            if offset > len(content):
                raise OffsetBeyond(len(content))
            if (key, spot.names) not in self._kept and len(self._kept) >= MAX_KEPT:
                raise TooManyKept
            self._kept[key, spot.names] = content
            del content[offset:]

            def forget() -> None:
                self._kept.pop((key, spot.names), None)

            return MemoryKeptFile(self, spot, content, forget)

    def kept_size(self, path: Names, key: bytes) -> int:
        """What has arrived of an upload."""
        with self._turn:
            content = self._kept.get((key, self._spot(path).names))
            if content is None:
                raise failure(errno.ENOENT)
            return len(content)

    def drop_kept(self, path: Names, key: bytes) -> None:
        """Remove an upload."""
        with self._turn:
            if self._kept.pop((key, self._spot(path).names), None) is None:
                raise failure(errno.ENOENT)

    def expire_kept(self) -> None:
        """Time stands still here while nothing changes."""

    def remove(self, path: Names, approve: Callable[[Found], None]) -> None:
        """Remove a file, an empty folder or a link."""
        with self._turn:
            spot = self._spot(path, follow=False)
            node = spot.require()
            if node.kind is Kind.SPECIAL:
                raise NotRegular
            approve(Found(spot.names, node.facts()))
            if not spot.names:
                raise failure(errno.EBUSY)
            if node.children:
                raise failure(errno.ENOTEMPTY)
            self._take_out(spot)

    def remove_tree(self, path: Names, approve: Callable[[Found], None], stop: Event) -> None:
        """Remove a folder with all that is in it, at once."""
        with self._turn:
            spot = self._spot(path, follow=False)
            node = spot.require()
            if not spot.names:
                raise failure(errno.EBUSY)
            if node.kind is Kind.SPECIAL:
                raise NotRegular
            approve(Found(spot.names, node.facts()))
            self._take_out(spot)

    def make_folder(self, path: Names) -> bool:
        """Make one folder; False where it is there."""
        with self._turn:
            spot = self._spot(path)
            if spot.node is None:
                self._put(spot, self._node(Kind.FOLDER))
                return True
            if spot.node.kind is not Kind.FOLDER:
                raise failure(errno.EEXIST)
            return False

    def move(
        self, source: Names, target: Names, approve: Callable[[Found, Found | None], None]
    ) -> Facts:
        """Give something another place."""
        with self._turn:
            old = self._spot(source, follow=False)
            new = self._spot(target, follow=False)
            if not (old.names and new.names):
                raise failure(errno.EBUSY)
            node, there = old.require(), new.node
            if node.kind is Kind.SPECIAL:
                raise NotRegular
            approve(
                Found(old.names, node.facts()),
                None if there is None else Found(new.names, there.facts()),
            )
            if there is not None and not (node.kind is there.kind is Kind.FILE):
                raise failure(errno.EEXIST)
            if node.kind is Kind.FOLDER and new.names[: len(old.names)] == old.names:
                raise failure(errno.EINVAL)
            self._take_out(old)
            self._put(new, node)
            node.changed = next(self._clock)
            return node.facts()

    def append(
        self,
        path: Names,
        compose: Callable[[OpenFile | None], Iterable[bytes]],
        approve: Callable[[Names, Facts | None], None],
    ) -> tuple[Facts, bool]:
        """Write at the end of a file."""
        with self._turn:
            spot = self._spot(path)
            node = spot.node
            if node is None:
                approve(spot.names, None)
                node = self._node(Kind.FILE)
                node.content = b"".join(compose(None))
                self._put(spot, node)
                return node.facts(), True
            require_file(node)
            found = Found(spot.names, node.facts())
            approve(spot.names, found.facts)
            node.content += b"".join(compose(MemoryFile(found, node)))
            node.modified = node.changed = next(self._clock)
            return node.facts(), False

    def remove_leftovers(self, seconds: float) -> bool:
        """Nothing outlives its process here."""
        return True

    def close(self) -> None:
        """Nothing is held."""

    def replace(
        self, spot: _Spot, content: bytes, approve: Callable[[Facts | None], None]
    ) -> tuple[Facts, bool]:
        """A pending file's commit."""
        with self._turn:
            existing = spot.folder.children.get(spot.names[-1])
            if existing is not None:
                require_file(existing)
            approve(None if existing is None else existing.facts())
            node = self._node(Kind.FILE)
            node.content = content
            spot.folder.children[spot.names[-1]] = node
            spot.folder.modified = spot.folder.changed = node.modified
            return node.facts(), existing is None

    def _put(self, spot: _Spot, node: Node) -> None:
        spot.folder.children[spot.names[-1]] = node
        spot.folder.modified = spot.folder.changed = next(self._clock)

    def _take_out(self, spot: _Spot) -> None:
        del spot.folder.children[spot.names[-1]]
        spot.folder.modified = spot.folder.changed = next(self._clock)

    def _node(self, kind: Kind) -> Node:
        now = next(self._clock)
        return Node(kind, next(self._inodes), now, now, now)

    def _spot(self, path: Names, *, follow: bool = True) -> _Spot:
        ahead = deque(path)
        behind: list[bytes] = []
        nodes = [self._root]
        links = 0
        while ahead:
            name = ahead.popleft()
            if name == b"..":
                if not behind:
                    raise LeavesBase
                behind.pop()
                nodes.pop()
                continue
            if len(name) > _MAX_NAME:
                raise failure(errno.ENAMETOOLONG)
            node = nodes[-1].children.get(name)
            if node is not None and node.kind is Kind.LINK and (ahead or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise failure(errno.ELOOP)
                if node.target.startswith(b"/"):
                    behind, nodes = [], [self._root]
                ahead.extendleft(reversed(self._components(node.target)))
            elif not ahead:
                return _Spot((*behind, name), nodes[-1], node)
            elif node is None:
                raise failure(errno.ENOENT)
            elif node.kind is not Kind.FOLDER:
                raise failure(errno.ENOTDIR)
            else:
                behind.append(name)
                nodes.append(node)
        return _Spot(tuple(behind), nodes[-2] if behind else self._root, nodes[-1])

    def _components(self, target: bytes) -> list[bytes]:
        components = [name for name in target.split(b"/") if name not in (b"", b".")]
        if not target.startswith(b"/"):
            return components
        base = [name for name in self.base.split(b"/") if name]
        if components[: len(base)] != base:
            raise LeavesBase
        return components[len(base) :]


class MemoryPendingFile:
    """A file being written."""

    def __init__(self, filesystem: InMemoryFilesystem, spot: _Spot) -> None:
        self.names = spot.names
        self.existing = None if spot.node is None else spot.node.facts()
        self._filesystem = filesystem
        self._spot = spot
        self._content = bytearray()

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append all of them."""
        self._content += b"".join(blocks)

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """Put it in its place."""
        return self._filesystem.replace(self._spot, bytes(self._content), approve)

    def discard(self) -> None:
        """Nothing to remove."""
        self._content.clear()


class MemoryKeptFile(MemoryPendingFile):
    """A file being written in several calls."""

    def __init__(
        self,
        filesystem: InMemoryFilesystem,
        spot: _Spot,
        content: bytearray,
        forget: Callable[[], None],
    ) -> None:
        super().__init__(filesystem, spot)
        self._content = content
        self._forget = forget
        self._open = True

    def read(self, offset: int, size: int) -> bytes:
        """What has been written."""
        return bytes(self._content[offset : offset + size])

    def keep(self) -> int:
        """Leave it."""
        if not self._open:
            return 0
        self._open = False
        return len(self._content)

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """Put it in its place."""
        written = super().commit(approve)
        self._open = False
        self._forget()
        return written

    def discard(self) -> None:
        """Remove it, unless it has found its place or is left."""
        if self._open:
            self._open = False
            self._forget()
