"""One suite for every implementation of ``Filesystem``: folders, moves, trees removed, appends."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.trees import InMemoryTree, LocalTree, Refused, Tree, agreed, n, refuse
from workato_agent.services.files.filesystem import (
    Found,
    Kind,
    LeavesBase,
    NotRegular,
    OffsetBeyond,
    OpenFile,
    Stopped,
)


class Contract(Tree):
    assertEqual: Callable[..., None]  # noqa: N815
    assertRaises: Callable[..., Any]  # noqa: N815
    assertTrue: Callable[..., None]  # noqa: N815
    assertFalse: Callable[..., None]  # noqa: N815

    def fails(self, number: int, call: Callable[..., object], *args: object) -> None:
        error = self.assertRaises(OSError, call, *args)
        self.assertEqual(errno.errorcode[error.errno], errno.errorcode[number])

    def gone(self, path: str) -> None:
        self.fails(errno.ENOENT, self.filesystem.stat, n(path))

    # folders

    def test_a_folder_is_made_once(self) -> None:
        self.assertTrue(self.filesystem.make_folder(n("a")))
        self.assertFalse(self.filesystem.make_folder(n("a")))
        self.assertEqual(self.filesystem.stat(n("a")).facts.kind, Kind.FOLDER)
        self.fails(errno.ENOENT, self.filesystem.make_folder, n("x/y"))
        self.file("f")
        self.fails(errno.EEXIST, self.filesystem.make_folder, n("f"))
        self.fails(errno.ENOTDIR, self.filesystem.make_folder, n("f/x"))

    def test_no_folder_is_made_outside(self) -> None:
        self.link("out", b"../..")
        self.assertRaises(LeavesBase, self.filesystem.make_folder, n("out/x"))

    # moves

    def test_a_file_is_moved_with_what_it_is(self) -> None:
        self.file("a", b"one")
        self.folder("d")
        before = self.filesystem.stat(n("a")).facts
        told: list[tuple[Found, Found | None]] = []
        facts = self.filesystem.move(n("a"), n("d/b"), lambda *found: told.append(found))
        self.gone("a")
        self.assertEqual(self.content("d/b"), b"one")
        self.assertEqual((facts.etag, facts.size), (before.etag, 3))
        self.assertEqual([(found[0].names, found[1]) for found in told], [(n("a"), None)])

    def test_a_file_takes_the_place_of_a_file(self) -> None:
        self.file("a", b"one")
        self.file("b", b"two")
        self.assertRaises(Refused, self.filesystem.move, n("a"), n("b"), refuse)
        self.assertEqual((self.content("a"), self.content("b")), (b"one", b"two"))
        self.filesystem.move(n("a"), n("b"), agreed)
        self.gone("a")
        self.assertEqual(self.content("b"), b"one")

    def test_a_folder_is_moved_with_what_is_in_it(self) -> None:
        self.file("a/b/c", b"deep")
        self.filesystem.move(n("a"), n("z"), agreed)
        self.assertEqual(self.content("z/b/c"), b"deep")
        self.gone("a")

    def test_what_is_there_is_not_replaced_by_something_else(self) -> None:
        self.file("f")
        self.folder("d")
        self.folder("e")
        for source, target in (("f", "d"), ("d", "f"), ("d", "e")):
            self.fails(errno.EEXIST, self.filesystem.move, n(source), n(target), agreed)
        self.fails(errno.EINVAL, self.filesystem.move, n("d"), n("d/x"), agreed)
        self.fails(errno.ENOENT, self.filesystem.move, n("no"), n("x"), agreed)
        self.fails(errno.ENOENT, self.filesystem.move, n("f"), n("no/x"), agreed)
        self.fails(errno.EBUSY, self.filesystem.move, (), n("x"), agreed)

    def test_a_link_is_moved_itself_and_none_leads_out(self) -> None:
        self.file("f")
        self.link("l", b"f")
        self.link("out", b"../..")
        facts = self.filesystem.move(n("l"), n("m"), agreed)
        self.assertEqual(facts.kind, Kind.LINK)
        self.assertEqual(self.content("m"), b"content")
        self.assertRaises(LeavesBase, self.filesystem.move, n("out/x"), n("y"), agreed)
        self.assertRaises(LeavesBase, self.filesystem.move, n("f"), n("out/x"), agreed)
        self.make("s", Kind.SPECIAL)
        self.assertRaises(NotRegular, self.filesystem.move, n("s"), n("t"), agreed)

    # trees

    def test_a_tree_is_removed_but_not_what_its_links_lead_to(self) -> None:
        self.file("keep/x")
        self.file("a/b/c/d")
        self.folder("a/empty")
        self.link("a/l", b"../keep")
        told: list[Found] = []
        self.filesystem.remove_tree(n("a"), told.append, Event())
        self.gone("a")
        self.assertEqual(self.content("keep/x"), b"content")
        self.assertEqual([found.names for found in told], [n("a")])

    def test_a_tree_that_is_refused_stays(self) -> None:
        self.file("a/b")
        self.assertRaises(Refused, self.filesystem.remove_tree, n("a"), refuse, Event())
        self.assertEqual(self.content("a/b"), b"content")
        self.fails(errno.ENOENT, self.filesystem.remove_tree, n("no"), agreed, Event())
        self.fails(errno.EBUSY, self.filesystem.remove_tree, (), agreed, Event())

    def test_a_link_or_a_file_is_removed_itself(self) -> None:
        self.file("d/f")
        self.link("l", b"d")
        self.filesystem.remove_tree(n("l"), agreed, Event())
        self.assertEqual(self.content("d/f"), b"content")
        self.filesystem.remove_tree(n("d/f"), agreed, Event())
        self.gone("d/f")

    # files written in several calls

    def test_a_file_written_in_parts_shows_when_it_is_committed(self) -> None:
        self.file("a", b"old")
        kept = self.filesystem.resume_file(n("a"), b"key", 0)
        kept.write([b"one ", b"two"])
        self.assertEqual(kept.keep(), 7)
        self.assertEqual(kept.keep(), 0)
        self.assertEqual(self.filesystem.kept_size(n("a"), b"key"), 7)
        self.assertEqual(self.content("a"), b"old")
        kept = self.filesystem.resume_file(n("a"), b"key", 4)
        kept.write([b"more"])
        self.assertEqual(kept.read(2, 100), b"e more")
        self.assertRaises(Refused, kept.commit, refuse)
        kept.keep()
        kept = self.filesystem.resume_file(n("a"), b"key", 8)
        facts, new = kept.commit(agreed)
        kept.keep()
        self.assertEqual((facts.size, new, self.content("a")), (8, False, b"one more"))
        self.fails(errno.ENOENT, self.filesystem.kept_size, n("a"), b"key")

    def test_what_was_not_begun_is_not_gone_on_with(self) -> None:
        error = self.assertRaises(OffsetBeyond, self.filesystem.resume_file, n("a"), b"key", 3)
        self.assertEqual(error.size, 0)
        self.fails(errno.ENOENT, self.filesystem.drop_kept, n("a"), b"key")
        self.filesystem.resume_file(n("a"), b"key", 0).keep()
        self.filesystem.drop_kept(n("a"), b"key")
        self.fails(errno.ENOENT, self.filesystem.kept_size, n("a"), b"key")
        kept = self.filesystem.resume_file(n("a"), b"key", 0)
        kept.discard()
        self.fails(errno.ENOENT, self.filesystem.kept_size, n("a"), b"key")

    def test_only_files_are_written_in_parts_and_none_outside(self) -> None:
        self.folder("d")
        self.link("out", b"../../x")
        resume = self.filesystem.resume_file
        self.fails(errno.EISDIR, resume, n("d"), b"key", 0)
        self.fails(errno.EISDIR, resume, (), b"key", 0)
        self.fails(errno.ENOENT, resume, n("no/a"), b"key", 0)
        self.assertRaises(LeavesBase, resume, n("out"), b"key", 0)
        self.assertRaises(LeavesBase, self.filesystem.kept_size, n("out"), b"key")

    # appends

    def test_a_file_is_made_longer(self) -> None:
        self.file("a", b"one")
        seen: list[bytes] = []

        def compose(existing: OpenFile | None) -> Iterator[bytes]:
            assert existing is not None
            seen.append(existing.read(0, 10))
            yield b"-two"
            yield b""
            yield b"-three"

        facts, new = self.filesystem.append(n("a"), compose, agreed)
        self.assertEqual((facts.size, new, seen), (13, False, [b"one"]))
        self.assertEqual(self.content("a"), b"one-two-three")

    def test_a_new_file_is_made(self) -> None:
        told: list[object] = []
        facts, new = self.filesystem.append(
            n("a"), lambda existing: [b"x"], lambda *found: told.append(found)
        )
        self.assertEqual((facts.size, new, told), (1, True, [(n("a"), None)]))
        self.assertEqual(self.content("a"), b"x")
        self.fails(errno.ENOENT, self.filesystem.append, n("d/a"), lambda _: [b"x"], agreed)

    def test_an_append_that_fails_leaves_everything_as_it_was(self) -> None:
        self.file("a", b"one")

        def compose(_existing: OpenFile | None) -> Iterator[bytes]:
            yield b"part"
            raise Refused

        self.assertRaises(Refused, self.filesystem.append, n("a"), compose, agreed)
        self.assertRaises(Refused, self.filesystem.append, n("b"), compose, agreed)
        self.assertRaises(Refused, self.filesystem.append, n("a"), lambda _: [b"x"], refuse)
        self.assertEqual(self.content("a"), b"one")
        self.gone("b")

    def test_only_files_are_appended_to(self) -> None:
        self.folder("d")
        self.link("out", b"../../x")
        self.fails(errno.EISDIR, self.filesystem.append, n("d"), lambda _: [b"x"], agreed)
        self.assertRaises(LeavesBase, self.filesystem.append, n("out"), lambda _: [b"x"], agreed)
        self.make("s", Kind.SPECIAL)
        self.assertRaises(NotRegular, self.filesystem.append, n("s"), lambda _: [b"x"], agreed)


class InMemoryTests(InMemoryTree, Contract, SynchronousTestCase):
    """The verified fake."""


class LocalTests(LocalTree, Contract, SynchronousTestCase):
    """The real thing, in a temporary folder."""

    def test_a_removal_that_is_stopped_leaves_the_rest(self) -> None:
        for number in range(5):
            self.file(f"a/{number}")
        stop = Event()
        stop.set()
        self.assertRaises(Stopped, self.filesystem.remove_tree, n("a"), agreed, stop)
        self.assertEqual(len(list((self.root / "a").iterdir())), 5)

    def test_a_tree_deeper_than_any_is_refused_without_harm(self) -> None:
        path = "/".join(["d"] * 300)
        self.folder(path)
        self.fails(errno.ELOOP, self.filesystem.remove_tree, n("d"), agreed, Event())
        self.assertTrue((self.root / path).is_dir())
