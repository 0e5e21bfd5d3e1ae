"""Results as MessagePack and Arrow: the values that went in come out, and ends can be told."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.formats import document, negotiate
from workato_agent.services.database.results import Column
from workato_agent.services.database.results_arrow import END, ArrowWriter, arrow_schema
from workato_agent.services.database.results_msgpack import MsgpackWriter, array_of
from workato_tunnel.problems import Problem

COLUMNS = (Column("a", "integer"), Column("b", "string"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=20)
)


def values_in(data: bytes) -> Iterator[Any]:
    """The values of a MessagePack sequence, found without a decoder that streams."""
    view = io.BytesIO(data)
    while view.tell() < len(data):
        end = view.tell() + 1
        while True:
            try:
                value = msgspec.msgpack.decode(data[view.tell() : end])
            except msgspec.DecodeError:
                end += 1
                if end > len(data):
                    raise
                continue
            view.seek(end)
            yield value
            break


class Msgpack(SynchronousTestCase):
    @settings(max_examples=50)
    @given(st.lists(st.tuples(scalars, scalars), max_size=40), st.integers(1, 20))
    def test_values_come_back(self, rows: list[tuple[object, object]], size: int) -> None:
        writer = MsgpackWriter()
        data = writer.head(COLUMNS)
        for start in range(0, len(rows), size):
            data += writer.rows(rows[start : start + size], first=not start)
        data += writer.tail(len(rows), truncated=False)
        columns, *found, last = values_in(data)
        self.assertEqual([column["name"] for column in columns], ["a", "b"])
        self.assertEqual(last, {"row_count": len(rows), "truncated": False})
        expected = [[self.plain(value) for value in row] for row in rows]
        self.assertEqual(found, expected)

    def plain(self, value: object) -> object:
        """Integers that MessagePack has no room for are text."""
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return str(value)
        return value

    def test_many_rows_at_once(self) -> None:
        for count in (15, 16, 65535, 65536):
            rows = [(1,)] * count
            data = MsgpackWriter().rows(rows, first=True)
            self.assertEqual(data, b"\x91\x01" * count)
            self.assertEqual(msgspec.msgpack.decode(array_of(data, count)), [[1]] * count)

    def test_big_integers_in_arrays_too(self) -> None:
        data = MsgpackWriter().rows([([2**64, [-(2**63) - 1]],)], first=True)
        expected = [[str(2**64), [str(-(2**63) - 1)]]]
        self.assertEqual(msgspec.msgpack.decode(data), expected)

    def test_a_failure_is_a_map_with_a_code(self) -> None:
        problem = Problem("query_failed", "division by zero", extra={"sqlstate": "22012"})
        last = msgspec.msgpack.decode(MsgpackWriter().failure(problem, "r-1"))
        self.assertEqual(last, json.loads(problem.body("r-1")))
        self.assertEqual((last["code"], last["sqlstate"]), ("query_failed", "22012"))

    def test_limits_are_told(self) -> None:
        output = Output(MsgpackWriter(), max_rows=1)
        self.assertEqual(output.encode([(1,), (2,)]).data, b"\x91\x01")
        self.assertTrue(output.truncated)


def arrow(columns: Sequence[Column], *batches: Sequence[Sequence[object]]) -> Any:
    """What a reader makes of a stream."""
    writer = ArrowWriter()
    data = writer.head(columns)
    for index, rows in enumerate(batches):
        data += writer.rows(rows, first=not index)
    data += writer.tail(0, truncated=False)
    return pa.ipc.open_stream(data).read_all()


class Arrow(SynchronousTestCase):
    def check(self, column: Column, kind: Any, *pairs: tuple[object, object]) -> None:
        table = arrow([column], [(given,) for given, _ in pairs], [(None,)])
        self.assertEqual(table.schema.field(0).type, kind)
        self.assertEqual(table.schema.field(0).metadata, {b"onprem.type": column.type.encode()})
        self.assertEqual(table.column(0).to_pylist(), [found for _, found in pairs] + [None])

    def test_each_type(self) -> None:
        us = pa.timestamp("us")
        self.check(Column("x", "integer"), pa.int64(), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1))
        self.check(Column("x", "float"), pa.float64(), (1.5, 1.5), (math.inf, math.inf), (3, 3.0))
        self.check(Column("x", "boolean"), pa.bool_(), (True, True), (False, False))
        self.check(Column("x", "bytes"), pa.binary(), (b"\0\xff", b"\0\xff"), (b"", b""))
        self.check(
            Column("x", "decimal", precision=38, scale=2),
            pa.decimal128(38, 2),
            ("1.50", Decimal("1.50")),
            ("-" + "9" * 36 + ".99", Decimal("-" + "9" * 36 + ".99")),
            (7, Decimal(7)),
        )
        self.check(Column("x", "decimal"), pa.string(), ("1e400", "1e400"))
        self.check(Column("x", "decimal", precision=60, scale=2), pa.string(), ("1.50", "1.50"))
        self.check(Column("x", "date"), pa.date32(), ("2024-02-29", date(2024, 2, 29)))
        self.check(
            Column("x", "time"),
            pa.time64("us"),
            ("13:45:00", time(13, 45)),
            ("23:59:59.999999", time(23, 59, 59, 999999)),
        )
        self.check(
            Column("x", "timestamp"),
            us,
            ("2024-02-29T13:45:00.5", datetime(2024, 2, 29, 13, 45, 0, 500000)),  # noqa: DTZ001
        )
        self.check(
            Column("x", "timestamptz"),
            pa.timestamp("us", "UTC"),
            ("2024-02-29T13:45:00+01:00", datetime(2024, 2, 29, 12, 45, tzinfo=UTC)),
            ("2024-02-29T13:45:00Z", datetime(2024, 2, 29, 13, 45, tzinfo=UTC)),
        )
        self.check(Column("x", "string"), pa.string(), ("é\0🙂", "é\0🙂"), ("", ""))
        self.check(
            Column("x", "array"),
            pa.string(),
            ([1, None, ["x"], math.nan], '[1,null,["x"],"NaN"]'),
        )
        self.check(Column("x", "unknown"), pa.string(), (5, "5"), (b"\0\1", "AAE="), (True, "true"))

    def test_what_does_not_fit_is_an_error_and_never_something_else(self) -> None:
        for column, value in (
            (Column("x", "integer"), 2**63),
            (Column("x", "integer"), 1.5),
            (Column("x", "integer"), "one"),
            (Column("x", "boolean"), 1),
            (Column("x", "decimal", precision=4, scale=1), "1.55"),
            (Column("x", "decimal", precision=4, scale=1), "NaN"),
            (Column("x", "decimal", precision=2, scale=1), "100"),
            (Column("x", "date"), "infinity"),
            (Column("x", "date"), "0044-03-15 BC"),
            (Column("x", "time"), "24:00:00"),
            (Column("x", "time"), "13:45:00+01"),
            (Column("x", "timestamp"), "-infinity"),
            (Column("x", "bytes"), 5),
        ):
            with self.assertRaises(Problem) as caught:
                arrow([column], [(value,)])
            self.assertEqual(caught.exception.code, "query_failed", (column, value))
            self.assertIn("'x'", caught.exception.detail)
            self.assertIn("msgpack", caught.exception.hint or "")

    def test_names_may_occur_again(self) -> None:
        table = arrow([Column("x", "integer"), Column("x", "string")], [(1, "a")])
        self.assertEqual(table.schema.names, ["x", "x"])

    def test_a_result_without_rows_has_its_schema(self) -> None:
        self.assertEqual(arrow(COLUMNS).schema, arrow_schema(COLUMNS))
        self.assertEqual(arrow(()).num_columns, 0)

    def test_large_results_come_in_batches(self) -> None:
        table = arrow(COLUMNS, [(n, str(n)) for n in range(25_000)])
        self.assertEqual([len(each) for each in table.to_batches()], [10_000, 10_000, 5_000])
        self.assertEqual(table.column(0).to_pylist(), list(range(25_000)))

    def test_a_stream_ends_with_its_mark(self) -> None:
        self.assertEqual(ArrowWriter().tail(1, truncated=False), END)

    def test_what_failed_can_not_be_read_as_complete(self) -> None:
        writer = ArrowWriter()
        data = writer.head(COLUMNS) + writer.rows([(1, "a")], first=True)
        data += writer.failure(Problem("query_failed", "no"), "r")
        with self.assertRaises(pa.ArrowInvalid):
            pa.ipc.open_stream(data).read_all()

    def test_it_can_not_tell_that_rows_were_left_out(self) -> None:
        writer = ArrowWriter()
        writer.head(COLUMNS)
        with self.assertRaises(Problem) as caught:
            Output(writer, max_rows=1).encode([(1, "a"), (2, "b")])
        self.assertEqual(caught.exception.extra, {"rule": "max_rows"})


class Choice(SynchronousTestCase):
    def test_each_has_its_media_type(self) -> None:
        for accept, expected in (
            ("application/vnd.msgpack", "msgpack"),
            ("application/msgpack", "msgpack"),
            ("application/x-msgpack;q=0.5, text/html", "msgpack"),
            ("application/vnd.apache.arrow.stream", "arrow"),
            ("application/vnd.apache.arrow.stream;q=0.5, text/csv", "csv"),
            ("application/*", "json"),
        ):
            self.assertEqual(negotiate(accept).format, expected)

    def test_documents_are_json_unless_msgpack_is_preferred(self) -> None:
        for accept, expected in (
            (None, "application/json"),
            ("text/csv", "application/json"),
            ("application/vnd.apache.arrow.stream", "application/json"),
            ("application/vnd.msgpack", "application/vnd.msgpack"),
            ("application/msgpack, application/json;q=0.9", "application/vnd.msgpack"),
            ("application/msgpack;q=0.5, */*", "application/json"),
        ):
            self.assertEqual(document(accept), expected)
