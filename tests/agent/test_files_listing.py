"""Pages of folders: order, cursors and bounds."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.files.confinement import Names
from workato_agent.services.files.filesystem import Facts, Kind
from workato_agent.services.files.listing import Listing, Page, Query, Stopped
from workato_agent.services.files.memory import InMemoryFilesystem, MemoryFolder

NAME = st.sampled_from([b"a", b"b", b"a-b", b"a.b", b"a0", b"a b", b"\xff", b"ab"])
PATHS = st.lists(st.lists(NAME, min_size=1, max_size=4).map(tuple), max_size=30)


def tree(paths: list[Names]) -> tuple[InMemoryFilesystem, list[bytes]]:
    """A tree with an empty file at each path, unless a file is in its way; and all its paths."""
    filesystem = InMemoryFilesystem()
    known: dict[Names, Kind] = {}
    for path in paths:
        if any(known.get(path[:depth]) is Kind.FILE for depth in range(1, len(path))):
            continue
        if path in known:
            continue
        for depth in range(1, len(path)):
            if path[:depth] not in known:
                filesystem.add(path[:depth], Kind.FOLDER)
                known[path[:depth]] = Kind.FOLDER
        filesystem.add(path, Kind.FILE)
        known[path] = Kind.FILE
    return filesystem, sorted(b"/".join(path) for path in known)


def nothing(_: Names) -> Facts | None:
    return None


def page(
    filesystem: InMemoryFilesystem,
    limit: int = 1000,
    *,
    recursive: bool = True,
    folder: Names = (),
    after: bytes | None = None,
    visible: Callable[[Names, Kind], bool] = lambda _names, _kind: True,
    enter: Callable[[Names], bool] = lambda _: True,
    stop: Event | None = None,
) -> Page:
    query = Query(
        folder, limit, recursive, visible, enter, nothing, after, Event() if stop is None else stop
    )
    return Listing(filesystem, query).page()


def paths_of(found: Page) -> list[bytes]:
    return [b"/".join(names) for names, _ in found.entries]


class CountingFilesystem(InMemoryFilesystem):
    """Counts how often folders are opened."""

    opened = 0

    def open_folder(self, path: Names) -> MemoryFolder:
        self.opened += 1
        return super().open_folder(path)


class ListingTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(PATHS, st.integers(1, 7))
    def test_pages_put_together_are_the_sorted_tree(self, paths: list[Names], limit: int) -> None:
        filesystem, expected = tree(paths)
        seen: list[bytes] = []
        after: bytes | None = None
        while True:
            found = page(filesystem, limit, after=after)
            self.assertLessEqual(len(found.entries), limit)
            seen += paths_of(found)
            after = found.cursor
            if after is None:
                break
            self.assertEqual(len(found.entries), limit)
        self.assertEqual(seen, expected)

    @settings(deadline=None)
    @given(PATHS, st.sampled_from([b"a", b"a/b", b"", b"a-", b"zz", b"a/", b"a/b/zz"]))
    def test_any_cursor_is_a_place_to_go_on_from(self, paths: list[Names], after: bytes) -> None:
        filesystem, expected = tree(paths)
        self.assertEqual(
            paths_of(page(filesystem, after=after)), [path for path in expected if path > after]
        )

    def test_flat_list_has_no_deeper_entries(self) -> None:
        filesystem, _ = tree([(b"a", b"x"), (b"b",)])
        self.assertEqual(paths_of(page(filesystem, recursive=False)), [b"a", b"b"])
        self.assertEqual(paths_of(page(filesystem, folder=(b"a",))), [b"a/x"])

    def test_large_folder_is_read_once_a_page(self) -> None:
        filesystem = CountingFilesystem()
        expected = sorted(b"%d" % number for number in range(5000))
        for name in expected:
            filesystem.add((name,), Kind.FILE)
        found = page(filesystem, 1000, recursive=False)
        self.assertEqual(paths_of(found), expected[:1000])
        self.assertEqual(found.cursor, expected[999])
        self.assertEqual(filesystem.opened, 2)  # once for the names, once for their facts

    def test_deep_folder_larger_than_a_batch_is_complete(self) -> None:
        paths = [(b"d",) * depth + (b"%04d" % n,) for depth in (1, 3, 9) for n in range(300)]
        filesystem, expected = tree(paths)
        self.assertEqual(paths_of(page(filesystem, 10_000)), expected)
        self.assertEqual(paths_of(page(filesystem, 50, after=b"d/d/d/0100"))[0], b"d/d/d/0101")

    def test_very_deep_tree_is_listed(self) -> None:
        filesystem = InMemoryFilesystem()
        for depth in range(1, 1501):
            filesystem.add((b"d",) * depth, Kind.FOLDER)
        self.assertEqual(len(page(filesystem, 10_000).entries), 1500)

    def test_what_is_not_visible_does_not_count(self) -> None:
        filesystem, _ = tree([(b"%03d" % number,) for number in range(500)])
        found = page(filesystem, 3, visible=lambda names, _: names[-1].endswith(b"7"))
        self.assertEqual(paths_of(found), [b"007", b"017", b"027"])

    def test_folder_not_to_be_entered_is_not_opened(self) -> None:
        filesystem, _ = tree([(b"a", b"x"), (b"b", b"y")])
        found = page(filesystem, enter=lambda names: names != (b"a",))
        self.assertEqual(paths_of(found), [b"a", b"b", b"b/y"])

    def test_subfolder_that_is_denied_is_told(self) -> None:
        class Denying(InMemoryFilesystem):
            def open_folder(self, path: Names) -> MemoryFolder:
                if path == (b"a",):
                    raise PermissionError(13, "Permission denied")
                return super().open_folder(path)

        filesystem = Denying()
        filesystem.add((b"a",), Kind.FOLDER)
        filesystem.add((b"b",), Kind.FOLDER)
        filesystem.add((b"b", b"y"), Kind.FILE)
        found = page(filesystem)
        self.assertEqual((paths_of(found), found.skipped), ([b"a", b"b", b"b/y"], ((b"a",),)))
        self.assertRaises(PermissionError, page, filesystem, folder=(b"a",))

    def test_what_vanishes_between_name_and_facts_is_left_out(self) -> None:
        filesystem, _ = tree([(b"a",), (b"b",), (b"c",)])

        def visible(names: Names, _: Kind) -> bool:
            if names == (b"a",):
                filesystem.remove((b"b",), lambda _: None)
            return True

        self.assertEqual(paths_of(page(filesystem, visible=visible)), [b"a", b"c"])

    def test_listing_stops_when_told(self) -> None:
        filesystem, _ = tree([(b"a",)])
        stop = Event()
        stop.set()
        self.assertRaises(Stopped, page, filesystem, stop=stop)
