"""Which files have changed since a moment: found by looking at all of them, with nothing kept.

The moment of a change is the file's time of status change (``ctime``), which the system sets
whenever a file is written, replaced or moved, and which nobody can set back. A file that lies in a
folder which was moved as a whole keeps its own, so such a folder's counts for all below it: it is
the one that is later than the folder's time of modification.

A look at a tree takes time. Only changes that were over before it began are taken, so what it
misses because it had passed already is later than all it tells.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from threading import Event
from typing import Final

from attrs import define, evolve, field, frozen

from .confinement import Names
from .filesystem import Facts, Filesystem, Kind, LeavesBase, Notifications, OpenFolder, Stopped

_LOOK_UP_EVERY: Final = 256
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM})

_ATTEMPTS: Final = 3
"""How often a tree is gone through anew whose folders are moved meanwhile."""

Mark = tuple[int, bytes]
"""Nanoseconds since 1970, and the path: every change has a place in one order."""

Change = tuple[Mark, Names, Facts]


@frozen
class Sought:
    """What to look for.

    :ivar visible: whether a file at a path (below the base) is wanted.
    :ivar enter: whether a folder at such a path may hold something wanted.
    """

    folder: Names
    recursive: bool
    visible: Callable[[Names], bool]
    enter: Callable[[Names], bool]


@frozen
class Sighting:
    """What was found.

    :ivar changes: in the order of their marks.
    :ivar more: there are further ones behind the last of them.
    :ivar mark: with these changes all up to here is known.
    :ivar unsettled: the earliest change that is too young, in nanoseconds since 1970.
    :ivar observed: whether all folders are observed by the system.
    """

    changes: list[Change]
    more: bool
    mark: Mark
    unsettled: int | None
    observed: bool


@define
class Scan:
    """One look at a tree: changes behind ``after`` and earlier than ``before`` (nanoseconds).

    At most ``limit`` changes are kept, those with the smallest marks.
    """

    filesystem: Filesystem
    sought: Sought
    after: Mark
    before: int
    limit: int
    stop: Event
    notifications: Notifications | None = None
    _changes: list[Change] = field(factory=list)
    _ceiling: Mark | None = None
    _unsettled: int | None = None
    _observed: bool = True

    def thd_run(self) -> Sighting:
        """Raises Stopped, and OSError for the folder itself."""
        if self.notifications is not None:
            self.notifications.clear()
        for _ in range(_ATTEMPTS):
            self._changes, self._ceiling, self._unsettled = [], None, None
            if self._whole():
                break
        self._cut()
        more = self._ceiling is not None
        mark = self._changes[-1][0] if more else max(self.after, (self.before, b""))
        return Sighting(self._changes, more, mark, self._unsettled, self._observed)

    def _whole(self) -> bool:
        """Go through the tree; False where a folder had gone, maybe elsewhere in it."""
        whole = True
        ahead: list[tuple[Names, int]] = [(self.sought.folder, 0)]
        while ahead:
            names, moved = ahead.pop()
            try:
                folder = self.filesystem.open_folder(names)
            except (OSError, LeavesBase) as error:
                inner = names != self.sought.folder
                if inner and (isinstance(error, LeavesBase) or error.errno in _GONE):
                    whole = whole and getattr(error, "errno", None) != errno.ENOENT
                    continue
                raise
            try:
                if names != self.sought.folder:
                    moved = max(moved, _moved(folder.found.facts))
                self._observe(folder)
                ahead += [(inner, moved) for inner in self._look_into(folder, names, moved)]
            finally:
                folder.close()
        return whole

    def _observe(self, folder: OpenFolder) -> None:
        if self.notifications is not None and self._observed:
            self._observed = self.notifications.add(folder)

    def _look_into(self, folder: OpenFolder, above: Names, moved: int) -> list[Names]:
        """Take the changes in one folder; the folders in it."""
        inner = []
        sought = self.sought
        for number, (name, kind) in enumerate(folder.names()):
            if number % _LOOK_UP_EVERY == 0 and self.stop.is_set():
                raise Stopped
            names = (*above, name)
            if kind is Kind.FOLDER and sought.recursive and sought.enter(names):
                inner.append(names)
            elif kind is Kind.FILE and sought.visible(names):
                try:
                    self._consider(folder, names, moved)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
        return inner

    def _consider(self, folder: OpenFolder, names: Names, moved: int) -> None:
        facts = folder.facts(names[-1], with_created=False)
        if facts.kind is not Kind.FILE:
            return
        moment = max(facts.changed, moved)
        if moment >= self.before:
            self._unsettled = min(moment, self._unsettled or moment)
            return
        mark = (moment, b"/".join(names))
        if mark <= self.after or (self._ceiling is not None and mark > self._ceiling):
            return
        created = folder.facts(names[-1]).created
        self._changes.append((mark, names, evolve(facts, created=created)))
        if len(self._changes) >= 2 * self.limit:
            self._cut()

    def _cut(self) -> None:
        self._changes.sort(key=lambda change: change[0])
        if len(self._changes) > self.limit:
            del self._changes[self.limit :]
            self._ceiling = self._changes[-1][0]


def _moved(folder: Facts) -> int:
    return folder.changed if folder.changed > folder.modified else 0
