"""Folders, moves, copies, appends and rows as a caller asks for them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.test_files_service import ServiceCase
from tests.support.files import Chunks, request
from workato_agent.requests import BodyLost, Headers, Response
from workato_agent.services.files.csvrows import LONGEST_HEADER
from workato_agent.services.files.filesystem import Kind

# A byte order mark at the start of a file is none of its first name's characters.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=8)


class ChangeCase(ServiceCase):
    def post(
        self,
        path: str,
        *chunks: bytes,
        headers: Headers = (),
        lost: bool = False,
        query: str = "",
    ) -> Response:
        return self.call(request("POST", path, query, headers, Chunks(chunks, lost)))

    def change(self, operation: str, source: str, target: str, **more: Any) -> Response:
        body = json.dumps({"from": source, "to": target, **more}).encode()
        return self.post(operation, body)

    def row(self, path: str, row: Any, **more: Any) -> Response:
        return self.post(f"csv/{path}", json.dumps({"row": row, **more}).encode())

    def there(self, path: str) -> bool:
        above, _, _ = path.rpartition("/")
        entries = self.json(f"list/{above}")["entries"]
        return path in {entry["path"] for entry in entries}


class FolderTests(ChangeCase):
    def test_a_folder_is_made_with_those_above_it(self) -> None:
        self.assertEqual(self.post("folders/a/b/c").status, 201)
        self.assertEqual(self.json("stat/a/b/c")["type"], "folder")
        self.assertEqual(self.post("folders/a/b/c/").status, 204)
        self.assertEqual(self.post("folders/a/b/d").status, 201)

    def test_no_folder_takes_the_place_of_a_file(self) -> None:
        self.file("f")
        self.problem("conflict", self.post, "folders/f")
        self.problem("conflict", self.post, "folders/f/x")
        self.problem("bad_request", self.post, "folders/")

    def test_the_policy_says_where(self) -> None:
        self.service = self.make(patterns=("in/**",))
        self.assertEqual(self.post("folders/in/a").status, 201)
        self.problem("policy_denied", self.post, "folders/out/a")


class MoveTests(ChangeCase):
    def test_a_file_is_moved(self) -> None:
        self.file("a", b"one")
        self.post("folders/d")
        answer = self.change("move", "a", "d/b")
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(self.body(answer))["path"], "d/b")
        self.assertEqual(self.content("d/b"), b"one")
        self.assertFalse(self.there("a"))

    def test_nothing_is_replaced_unless_it_is_said(self) -> None:
        self.file("a", b"one")
        self.file("b", b"two")
        for operation in ("move", "copy"):
            self.problem("conflict", self.change, operation, "a", "b")
            self.assertEqual(self.content("b"), b"two")
        self.change("copy", "a", "b", overwrite=True)
        self.assertEqual((self.content("a"), self.content("b")), (b"one", b"one"))
        self.file("c", b"three")
        self.change("move", "c", "b", overwrite=True)
        self.assertEqual(self.content("b"), b"three")
        self.assertFalse(self.there("c"))

    def test_folders_never_replace_and_never_enter_themselves(self) -> None:
        self.file("d/x")
        self.file("e/y")
        self.problem("conflict", self.change, "move", "d", "e", overwrite=True)
        problem = self.problem("bad_request", self.change, "move", "d", "d/x/y")
        self.assertEqual(problem.extra, {"field": "to"})
        self.problem("conflict", self.change, "copy", "d", "z")
        self.change("move", "d", "z")
        self.assertEqual(self.content("z/x"), b"content")

    def test_a_precondition_is_about_what_is_moved(self) -> None:
        self.file("a", b"one")
        body = json.dumps({"from": "a", "to": "b"}).encode()
        for operation in ("move", "copy"):
            self.problem(
                "precondition_failed", self.post, operation, body, headers=(("if-match", '"x"'),)
            )
        etag = self.json("stat/a")["etag"]
        self.assertEqual(self.post("move", body, headers=(("if-match", etag),)).status, 200)

    def test_names_of_any_bytes_are_sent_encoded(self) -> None:
        self.filesystem.add((b"\xff 100%",), Kind.FILE, b"x")
        self.change("move", "%FF%20100%25", "plain%20name", encoded=True)
        self.assertEqual(self.content("plain%20name"), b"x")
        self.change("move", "plain name", "100% ☃/".rstrip("/"))
        self.assertEqual(self.content("100%25%20%E2%98%83"), b"x")

    def test_bodies_that_say_something_else(self) -> None:
        self.file("a")
        for body in (b"", b"[]", b"{}", b'{"from": "a"}', b'{"from": "a", "to": 1}',
                     b'{"from": "a", "to": "b", "force": true}', b'{"from": "a", "to": ""}',
                     b'{"from": "a", "to": "../b"}', b'{"from": "/a", "to": "b"}',
                     b'{"from": "a", "to": "b\\u0000"}', b'{"from": "a", "to": "\\ud800"}',
                     b"\xff", b"[" * 10_000):  # fmt: skip
            for operation in ("move", "copy"):
                self.problem("bad_request", self.post, operation, body)
        self.problem("payload_too_large", self.post, "move", b" " * 70_000)
        self.assertTrue(self.there("a"))

    def test_patterns_hold_at_both_ends(self) -> None:
        self.file("a.csv", b"1")
        self.file("secret.txt", b"2")
        self.file("d/secret.txt", b"2")
        self.link("l.csv", b"secret.txt")
        self.service = self.make(patterns=("*.csv",))
        for operation in ("move", "copy"):
            self.problem("policy_denied", self.change, operation, "a.csv", "a.txt")
            self.problem("policy_denied", self.change, operation, "secret.txt", "b.csv")
        self.problem("policy_denied", self.change, "copy", "l.csv", "b.csv")
        self.problem("policy_denied", self.change, "move", "d", "e")
        self.problem("policy_denied", self.delete, "content/d", "recursive=true")
        self.assertEqual(self.change("move", "a.csv", "b.csv").status, 200)

    def test_a_copy_is_as_large_as_one_call_may_read(self) -> None:
        self.file("a", b"x" * 11)
        self.service = self.make(max_bytes=10)
        self.problem("policy_denied", self.change, "copy", "a", "b")

    def test_a_large_file_is_copied_whole(self) -> None:
        content = os.urandom(1_500_001)
        self.file("a", content)
        self.assertEqual(self.change("copy", "a", "b").status, 201)
        self.assertEqual(self.content("b"), content)


class RemoveTests(ChangeCase):
    def test_a_tree_is_removed_only_when_it_is_said(self) -> None:
        self.file("a/b/c")
        self.problem("conflict", self.delete, "content/a")
        self.problem("conflict", self.delete, "content/a", "recursive=false")
        self.problem("bad_request", self.delete, "content/a", "recursive=yes")
        self.problem("bad_request", self.delete, "content/", "recursive=true")
        self.assertEqual(self.delete("content/a", "recursive=true").status, 204)
        self.assertFalse(self.there("a"))


class AppendTests(ChangeCase):
    def test_bytes_go_to_the_end(self) -> None:
        self.assertEqual(self.post("append/a", b"one").status, 201)
        answer = self.post("append/a", b"-two", b"-three")
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(self.body(answer))["size"], 13)
        self.assertEqual(self.content("a"), b"one-two-three")

    def test_a_body_larger_than_memory_is_to_hold_goes_through(self) -> None:
        self.file("a", b"start")
        chunks = [os.urandom(65536) for _ in range(40)]
        self.post("append/a", *chunks)
        self.assertEqual(self.content("a"), b"start" + b"".join(chunks))

    def test_a_cut_body_leaves_the_file_alone(self) -> None:
        self.file("a", b"one")
        self.assertRaises(BodyLost, self.post, "append/a", b"two", lost=True)
        self.problem(
            "bad_request", self.post, "append/a", b"two", headers=(("content-length", "9"),)
        )
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        headers = (("content-digest", f"sha-256=:{wrong}:"),)
        self.problem("bad_request", self.post, "append/a", b"two", headers=headers)
        self.problem(
            "precondition_failed", self.post, "append/a", b"two", headers=(("if-match", '"x"'),)
        )
        self.problem(
            "precondition_failed", self.post, "append/b", b"", headers=(("if-match", "*"),)
        )
        self.assertEqual(self.content("a"), b"one")
        self.assertFalse(self.there("b"))

    def test_the_policy_limits_it(self) -> None:
        self.service = self.make(max_bytes=10, patterns=("*.log",))
        self.problem("payload_too_large", self.post, "append/a.log", b"x" * 11)
        self.problem("policy_denied", self.post, "append/a.txt", b"x")
        self.assertEqual(self.post("append/a.log", b"x" * 10).status, 201)


class CsvTests(ChangeCase):
    def test_a_row_follows_the_header(self) -> None:
        self.file("a.csv", b"id,name,note\n1,one,\n")
        answer = self.row("a.csv", {"note": 'say "hi", ok', "id": 2})
        self.assertEqual(answer.status, 200)
        self.row("a.csv", [3, True, None])
        self.assertEqual(
            self.content("a.csv"),
            b'id,name,note\n1,one,\n2,,"say ""hi"", ok"\n3,true,\n',
        )

    def test_lines_end_as_they_do_in_the_file(self) -> None:
        self.file("a.csv", b"\xef\xbb\xbfid;name\r\n1;x")
        self.row("a.csv", {"name": "two\nlines", "id": 2}, delimiter=";")
        self.assertEqual(self.content("a.csv"), b'\xef\xbb\xbfid;name\r\n1;x\r\n2;"two\nlines"\r\n')

    def test_a_new_file_gets_a_header_from_names(self) -> None:
        self.assertEqual(self.row("a.csv", {"id": 1, "größe": 1.5}).status, 201)
        self.assertEqual(self.content("a.csv"), "id,größe\r\n1,1.5\r\n".encode())
        self.file("empty.csv", b"")
        self.assertEqual(self.row("empty.csv", ["x", "y"]).status, 200)
        self.assertEqual(self.content("empty.csv"), b"x,y\r\n")

    def test_rows_that_do_not_fit_name_what_does_not(self) -> None:
        self.file("a.csv", b"id,name\n")
        problem = self.problem("bad_request", self.row, "a.csv", {"nmae": 1})
        self.assertIn("'nmae'", problem.detail)
        self.assertIn("id, name", problem.detail)
        for row in ([1], [1, 2, 3], {}, [], "x", [[1]], {"id": {}}):
            self.problem("bad_request", self.row, "a.csv", row)
        for delimiter in ("", ",,", "\n", '"', "\0"):
            self.problem("bad_request", self.row, "a.csv", [1, 2], delimiter=delimiter)
        self.problem("bad_request", self.post, "csv/a.csv", b'{"row": ["\\ud800", 1]}')
        self.assertEqual(self.content("a.csv"), b"id,name\n")

    def test_files_without_a_header_that_can_be_followed(self) -> None:
        for content in (
            b"\xff\xfe", b"a,a\n", b'"a', b'"a"b,c\n', b"\n", b"x" * LONGEST_HEADER + b"\n",
        ):  # fmt: skip
            self.file("bad.csv", content)
            self.problem("conflict", self.row, "bad.csv", {"a": 1})
            self.assertEqual(self.content("bad.csv"), content)

    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(TEXT, TEXT, min_size=1, max_size=4), st.data())
    def test_what_goes_in_comes_out(self, row: dict[str, str], data: st.DataObject) -> None:
        import csv  # noqa: PLC0415
        import io  # noqa: PLC0415

        self.setUp()
        self.row("a.csv", row)
        second = {name: data.draw(TEXT) for name in row}
        self.row("a.csv", second)
        text = self.content("a.csv").decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        self.assertEqual(rows[0], list(row))
        self.assertEqual(rows[1], list(row.values()))
        self.assertEqual(rows[2], list(second.values()))
