"""What the file system in memory is made of: files and folders, and how they are read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from attrs import define, field

from .filesystem import Facts, Found, Kind, NotRegular


def failure(number: int) -> OSError:
    """What a system would raise."""
    return OSError(number, os.strerror(number))


@define(eq=False)
class Node:
    """A file, a folder, a link or a special file. Times as in :class:`.filesystem.Facts`."""

    kind: Kind
    inode: int
    modified: int
    created: int
    changed: int
    content: bytes = b""
    target: bytes = b""
    children: dict[bytes, Node] = field(factory=dict)

    def facts(self) -> Facts:
        """What a file system tells of it."""
        return Facts(
            self.kind, len(self.content), self.modified, self.inode, self.created, self.changed
        )


def require_file(node: Node) -> None:
    """Raises where it is no regular file."""
    if node.kind is Kind.FOLDER:
        raise failure(errno.EISDIR)
    if node.kind is not Kind.FILE:
        raise NotRegular


@define
class MemoryFile:
    """A file opened for reading: replaced, it stays; cut short in place, it ends sooner."""

    found: Found
    _node: Node
    closed: bool = False

    def read(self, offset: int, size: int) -> bytes:
        """That many bytes, fewer only where the file ends."""
        if self.closed:
            raise failure(errno.EBADF)
        return self._node.content[offset : offset + size]

    def close(self) -> None:
        """Idempotent."""
        self.closed = True


@define
class MemoryFolder:
    """A folder opened for reading."""

    found: Found
    _node: Node

    def names(self) -> Iterator[tuple[bytes, Kind]]:
        """Every name, in reverse of its making: callers must not count on an order."""
        for name, node in reversed(list(self._node.children.items())):
            yield name, node.kind

    @property
    def descriptor(self) -> int | None:
        """There is none."""
        return None

    def facts(self, name: bytes, *, with_created: bool = True) -> Facts:
        """Of one name in it."""
        if name not in self._node.children:
            raise failure(errno.ENOENT)
        return self._node.children[name].facts()

    def close(self) -> None:
        """Nothing is held."""
