"""The local file system against those who try to leave it, and against sudden ends."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import open_descriptors
from workato_agent.services.files import walk
from workato_agent.services.files.confinement import Names, names_of
from workato_agent.services.files.filesystem import (
    BaseUnavailable,
    LeavesBase,
    NotRegular,
)
from workato_agent.services.files.posix import LocalFilesystem
from workato_tunnel.problems import Problem

NOBODY = 65534
SECRET = b"the secret outside"


def agreed(_: object) -> None:
    """An ``approve`` that has nothing against it."""


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user to whom permissions apply."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class LocalCase(SynchronousTestCase):
    """A base and, beside it, a folder that nobody may reach. No descriptor may stay open."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        top = Path(folder.name)
        top.chmod(0o755)
        self.base = top / "base"
        self.outside = top / "outside"
        self.base.mkdir()
        self.outside.mkdir()
        (self.outside / "f").write_bytes(SECRET)
        self.filesystem = LocalFilesystem(self.base)
        before = open_descriptors()
        self.addCleanup(lambda: self.assertEqual(open_descriptors(), before))

    def read(self, path: Names) -> bytes:
        file = self.filesystem.open_file(path)
        try:
            return file.read(0, 100)
        finally:
            file.close()

    def write(self, path: Names, content: bytes = b"written") -> None:
        pending = self.filesystem.begin_file(path)
        try:
            pending.write([content])
            pending.commit(agreed)
        finally:
            pending.discard()

    def outside_is_untouched(self) -> None:
        self.assertEqual([place.name for place in self.outside.iterdir()], ["f"])
        self.assertEqual((self.outside / "f").read_bytes(), SECRET)


