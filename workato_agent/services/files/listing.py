"""A page of a folder's entries, sorted by path, in bounded memory however many there are.

Below a folder every path sorts as its bytes do. A folder's own entry has the key ``a``, all that
lies in it comes at the key ``a/``: names hold no slash, so no other path can fall between, and a
walk in the order of these keys yields the whole tree sorted. Of each folder only the smallest keys
after the last one taken are kept; when they run out, the folder is read again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from threading import Event
from typing import Final

from attrs import define, field, frozen

from .confinement import Names
from .filesystem import Facts, Filesystem, Kind, LeavesBase, OpenFolder, Stopped

MAX_SKIPPED: Final = 100
_SMALLEST_BATCH: Final = 64
_LOOK_UP_EVERY: Final = 256
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


@frozen
class Query:
    """What to list.

    :ivar visible: whether an entry at a path (below the base) is wanted.
    :ivar enter: whether a folder at such a path may hold something wanted.
    :ivar follow: what a link at such a path is to be shown as; None where it can't be followed.
    :ivar after: only paths behind this one (relative to the folder, joined with ``/``).
    :ivar stop: set by the caller to give up.
    """

    folder: Names
    limit: int
    recursive: bool
    visible: Callable[[Names, Kind], bool]
    enter: Callable[[Names], bool]
    follow: Callable[[Names], Facts | None]
    after: bytes | None = None
    stop: Event = field(factory=Event)


@frozen
class Page:
    """Entries by path below the base.

    :ivar cursor: the path to give as ``after`` for what follows; None where nothing does.
    :ivar skipped: folders that were to be entered and that the system denied; at most
        :data:`MAX_SKIPPED` of them.
    """

    entries: tuple[tuple[Names, Facts], ...]
    cursor: bytes | None
    skipped: tuple[Names, ...]


@define
class _Level:
    """One folder on the way of the walk."""

    folder: Names
    prefix: bytes
    keys: Iterator[bytes] = field(factory=lambda: iter(()))
    last: bytes | None = None
    more: bool = True


@define
class Listing:
    """One page in the making."""

    filesystem: Filesystem
    query: Query
    _skipped: list[Names] = field(factory=list)

    def page(self) -> Page:
        """Walk until the page is full. Raises Stopped, and OSError for the folder itself."""
        keys: list[bytes] = []
        for key in self._walk():
            keys.append(key)
            if len(keys) > self.query.limit:
                keys.pop()
                return self._page(keys, keys[-1])
        return self._page(keys, None)

    def _page(self, keys: list[bytes], cursor: bytes | None) -> Page:
        entries = tuple(self._entries(keys))
        return Page(entries, cursor, tuple(self._skipped))

    def _walk(self) -> Iterator[bytes]:
        """The keys of the entries in order; those that end in a slash are folders to go into."""
        levels = [_Level(self.query.folder, b"")]
        while levels:
            level = levels[-1]
            for key in level.keys:
                level.last = key
                if key.endswith(b"/"):
                    name = key[len(level.prefix) : -1]
                    levels.append(_Level((*level.folder, name), key))
                    break
                yield key
            else:
                if level.more:
                    self._refill(level, len(levels))
                else:
                    levels.pop()

    def _refill(self, level: _Level, depth: int) -> None:
        """Read the folder for its next keys. A deep walk keeps fewer of each level."""
        size = max(_SMALLEST_BATCH, (self.query.limit + 1) // depth)
        try:
            folder = self.filesystem.open_folder(level.folder)
        except (OSError, LeavesBase) as error:
            if depth == 1:
                raise
            self._pass_over(level, error)
            return
        try:
            keys, level.more = self._smallest(folder, level, size)
        finally:
            folder.close()
        level.keys = iter(keys)

    def _pass_over(self, level: _Level, error: OSError | LeavesBase) -> None:
        level.more = False
        level.keys = iter(())
        if isinstance(error, LeavesBase) or error.errno in _GONE:
            return
        if error.errno not in _DENIED:
            raise error
        if len(self._skipped) < MAX_SKIPPED:
            self._skipped.append(level.folder)

    def _smallest(self, folder: OpenFolder, level: _Level, size: int) -> tuple[list[bytes], bool]:
        """The ``size`` smallest keys behind the last one, and whether there are more."""
        kept: list[bytes] = []
        ceiling: bytes | None = None
        query = self.query
        for number, (key, name, kind) in enumerate(self._candidates(folder, level)):
            if number % _LOOK_UP_EVERY == 0 and query.stop.is_set():
                raise Stopped
            if ceiling is not None and key >= ceiling:
                continue
            path = (*level.folder, name)
            if not (query.enter(path) if kind is None else query.visible(path, kind)):
                continue
            kept.append(key)
            if len(kept) >= 2 * size:
                kept.sort()
                del kept[size:]
                ceiling = kept[-1]
        kept.sort()
        return kept[:size], ceiling is not None or len(kept) > size

    def _candidates(
        self, folder: OpenFolder, level: _Level
    ) -> Iterator[tuple[bytes, bytes, Kind | None]]:
        """Key, name and kind of all that lies behind the last key taken, or behind the cursor.

        The kind is None for the key under which a folder is gone into.
        """
        prefix, floor = level.prefix, level.last
        after = b"" if self.query.after is None else self.query.after
        recursive = self.query.recursive
        for name, kind in folder.names():
            key = prefix + name
            if key > (after if floor is None else floor):
                yield key, name, kind
            if kind is Kind.FOLDER and recursive:
                key += b"/"
                if key > floor if floor is not None else key > after or after.startswith(key):
                    yield key, name, None

    def _entries(self, keys: list[bytes]) -> Iterator[tuple[Names, Facts]]:
        """Look at what was chosen; what has gone meanwhile is left out."""
        folder: OpenFolder | None = None
        parent: Names | None = None
        try:
            for key in keys:
                names = (*self.query.folder, *key.split(b"/"))
                try:
                    if parent != names[:-1]:
                        if folder is not None:
                            folder.close()
                        folder, parent = None, None
                        folder, parent = self.filesystem.open_folder(names[:-1]), names[:-1]
                    if folder is not None:
                        yield names, self._facts(folder, names)
                except LeavesBase:
                    continue
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
        finally:
            if folder is not None:
                folder.close()

    def _facts(self, folder: OpenFolder, names: Names) -> Facts:
        facts = folder.facts(names[-1])
        if facts.kind is Kind.LINK:
            return self.query.follow(names) or facts
        return facts
