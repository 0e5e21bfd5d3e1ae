"""One folder under its policy: what the service does in threads.

Two rules hold everywhere. The path asked for must be allowed, and so must the path that its links
lead to: otherwise a link named ``x.csv`` would open what the patterns hide.
"""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from threading import Event
from typing import Final

import msgspec

from workato_tunnel.problems import Problem

from .answers import entry, precondition_failed
from .calls import ListParameters, cursor_text
from .conditions import Conditions, Verdict
from .confinement import Names, shown, text_of
from .failures import base_problem, policy_problem, problems_at
from .filesystem import (
    BaseFacts,
    BaseUnavailable,
    Facts,
    Filesystem,
    Found,
    KeptFile,
    Kind,
    LeavesBase,
    PendingFile,
)
from .listing import Listing, Query
from .patterns import PathRules
from .selection import Ask, Selection, thd_select
from .settings import FilesSettings

_NOT_FOLLOWED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})


class Access:
    """A profile's folder. Methods named ``thd_…`` block; all raise Problem."""

    def __init__(self, settings: FilesSettings, filesystem: Filesystem) -> None:
        """Raises ValueError for a malformed pattern of the policy."""
        self.filesystem = filesystem
        self._base = str(settings.base)
        self._max_bytes = settings.policy.max_bytes
        self._rules = PathRules.of(settings.policy.patterns)

    @property
    def limited(self) -> bool:
        """Whether patterns hide a part of the folder."""
        return bool(self._rules.patterns)

    def problems(self, path: Names, doing: str) -> AbstractContextManager[None]:
        """Turn a file system's failures into problems (:func:`.failures.problems_at`)."""
        return problems_at(path, doing, self._base)

    def approve(self, names: Names, kind: Kind | None) -> None:
        """Raises Problem ``policy_denied`` where the patterns hide the path.

        :param kind: None while it is not known: then it passes as whatever could be allowed.
        """
        as_folder = kind in (Kind.FOLDER, None) and self._rules.allow_folder(names)
        as_file = kind is not Kind.FOLDER and self._rules.allow_file(names)
        if not (as_folder or as_file):
            raise policy_problem("patterns", f"{shown(names)} matches none of the allowed patterns")

    def approve_size(self, size: int, names: Names) -> None:
        """Raises Problem ``policy_denied`` for more bytes than one call may read."""
        if self._max_bytes is not None and size > self._max_bytes:
            raise policy_problem(
                "max_bytes",
                f"reading {shown(names)}: {size} bytes, where one call may read {self._max_bytes}",
            )

    def thd_check(self) -> BaseFacts:
        """Look at the base: it must exist and be readable."""
        with problems_at((), "testing", self._base):
            facts = self.filesystem.check()
        if not facts.readable:
            denied = PermissionError(errno.EACCES, "Permission denied")
            raise base_problem(BaseUnavailable(denied), self._base)
        return facts

    def thd_stat(self, path: Names) -> Found:
        """What is at a path, links followed."""
        with problems_at(path, "looking at", self._base):
            found = self.filesystem.stat(path)
        self.approve(path, found.facts.kind)
        self.approve(found.names, found.facts.kind)
        return found

    def thd_require_folder(self, path: Names, doing: str) -> None:
        """Raises Problem ``conflict`` where there is something else."""
        if self.thd_stat(path).facts.kind is not Kind.FOLDER:
            raise Problem(
                "conflict",
                f"{doing} {shown(path)}: it is no folder",
                hint="Use stat/{path} or content/{path} for a file.",
                extra={"errno": "ENOTDIR"},
            )

    def thd_select(self, ask: Ask) -> Selection:
        """Open a file for GET or HEAD."""
        with problems_at(ask.path, "reading", self._base):
            return thd_select(self.filesystem, ask)

    def approve_reading(self, found: Found, size: int) -> None:
        """The policy's word on what was opened (``Ask.approve``)."""
        self.approve(found.names, found.facts.kind)
        self.approve_size(size, found.names)

    def thd_begin(self, path: Names, conditions: Conditions) -> PendingFile:
        """Begin an upload, unless it could not end well."""
        with problems_at(path, "writing", self._base):
            pending = self.filesystem.begin_file(path)
            allowed = False
            try:
                self.approve(pending.names, Kind.FILE)
                check_unchanged(path, conditions, pending.existing)
                allowed = True
            finally:
                if not allowed:
                    pending.discard()
        return pending

    def thd_resume(self, path: Names, key: bytes, offset: int, conditions: Conditions) -> KeptFile:
        """Go on with an upload, or begin one that can be resumed."""
        with problems_at(path, "writing", self._base):
            kept = self.filesystem.resume_file(path, key, offset)
            allowed = False
            try:
                self.approve(kept.names, Kind.FILE)
                check_unchanged(path, conditions, kept.existing)
                allowed = True
            finally:
                if not allowed:
                    kept.keep()
        return kept

    def thd_kept_size(self, path: Names, key: bytes) -> int:
        """How many bytes of an upload have arrived."""
        with problems_at(path, "the upload to", self._base):
            return self.filesystem.kept_size(path, key)

    def thd_drop_kept(self, path: Names, key: bytes) -> None:
        """Give an upload up."""
        with problems_at(path, "the upload to", self._base):
            self.filesystem.drop_kept(path, key)

    def thd_remove(self, path: Names, conditions: Conditions) -> None:
        """Remove a file, an empty folder or a link."""

        def approve(found: Found) -> None:
            self.approve(path, found.facts.kind)
            self.approve(found.names, found.facts.kind)
            check_unchanged(path, conditions, found.facts)

        with problems_at(path, "removing", self._base):
            self.filesystem.remove(path, approve)

    def thd_list(self, path: Names, wanted: ListParameters, stop: Event) -> tuple[bytes, int]:
        """A page as JSON, and its number of entries."""
        self.thd_require_folder(path, "listing")
        query = Query(
            folder=path,
            limit=wanted.limit,
            recursive=wanted.recursive,
            visible=_Visible(self, path, wanted),
            enter=self._rules.allow_folder,
            follow=self.thd_follow,
            after=wanted.after,
            stop=stop,
        )
        with problems_at(path, "listing", self._base):
            page = Listing(self.filesystem, query).page()
        document: dict[str, object] = {
            "entries": [entry(names, facts) for names, facts in page.entries],
            "cursor": None if page.cursor is None else cursor_text(page.cursor),
        }
        if page.skipped:
            document["skipped"] = [text_of(names) for names in page.skipped]
        return msgspec.json.encode(document), len(page.entries)

    def thd_follow(self, names: Names) -> Facts | None:
        """What a link leads to, where that is below the base and allowed; else None."""
        try:
            found = self.filesystem.stat(names)
        except LeavesBase:
            return None
        except OSError as error:
            if error.errno in _NOT_FOLLOWED:
                return None
            raise
        return found.facts if self.allows(found.names, found.facts.kind) else None

    def allows(self, names: Names, kind: Kind) -> bool:
        """Whether the patterns let something of that kind be seen there."""
        if kind is Kind.FOLDER:
            return self._rules.allow_folder(names)
        return self._rules.allow_file(names)


class _Visible:
    """Whether a list shows an entry: it matches the caller's pattern and the policy's."""

    def __init__(self, access: Access, folder: Names, wanted: ListParameters) -> None:
        self._access = access
        self._depth = len(folder)
        self._pattern = wanted.pattern

    def __call__(self, names: Names, kind: Kind) -> bool:
        if self._pattern is not None and not self._pattern.matches(names[self._depth :]):
            return False
        if kind is Kind.LINK:
            facts = self._access.thd_follow(names)
            kind = Kind.LINK if facts is None else facts.kind
        return self._access.allows(names, kind)


def check_unchanged(path: Names, conditions: Conditions, existing: Facts | None) -> None:
    """Raises Problem ``precondition_failed`` where a change is not to be made any more."""
    current = None if existing is None else existing.validators
    if conditions.verdict(current, reading=False) is not Verdict.PROCEED:
        raise precondition_failed(path, current)
