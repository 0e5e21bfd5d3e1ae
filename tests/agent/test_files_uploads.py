"""Uploads in parts: kept between calls, whole or not there, and never another caller's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from tests.agent.test_files_cancellation import SteppedCase
from tests.agent.test_files_durability import FaultCase
from tests.agent.test_files_jail import LocalCase, agreed
from tests.agent.test_files_service import ServiceCase
from tests.support.files import Chunks, PacedBody, request, start
from workato_agent.requests import BodyLost, Headers, Response
from workato_agent.services.files.confinement import is_kept, kept_name
from workato_agent.services.files.filesystem import OffsetBeyond, TooManyKept
from workato_agent.services.files.kept import MAX_KEPT
from workato_agent.services.files.leftovers import KEPT_SECONDS
from workato_agent.services.files.posix import LocalFilesystem
from workato_agent.services.files.transfers import LARGEST_BLOCK
from workato_tunnel.problems import Problem


def digest(content: bytes) -> Headers:
    value = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return (("content-digest", f"sha-256=:{value}:"),)


class PartCase(ServiceCase):
    def part(
        self,
        query: str,
        *chunks: bytes,
        path: str = "a",
        headers: Headers = (),
        lost: bool = False,
        caller: str = "tester",
    ) -> Response:
        asked = request("PUT", f"content/{path}", query, headers, Chunks(chunks, lost))
        return self.call(evolve(asked, caller=caller))

    def arrived(self, query: str = "", path: str = "a", caller: str = "tester") -> int:
        asked = evolve(request("GET", f"uploads/{path}", query), caller=caller)
        answer = self.call(asked)
        offset: int = json.loads(self.body(answer))["offset"]
        self.assertEqual(dict(answer.headers)["upload-offset"], str(offset))
        return offset

    def none_arrived(self, **of: Any) -> None:
        self.problem("not_found", self.arrived, **of)


class PartTests(PartCase):
    def test_a_file_shows_when_its_last_part_has_come(self) -> None:
        answer = self.part("offset=0&complete=false", b"one ")
        self.assertEqual((answer.status, dict(answer.headers)["upload-offset"]), (202, "4"))
        self.assertEqual(json.loads(self.body(answer)), {"offset": 4})
        self.problem("not_found", self.get, "content/a")
        self.assertEqual(self.json("list")["entries"], [])
        self.assertEqual(self.arrived(), 4)
        answer = self.part("offset=4", b"two")
        self.assertEqual(answer.status, 201)
        self.assertEqual(self.content("a"), b"one two")
        self.assertEqual(dict(answer.headers)["etag"], self.json("stat/a")["etag"])
        self.none_arrived()

    def test_a_body_that_is_cut_is_kept_as_far_as_it_came(self) -> None:
        self.file("a", b"old")
        self.assertRaises(BodyLost, self.part, "offset=0", b"01234", b"56", lost=True)
        self.assertEqual(self.content("a"), b"old")
        self.assertEqual(self.arrived(), 7)
        self.assertEqual(self.part("offset=7", b"789").status, 204)
        self.assertEqual(self.content("a"), b"0123456789")

    def test_an_offset_before_the_end_drops_what_lies_behind(self) -> None:
        self.part("offset=0&complete=false", b"0123456789")
        self.part("offset=3&complete=false", b"x")
        self.assertEqual(self.arrived(), 4)
        self.part("offset=0", b"anew")
        self.assertEqual(self.content("a"), b"anew")

    def test_an_offset_behind_the_end_is_a_conflict_that_tells_the_end(self) -> None:
        problem = self.problem("conflict", self.part, "offset=5", b"x")
        self.assertEqual(problem.extra, {"offset": 0})
        self.part("offset=0&complete=false", b"0123")
        problem = self.problem("conflict", self.part, "offset=5", b"x")
        self.assertEqual(problem.extra, {"offset": 4})
        self.assertEqual(self.arrived(), 4)

    def test_uploads_are_told_apart_by_caller_path_and_name(self) -> None:
        self.part("offset=0&complete=false", b"1")
        self.part("offset=0&complete=false&upload=x", b"22")
        self.part("offset=0&complete=false", b"333", caller="other")
        self.part("offset=0&complete=false", b"4444", path="b")
        self.assertEqual(
            [
                self.arrived(),
                self.arrived("upload=x"),
                self.arrived(caller="other"),
                self.arrived(path="b"),
            ],
            [1, 2, 3, 4],
        )
        self.problem("conflict", self.part, "offset=1&upload=y", b"x")

    def test_an_upload_can_be_given_up(self) -> None:
        self.part("offset=0&complete=false", b"1")
        self.assertEqual(self.call(request("DELETE", "uploads/a")).status, 204)
        self.none_arrived()
        self.problem("not_found", self.call, request("DELETE", "uploads/a"))

    def test_the_digest_is_that_of_the_whole(self) -> None:
        self.part("offset=0&complete=false", b"one ")
        self.part("offset=4", b"two", headers=digest(b"one two"))
        self.assertEqual(self.content("a"), b"one two")
        self.part("offset=0&complete=false", b"one ", path="b")
        problem = self.problem(
            "bad_request", self.part, "offset=4", b"twX", path="b", headers=digest(b"one two")
        )
        self.assertEqual(problem.extra, {"field": "content-digest"})
        self.none_arrived(path="b")
        self.problem(
            "bad_request", self.part, "offset=0&complete=false", b"x", headers=digest(b"x")
        )

    def test_a_precondition_is_checked_by_every_part(self) -> None:
        only_new = (("if-none-match", "*"),)
        self.part("offset=0&complete=false", b"one", headers=only_new)
        self.file("a", b"came between")
        self.problem("precondition_failed", self.part, "offset=3", b"two", headers=only_new)
        self.assertEqual(self.content("a"), b"came between")
        self.assertEqual(self.arrived(), 3)

    def test_the_policy_is_about_the_whole(self) -> None:
        self.service = self.make(max_bytes=10, patterns=("a*",))
        self.part("offset=0&complete=false", b"0123456")
        self.problem("payload_too_large", self.part, "offset=7", b"78", b"90")
        self.assertEqual(self.arrived(), 9)
        self.problem("payload_too_large", self.part, "offset=9", headers=(("content-length", "2"),))
        self.problem("policy_denied", self.part, "offset=0", b"x", path="b")
        self.problem("policy_denied", self.get, "uploads/b")

    def test_what_is_malformed_is_named(self) -> None:
        for query, field in (
            ("offset=-1", "offset"),
            ("offset=", "offset"),
            ("offset=%C2%B2", "offset"),
            ("complete=false", "offset"),
            ("upload=x", "offset"),
            ("offset=0&upload=", "upload"),
            ("offset=0&upload=a/b", "upload"),
            ("offset=0&complete=no", "complete"),
            ("ofset=0", "ofset"),
        ):
            problem = self.problem("bad_request", self.part, query, b"x")
            self.assertEqual(problem.extra["field"], field, query)
        self.problem("bad_request", self.get, "uploads/a", "offset=3")
        self.problem("bad_request", self.get, "uploads")

    @given(st.lists(st.binary(max_size=6), max_size=6), st.data())
    @settings(max_examples=50, deadline=None)
    def test_parts_cut_anywhere_make_the_whole(self, parts: list[bytes], data: Any) -> None:
        whole = b"".join(parts)
        at = 0
        for part in parts:
            cut = data.draw(st.integers(0, len(part)))
            self.assertRaises(BodyLost, self.part, f"offset={at}", part[:cut], lost=True)
            at = self.arrived()
            self.part(f"offset={at}&complete=false", part[cut:])
            at += len(part) - cut
        self.part(f"offset={at}", headers=digest(whole))
        self.assertEqual(self.content("a"), whole)


class OvertakingTests(SteppedCase):
    def put(self, query: str, body: object) -> Any:
        return start(self.service.handle(request("PUT", "content/f", query, body=body)))

    def test_a_later_call_ends_the_one_before(self) -> None:
        body = PacedBody()
        earlier = self.put("offset=0", body)
        self.pool.run_all()
        body.give(b"0123")
        later = self.put("offset=4", Chunks([b"456"]))
        self.pool.run_all()
        self.assertEqual(self.failureResultOf(earlier, Problem).value.code, "conflict")
        self.assertEqual(self.successResultOf(later).status, 201)
        self.assertEqual((self.base / "f").read_bytes(), b"0123456")
        self.assertEqual(self.names(), ["f"])
        self.nothing_is_left()

    def test_a_cancelled_part_keeps_all_that_came(self) -> None:
        body = PacedBody()
        call = self.put("offset=0", body)
        self.pool.run_all()
        chunk = b"x" * 65536
        for _ in range(LARGEST_BLOCK // 65536 + 3):
            body.give(chunk)
        call.cancel()
        self.assertNoResult(call)
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        (name,) = self.names()
        self.assertTrue(is_kept(os.fsencode(name)))
        self.assertEqual((self.base / name).stat().st_size, LARGEST_BLOCK + 3 * 65536)
        self.nothing_is_left()

    def test_a_cancel_at_any_step_leaves_no_descriptor(self) -> None:
        for steps in range(6):
            call = self.put("offset=0", Chunks([b"x" * 65536] * 9))
            for _ in range(steps):
                if self.pool.waiting:
                    self.pool.step()
            call.cancel()
            self.pool.run_all()
            call.addErrback(lambda failure: failure.trap(CancelledError))
            self.nothing_is_left()


WRITER = """
import sys, time
from pathlib import Path
from workato_agent.services.files.posix import LocalFilesystem
filesystem = LocalFilesystem(Path(sys.argv[1]))
kept = filesystem.resume_file((b"f",), b"key", 0)
kept.write([b"acknowledged"])
kept.keep()
kept = filesystem.resume_file((b"f",), b"key", 12)
kept.write([b" and not"])
print("writing", flush=True)
time.sleep(60)
"""


class KeptTests(LocalCase):
    def resume(self, offset: int, content: bytes, key: bytes = b"key") -> int:
        kept = self.filesystem.resume_file((b"f",), key, offset)
        kept.write([content])
        return kept.keep()

    def hidden(self) -> list[str]:
        return [place.name for place in self.base.iterdir()]

    def test_what_was_acknowledged_outlives_a_killed_agent(self) -> None:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self.base)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        with writer.stdout:
            self.assertEqual(writer.stdout.readline(), b"writing\n")
            self.assertRaises(OSError, self.resume, 12, b"x")  # another agent is at it
            self.assertRaises(OSError, self.filesystem.drop_kept, (b"f",), b"key")
            self.assertTrue(self.filesystem.remove_leftovers(60))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        self.assertTrue(self.filesystem.remove_leftovers(60))
        self.assertGreaterEqual(self.filesystem.kept_size((b"f",), b"key"), 12)
        kept = self.filesystem.resume_file((b"f",), b"key", 12)
        kept.write([b" whole"])
        kept.commit(agreed)
        self.assertEqual(self.hidden(), ["f"])
        self.assertEqual((self.base / "f").read_bytes(), b"acknowledged whole")

    def test_an_agent_killed_between_the_two_names_harms_nothing(self) -> None:
        self.resume(0, b"whole")
        name = kept_name(b"key", (b"f",))
        os.link(self.base / os.fsdecode(name), self.base / "f")
        self.assertRaises(FileNotFoundError, self.filesystem.kept_size, (b"f",), b"key")
        self.assertRaises(OffsetBeyond, self.resume, 5, b"x")
        self.assertEqual(self.resume(0, b"x"), 1)
        self.assertEqual((self.base / "f").read_bytes(), b"whole")

    def test_a_planted_link_is_not_followed(self) -> None:
        name = self.base / os.fsdecode(kept_name(b"key", (b"f",)))
        name.symlink_to(self.outside / "f")
        self.assertRaises(OSError, self.resume, 0, b"x")
        self.assertRaises(OSError, self.filesystem.kept_size, (b"f",), b"key")
        name.unlink()
        os.link(self.outside / "f", name)
        self.resume(0, b"x")
        self.outside_is_untouched()

    def test_a_day_after_the_last_byte_it_is_removed(self) -> None:
        self.resume(0, b"old", b"one")
        self.resume(0, b"new", b"two")
        old, new = (os.fsdecode(kept_name(key, (b"f",))) for key in (b"one", b"two"))
        then = time.time() - KEPT_SECONDS - 1
        os.utime(self.base / old, (then, then))
        self.filesystem.expire_kept()
        self.assertEqual(self.hidden(), [new])
        os.utime(self.base / new, (then, then))
        self.assertTrue(LocalFilesystem(self.base).remove_leftovers(60))
        self.assertEqual(self.hidden(), [])

    def test_there_are_no_more_than_so_many(self) -> None:
        for number in range(MAX_KEPT):
            self.resume(0, b"", b"%d" % number)
        self.assertRaises(TooManyKept, self.resume, 0, b"", b"more")
        self.assertEqual(self.resume(0, b"x", b"7"), 1)
        again = LocalFilesystem(self.base)
        self.assertTrue(again.remove_leftovers(60))
        self.assertRaises(TooManyKept, again.resume_file, (b"f",), b"more", 0)
        self.filesystem.drop_kept((b"f",), b"7")
        self.resume(0, b"", b"more")

    def test_they_neither_keep_a_folder_nor_are_listed(self) -> None:
        (self.base / "d").mkdir()
        kept = self.filesystem.resume_file((b"d", b"f"), b"key", 0)
        self.assertRaises(OSError, self.filesystem.remove, (b"d",), agreed)
        kept.keep()
        folder = self.filesystem.open_folder((b"d",))
        self.assertEqual(list(folder.names()), [])
        folder.close()
        self.filesystem.remove((b"d",), agreed)
        self.assertEqual(self.hidden(), [])

    def test_a_replaced_file_hands_on_its_mode(self) -> None:
        place = self.base / "f"
        place.write_bytes(b"old")
        place.chmod(0o640)
        self.resume(0, b"new")
        self.filesystem.resume_file((b"f",), b"key", 3).commit(agreed)
        self.assertEqual((place.read_bytes(), place.stat().st_mode & 0o777), (b"new", 0o640))


class FaultTests(FaultCase):
    def test_a_fault_at_any_system_call_leaves_old_or_new_and_what_was_kept(self) -> None:
        place = self.base / "f"
        for fault in ("writev", "fsync", "rename", "link", "fstat", "stat", "fchmod", "unlink"):
            for old in (None, b"old"):
                for moment in range(1, 7):
                    for left in self.base.iterdir():
                        left.unlink()
                    if old is not None:
                        place.write_bytes(old)
                    first = self.filesystem.resume_file((b"f",), b"key", 0)
                    first.write([b"first "])
                    first.keep()
                    with self.failing(fault, moment):
                        self._complete()
                    content = place.read_bytes() if place.exists() else None
                    self.assertIn(content, (old, b"first second"))
                    if content == old:
                        self.assertGreaterEqual(self.filesystem.kept_size((b"f",), b"key"), 6)
                        self._complete()
                        self.assertEqual(place.read_bytes(), b"first second")

    def _complete(self) -> None:
        kept = None
        try:
            kept = self.filesystem.resume_file((b"f",), b"key", 6)
            kept.write([b"second"])
            kept.commit(agreed)
        except OSError:
            return
        finally:
            if kept is not None:
                kept.keep()