class RaceTests(LocalCase):
    """While a path is walked, its parts turn into links that lead out."""

    def setUp(self) -> None:
        super().setUp()
        (self.base / "a" / "d").mkdir(parents=True)
        (self.base / "a" / "d" / "f").write_bytes(b"inside")
        self.link = self.base / "link"
        self.aside = self.base / "aside"

    def swap(self, place: Path, target: Path) -> Callable[[], None]:
        """Put a link in the place of what is there; the result puts it back."""
        place.rename(self.aside)
        place.symlink_to(target)

        def restore() -> None:
            place.unlink(missing_ok=True)
            self.aside.rename(place)

        return restore

    def attempt(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except (OSError, LeavesBase, NotRegular) as error:
            return error

    def test_swap_before_any_single_system_call_never_leads_out(self) -> None:
        path = (b"a", b"d", b"f")
        swaps = (
            (self.base / "a" / "d", self.outside),
            (self.base / "a" / "d" / "f", self.outside / "f"),
            (self.base / "a" / "d", Path("..") / ".." / "outside"),
        )
        calls: tuple[Callable[[], object], ...] = (
            lambda: self.read(path),
            lambda: self.write(path),
            lambda: self.filesystem.remove(path, agreed),
            lambda: self.filesystem.open_folder(path[:2]).close(),
        )
        reached = 0
        for place, target in swaps:
            for call in calls:
                for moment in range(1, 40):
                    (self.base / "a" / "d" / "f").write_bytes(b"inside")
                    restore: list[Callable[[], None]] = []
                    self._swap_at(
                        moment, lambda r=restore, p=place, t=target: r.append(self.swap(p, t))
                    )
                    answer = self.attempt(call)
                    self._undo()
                    self.assertNotEqual(answer, SECRET)
                    self.outside_is_untouched()
                    if not restore:
                        break
                    reached += 1
                    restore[0]()
        self.assertGreater(reached, 30)

    def _swap_at(self, moment: int, swap: Callable[[], object]) -> None:
        """Before the given system call of those that take a name, swap once."""
        self._real = {name: getattr(os, name) for name in self._HOOKED}
        count = 0

        def hook(name: str) -> Callable[..., object]:
            real = self._real[name]

            def call(*args: object, **kwargs: object) -> object:
                nonlocal count
                count += 1
                if count == moment:
                    self._undo()
                    swap()
                return real(*args, **kwargs)

            return call

        for name in self._HOOKED:
            setattr(os, name, hook(name))

    _HOOKED = ("open", "stat", "readlink", "rename", "link", "unlink", "access")

    def _undo(self) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def test_racing_swaps_never_lead_out(self) -> None:
        stop = threading.Event()
        swapped = 0

        def race() -> None:
            nonlocal swapped
            while not stop.is_set():
                self.swap(self.base / "a" / "d", self.outside)()
                self.swap(self.base / "a" / "d" / "f", self.outside / "f")()
                swapped += 1

        racer = threading.Thread(target=race)
        racer.start()
        try:
            chance = random.Random(1)
            end = time.monotonic() + 1.5
            seen = set()
            while time.monotonic() < end:
                path = (b"a", b"d", b"f" if chance.random() < 0.7 else b"new")
                answer = self.attempt(lambda path=path: self.read(path))
                seen.add(answer if isinstance(answer, bytes) else type(answer))
                if path[-1] == b"new":
                    self.attempt(lambda path=path: self.write(path))
                    self.attempt(lambda path=path: self.filesystem.remove(path, agreed))
        finally:
            stop.set()
            racer.join()
        self.assertNotIn(SECRET, seen)
        self.assertIn(b"inside", seen)
        self.assertGreater(swapped, 10)
        self.outside_is_untouched()


class HostilePathTests(LocalCase):
    def setUp(self) -> None:
        super().setUp()
        (self.base / "d").mkdir()
        (self.base / "d" / "f").write_bytes(b"inside")
        for name, target in {
            "up": "..",
            "abs": str(self.outside),
            "proc": "/proc/self/root",
            "fd": "/proc/self/fd",
            "deep": "d/../../outside",
            "mixed": "d/up/up/../../outside",
            "d/up": "..",
        }.items():
            (self.base / name).symlink_to(target)

    SEGMENT = st.sampled_from(
        [
            *("d", "f", "up", "abs", "proc", "fd", "deep", "mixed", "outside", "base", "etc"),
            *("..", ".", "", "%2e%2e", "%2F", "%5c..", "..%00", "%252e%252e", "~", "C:", "\\\\x"),
        ]
    )

    @settings(max_examples=400, deadline=None)
    @given(st.lists(SEGMENT, min_size=1, max_size=6).map("/".join))
    @example("up/outside/f")
    @example("abs/f")
    @example("d/up/up/outside/f")
    @example("proc/etc/passwd")
    def test_no_path_leads_to_what_lies_outside(self, path: str) -> None:
        try:
            names = names_of(path)
            content = self.read(names)
        except (Problem, OSError, LeavesBase, NotRegular):
            return
        self.assertEqual(content, b"inside")

    @settings(max_examples=200, deadline=None)
    @given(st.lists(SEGMENT, min_size=1, max_size=6).map("/".join))
    def test_no_path_writes_outside(self, path: str) -> None:
        with contextlib.suppress(Problem, OSError, LeavesBase, NotRegular):
            self.write((*names_of(path), b"new"))
        self.outside_is_untouched()

    def test_links_with_endless_ways_up_are_given_up(self) -> None:
        for number in range(30):
            (self.base / f"l{number}").symlink_to("d/../" * 700 + f"l{number + 1}")
        started = time.process_time()
        error = self.assertRaises(OSError, self.filesystem.stat, (b"l0",))
        self.assertEqual(error.errno, errno.ELOOP)
        self.assertLess(time.process_time() - started, 2)

    def test_fifo_and_device_are_refused_at_once(self) -> None:
        os.mkfifo(self.base / "fifo")
        (self.base / "null").symlink_to("/dev/null")
        started = time.monotonic()
        self.assertRaises(NotRegular, self.read, (b"fifo",))
        self.assertRaises(NotRegular, self.write, (b"fifo",))
        self.assertRaises(LeavesBase, self.read, (b"null",))
        self.assertLess(time.monotonic() - started, 1)

    def test_fifo_that_takes_the_place_of_a_file_does_not_block(self) -> None:
        place = self.base / "f"
        real = os.open

        def swap_then_open(name: bytes, flags: int, *args: int, **kwargs: int) -> int:
            if name == b"f":
                place.unlink()
                os.mkfifo(place)
            return real(name, flags, *args, **kwargs)

        place.write_bytes(b"inside")
        self.patch(os, "open", swap_then_open)
        self.assertRaises(NotRegular, self.read, (b"f",))

    def test_path_longer_than_the_system_takes_at_once_is_walked(self) -> None:
        names = (b"x" * 200,) * 40
        folder = os.open(self.base, os.O_RDONLY)
        for name in names:
            os.mkdir(name, dir_fd=folder)
            inner = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(folder)
        self.write((*names, b"f"))
        self.assertEqual(self.read((*names, b"f")), b"written")


class BaseTests(LocalCase):
    def test_base_may_be_a_link(self) -> None:
        (self.base / "f").write_bytes(b"inside")
        (self.base / "to").symlink_to(self.base / "f")
        linked = self.base.parent / "linked"
        linked.symlink_to(self.base)
        self.filesystem = LocalFilesystem(linked)
        self.assertEqual(self.read((b"f",)), b"inside")
        self.assertEqual(self.read((b"to",)), b"inside")

    def test_base_that_comes_and_goes(self) -> None:
        self.base.rmdir()
        error = self.assertRaises(BaseUnavailable, self.filesystem.check)
        self.assertEqual(error.error.errno, errno.ENOENT)
        self.assertRaises(BaseUnavailable, self.filesystem.stat, (b"f",))
        self.assertRaises(BaseUnavailable, self.filesystem.remove_leftovers, 1.0)
        self.base.mkdir()
        self.assertTrue(self.filesystem.check().writable)

    def test_base_that_is_a_file(self) -> None:
        self.base.rmdir()
        self.base.write_bytes(b"")
        error = self.assertRaises(BaseUnavailable, self.filesystem.check)
        self.assertEqual(error.error.errno, errno.ENOTDIR)

    def test_base_tells_what_this_user_may(self) -> None:
        self.base.chmod(0o555)
        with unprivileged():
            facts = self.filesystem.check()
        self.assertEqual((facts.readable, facts.writable), (True, False))
        self.base.chmod(0o000)
        with unprivileged():
            self.assertFalse(self.filesystem.check().readable)
            self.assertRaises(PermissionError, self.filesystem.stat, (b"f",))
        self.base.chmod(0o755)


class WalkTests(LocalCase):
    def test_walk_needs_few_descriptors_however_deep(self) -> None:
        folder = self.base
        for _ in range(100):
            folder = folder / "d"
            folder.mkdir()
        before = len(open_descriptors())
        with walk.Jail(self.base).place((b"d",) * 100):
            self.assertEqual(len(open_descriptors()), before + 1)
