"""One suite for every implementation of ``Filesystem``: what the service builds upon."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.trees import InMemoryTree, LocalTree, Refused, Tree, agreed, n, refuse
from workato_agent.services.files.filesystem import (
    Facts,
    Found,
    Kind,
    LeavesBase,
    NotRegular,
)


class Contract(Tree):
    """The tests; the subclasses say how a tree is made."""

    assertEqual: Callable[..., None]  # noqa: N815
    assertRaises: Callable[..., Any]  # noqa: N815
    assertTrue: Callable[..., None]  # noqa: N815
    assertFalse: Callable[..., None]  # noqa: N815
    assertIsNone: Callable[..., None]  # noqa: N815
    assertNotEqual: Callable[..., None]  # noqa: N815

    def fails(self, number: int, call: Callable[..., object], *args: object) -> None:
        error = self.assertRaises(OSError, call, *args)
        self.assertEqual(errno.errorcode[error.errno], errno.errorcode[number])

    def put(self, path: str, content: bytes) -> tuple[Facts, bool]:
        pending = self.filesystem.begin_file(n(path))
        pending.write([content])
        return pending.commit(agreed)

    def names(self, path: str) -> dict[bytes, Kind]:
        folder = self.filesystem.open_folder(n(path))
        try:
            return dict(folder.names())
        finally:
            folder.close()

    # the base

    def test_base_is_checked(self) -> None:
        facts = self.filesystem.check()
        self.assertEqual(facts.target, os.fsdecode(self.base))
        self.assertTrue(facts.readable)
        self.assertTrue(facts.writable)

    def test_base_is_a_folder_at_the_empty_path(self) -> None:
        found = self.filesystem.stat(())
        self.assertEqual((found.names, found.facts.kind), ((), Kind.FOLDER))

    def test_base_cannot_be_removed_or_replaced_while_something_is_in_it(self) -> None:
        self.file("a")
        self.assertRaises(OSError, self.filesystem.remove, (), agreed)
        self.fails(errno.EISDIR, self.filesystem.begin_file, ())

    # reading

    def test_file_is_read_at_any_offset_and_short_only_at_its_end(self) -> None:
        self.file("a", b"0123456789")
        file = self.filesystem.open_file(n("a"))
        self.assertEqual(
            [file.read(0, 4), file.read(4, 4), file.read(8, 4), file.read(20, 4)],
            [b"0123", b"4567", b"89", b""],
        )
        file.close()
        file.close()

    def test_facts_of_a_file(self) -> None:
        self.file("a", b"0123456789")
        facts = self.filesystem.stat(n("a")).facts
        self.assertEqual((facts.kind, facts.size), (Kind.FILE, 10))
        opened = self.filesystem.open_file(n("a"))
        self.assertEqual(opened.found.facts.etag, facts.etag)
        opened.close()

    def test_missing_file_is_enoent(self) -> None:
        for path in ("nothing", "no/thing"):
            self.fails(errno.ENOENT, self.filesystem.open_file, n(path))
            self.fails(errno.ENOENT, self.filesystem.stat, n(path))
            self.fails(errno.ENOENT, self.filesystem.open_folder, n(path))

    def test_path_through_a_file_is_enotdir(self) -> None:
        self.file("a")
        self.fails(errno.ENOTDIR, self.filesystem.open_file, n("a/b"))
        self.fails(errno.ENOTDIR, self.filesystem.begin_file, n("a/b/c"))

    def test_folder_opened_as_a_file_is_eisdir(self) -> None:
        self.make("d", Kind.FOLDER)
        self.fails(errno.EISDIR, self.filesystem.open_file, n("d"))
        self.fails(errno.EISDIR, self.filesystem.open_file, ())
        self.fails(errno.EISDIR, self.filesystem.begin_file, n("d"))

    def test_file_opened_as_a_folder_is_enotdir(self) -> None:
        self.file("a")
        self.fails(errno.ENOTDIR, self.filesystem.open_folder, n("a"))

    def test_special_file_is_never_opened(self) -> None:
        self.make("pipe", Kind.SPECIAL)
        self.assertRaises(NotRegular, self.filesystem.open_file, n("pipe"))
        self.assertRaises(NotRegular, self.filesystem.begin_file, n("pipe"))
        self.assertRaises(NotRegular, self.filesystem.remove, n("pipe"), agreed)
        self.assertEqual(self.filesystem.stat(n("pipe")).facts.kind, Kind.SPECIAL)

    def test_name_of_256_bytes_is_enametoolong(self) -> None:
        self.fails(errno.ENAMETOOLONG, self.filesystem.stat, (b"x" * 256,))
        self.put("x" * 255, b"fits")
        self.assertEqual(self.content("x" * 255), b"fits")

    def test_names_are_bytes(self) -> None:
        self.filesystem.begin_file((b"caf\xe9",)).commit(agreed)
        self.assertEqual(self.names(""), {b"caf\xe9": Kind.FILE})
        self.assertEqual(self.filesystem.stat((b"caf\xe9",)).names, (b"caf\xe9",))

    def test_open_file_keeps_its_content_when_replaced_and_removed(self) -> None:
        self.file("a", b"old")
        file = self.filesystem.open_file(n("a"))
        self.put("a", b"new")
        self.assertEqual(file.read(0, 10), b"old")
        self.filesystem.remove(n("a"), agreed)
        self.assertEqual(file.read(0, 10), b"old")
        file.close()

    # folders

    def test_folder_tells_names_and_kinds_with_links_not_followed(self) -> None:
        self.file("d/a")
        self.make("d/sub", Kind.FOLDER)
        self.make("d/link", Kind.LINK, b"sub")
        self.make("d/pipe", Kind.SPECIAL)
        self.assertEqual(
            self.names("d"),
            {b"a": Kind.FILE, b"sub": Kind.FOLDER, b"link": Kind.LINK, b"pipe": Kind.SPECIAL},
        )

    def test_folder_tells_facts_of_a_name(self) -> None:
        self.file("d/a", b"12345")
        self.make("d/link", Kind.LINK, b"a")
        folder = self.filesystem.open_folder(n("d"))
        self.assertEqual(folder.facts(b"a"), self.filesystem.stat(n("d/a")).facts)
        self.assertEqual(folder.facts(b"link").kind, Kind.LINK)
        self.fails(errno.ENOENT, folder.facts, b"gone")
        folder.close()
        folder.close()

    # writing

    def test_new_file_shows_only_once_committed(self) -> None:
        pending = self.filesystem.begin_file(n("a"))
        self.assertIsNone(pending.existing)
        pending.write([b"one ", b"", b"two"])
        pending.write([])
        self.assertEqual(self.names(""), {})
        facts, new = pending.commit(agreed)
        self.assertTrue(new)
        self.assertEqual(self.content("a"), b"one two")
        self.assertEqual(facts.etag, self.filesystem.stat(n("a")).facts.etag)
        pending.discard()
        self.assertEqual(self.names(""), {b"a": Kind.FILE})

    def test_replaced_file_shows_its_old_content_until_the_commit(self) -> None:
        self.file("a", b"old")
        before = self.filesystem.stat(n("a")).facts
        pending = self.filesystem.begin_file(n("a"))
        self.assertEqual(pending.existing.etag if pending.existing else None, before.etag)
        pending.write([b"new"])
        self.assertEqual(self.content("a"), b"old")
        facts, new = pending.commit(agreed)
        self.assertFalse(new)
        self.assertEqual(self.content("a"), b"new")
        self.assertNotEqual(facts.etag, before.etag)

    def test_discarded_file_leaves_nothing(self) -> None:
        pending = self.filesystem.begin_file(n("a"))
        pending.write([b"half"])
        pending.discard()
        pending.discard()
        self.assertEqual(self.names(""), {})

    def test_refused_commit_changes_nothing(self) -> None:
        self.file("a", b"old")
        for path in ("a", "b"):
            pending = self.filesystem.begin_file(n(path))
            pending.write([b"new"])
            self.assertRaises(Refused, pending.commit, refuse)
            pending.discard()
        self.assertEqual(self.names(""), {b"a": Kind.FILE})
        self.assertEqual(self.content("a"), b"old")

    def test_commit_is_told_what_is_there_at_last(self) -> None:
        pending = self.filesystem.begin_file(n("a"))
        first, _ = self.put("a", b"somebody else's")
        seen: list[Facts | None] = []
        _, new = pending.commit(seen.append)
        self.assertFalse(new)
        self.assertEqual([facts.etag if facts else None for facts in seen][-1], first.etag)

    def test_commit_refuses_a_place_that_became_a_folder(self) -> None:
        pending = self.filesystem.begin_file(n("a"))
        self.make("a", Kind.FOLDER)
        self.fails(errno.EISDIR, pending.commit, agreed)
        pending.discard()
        self.assertEqual(self.names(""), {b"a": Kind.FOLDER})

    def test_file_needs_its_folder(self) -> None:
        self.fails(errno.ENOENT, self.filesystem.begin_file, n("d/a"))

    def test_many_small_blocks_are_all_written_in_order(self) -> None:
        blocks = [b"%d," % number for number in range(5000)]
        pending = self.filesystem.begin_file(n("a"))
        pending.write(blocks)
        pending.commit(agreed)
        self.assertEqual(self.content("a"), b"".join(blocks))

    # removing

    def test_file_and_empty_folder_are_removed(self) -> None:
        self.file("d/a")
        self.fails(errno.ENOTEMPTY, self.filesystem.remove, n("d"), agreed)
        seen: list[Found] = []
        self.filesystem.remove(n("d/a"), seen.append)
        self.filesystem.remove(n("d"), seen.append)
        self.assertEqual([found.names for found in seen], [n("d/a"), n("d")])
        self.assertEqual(self.names(""), {})

    def test_refused_removal_changes_nothing(self) -> None:
        self.file("a")
        self.assertRaises(Refused, self.filesystem.remove, n("a"), refuse)
        self.assertEqual(self.names(""), {b"a": Kind.FILE})

    def test_missing_is_not_removed(self) -> None:
        self.fails(errno.ENOENT, self.filesystem.remove, n("a"), agreed)

    def test_removal_of_a_link_leaves_its_target(self) -> None:
        self.file("a", b"kept")
        self.make("link", Kind.LINK, b"a")
        self.make("out", Kind.LINK, b"/etc/hostname")
        self.filesystem.remove(n("link"), agreed)
        self.filesystem.remove(n("out"), agreed)
        self.assertEqual(self.names(""), {b"a": Kind.FILE})

    # links

    def test_links_that_stay_below_the_base_are_followed(self) -> None:
        self.file("d/e/a", b"found")
        targets = {
            "one": b"d/e/a",
            "two": b"./d//e/../e/./a",
            "d/three": b"../d/e/a",
            "d/e/four": b"a",
            "five": b"one",
            "six": self.base + b"/d/e/a",
            "d/e/seven": b"../../d/e/../../one",
        }
        for path, target in targets.items():
            self.make(path, Kind.LINK, target)
        for path in targets:
            self.assertEqual(self.content(path), b"found")
            self.assertEqual(self.filesystem.stat(n(path)).names, n("d/e/a"))

    def test_link_to_a_folder_is_walked_through(self) -> None:
        self.file("d/e/a", b"found")
        self.make("s", Kind.LINK, b"d/e")
        self.make("d/e/up", Kind.LINK, b"..")
        self.make("self", Kind.LINK, b".")
        self.make("top", Kind.LINK, self.base)
        for path in ("s/a", "s/up/e/a", "self/s/a", "top/self/top/d/e/up/e/a"):
            self.assertEqual(self.content(path), b"found")
        self.assertEqual(self.names("s/up"), {b"e": Kind.FOLDER})
        self.assertEqual(self.filesystem.stat(n("top")).names, ())

    def test_links_that_leave_the_base_are_refused(self) -> None:
        self.make("d", Kind.FOLDER)
        targets = {
            "one": b"..",
            "two": b"../" * 10 + b"etc/hostname",
            "three": b"/etc/hostname",
            "four": b"/",
            "d/five": b"../../x",
            "six": b"d/../../x",
            "seven": b"one",
            "eight": self.base + b"/../x",
            "nine": self.base + b"-sibling/x",
            "ten": self.base.rpartition(b"/")[0] or b"/",
        }
        for path, target in targets.items():
            self.make(path, Kind.LINK, target)
        for path in targets:
            for through in (n(path), (*n(path), b"hostname")):
                self.assertRaises(LeavesBase, self.filesystem.stat, through)
                self.assertRaises(LeavesBase, self.filesystem.open_file, through)
                self.assertRaises(LeavesBase, self.filesystem.open_folder, through)
                self.assertRaises(LeavesBase, self.filesystem.begin_file, through)
            self.assertRaises(LeavesBase, self.filesystem.remove, (*n(path), b"x"), agreed)

    def test_link_in_a_circle_is_eloop(self) -> None:
        self.make("a", Kind.LINK, b"b")
        self.make("b", Kind.LINK, b"a")
        self.make("c", Kind.LINK, b"c/c")
        for path in ("a", "c", "a/x"):
            self.fails(errno.ELOOP, self.filesystem.stat, n(path))

    def test_dangling_link_is_enoent_to_read_and_can_be_written_through(self) -> None:
        self.make("d", Kind.FOLDER)
        self.make("link", Kind.LINK, b"d/new")
        self.fails(errno.ENOENT, self.filesystem.open_file, n("link"))
        _, new = self.put("link", b"written")
        self.assertTrue(new)
        self.assertEqual(self.content("d/new"), b"written")
        self.assertEqual(self.names("")[b"link"], Kind.LINK)

    def test_writing_through_a_link_replaces_its_target(self) -> None:
        self.file("d/a", b"old")
        self.make("link", Kind.LINK, b"d/a")
        pending = self.filesystem.begin_file(n("link"))
        self.assertEqual(pending.names, n("d/a"))
        pending.write([b"new"])
        pending.commit(agreed)
        self.assertEqual(self.content("d/a"), b"new")
        self.assertEqual(self.names("")[b"link"], Kind.LINK)

    def test_link_with_dots_behind_a_missing_folder_or_a_file_fails_as_on_the_system(self) -> None:
        self.file("a")
        self.make("one", Kind.LINK, b"missing/../a")
        self.make("two", Kind.LINK, b"a/../a")
        self.fails(errno.ENOENT, self.filesystem.stat, n("one"))
        self.fails(errno.ENOTDIR, self.filesystem.stat, n("two"))

    def test_leftovers_are_searched_to_an_end(self) -> None:
        self.file("d/a")
        self.assertTrue(self.filesystem.remove_leftovers(60.0))
        self.filesystem.close()
        self.assertEqual(self.names("d"), {b"a": Kind.FILE})


class InMemoryTests(InMemoryTree, Contract, SynchronousTestCase):
    """The verified fake."""


class LocalTests(LocalTree, Contract, SynchronousTestCase):
    """The real thing, in a temporary folder."""
