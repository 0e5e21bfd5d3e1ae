"""The chain of audit files: writing, rotating, surviving, verifying."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.audits import a_call, a_chain, lines_of, verified
from workato_agent.chain import GENESIS, ChainError, ChainFile, rotated_files, seal, unseal
from workato_agent.chain_check import find_chains


class ChainTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(mkdtemp(dir=".")).absolute()
        self.path = self.folder / "audit.jsonl"

    def chain(self, lines: int = 0, max_size: int = 1 << 20, keep: int = 100) -> ChainFile:
        chain = a_chain(self.path, lines, max_size, keep)
        self.addCleanup(chain.close)
        return chain


class Writing(ChainTestCase):
    def test_lines_are_numbered_and_each_seals_the_one_before(self) -> None:
        self.chain(3)
        lines = lines_of(self.path)
        self.assertEqual([line["seq"] for line in lines], [1, 2, 3])
        self.assertEqual(lines[0]["prev"], GENESIS)
        self.assertEqual(lines[1]["prev"], lines[0]["hash"])
        self.assertEqual(lines[2]["prev"], lines[1]["hash"])
        self.assertEqual(verified(self.path).lines, 3)

    def test_files_and_their_folder_are_the_owners_alone(self) -> None:
        self.path = self.folder / "new" / "audit.jsonl"
        self.chain(1)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    def test_a_symbolic_link_is_not_followed(self) -> None:
        self.path.symlink_to(self.folder / "elsewhere")
        self.assertRaises(OSError, self.chain)

    def test_two_writers_of_one_chain_are_refused(self) -> None:
        self.chain(1)
        error = self.assertRaises(ChainError, self.chain)
        self.assertIn("being written by another agent", str(error))

    def test_a_restart_goes_on_where_the_chain_ended(self) -> None:
        self.chain(3).close()
        self.chain(2)
        report = verified(self.path)
        self.assertTrue(report.intact)
        self.assertEqual(report.lines, 5)


class Rotating(ChainTestCase):
    def test_the_chain_goes_on_over_files(self) -> None:
        self.chain(40, max_size=4096)
        files = rotated_files(self.path)
        self.assertGreater(len(files), 2)
        self.assertEqual(files[0].name, "audit.jsonl.000000000001")
        for file in files:
            self.assertLessEqual(file.stat().st_size, 4096)
            self.assertEqual(int(file.name.rpartition(".")[2]), lines_of(file)[0]["seq"])
        report = verified(self.folder)
        self.assertTrue(report.intact)
        self.assertEqual((report.lines, len(report.files)), (40, len(files) + 1))

    def test_only_so_many_full_files_are_kept_and_the_rest_still_holds(self) -> None:
        self.chain(100, max_size=4096, keep=2)
        self.assertEqual(len(rotated_files(self.path)), 2)
        report = verified(self.folder)
        self.assertTrue(report.intact)
        assert report.first is not None
        self.assertGreater(report.first.seq, 1)

    def test_a_restart_goes_on_after_a_rotation(self) -> None:
        for _ in range(30):
            self.chain(3, max_size=4096).close()
        report = verified(self.folder)
        self.assertTrue(report.intact)
        self.assertEqual(report.lines, 90)

    def test_a_crash_between_renaming_and_beginning_a_file_loses_nothing(self) -> None:
        self.chain(5).close()
        self.path.rename(self.folder / "audit.jsonl.000000000001")
        self.chain(5)
        report = verified(self.folder)
        self.assertTrue(report.intact)
        self.assertEqual(report.lines, 10)


class Surviving(ChainTestCase):
    @given(st.integers(1, 10_000))
    def test_a_line_torn_anywhere_is_set_aside_and_noted(self, cut: int) -> None:
        self.setUp()
        self.chain(4).close()
        whole = self.path.read_bytes()
        last = len(whole) - whole[:-1].rfind(b"\n") - 1
        cut = 1 + cut % (last - 1)
        self.path.write_bytes(whole[:-cut])
        self.chain(2).close()
        report = verified(self.path)
        self.assertTrue(report.intact, report.broken)
        kinds = [line["kind"] for line in lines_of(self.path)]
        self.assertEqual(kinds, ["call", "call", "call", "torn", "call", "call"])
        aside = self.folder / "audit.jsonl.torn-000000000004"
        self.assertEqual(aside.read_bytes(), whole[len(whole) - last : -cut])
        self.assertEqual(lines_of(self.path)[3]["bytes"], last - cut)
        self.assertEqual([seq for seq, _ in report.notes], [4])

    def test_a_tail_of_zeros_is_set_aside(self) -> None:
        self.chain(2).close()
        with self.path.open("ab") as stream:
            stream.write(bytes(5000))
        self.chain(1)
        self.assertTrue(verified(self.path).intact)
        self.assertEqual((self.folder / "audit.jsonl.torn-000000000003").stat().st_size, 5000)

    def test_a_file_without_a_whole_line_is_set_aside_as_it_is(self) -> None:
        self.path.write_bytes(b"garbage\n" * 10)
        self.chain(1)
        self.assertEqual([line["kind"] for line in lines_of(self.path)], ["torn", "call"])
        self.assertTrue(verified(self.path).intact)

    def test_a_crash_before_the_note_only_delays_it(self) -> None:
        self.chain(2).close()
        (self.folder / "audit.jsonl.torn-000000000003").write_bytes(b"rest")
        self.chain(1).close()
        self.chain(1)
        kinds = [line["kind"] for line in lines_of(self.path)]
        self.assertEqual(kinds, ["call", "call", "torn", "call", "call"])

    def test_an_empty_file_is_a_beginning(self) -> None:
        self.path.touch()
        self.chain(1)
        self.assertTrue(verified(self.path).intact)

    def test_a_file_that_is_removed_meanwhile_is_noted(self) -> None:
        chain = self.chain(3)
        self.path.unlink()
        chain.append([a_call()])
        lines = lines_of(self.path)
        self.assertEqual([line["kind"] for line in lines], ["missing", "call"])
        self.assertEqual(lines[0]["seq"], 4)
        self.assertEqual(len(verified(self.path).notes), 1)

    def test_a_file_that_is_emptied_meanwhile_is_noted(self) -> None:
        chain = self.chain(3)
        os.truncate(self.path, 0)
        chain.append([a_call()])
        self.assertEqual([line["kind"] for line in lines_of(self.path)], ["missing", "call"])

    def test_a_full_disk_leaves_whole_lines_and_the_write_can_be_repeated(self) -> None:
        chain = self.chain(3)
        before = self.path.read_bytes()
        records = [a_call(number) for number in range(50)]
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, ignored)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The system takes a part of the write and refuses the rest, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        try:
            error = self.assertRaises(OSError, chain.append, records)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(error.errno, errno.EFBIG)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(chain.seq, 3)
        chain.append(records)
        report = verified(self.path)
        self.assertTrue(report.intact)
        self.assertEqual(report.lines, 53)


class Verifying(ChainTestCase):
    def broken(self) -> tuple[str, int, str]:
        broken = verified(self.folder).broken
        assert broken is not None
        return broken.file.name, broken.line, broken.reason

    def edit(self, old: bytes, new: bytes, file: Path | None = None) -> None:
        file = file or self.path
        content = file.read_bytes()
        self.assertIn(old, content)
        file.write_bytes(content.replace(old, new, 1))

    def test_a_changed_value_is_found(self) -> None:
        self.chain(5)
        self.edit(b'"r2"', b'"r9"')
        self.assertEqual(
            self.broken(), ("audit.jsonl", 3, "was changed: its hash does not fit its content")
        )

    def test_a_line_with_a_new_hash_of_its_own_is_found_at_the_next(self) -> None:
        self.chain(5)
        lines = self.path.read_bytes().splitlines(keepends=True)
        record = a_call(99)
        record.seq = 3
        lines[2] = seal(record, unseal(lines[1][:-1]).hash)[0]
        self.path.write_bytes(b"".join(lines))
        self.assertEqual(self.broken(), ("audit.jsonl", 4, "does not follow the line before it"))

    def test_a_removed_line_is_found(self) -> None:
        self.chain(5)
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(b"".join(lines[:2] + lines[3:]))
        self.assertEqual(self.broken()[1:], (3, "has number 4 where 3 is due: lines are missing"))

    def test_swapped_and_repeated_lines_are_found(self) -> None:
        self.chain(5)
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
        self.assertEqual(self.broken()[1], 2)
        self.path.write_bytes(b"".join([lines[0], lines[0], *lines[1:]]))
        self.assertEqual(self.broken()[1], 2)

    def test_a_missing_file_in_the_middle_is_found(self) -> None:
        self.chain(60, max_size=4096)
        rotated_files(self.path)[1].unlink()
        name, line, reason = self.broken()
        self.assertEqual((name, line), (rotated_files(self.path)[1].name, 1))
        self.assertIn("lines are missing", reason)

    def test_a_change_in_a_rotated_file_is_found(self) -> None:
        self.chain(60, max_size=4096)
        self.edit(b'"r2"', b'"r9"', rotated_files(self.path)[0])
        self.assertEqual(self.broken()[:2], ("audit.jsonl.000000000001", 3))

    def test_an_emptied_file_is_found(self) -> None:
        self.chain(5).close()
        self.path.write_bytes(b"")
        self.assertIn("never empty", self.broken()[2])

    def test_a_cut_line_is_found(self) -> None:
        self.chain(5).close()
        os.truncate(self.path, self.path.stat().st_size - 5)
        self.assertIn("cut off", self.broken()[2])

    def test_a_cut_off_end_is_found_by_a_hash_noted_earlier(self) -> None:
        chain = self.chain(5)
        noted = chain.head
        self.assertTrue(verified(self.folder, noted).intact)
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.path.write_bytes(b"".join(lines[:-1]))
        self.assertTrue(verified(self.folder).intact)
        self.assertFalse(verified(self.folder, noted).intact)

    def test_other_files_of_the_folder_are_not_looked_at(self) -> None:
        self.chain(2)
        (self.folder / "agent.log").write_text("a log")
        (self.folder / "key.pem").write_text("a key")
        self.assertEqual(find_chains(self.folder), [(self.path,)])

    def test_what_holds_no_audit_log_is_said_to(self) -> None:
        self.assertRaises(ChainError, find_chains, self.folder)
        self.assertRaises(ChainError, find_chains, self.folder / "none")

    @given(st.binary(max_size=300))
    def test_no_line_is_taken_for_one_by_chance(self, line: bytes) -> None:
        self.assertRaises(ValueError, unseal, line)

    @given(st.integers(0, 400), st.integers(0, 255))
    def test_no_changed_byte_goes_unnoticed(self, position: int, value: int) -> None:
        line = bytearray(seal(a_call(), GENESIS)[0][:-1])
        position %= len(line)
        if line[position] != value:
            line[position] = value
            self.assertRaises(ValueError, unseal, bytes(line))
