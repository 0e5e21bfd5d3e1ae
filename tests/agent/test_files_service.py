"""The files service as a caller sees it, on the in-memory file system."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
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
from workato_agent.requests import Headers, Request, Response
from workato_agent.services.files.filesystem import (
    BaseFacts,
    BaseUnavailable,
    Kind,
)
from workato_agent.services.files.memory import InMemoryFilesystem
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
            ("POST", "move/a"),
            ("PUT", "copy"),
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
        self.problem("bad_request", self.delete, "content/a", "recursiv=true")

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
