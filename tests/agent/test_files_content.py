"""Content as a caller reads and writes it, on the in-memory file system."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from collections.abc import Sequence
from typing import Any

from tests.agent.test_files_service import ServiceCase
from tests.support.files import (
    Chunks,
    request,
    start,
    whole,
)
from workato_agent.requests import BodyLost
from workato_agent.services.files.filesystem import (
    Kind,
)
from workato_agent.services.files.memory import MemoryFile
from workato_tunnel.problems import Problem


class ReadTests(ServiceCase):
    def test_content_comes_with_its_validators(self) -> None:
        self.file("d/report.csv", b"a,b\n1,2\n")
        response = self.get("content/d/report.csv")
        headers = dict(response.headers)
        self.assertEqual(response.status, 200)
        self.assertEqual(self.body(response), b"a,b\n1,2\n")
        self.assertEqual(headers["content-type"], "text/csv")
        self.assertEqual(headers["content-length"], "8")
        self.assertEqual(headers["accept-ranges"], "bytes")
        self.assertRegex(headers["etag"], r'^"[0-9a-f-]+"$')
        self.assertRegex(headers["last-modified"], r"^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$")

    def test_empty_file_is_empty(self) -> None:
        self.file("a", b"")
        response = self.get("content/a")
        self.assertEqual(dict(response.headers)["content-length"], "0")
        self.assertEqual(self.body(response), b"")

    def test_large_content_comes_in_blocks_that_make_it_whole(self) -> None:
        content = os.urandom(3_000_001)
        self.file("a", content)
        response = self.get("content/a")
        self.assertNotIsInstance(response.body, bytes)
        self.assertEqual(self.body(response), content)

    def test_head_has_the_same_fields_and_no_body(self) -> None:
        for size in (0, 10, 1_000_000):
            self.file("a", b"x" * size)
            head = self.call(request("HEAD", "content/a", "", (("range", "bytes=0-1"),)))
            self.assertEqual(head.headers, self.get("content/a").headers)
            self.assertEqual((head.status, head.body), (200, b""))

    def test_head_reads_nothing(self) -> None:
        self.file("a", b"x" * 10)

        class Unread(MemoryFile):
            def read(inner, offset: int, size: int) -> bytes:  # noqa: N805
                raise AssertionError("the file was read")

        found = self.filesystem.stat((b"a",))
        self.filesystem.open_file = lambda _: Unread(found, None)
        self.assertEqual(self.call(request("HEAD", "content/a")).status, 200)

    def test_type_is_told_by_the_name_and_compression_is_left_alone(self) -> None:
        for name, expected in (
            ("a.json", "application/json"),
            ("a.CSV", "text/csv"),
            ("a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
            ("a.csv.gz", "application/gzip"),
            ("a.tar.xz", "application/x-xz"),
            ("data:text/html,x", "application/octet-stream"),
        ):
            self.file(name)
            response = self.get(f"content/{name}")
            self.assertEqual(dict(response.headers)["content-type"], expected, name)
            self.assertNotIn("content-encoding", dict(response.headers))

    def test_single_range_is_partial(self) -> None:
        content = bytes(range(256)) * 1000
        self.file("a", content)
        for value, expected in (
            ("bytes=0-9", content[:10]),
            ("bytes=255990-", content[-10:]),
            ("bytes=-5", content[-5:]),
            ("bytes=1000-200999", content[1000:201_000]),
        ):
            response = self.get("content/a", headers=(("range", value),))
            headers = dict(response.headers)
            self.assertEqual(response.status, 206)
            self.assertEqual(headers["content-length"], str(len(expected)))
            self.assertTrue(headers["content-range"].endswith("/256000"))
            self.assertEqual(self.body(response), expected)

    def test_several_ranges_and_other_units_get_the_whole(self) -> None:
        self.file("a", b"0123456789")
        for value in ("bytes=0-1,3-4", "lines=0-1", "bytes=x"):
            response = self.get("content/a", headers=(("range", value),))
            self.assertEqual((response.status, response.body), (200, b"0123456789"))

    def test_range_outside_tells_the_size(self) -> None:
        self.file("a", b"0123456789")
        problem = self.problem(
            "range_not_satisfiable", self.get, "content/a", headers=(("range", "bytes=10-"),)
        )
        self.assertIn(("content-range", "bytes */10"), problem.headers())

    def test_if_range_decides_whether_the_range_counts(self) -> None:
        self.file("a", b"0123456789")
        etag = dict(self.get("content/a").headers)["etag"]
        span = ("range", "bytes=0-1")
        self.assertEqual(self.get("content/a", headers=(span, ("if-range", etag))).status, 206)
        self.assertEqual(self.get("content/a", headers=(span, ("if-range", '"x"'))).status, 200)

    def test_unchanged_content_is_not_sent_again(self) -> None:
        self.file("a", b"x" * 1_000_000)
        fields = dict(self.get("content/a").headers)
        for condition in (
            ("if-none-match", fields["etag"]),
            ("if-modified-since", fields["last-modified"]),
        ):
            for method in ("GET", "HEAD"):
                response = self.call(request(method, "content/a", "", (condition,)))
                self.assertEqual((response.status, response.body), (304, b""))
                self.assertEqual(dict(response.headers)["etag"], fields["etag"])

    def test_failed_precondition_tells_the_etag(self) -> None:
        self.file("a")
        etag = dict(self.get("content/a").headers)["etag"]
        problem = self.problem(
            "precondition_failed", self.get, "content/a", headers=(("if-match", '"x"'),)
        )
        self.assertEqual(problem.extra["etag"], etag)

    def test_what_is_no_file_has_its_own_problem(self) -> None:
        self.file("d/a")
        self.filesystem.add((b"pipe",), Kind.SPECIAL)
        self.link("out", b"../secret")
        self.link("circle", b"circle")
        problem = self.problem("conflict", self.get, "content/d")
        self.assertEqual(problem.extra["errno"], "EISDIR")
        self.problem("not_found", self.get, "content/nothing")
        self.problem("not_found", self.get, "content/d/a/b")
        self.problem("conflict", self.get, "content/pipe")
        self.problem("conflict", self.get, "content/circle")
        self.problem("bad_request", self.get, "content/" + "x" * 256)
        problem = self.problem("policy_denied", self.get, "content/out")
        self.assertEqual(problem.extra["rule"], "base")

    def test_file_that_shrinks_before_its_end_is_an_error_and_never_short(self) -> None:
        self.file("a", b"x" * 1_000_000)
        response = self.get("content/a")
        self.filesystem.truncate((b"a",), 500_000)
        failure = self.failureResultOf(start(whole(response)), Problem)
        self.assertEqual(failure.value.code, "conflict")
        self.assertIn("500000", failure.value.detail)

    def test_non_utf8_name_is_reached_by_its_bytes(self) -> None:
        self.filesystem.add((b"caf\xe9 100%",), Kind.FILE, b"coffee")
        self.assertEqual(self.content("caf%E9%20100%25"), b"coffee")


class WriteTests(ServiceCase):
    def test_new_file_is_created(self) -> None:
        response = self.put("content/a", b"one ", b"two")
        self.assertEqual(response.status, 201)
        self.assertEqual(self.content("a"), b"one two")
        etag = dict(response.headers)["etag"]
        self.assertEqual(etag, dict(self.get("content/a").headers)["etag"])

    def test_file_is_replaced(self) -> None:
        self.file("a", b"old")
        response = self.put("content/a", b"new")
        self.assertEqual((response.status, self.content("a")), (204, b"new"))

    def test_empty_body_is_an_empty_file(self) -> None:
        self.assertEqual(self.put("content/a").status, 201)
        self.assertEqual(self.content("a"), b"")

    def test_body_of_any_chunks_arrives_whole(self) -> None:
        for size, number in ((65536, 100), (1, 5000), (700_001, 5)):
            chunks = [os.urandom(size) for _ in range(number)]
            self.put("content/a", *chunks)
            self.assertEqual(self.content("a"), b"".join(chunks))

    def test_cut_body_leaves_the_old_content(self) -> None:
        self.file("a", b"old")
        for path in ("a", "b"):
            for chunks in ((), (b"new",), (b"x" * 65536,) * 40):
                self.assertRaises(BodyLost, self.put, f"content/{path}", *chunks, lost=True)
        self.assertEqual(self.content("a"), b"old")
        self.assertEqual([entry["path"] for entry in self.json("list")["entries"]], ["a"])

    def test_body_of_another_length_than_announced_is_refused(self) -> None:
        self.problem(
            "bad_request", self.put, "content/a", b"123", headers=(("content-length", "4"),)
        )
        self.problem("not_found", self.get, "content/a")
        self.assertEqual(
            self.put("content/a", b"1234", headers=(("content-length", "4"),)).status, 201
        )

    def test_only_create_never_replaces(self) -> None:
        only_new = (("if-none-match", "*"),)
        self.assertEqual(self.put("content/a", b"first", headers=only_new).status, 201)
        self.problem("precondition_failed", self.put, "content/a", b"second", headers=only_new)
        self.assertEqual(self.content("a"), b"first")

    def test_only_what_is_known_is_replaced(self) -> None:
        self.problem(
            "precondition_failed", self.put, "content/a", b"x", headers=(("if-match", "*"),)
        )
        etag = dict(self.put("content/a", b"one").headers)["etag"]
        known = (("if-match", etag),)
        self.assertEqual(self.put("content/a", b"two", headers=known).status, 204)
        self.problem("precondition_failed", self.put, "content/a", b"three", headers=known)
        self.assertEqual(self.content("a"), b"two")

    def test_precondition_is_checked_before_the_body_is_read(self) -> None:
        class Unread:
            def __aiter__(self) -> Any:
                raise AssertionError("the body was read")

        self.file("a")
        asked = request("PUT", "content/a", "", (("if-none-match", "*"),), Unread())
        self.problem("precondition_failed", self.call, asked)

    def test_precondition_is_checked_again_at_the_last_moment(self) -> None:
        class Meanwhile(Chunks):
            async def __aiter__(inner) -> Any:  # noqa: N805
                yield b"mine"
                self.file("a", b"somebody else's")

        asked = request("PUT", "content/a", "", (("if-none-match", "*"),), Meanwhile())
        self.problem("precondition_failed", self.call, asked)
        self.assertEqual(self.content("a"), b"somebody else's")

    def test_digest_is_checked(self) -> None:
        content = b"x" * 3_000_000
        for name, function in (("sha-256", hashlib.sha256), ("sha-512", hashlib.sha512)):
            right = base64.b64encode(function(content).digest()).decode()
            wrong = base64.b64encode(function(b"other").digest()).decode()
            chunks = [content[at : at + 65536] for at in range(0, len(content), 65536)]
            fields = (("content-digest", f"unknown=:AAAA:, {name}=:{right}:"),)
            self.assertIn(self.put("content/a", *chunks, headers=fields).status, (201, 204))
            problem = self.problem(
                "bad_request",
                self.put,
                "content/b",
                *chunks,
                headers=(("content-digest", f"{name}=:{wrong}:"),),
            )
            self.assertEqual(problem.extra["field"], "content-digest")
            self.problem("not_found", self.get, "content/b")

    def test_malformed_digest_is_refused_and_unknown_ones_ignored(self) -> None:
        for value in ("sha-256=abc", "sha-256=:a:", "sha-256=:====:", "", "x"):
            self.problem(
                "bad_request", self.put, "content/a", b"x", headers=(("content-digest", value),)
            )
        self.assertEqual(
            self.put("content/a", headers=(("content-digest", "md5=:AAAA:"),)).status, 201
        )

    def test_partial_and_encoded_bodies_are_refused(self) -> None:
        for field in (("content-range", "bytes 0-1/2"), ("content-encoding", "gzip")):
            problem = self.problem("bad_request", self.put, "content/a", b"x", headers=(field,))
            self.assertEqual(problem.extra["field"], field[0])

    def test_what_cannot_be_written_has_its_own_problem(self) -> None:
        self.file("d/a")
        self.filesystem.add((b"pipe",), Kind.SPECIAL)
        self.link("out", b"/etc/cron.d/x")
        self.problem("conflict", self.put, "content/d", b"x")
        self.problem("not_found", self.put, "content/no/a", b"x")
        self.problem("not_found", self.put, "content/d/a/b", b"x")
        self.problem("conflict", self.put, "content/pipe", b"x")
        self.problem("policy_denied", self.put, "content/out", b"x")
        self.problem("bad_request", self.put, "content/" + "x" * 256, b"x")

    def test_failing_disk_has_its_own_problem_and_leaves_nothing(self) -> None:
        for number, code in (
            (errno.ENOSPC, "insufficient_storage"),
            (errno.EDQUOT, "insufficient_storage"),
            (errno.EFBIG, "payload_too_large"),
            (errno.EROFS, "target_permission_denied"),
            (errno.EIO, "target_unreachable"),
            (errno.ESTALE, "target_unreachable"),
            (errno.EMFILE, "overloaded"),
        ):
            for failing in ("write", "commit"):
                pending = self.filesystem.begin_file((b"a",))
                discarded: list[bool] = []

                def fail(_: Sequence[bytes], number: int = number) -> Any:
                    raise OSError(number, os.strerror(number))

                setattr(pending, failing, fail)
                pending.discard = lambda to=discarded: to.append(True)
                self.filesystem.begin_file = lambda _, to=pending: to
                problem = self.problem(code, self.put, "content/a", *[b"x" * 65536] * 50)
                self.assertEqual(problem.extra["errno"], errno.errorcode[number])
                self.assertIn("'a'", problem.detail)
                self.assertEqual(discarded, [True])
                del self.filesystem.begin_file
