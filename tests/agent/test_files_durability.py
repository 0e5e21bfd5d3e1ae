"""The local file system against sudden ends, and within the rights it is given."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.agent.test_files_jail import NOBODY, LocalCase, agreed, unprivileged
from workato_agent.services.files.confinement import temporary_name
from workato_agent.services.files.filesystem import BaseUnavailable
from workato_agent.services.files.posix import LocalFilesystem


def agreed_both(*_: object) -> None:
    """An ``approve`` of two arguments that has nothing against it."""


class PermissionTests(LocalCase):
    def test_what_the_user_may_not_is_eacces(self) -> None:
        place = self.base / "f"
        place.write_bytes(b"old")
        place.chmod(0o000)
        self.base.chmod(0o777)
        with unprivileged():
            self.assertRaises(PermissionError, self.read, (b"f",))
            self.assertRaises(PermissionError, self.write, (b"f",))
        self.base.chmod(0o555)
        with unprivileged():
            self.assertRaises(PermissionError, self.write, (b"new",))
            self.assertRaises(PermissionError, self.filesystem.remove, (b"f",), agreed)
        self.base.chmod(0o755)
        self.assertEqual([entry.name for entry in self.base.iterdir()], ["f"])

    def test_folder_that_may_only_be_searched_is_walked_through(self) -> None:
        inner = self.base / "d" / "e"
        inner.mkdir(parents=True)
        (inner / "f").write_bytes(b"inside")
        (self.base / "d").chmod(0o111)
        with unprivileged():
            self.assertEqual(self.read((b"d", b"e", b"f")), b"inside")
            self.assertRaises(PermissionError, self.filesystem.open_folder, (b"d",))

    def test_folder_that_may_be_written_and_not_read_takes_files(self) -> None:
        drop = self.base / "drop"
        drop.mkdir()
        drop.chmod(0o333)
        with unprivileged():
            self.write((b"drop", b"f"))
        self.assertEqual((drop / "f").read_bytes(), b"written")

    def test_replaced_file_keeps_its_mode_and_owner(self) -> None:
        place = self.base / "f"
        place.write_bytes(b"old")
        place.chmod(0o640)
        if not os.geteuid():
            os.chown(place, NOBODY, NOBODY)
        before = place.stat()
        self.write((b"f",))
        after = place.stat()
        self.assertNotEqual(after.st_ino, before.st_ino)
        self.assertEqual(stat.S_IMODE(after.st_mode), 0o640)
        self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))

    def test_new_file_has_the_mode_of_the_umask(self) -> None:
        mask = os.umask(0o027)
        try:
            self.write((b"f",))
        finally:
            os.umask(mask)
        self.assertEqual(stat.S_IMODE((self.base / "f").stat().st_mode), 0o640)


class FaultCase(LocalCase):
    """System calls that fail when a test says so."""

    @contextmanager
    def failing(self, name: str, moment: int, number: int = errno.EIO) -> Iterator[None]:
        """The call of that name fails the so-many-th time; later it works."""
        real = getattr(os, name)
        count = 0

        def failing(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == moment:
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        setattr(os, name, failing)
        try:
            yield
        finally:
            setattr(os, name, real)


class AtomicityTests(FaultCase):
    def test_fault_at_any_system_call_leaves_old_or_new_and_nothing_else(self) -> None:
        place = self.base / "f"
        for fault in ("writev", "fsync", "rename", "link", "fstat", "stat", "fchmod", "unlink"):
            for old in (None, b"old"):
                for moment in (1, 2, 3, 4):
                    for left in self.base.iterdir():
                        left.unlink()
                    if old is not None:
                        place.write_bytes(old)
                    with self.failing(fault, moment), contextlib.suppress(OSError, BaseUnavailable):
                        self.write((b"f",), b"new")
                    content = place.read_bytes() if place.exists() else None
                    self.assertIn(content, (old, b"new"))
                    names = [entry.name for entry in self.base.iterdir()]
                    if fault != "unlink":  # what can't be removed stays, and is hidden
                        self.assertEqual(names, ["f"] if content is not None else [])

    def test_fault_in_an_append_leaves_the_old_or_the_longer_file(self) -> None:
        place = self.base / "f"
        for fault in ("write", "fsync", "fstat", "open", "stat"):
            for old in (None, b"old"):
                for moment in (1, 2, 3, 4):
                    place.unlink(missing_ok=True)
                    if old is not None:
                        place.write_bytes(old)
                    with self.failing(fault, moment), contextlib.suppress(OSError, BaseUnavailable):
                        self.filesystem.append((b"f",), lambda _: [b"+new", b"+more"], agreed_both)
                    content = place.read_bytes() if place.exists() else None
                    self.assertIn(content, (old, (old or b"") + b"+new+more"), (fault, moment))

    def test_fault_in_a_move_leaves_the_content_in_one_place_or_both(self) -> None:
        source, target = self.base / "f", self.base / "t"
        for fault in ("rename", "link", "unlink", "fsync", "stat", "open"):
            for old in (None, b"old"):
                for moment in (1, 2, 3, 4):
                    for left in self.base.iterdir():
                        left.unlink()
                    source.write_bytes(b"moved")
                    if old is not None:
                        target.write_bytes(old)
                    with self.failing(fault, moment), contextlib.suppress(OSError, BaseUnavailable):
                        self.filesystem.move((b"f",), (b"t",), agreed_both)
                    there = target.read_bytes() if target.exists() else None
                    self.assertIn(there, (old, b"moved"), (fault, moment))
                    if there == old:
                        self.assertEqual(source.read_bytes(), b"moved")

    def test_file_system_without_hard_links_renames(self) -> None:
        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        self.patch(os, "link", no_links)
        self.write((b"f",))
        self.assertEqual((self.base / "f").read_bytes(), b"written")

    def test_write_that_takes_only_a_part_goes_on(self) -> None:
        real = os.writev
        self.patch(os, "writev", lambda file, blocks: real(file, [blocks[0][:3]]))
        self.write((b"f",), b"0123456789" * 100)
        self.assertEqual((self.base / "f").read_bytes(), b"0123456789" * 100)

    def test_two_replacements_of_one_known_state_do_not_both_succeed(self) -> None:
        place = self.base / "f"
        won = []
        for _ in range(50):
            place.write_bytes(b"start")
            start = self.filesystem.stat((b"f",)).facts.etag

            def known(facts: object, start: str | None = start) -> None:
                if getattr(facts, "etag", None) != start:
                    raise LookupError

            def attempt(known: Callable[[object], None] = known) -> None:
                pending = self.filesystem.begin_file((b"f",))
                try:
                    pending.write([b"x"])
                    pending.commit(known)
                    won.append(1)
                except LookupError:
                    pending.discard()

            threads = [threading.Thread(target=attempt) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(len(won), 50)


WRITER = """
import sys, time
from pathlib import Path
from workato_agent.services.files.posix import LocalFilesystem
filesystem = LocalFilesystem(Path(sys.argv[1]))
pending = filesystem.begin_file((b"d", b"f"))
pending.write([b"half"])
print("writing", flush=True)
time.sleep(60)
"""


class LeftoverTests(LocalCase):
    def setUp(self) -> None:
        super().setUp()
        (self.base / "d").mkdir()

    def hidden(self) -> list[str]:
        return [place.name for place in (self.base / "d").iterdir()]

    def test_upload_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(self) -> None:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self.base)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        with writer.stdout:
            self.assertEqual(writer.stdout.readline(), b"writing\n")
            self.assertEqual(len(self.hidden()), 1)
            self.assertTrue(self.filesystem.remove_leftovers(60))
            self.assertEqual(len(self.hidden()), 1)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        self.assertTrue(self.filesystem.remove_leftovers(60))
        self.assertEqual(self.hidden(), [])

    def test_own_upload_under_way_is_not_removed(self) -> None:
        pending = self.filesystem.begin_file((b"d", b"f"))
        self.assertTrue(LocalFilesystem(self.base).remove_leftovers(60))
        pending.write([b"whole"])
        pending.commit(agreed)
        self.assertEqual(self.hidden(), ["f"])

    def test_leftovers_are_neither_listed_nor_reached(self) -> None:
        name = temporary_name()
        (self.base / "d" / os.fsdecode(name)).write_bytes(b"half")
        (self.base / "to").symlink_to(Path("d") / os.fsdecode(name))
        folder = self.filesystem.open_folder((b"d",))
        self.assertEqual(list(folder.names()), [])
        folder.close()
        self.assertRaises(FileNotFoundError, self.read, (b"to",))

    def test_folder_with_nothing_but_leftovers_is_empty(self) -> None:
        (self.base / "d" / os.fsdecode(temporary_name())).write_bytes(b"half")
        self.filesystem.remove((b"d",), agreed)
        self.assertEqual([place.name for place in self.base.iterdir()], [])

    def test_folder_into_which_an_upload_goes_is_not_empty(self) -> None:
        pending = self.filesystem.begin_file((b"d", b"f"))
        error = self.assertRaises(OSError, self.filesystem.remove, (b"d",), agreed)
        self.assertEqual(error.errno, errno.ENOTEMPTY)
        pending.discard()
        self.filesystem.remove((b"d",), agreed)

    def test_search_goes_on_where_it_was_and_lets_go_when_closed(self) -> None:
        for number in range(50):
            (self.base / "d" / f"x{number}").mkdir()
        rounds = 0
        while not self.filesystem.remove_leftovers(-1):
            rounds += 1
        self.assertGreaterEqual(rounds, 50)
        self.assertFalse(self.filesystem.remove_leftovers(-1))
        self.filesystem.close()

    def test_search_passes_over_what_it_may_not_enter_or_remove(self) -> None:
        closed = self.base / "closed"
        closed.mkdir(mode=0o700)
        theirs = self.base / "d" / os.fsdecode(temporary_name())
        theirs.write_bytes(b"half")
        theirs.chmod(0o600)
        own = self.base / os.fsdecode(temporary_name())
        self.base.chmod(0o777)
        with unprivileged():
            own.write_bytes(b"half")
            self.assertTrue(self.filesystem.remove_leftovers(60))
        self.assertFalse(own.exists())
        if not os.geteuid():
            self.assertTrue(theirs.exists())

    def test_search_follows_no_link_out(self) -> None:
        leftover = self.outside / os.fsdecode(temporary_name())
        leftover.write_bytes(b"not ours")
        (self.base / "link").symlink_to(self.outside)
        self.assertTrue(self.filesystem.remove_leftovers(60))
        self.assertTrue(leftover.exists())

    def test_old_leftover_is_removed_where_there_are_no_locks(self) -> None:
        old = self.base / "d" / os.fsdecode(temporary_name())
        new = self.base / "d" / os.fsdecode(temporary_name())
        old.write_bytes(b"half")
        new.write_bytes(b"half")
        os.utime(old, (0, 0))

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        self.patch(__import__("fcntl"), "flock", no_locks)
        self.assertTrue(self.filesystem.remove_leftovers(60))
        self.assertEqual(self.hidden(), [new.name])
        self.write((b"d", b"f"))


class CreationTimeTests(LocalCase):
    def test_creation_time_is_told_where_the_file_system_knows_it(self) -> None:
        before = time.time_ns() - 1_000_000_000
        self.write((b"f",))
        os.utime(self.base / "f", (1, 1))
        facts = self.filesystem.stat((b"f",)).facts
        self.assertEqual(facts.modified, 1_000_000_000)
        if facts.created is not None:
            self.assertTrue(before <= facts.created <= time.time_ns())
