"""Formats of results, their negotiation, and the bounds on them."""

from __future__ import annotations

import csv
import io
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.formats import negotiate
from workato_agent.services.database.results import (
    Column,
    CsvWriter,
    JsonWriter,
    NdjsonWriter,
    unique_names,
)
from workato_tunnel.problems import Problem

COLUMNS = [Column("id", "integer"), Column("id", "string"), Column("j", "json")]
ROWS = [(1, "a", msgspec.Raw(b'{"x": [1.10]}')), (None, 'q"\r\n,', ["b", None, 2])]


class Formats(SynchronousTestCase):
    def test_json_is_one_document(self) -> None:
        writer = JsonWriter()
        parts = [
            writer.head(COLUMNS),
            writer.rows(ROWS[:1], first=True),
            writer.rows([], first=False),
            writer.rows(ROWS[1:], first=False),
            writer.tail(2, truncated=False),
        ]
        self.assertEqual(
            json.loads(b"".join(parts)),
            {
                "columns": [
                    {"name": "id", "type": "integer"},
                    {"name": "id", "type": "string"},
                    {"name": "j", "type": "json"},
                ],
                "rows": [[1, "a", {"x": [1.1]}], [None, 'q"\r\n,', ["b", None, 2]]],
                "row_count": 2,
                "truncated": False,
            },
        )

    def test_ndjson_is_a_line_a_row_with_unique_names(self) -> None:
        writer = NdjsonWriter()
        lines = (writer.head(COLUMNS) + writer.rows(ROWS, first=True)).splitlines()
        self.assertEqual(
            [json.loads(line) for line in lines],
            [
                {"id": 1, "id_2": "a", "j": {"x": [1.1]}},
                {"id": None, "id_2": 'q"\r\n,', "j": ["b", None, 2]},
            ],
        )

    def test_ndjson_ends_with_the_problem(self) -> None:
        last = json.loads(NdjsonWriter().failure(Problem("query_failed", "no"), "r1"))
        self.assertEqual((last["code"], last["request_id"]), ("query_failed", "r1"))

    def test_csv_tells_null_from_an_empty_string(self) -> None:
        writer = CsvWriter()
        data = writer.head(COLUMNS) + writer.rows([(None, "", "x"), *ROWS], first=True)
        self.assertEqual(
            data,
            b'id,id,j\r\n,"",x\r\n1,a,"{""x"": [1.10]}"\r\n,"q""\r\n,","[""b"",null,2]"\r\n',
        )

    def test_a_result_without_columns_has_no_header(self) -> None:
        self.assertEqual(CsvWriter().head([]), b"")

    @given(
        st.lists(st.lists(st.text().filter(lambda text: "\0" not in text), min_size=2, max_size=2))
    )
    def test_what_is_written_as_csv_is_read_again(self, rows: list[list[str]]) -> None:
        writer = CsvWriter()
        data = writer.head(COLUMNS[:2]) + writer.rows(rows, first=True)
        read = list(csv.reader(io.StringIO(data.decode(), newline="")))
        self.assertEqual(read[1:], rows)

    @given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b", ""])))
    def test_unique_names_are_unique_and_keep_the_first(self, names: list[str]) -> None:
        unique = unique_names(names)
        self.assertEqual(len(set(unique)), len(names))
        for index, name in enumerate(names):
            if name not in names[:index]:
                self.assertEqual(unique[index], name)


class FastCsv(SynchronousTestCase):
    cells = (
        st.none()
        | st.text(st.sampled_from('ab,"\r\n \\.;é') | st.characters(exclude_categories=["Cs"]))
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
    )

    @given(st.lists(st.tuples(cells, cells, cells), max_size=5))
    def test_the_fast_way_writes_the_same(self, rows: list[tuple[object, object, object]]) -> None:
        columns = [Column(name, "string") for name in "abc"]
        fast, careful = CsvWriter(), CsvWriter()
        fast.head(columns)
        careful.head([Column(name, "array") for name in "abc"])
        self.assertEqual(fast.rows(rows, first=True), careful.rows(rows, first=True))


class Negotiation(SynchronousTestCase):
    def check(self, accept: str | None, expected: str) -> None:
        self.assertEqual(negotiate(accept).format, expected)

    def test_json_where_the_caller_does_not_mind(self) -> None:
        for accept in (None, "", "*/*", "application/*", "text/html, */*;q=0.1"):
            self.check(accept, "json")

    def test_the_best_quality_wins(self) -> None:
        self.check("text/csv", "csv")
        self.check("TEXT/CSV; charset=utf-8", "csv")
        self.check("text/*", "csv")
        self.check("application/json;q=0.5, text/csv;q=0.6", "csv")
        self.check("application/x-ndjson, application/json;q=0.9", "ndjson")
        self.check("application/*, application/json;q=0", "ndjson")
        self.check("*/*;q=0.1, text/csv", "csv")

    def test_what_is_not_there_is_refused_by_name(self) -> None:
        for accept in ("application/xml", "text/csv;q=0", "text/csv;q=nonsense", "rubbish"):
            with self.assertRaises(Problem) as caught:
                negotiate(accept)
            self.assertEqual(caught.exception.code, "bad_request")
            self.assertIn("application/x-ndjson", caught.exception.hint or "")


class Bounds(SynchronousTestCase):
    def test_json_is_cut_after_the_last_row_that_fits(self) -> None:
        output = Output(JsonWriter(), max_rows=3)
        blocks = [output.encode([(1,), (2,)]), output.encode([(3,), (4,)])]
        self.assertEqual([block.rows for block in blocks], [2, 1])
        self.assertEqual(b"".join(block.data for block in blocks), b"[1],[2],[3]")
        self.assertTrue(output.truncated)

    def test_json_is_cut_at_a_number_of_bytes(self) -> None:
        output = Output(JsonWriter(), max_bytes=8)
        self.assertEqual(output.encode([(1,), (22,), (3,)]).data, b"[1],[22]")
        self.assertTrue(output.truncated)

    def test_csv_fails_at_a_limit_that_the_caller_does_not_know_of(self) -> None:
        output = Output(CsvWriter(), max_rows=1)
        with self.assertRaises(Problem) as caught:
            output.encode([(1,), (2,)])
        self.assertEqual(caught.exception.extra, {"rule": "max_rows"})

    def test_csv_stops_at_the_callers_own_limit(self) -> None:
        output = Output(CsvWriter(), max_rows=1, own_limit=True)
        self.assertEqual(output.encode([(1,), (2,)]).data, b"1\r\n")
