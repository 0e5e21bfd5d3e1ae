"""Changes under a profile's policy: folders, moves, copies, appends. What is done in threads.

With ``patterns`` in the policy a folder may hold what the caller must not see. So there neither a
folder is moved nor one removed with what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Final

from workato_tunnel.problems import Problem

from .access import Access, check_unchanged
from .calls import Change
from .conditions import Conditions
from .confinement import Names, shown
from .failures import policy_problem
from .filesystem import Facts, Found, Kind, OpenFile, Stopped

_BLOCK: Final = 512 * 1024


class Changing:
    """What changes a profile's folder besides uploads. All of it blocks and raises Problem."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._filesystem = access.filesystem

    def thd_make_folders(self, path: Names) -> bool:
        """Make a folder and those above it; whether there was something to make."""
        made = False
        for depth in range(1, len(path) + 1):
            folder = path[:depth]
            self._access.approve(folder, Kind.FOLDER)
            with self._access.problems(folder, "making the folder"):
                made = self._filesystem.make_folder(folder)
        found = self._access.thd_stat(path)
        if found.facts.kind is not Kind.FOLDER:
            raise _exists(path)
        return made

    def thd_move(self, change: Change, conditions: Conditions) -> Facts:
        """Move or rename."""
        if change.target[: len(change.source)] == change.source:
            raise Problem(
                "bad_request",
                f"{shown(change.source)} can't be moved to itself or into itself",
                hint="Give another path in 'to'.",
                extra={"field": "to"},
            )

        def approve(moved: Found, there: Found | None) -> None:
            if moved.facts.kind is Kind.FOLDER:
                self._require_whole_view(change.source, "moved")
            kind = Kind.FILE if moved.facts.kind is Kind.LINK else moved.facts.kind
            for names in (change.source, moved.names, change.target):
                self._access.approve(names, kind)
            check_unchanged(change.source, conditions, moved.facts)
            if there is not None:
                self._access.approve(there.names, there.facts.kind)
                if not (change.overwrite and there.facts.kind is Kind.FILE):
                    raise _exists(change.target)

        with self._access.problems(change.source, f"moving to {shown(change.target)}:"):
            return self._filesystem.move(change.source, change.target, approve)

    def thd_copy(self, change: Change, conditions: Conditions, stop: Event) -> tuple[Facts, bool]:
        """Copy a file; what is there then, and whether it is new."""
        self._access.approve(change.target, Kind.FILE)

        def approve(existing: Facts | None) -> None:
            if stop.is_set():
                raise Stopped
            if existing is not None and not change.overwrite:
                raise _exists(change.target)

        with self._access.problems(change.source, "copying"):
            file = self._filesystem.open_file(change.source)
        try:
            self._access.approve(change.source, Kind.FILE)
            self._access.approve_reading(file.found, file.found.facts.size)
            check_unchanged(change.source, conditions, file.found.facts)
            pending = self._access.thd_begin(change.target, Conditions())
            try:
                approve(pending.existing)
                with self._access.problems(change.target, "writing"):
                    self._thd_pass_on(file, pending.write, stop)
                    return pending.commit(approve)
            finally:
                pending.discard()
        finally:
            file.close()

    def thd_append(
        self,
        path: Names,
        compose: Callable[[OpenFile | None], Iterable[bytes]],
        approve: Callable[[Facts | None], None],
    ) -> tuple[Facts, bool]:
        """Write at a file's end; what is there then, and whether it is new.

        :param approve: told what is there, None for a new file; raises to prevent it.
        """

        def approve_found(names: Names, existing: Facts | None) -> None:
            self._access.approve(names, Kind.FILE)
            approve(existing)

        with self._access.problems(path, "appending to"):
            return self._filesystem.append(path, compose, approve_found)

    def thd_remove_tree(self, path: Names, conditions: Conditions, stop: Event) -> None:
        """Remove a folder with all that is in it."""

        def approve(found: Found) -> None:
            if found.facts.kind is Kind.FOLDER:
                self._require_whole_view(path, "removed with what is in it")
            self._access.approve(path, found.facts.kind)
            self._access.approve(found.names, found.facts.kind)
            check_unchanged(path, conditions, found.facts)

        with self._access.problems(path, "removing"):
            self._filesystem.remove_tree(path, approve, stop)

    def _require_whole_view(self, path: Names, done: str) -> None:
        if self._access.limited:
            raise policy_problem(
                "patterns",
                f"{shown(path)}: a folder can't be {done} where the policy has patterns, "
                "as it may hold what they hide",
            )

    @staticmethod
    def _thd_pass_on(file: OpenFile, write: Callable[[list[bytes]], None], stop: Event) -> None:
        offset = 0
        while block := file.read(offset, _BLOCK):
            if stop.is_set():
                raise Stopped
            write([block])
            offset += len(block)


def _exists(path: Names) -> Problem:
    return Problem(
        "conflict",
        f"there is something at {shown(path)} already",
        hint='Only a file can take the place of a file, with "overwrite": true.',
        extra={"errno": "EEXIST"},
    )
