"""The files service as a caller sees it, on the in-memory file system."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import (
    Chunks,
    DirectReactor,
    InlineThreadPool,
    outcome,
    request,
    start,
    whole,
)
from workato_agent.requests import BodyLost, Headers, Request, Response
from workato_agent.services.files.filesystem import (
    BaseFacts,
    BaseUnavailable,
    Kind,
)
from workato_agent.services.files.memory import InMemoryFilesystem, MemoryFile
from workato_agent.services.files.service import FilesService
from workato_agent.services.files.settings import OPERATIONS, FilesPolicy, FilesSettings
from workato_tunnel.problems import Problem

NOW = 1_800_000_000.0


class ServiceCase(SynchronousTestCase):
    """A service on an in-memory tree, each thread call run at once."""

    def setUp(self) -> None:
        self.filesystem = InMemoryFilesystem()
        self.service = self.make()

    def make(self, **policy: Any) -> FilesService:
        settings = FilesSettings(Path("/base"), FilesPolicy(**policy))
        return FilesService(
            "hr", settings, self.filesystem, DirectReactor(), InlineThreadPool(), lambda: NOW
        )

    def file(self, path: str, content: bytes = b"content") -> None:
        *above, _ = names = tuple(part.encode() for part in path.split("/"))
        for depth in range(1, len(above) + 1):
            try:
                self.filesystem.stat(names[:depth])
            except FileNotFoundError:
                self.filesystem.add(names[:depth], Kind.FOLDER)
        self.filesystem.add(names, Kind.FILE, content)

    def link(self, path: str, target: bytes) -> None:
        self.filesystem.add(tuple(p.encode() for p in path.split("/")), Kind.LINK, target)

    def call(self, asked: Request) -> Response:
        return outcome(start(self.service.handle(asked)))

    def get(self, path: str, query: str = "", headers: Headers = ()) -> Response:
        return self.call(request("GET", path, query, headers))

    def json(self, path: str, query: str = "") -> Any:
        return json.loads(self.body(self.get(path, query)))

    def put(self, path: str, *chunks: bytes, headers: Headers = (), lost: bool = False) -> Response:
        return self.call(request("PUT", path, "", headers, Chunks(chunks, lost)))

    def delete(self, path: str, query: str = "", headers: Headers = ()) -> Response:
        return self.call(request("DELETE", path, query, headers))

    def body(self, response: Response) -> bytes:
        return self.successResultOf(start(whole(response)))

    def content(self, path: str) -> bytes:
        return self.body(self.get(f"content/{path}"))

    def problem(self, code: str, call: Callable[..., Response], *args: Any, **kw: Any) -> Problem:
        problem: Problem = self.assertRaises(Problem, call, *args, **kw)
        self.assertEqual(problem.code, code, problem)
        self.assertTrue(problem.detail)
        self.assertTrue(problem.hint)
        return problem


class OperationTests(ServiceCase):
    def test_operations_are_told_by_method_and_path_alone(self) -> None:
        for method, path, expected in (
            ("GET", "", "test"),
            ("GET", "content/a", "read"),
            ("HEAD", "content/a/b", "read"),
            ("PUT", "content/a", "write"),
            ("DELETE", "content/a", "delete"),
            ("GET", "list", "list"),
            ("GET", "list/a", "list"),
            ("GET", "stat/a", "stat"),
        ):
            self.assertEqual(self.service.operation(request(method, path)), expected)

    def test_anything_else_is_not_found(self) -> None:
        for method, path in (
            ("POST", "content/a"),
            ("PUT", ""),
            ("PUT", "list/a"),
            ("GET", "append/a"),
            ("POST", "move"),
            ("GET", "contents/a"),
            ("GET", "/content/a"),
            ("PATCH", "content/a"),
            ("get", "content/a"),
        ):
            self.problem("operation_not_found", self.call, request(method, path))

    def test_policy_narrows_what_the_catalogue_offers(self) -> None:
        self.assertEqual(self.service.operations, OPERATIONS)
        self.assertEqual(
            self.make(operations=("list", "read")).operations, ("test", "read", "list")
        )

    def test_malformed_policy_pattern_is_an_error_at_once(self) -> None:
        self.assertRaises(ValueError, self.make, patterns=("/abs",))

    def test_unknown_and_doubled_parameters_are_refused_by_name(self) -> None:
        self.file("a")
        for path, query, field in (
            ("content/a", "offset=3", "offset"),
            ("stat/a", "recursive=true", "recursive"),
            ("list", "patern=*", "patern"),
            ("list", "limit=1&limit=2", "limit"),
            ("list", "limit", "query"),
            ("list", "%ff=1", "\udcff"),
        ):
            problem = self.problem("bad_request", self.get, path, query)
            self.assertEqual(problem.extra["field"], field)
        self.problem("bad_request", self.delete, "content/a", "recursive=true")

    def test_hostile_paths_are_refused(self) -> None:
        for path in ("../x", "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "/etc/passwd", "%2fetc", "a%00"):
            for resource in ("content", "list", "stat"):
                self.problem("bad_request", self.get, f"{resource}/{path}")
            self.problem("bad_request", self.put, f"content/{path}", b"x")
            self.problem("bad_request", self.delete, f"content/{path}")

    def test_base_is_no_content(self) -> None:
        for path in ("content", "content/"):
            self.problem("bad_request", self.get, path)
            self.problem("bad_request", self.put, path, b"x")
            self.problem("bad_request", self.delete, path)


class ProfileTestTests(ServiceCase):
    def test_base_is_reported(self) -> None:
        answer = self.json("")
        self.assertEqual(
            (answer["ok"], answer["target"], answer["writable"]), (True, "/base", True)
        )

    def test_base_that_is_not_there_is_a_problem_that_names_it(self) -> None:
        for number, code in (
            (errno.ENOENT, "target_not_found"),
            (errno.ENOTDIR, "target_wrong_type"),
            (errno.EACCES, "target_permission_denied"),
            (errno.EIO, "target_unreachable"),
        ):

            def check(number: int = number) -> BaseFacts:
                raise BaseUnavailable(OSError(number, os.strerror(number)))

            self.filesystem.check = check
            problem = self.problem(code, self.get, "")
            self.assertIn("/base", problem.detail)

    def test_base_that_is_not_readable_is_a_problem(self) -> None:
        self.filesystem.check = lambda: BaseFacts("/base", False, True, 1)
        self.problem("target_permission_denied", self.get, "")


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
            (errno.ENOSPC, "payload_too_large"),
            (errno.EDQUOT, "payload_too_large"),
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


class DeleteTests(ServiceCase):
    def test_file_and_empty_folder_are_deleted(self) -> None:
        self.file("d/a")
        self.problem("conflict", self.delete, "content/d")
        self.assertEqual(self.delete("content/d/a").status, 204)
        self.assertEqual(self.delete("content/d").status, 204)
        self.problem("not_found", self.delete, "content/d")

    def test_precondition_protects(self) -> None:
        etag = dict(self.put("content/a", b"one").headers)["etag"]
        self.problem(
            "precondition_failed", self.delete, "content/a", headers=(("if-match", '"x"'),)
        )
        self.assertEqual(self.delete("content/a", headers=(("if-match", etag),)).status, 204)
        self.problem("not_found", self.delete, "content/a", headers=(("if-match", etag),))

    def test_special_file_is_not_deleted(self) -> None:
        self.filesystem.add((b"pipe",), Kind.SPECIAL)
        self.problem("conflict", self.delete, "content/pipe")


class ListAndStatTests(ServiceCase):
    def test_entries_tell_what_there_is(self) -> None:
        self.file("d/report.csv", b"12345")
        answer = self.json("list/d")
        (entry,) = answer["entries"]
        self.assertEqual(
            {key: entry[key] for key in ("path", "name", "type", "size")},
            {"path": "d/report.csv", "name": "report.csv", "type": "file", "size": 5},
        )
        self.assertRegex(entry["modified"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(entry["etag"], dict(self.get("content/d/report.csv").headers)["etag"])
        self.assertIsNone(answer["cursor"])
        self.assertEqual(self.json("stat/d/report.csv"), entry)

    def test_stat_of_folders_and_the_base(self) -> None:
        self.file("d/a")
        entry = self.json("stat/d")
        self.assertEqual((entry["type"], entry["size"], entry["etag"]), ("folder", 0, None))
        for path in ("stat", "stat/"):
            entry = self.json(path)
            self.assertEqual((entry["path"], entry["name"], entry["type"]), ("", "", "folder"))
        self.problem("not_found", self.get, "stat/nothing")

    def test_pages_follow_the_cursor(self) -> None:
        for number in range(25):
            self.file(f"d/{number:02}")
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            query = f"limit=10&cursor={cursor}" if cursor else "limit=10"
            asked = request("GET", "list/d", query)
            answer = json.loads(self.body(self.call(asked)))
            self.assertEqual(asked.usage.rows, len(answer["entries"]))
            seen += [entry["name"] for entry in answer["entries"]]
            cursor = answer["cursor"]
        self.assertEqual(seen, [f"{number:02}" for number in range(25)])

    def test_malformed_parameters_are_named(self) -> None:
        for query, field in (
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
            ("limit=x", "limit"),
            ("limit=%C2%B2", "limit"),
            ("recursive=yes", "recursive"),
            ("cursor=%00", "cursor"),
            ("cursor=", "cursor"),
            ("cursor=AAAA", "cursor"),
            ("cursor=MQ%3D%3D%3D%3D%3D", "cursor"),
            ("pattern=", "pattern"),
            ("pattern=/a", "pattern"),
        ):
            problem = self.problem("bad_request", self.get, "list", query)
            self.assertEqual(problem.extra["field"], field, query)

    def test_pattern_chooses_relative_to_the_folder(self) -> None:
        for path in ("d/a.csv", "d/b.txt", "d/e/c.csv", "x.csv"):
            self.file(path)

        def paths(query: str) -> list[str]:
            return [entry["path"] for entry in self.json("list/d", query)["entries"]]

        self.assertEqual(paths("pattern=*.csv"), ["d/a.csv"])
        self.assertEqual(paths("pattern=*.csv&recursive=true"), ["d/a.csv", "d/e/c.csv"])
        self.assertEqual(paths("pattern=e/*&recursive=true"), ["d/e/c.csv"])
        self.assertEqual(paths("pattern=%3F.txt"), ["d/b.txt"])

    def test_links_show_as_what_they_lead_to_and_are_not_descended(self) -> None:
        self.file("d/a", b"12345")
        self.link("in", b"d/a")
        self.link("folder", b"d")
        self.link("out", b"/etc")
        self.link("gone", b"nothing")
        shown = {
            entry["path"]: (entry["type"], entry["size"])
            for entry in self.json("list", "recursive=true")["entries"]
        }
        self.assertEqual(
            shown,
            {
                "d": ("folder", 0),
                "d/a": ("file", 5),
                "folder": ("folder", 0),
                "gone": ("link", 0),
                "in": ("file", 5),
                "out": ("link", 0),
            },
        )

    def test_listing_of_a_file_is_a_conflict(self) -> None:
        self.file("a")
        self.problem("conflict", self.get, "list/a")
        self.problem("not_found", self.get, "list/a/b")
        self.problem("not_found", self.get, "list/nothing")

    def test_name_that_is_not_utf8_is_marked_and_usable_as_it_stands(self) -> None:
        self.filesystem.add((b"caf\xe9 100%",), Kind.FILE, b"coffee")
        (entry,) = self.json("list")["entries"]
        self.assertEqual((entry["path"], entry["encoded"]), ("caf%E9%20100%25", True))
        self.assertEqual(self.content(entry["path"]), b"coffee")

    def test_head_of_a_list_has_its_length_only(self) -> None:
        self.file("a")
        head = self.call(request("HEAD", "list"))
        self.assertEqual(head.headers, self.get("list").headers)
        self.assertEqual(head.body, b"")


class PolicyTests(ServiceCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = self.make(patterns=("*.csv", "open/**"))
        self.file("a.csv", b"fine")
        self.file("secret.key", b"hidden")
        self.file("open/anything", b"fine")

    def test_files_that_match_no_pattern_are_denied_for_everything(self) -> None:
        for call in (self.get, self.put, self.delete):
            problem = self.problem("policy_denied", call, "content/secret.key")
            self.assertEqual(problem.extra["rule"], "patterns")
        self.problem("policy_denied", self.get, "stat/secret.key")
        self.problem("policy_denied", self.get, "content/no.key")
        self.assertEqual(self.content("a.csv"), b"fine")
        self.assertEqual(self.content("open/anything"), b"fine")
        self.assertEqual(self.put("content/open/new", b"x").status, 201)

    def test_list_hides_what_is_denied(self) -> None:
        listed = [entry["path"] for entry in self.json("list", "recursive=true")["entries"]]
        self.assertEqual(listed, ["a.csv", "open", "open/anything"])

    def test_link_does_not_open_what_its_own_name_would_hide(self) -> None:
        self.link("link.csv", b"secret.key")
        self.problem("policy_denied", self.get, "content/link.csv")
        self.problem("policy_denied", self.get, "stat/link.csv")
        self.problem("policy_denied", self.put, "content/link.csv", b"overwritten")
        self.service = self.make()
        self.assertEqual(self.content("secret.key"), b"hidden")

    def test_folder_that_cannot_hold_a_match_is_denied(self) -> None:
        self.service = self.make(patterns=("open/**",))
        self.file("closed/x")
        self.problem("policy_denied", self.get, "list/closed")
        self.problem("policy_denied", self.get, "stat/closed")
        self.problem("policy_denied", self.delete, "content/closed")
        self.assertEqual([entry["path"] for entry in self.json("list")["entries"]], ["open"])

    def test_max_bytes_bounds_one_call(self) -> None:
        self.service = self.make(max_bytes=100)
        self.file("big", b"x" * 101)
        problem = self.problem("policy_denied", self.get, "content/big")
        self.assertEqual(problem.extra["rule"], "max_bytes")
        part = self.get("content/big", headers=(("range", "bytes=1-100"),))
        self.assertEqual(len(self.body(part)), 100)
        self.assertEqual(self.call(request("HEAD", "content/big")).status, 200)
        self.assertEqual(self.put("content/fits", b"x" * 100).status, 201)
        self.problem("payload_too_large", self.put, "content/a", b"x" * 60, b"x" * 41)
        announced = (("content-length", "101"),)
        self.problem("payload_too_large", self.put, "content/a", headers=announced)
        self.problem("not_found", self.get, "content/a")


class LeftoverTests(ServiceCase):
    def searched(self) -> list[float]:
        calls: list[float] = []

        def remove_leftovers(seconds: float) -> bool:
            calls.append(seconds)
            return len(calls) >= 3

        self.filesystem.remove_leftovers = remove_leftovers
        return calls

    def test_leftovers_are_searched_once_at_first_use(self) -> None:
        calls = self.searched()
        self.json("list")
        self.json("list")
        self.assertEqual(len(calls), 3)
        self.successResultOf(start(self.service.close()))

    def test_profile_that_may_not_write_is_not_searched(self) -> None:
        self.service = self.make(operations=("list", "read"))
        calls = self.searched()
        self.json("list")
        self.assertEqual(calls, [])

    def test_search_that_fails_does_not_fail_the_call(self) -> None:
        def fail(_: float) -> bool:
            raise OSError(errno.EIO, "Input/output error")

        self.filesystem.remove_leftovers = fail
        self.assertEqual(self.json("list")["entries"], [])

    def test_search_is_tried_again_when_the_base_was_not_there(self) -> None:
        calls: list[float] = []

        def unavailable(seconds: float) -> bool:
            calls.append(seconds)
            raise BaseUnavailable(OSError(errno.ENOENT, "No such file or directory"))

        self.filesystem.remove_leftovers = unavailable
        self.json("list")
        self.json("list")
        self.assertEqual(len(calls), 2)
