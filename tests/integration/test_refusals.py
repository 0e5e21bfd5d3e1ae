"""What policies, databases and files refuse, provoked for real."""

from __future__ import annotations

from typing import Any

from tests.support.error_table import ErrorTableCase
from tests.support.landscape import Body


class Rules(ErrorTableCase):
    def denied(self, rule: str, method: str, path: str, body: Body = None, **fields: Any) -> None:
        problem = self.fails("policy_denied", method, path, body, **fields)
        self.assertEqual(problem["rule"], rule, problem)

    def test_what_the_customer_does_not_allow(self) -> None:
        insert = {"sql": "insert into items values (1)"}
        rows = {"sql": "select generate_series(1, 10)"}
        self.denied("operations", "POST", "database/pg-query/execute", insert)
        self.denied("max_rows", "POST", "database/pg-query/query", rows, Accept="text/csv")
        self.denied("read_only", "POST", "database/pg-read-only/execute", insert)
        self.denied("read_only", "POST", "database/pg-read-only/query", insert, Accept="text/csv")
        self.denied("read_only", "POST", "database/lite-read-only/execute", insert)
        self.denied("windows", "GET", "files/closed")
        self.denied("windows", "GET", "files/closed/list/")
        self.denied("operations", "PUT", "files/texts/content/x.txt", b"x")
        self.denied("patterns", "GET", "files/texts/content/x.bin")
        self.denied("methods", "POST", "http/rules/api/x", b"x")
        self.denied("paths", "GET", "http/rules/other")
        self.denied("paths", "GET", "http/rules/api/%2e%2e/other")
        for path in ("http/rules/", "http/rules/api/x"):
            self.assertEqual(self.land.call("GET", path).status, 200)

    def test_statements_that_the_database_refuses(self) -> None:
        for sql, state, position, word in (
            ("select * frm items", "42601", 10, 'near "frm"'),
            ("select * from nix", "42P01", 15, '"nix"'),
            ("select nix from items", "42703", 8, '"nix"'),
            ("select 1/0", "22012", None, "division by zero"),
            ("select 1; select 2", "42601", None, "more than one"),
        ):
            for accept in ("application/json", "text/csv", "application/x-ndjson"):
                body = {"sql": sql}
                path = "database/pg/query"
                problem = self.fails("query_failed", "POST", path, body, word, Accept=accept)
                self.assertEqual(problem["sqlstate"], state)
                self.assertEqual(problem.get("position"), position)
        row = {"sql": "insert into items values (?, 'a')", "params": [7]}
        self.assertEqual(self.land.call("POST", "database/pg/execute", row).status, 200)
        problem = self.fails("query_failed", "POST", "database/pg/execute", row, "items_pkey")
        self.assertEqual((problem["sqlstate"], problem["constraint"]), ("23505", "items_pkey"))
        missing = {"sql": "select * from nix"}
        self.fails("query_failed", "POST", "database/lite/query", missing, "no such table: nix")

    def test_files(self) -> None:
        content = "files/share/content"
        self.fails("not_found", "GET", f"{content}/none", None, "none", "No such file")
        self.fails("not_found", "PUT", f"{content}/none/x", b"x", "none/x")
        self.fails("conflict", "GET", f"{content}/sub", None, "Is a directory")
        self.fails("conflict", "DELETE", f"{content}/sub", None, "not empty")
        answer = self.land.call("GET", f"{content}/hello.txt", Range="bytes=11-")
        problem = self.assert_problem("range_not_satisfiable", answer, "11 bytes")
        self.assertEqual((problem["size"], answer.headers["content-range"]), (11, "bytes */11"))
        for fields in ({"If_Match": '"old"'}, {"If_None_Match": "*"}):
            answer = self.land.call("PUT", f"{content}/hello.txt", b"x", **fields)
            problem = self.assert_problem("precondition_failed", answer, "hello.txt")
            self.assertRegex(problem["etag"], '^".+"$')
        wrong = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
        self.fails("bad_request", "PUT", f"{content}/x", b"x", "sha-256", Content_Digest=wrong)
        self.assertEqual((self.land.folder / "share" / "hello.txt").read_text(), "hello world")
