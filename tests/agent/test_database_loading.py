"""Bodies of ``load``: CSV, NDJSON and Arrow, cut anywhere, whole or broken."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from workato_agent.requests import BodyLost
from workato_agent.services.database.loading import BLOCK_BYTES, LoadBody
from workato_agent.services.database.loading_arrow import ArrowBody
from workato_agent.services.database.loading_csv import MAX_HEADER, CsvBody
from workato_agent.services.database.loading_ndjson import NdjsonBody
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.results import Column, CsvWriter
from workato_agent.services.database.work import Threads
from workato_tunnel.problems import Problem


class OnTheSpot(Threads):
    """Runs in no thread, so that a body can be read without a reactor."""

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return ensureDeferred(self._called(function, args, kwargs))

    async def _called(self, function: Any, args: Any, kwargs: Any) -> Any:
        return function(*args, **kwargs)


async def chunked(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def everything(body: LoadBody) -> tuple[Sequence[str], list[Sequence[object]]]:
    names = await body.columns()
    return names, [row async for block in body.blocks() for row in block]


def threads() -> Threads:
    return OnTheSpot.of(Clock(), 1, "test")


class CsvCase(SynchronousTestCase):
    def body(self, data: bytes, size: int = 65536) -> CsvBody:
        return CsvBody(chunked(data, size), threads())

    def read(self, data: bytes, size: int = 65536) -> tuple[Sequence[str], list[list[object]]]:
        names, rows = self.successResultOf(ensureDeferred(everything(self.body(data, size))))
        return names, [list(row) for row in rows]

    def refused(self, data: bytes, size: int = 65536) -> Problem:
        failed = self.failureResultOf(ensureDeferred(everything(self.body(data, size))), Problem)
        problem: Problem = failed.value
        return problem


fields = st.none() | st.text(
    st.sampled_from('ab,"\r\n é🙂') | st.characters(exclude_categories=["Cs"]), max_size=8
)


class Csv(CsvCase):
    @settings(max_examples=150)
    @given(
        st.integers(1, 4).flatmap(
            lambda width: st.lists(st.lists(fields, min_size=width, max_size=width), max_size=6)
        ),
        st.integers(1, 9),
    )
    def test_what_results_write_is_read_back(self, rows: list[list[str | None]], size: int) -> None:
        writer = CsvWriter()
        width = len(rows[0]) if rows else 1
        columns = [Column(f"c{index}", "string") for index in range(width)]
        data = writer.head(columns) + writer.rows(rows, first=True)
        self.assertEqual(self.read(data, size), (tuple(c.name for c in columns), rows))

    @settings(max_examples=100)
    @given(
        st.lists(st.lists(st.text('ab,"\n é', max_size=5), min_size=2, max_size=2), max_size=5),
        st.sampled_from(["\n", "\r\n"]),
        st.booleans(),
        st.integers(1, 9),
    )
    def test_what_others_write_is_read(
        self, rows: list[list[str]], end: str, quote_all: bool, size: int
    ) -> None:
        written = io.StringIO(newline="")
        quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
        csv.writer(written, lineterminator=end, quoting=quoting).writerows([["x", "y"], *rows])
        _, found = self.read(written.getvalue().encode(), size)
        expected = rows if quote_all else [[cell or None for cell in row] for row in rows]
        self.assertEqual(found, expected)

    def test_null_and_the_empty_string_differ(self) -> None:
        for size in (1, 2, 3, 100):
            self.assertEqual(
                self.read(b'a,b,c\n,"",\n"",,""\r\n', size)[1], [[None, "", None], ["", None, ""]]
            )
            self.assertEqual(self.read(b'a\n\n""\nx\n', size)[1], [[None], [""], ["x"]])

    def test_the_last_line_end_may_be_missing(self) -> None:
        for size in (1, 100):
            for tail in (b"", b"\n", b"\r\n", b"\r"):
                self.assertEqual(self.read(b"a,b\n1,2" + tail, size)[1], [["1", "2"]])
                self.assertEqual(self.read(b'a,b\n1,"2"' + tail, size)[1], [["1", "2"]])
                self.assertEqual(self.read(b"a,b" + tail, size), (("a", "b"), []))

    def test_a_byte_order_mark_is_no_part_of_a_name(self) -> None:
        for size in (1, 2, 100):
            body = self.body(b'\xef\xbb\xbf"a",b\r\n1,2\r\n', size)

            async def whole(body: CsvBody = body) -> bytes:
                self.assertEqual(await body.columns(), ("a", "b"))
                return b"".join([chunk async for chunk in body.chunks()])

            found = self.successResultOf(ensureDeferred(whole()))
            self.assertEqual(found, b'"a",b\r\n1,2\r\n')

    def test_chunks_are_the_body_without_asking_for_columns_too(self) -> None:
        async def whole() -> bytes:
            return b"".join([chunk async for chunk in self.body(b"a\n" + b"x\n" * 99, 7).chunks()])

        self.assertEqual(self.successResultOf(ensureDeferred(whole())), b"a\n" + b"x\n" * 99)

    def test_large_bodies_come_in_blocks(self) -> None:
        data = b"a,b\n" + b"".join(b'%d,"x\ny"\n' % n for n in range(60_000))

        async def sizes() -> list[int]:
            return [len(block) async for block in self.body(data).blocks()]

        found = self.successResultOf(ensureDeferred(sizes()))
        self.assertEqual(sum(found), 60_000)
        self.assertGreaterEqual(len(found), len(data) // (2 * BLOCK_BYTES))

    def test_what_is_malformed_is_named_with_its_line(self) -> None:
        for data, line, words in (
            (b"a,b\n1,2\n1,2,3\n", 3, "3 fields, the header 2"),
            (b'a,b\n"1\n\n2",3\n1\n', 5, "1 fields"),
            (b'a,b\n1,x"y\n', 2, "not closed"),
            (b'a,b\n1,x"y"\n', 2, "around a whole field"),
            (b'a,b\n1,2\n1, "y"\n', 3, "around a whole field"),
            (b'a,b\n1,"y"z\n', 2, "around a whole field"),
            (b"a,b\n1,2\n\n3,4\n", 3, "1 fields"),
            (b"a,b\n1,2\n1\r2,3\n", 3, "carriage return"),
            (b'a,b\n"1",2\n1\r2,3\n', 3, "around a whole field"),
            (b'a,b\n1,"2\n3', 2, "not closed"),
            (b"a,b\n1,2\n\xff,3\n", 3, "UTF-8"),
            (b"", 1, "no header"),
            (b"\r\n1\n", 1, "no header"),
        ):
            for size in (1, 5, 100):
                problem = self.refused(data, size)
                self.assertEqual(problem.code, "bad_request", data)
                self.assertEqual(problem.extra.get("line"), line, (data, problem.detail))
                self.assertIn(words, problem.detail)

    def test_names_are_there_once(self) -> None:
        self.assertIn("'a' is there twice", self.refused(b"a,b,a\n").detail)
        self.assertIn("column 2", self.refused(b"a,,b\n").detail)
        self.assertIn("column 1", self.refused(b'"",b\n').detail)

    def test_a_header_is_bounded(self) -> None:
        self.assertIn("header", self.refused(b"a" * (MAX_HEADER + 70_000)).detail)
        self.assertIn("header", self.refused(b'"' + b"\n" * (MAX_HEADER + 70_000)).detail)

    def test_a_body_that_is_lost_never_ends(self) -> None:
        async def lost() -> AsyncIterator[bytes]:
            yield b"a\n1\n"
            raise BodyLost("gone")

        failed = ensureDeferred(everything(CsvBody(lost(), threads())))
        self.failureResultOf(failed, BodyLost)


class Ndjson(SynchronousTestCase):
    def read(self, data: bytes, size: int = 65536, *columns: str) -> Any:
        body = NdjsonBody(chunked(data, size), threads(), columns or None)
        names, rows = self.successResultOf(ensureDeferred(everything(body)))
        return names, [list(row) for row in rows]

    def refused(self, data: bytes, size: int = 65536) -> Problem:
        body = NdjsonBody(chunked(data, size), threads())
        problem: Problem = self.failureResultOf(ensureDeferred(everything(body)), Problem).value
        return problem

    @settings(max_examples=60)
    @given(
        st.lists(st.fixed_dictionaries({"a": st.integers(), "b": fields}), max_size=8),
        st.integers(1, 20),
        st.sampled_from(["\n", "\r\n", "\n\n"]),
    )
    def test_rows_are_read(self, rows: list[dict[str, Any]], size: int, end: str) -> None:
        data = end.join(json.dumps(row) for row in rows).encode()
        names, found = self.read(data, size)
        self.assertEqual(names, tuple(rows[0]) if rows else ())
        self.assertEqual(found, [[row[name] for name in names] for row in rows])

    def test_large_bodies_come_in_blocks(self) -> None:
        data = b"".join(b'{"n":%d}\n' % n for n in range(50_000))
        self.assertEqual(self.read(data)[1], [[n] for n in range(50_000)])

    def test_values_are_as_in_parameters(self) -> None:
        _, rows = self.read(
            b'{"a": 1.50, "b": {"type": "bytes", "value": 1.0}, "c": [1, [null]], "d": [{"x": 1}],'
            b' "e": 123456789012345678901, "f": true}'
        )
        self.assertEqual(
            rows[0],
            [
                Number("1.50"),
                Typed("json", '{"type":"bytes","value":1.0}'),
                [1, [None]],
                Typed("json", '[{"x":1}]'),
                123456789012345678901,
                True,
            ],
        )

    def test_names_may_come_in_any_order_or_lack(self) -> None:
        names, rows = self.read(b'{"a":1,"b":2}\n{"b":3}\n{"b":4,"a":5}\n{}\n')
        self.assertEqual((names, rows), (("a", "b"), [[1, 2], [None, 3], [5, 4], [None, None]]))
        names, rows = self.read(b'{"a":1}\n{"b":3}\n', 3, "b", "a")
        self.assertEqual((names, rows), (("b", "a"), [[None, 1], [3, None]]))

    def test_what_is_wrong_is_named_with_its_line(self) -> None:
        for data, line, words in (
            (b'{"a":1}\n\n{"a":1,"c":2}\n', 3, "member 'c'"),
            (b'{"a":1}\n[1]\n', 2, "no JSON object"),
            (b'\n\n{"a":1}\n{"a":', 4, "no JSON object"),
            (b'{"a":1}\n{"a":"\xff"}\n', 2, "no JSON object"),
            (b'{"a":1}\n{"a":' + b"[" * 5000 + b"\n", 2, "no JSON object"),
            (b"nonsense", 1, "no JSON object"),
            (b'{"a":[[[[[[[1]]]]]]]}\n', None, "line 1, a"),
            (b'{"":1}\n', None, "column 1"),
        ):
            for size in (1, 100_000):
                problem = self.refused(data, size)
                self.assertEqual(problem.code, "bad_request")
                self.assertEqual(problem.extra.get("line"), line, (data[:30], problem.detail))
                self.assertIn(words, problem.detail)

    def test_blank_lines_alone_are_no_rows(self) -> None:
        self.assertEqual(self.read(b"\n\n  \r\n"), ((), []))
        self.assertEqual(self.refused(b"\n" * 300_000).code, "payload_too_large")


class Arrow(TestCase):
    timeout = 30

    def stream(self, table: Any, **options: Any) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(
            sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)
        ) as writer:
            writer.write_table(table, max_chunksize=1500)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    async def read(self, data: bytes, size: int = 65536) -> Any:
        body = ArrowBody.of(reactor, chunked(data, size))
        try:
            names, rows = await everything(body)
        finally:
            await body.close()
        return names, [list(row) for row in rows]

    async def refused(self, data: bytes) -> Problem:
        try:
            await self.read(data)
        except Problem as problem:
            return problem
        raise AssertionError("it was taken")

    async def test_each_type(self) -> None:
        moment = datetime(2024, 2, 29, 13, 45, 0, 500)  # noqa: DTZ001
        cases: list[tuple[Any, Any, object]] = [
            (pa.int64(), -5, -5),
            (pa.uint64(), 2**64 - 1, 2**64 - 1),
            (pa.bool_(), True, True),
            (pa.float64(), 1.5, Typed("float", "1.5")),
            (pa.float32(), math.inf, Typed("float", "Infinity")),
            (pa.float64(), math.nan, Typed("float", "NaN")),
            (pa.decimal128(38, 2), Decimal("1.50"), Typed("decimal", "1.50")),
            (pa.string(), "é\0🙂", "é\0🙂"),
            (pa.large_string(), "", ""),
            (pa.binary(), b"\0\xff", b"\0\xff"),
            (pa.binary(2), b"ab", b"ab"),
            (pa.date32(), date(2024, 2, 29), Typed("date", "2024-02-29")),
            (pa.time64("us"), time(13, 45), Typed("time", "13:45:00.000000")),
            (pa.timestamp("us"), moment, Typed("timestamp", "2024-02-29 13:45:00.000500")),
            (
                pa.timestamp("s", "UTC"),
                datetime(2024, 2, 29, 13, 45, tzinfo=UTC),
                Typed("timestamptz", "2024-02-29 13:45:00Z"),
            ),
            (pa.duration("ms"), timedelta(seconds=-1.5), Typed("interval", "PT-1.5S")),
            (pa.list_(pa.int32()), [1, None], [1, None]),
            (pa.list_(pa.list_(pa.float64())), [[0.5], None], [[Typed("float", "0.5")], None]),
            (pa.struct({"x": pa.int64()}), {"x": 1}, Typed("json", '{"x":1}')),
            (pa.list_(pa.struct({"x": pa.int64()})), [{"x": 1}], Typed("json", '[{"x":1}]')),
            (pa.dictionary(pa.int8(), pa.string()), "a", "a"),
            (pa.null(), None, None),
        ]
        for kind, value, expected in cases:
            table = pa.table({"x": pa.array([value, None], kind)})
            _, rows = await self.read(self.stream(table))
            self.assertEqual(rows, [[expected], [None]], kind)

    async def test_batches_cut_anywhere(self) -> None:
        table = pa.table({"n": list(range(4000)), "s": [str(n) for n in range(4000)]})
        data = self.stream(table)
        for size in (97, 65536):
            names, rows = await self.read(data, size)
            self.assertEqual(names, ("n", "s"))
            self.assertEqual(rows, [[n, str(n)] for n in range(4000)])

    async def test_the_bytes_can_be_had_instead(self) -> None:
        table = pa.table({"n": list(range(4000))})
        body = ArrowBody.of(reactor, chunked(self.stream(table), 997))
        try:
            self.assertEqual(await body.columns(), ("n",))
            data = b"".join([chunk async for chunk in body.chunks()])
        finally:
            await body.close()
        self.assertEqual(pa.ipc.open_stream(data).read_all(), table)

    async def test_what_is_cut_or_broken_is_refused(self) -> None:
        data = self.stream(pa.table({"n": list(range(4000))}))
        for broken in (
            b"",
            data[:5],
            data[:100],
            data[:-100],
            data[:-8],
            b"rubbish!" * 50,
            b"\0" * 64,
        ):
            problem = await self.refused(broken)
            self.assertIn(problem.code, ("bad_request", "payload_too_large"), broken[:20])
        for at in range(8, 1200, 37):
            changed = bytearray(data)
            changed[at] ^= 0xFF
            try:
                await self.read(bytes(changed))
            except Problem as problem:
                self.assertIn(problem.code, ("bad_request", "payload_too_large"))

    async def test_compression_is_refused(self) -> None:
        for kind in ("lz4", "zstd"):
            data = self.stream(pa.table({"n": list(range(4000))}), compression=kind)
            self.assertIn("compressed", (await self.refused(data)).detail)
            words = pa.table({"s": pa.array(["x"] * 4000).dictionary_encode()})
            data = self.stream(words, compression=kind)
            self.assertIn("compressed", (await self.refused(data)).detail)

    async def test_what_would_grow_without_end_is_refused(self) -> None:
        for kind in (pa.list_(pa.null()), pa.string_view(), pa.month_day_nano_interval()):
            problem = await self.refused(self.stream(pa.table({"x": pa.array([None], kind)})))
            self.assertIn("can't be loaded", problem.detail)
        long = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * 2**20])
        body = ArrowBody.of(reactor, chunked(self.stream(pa.table({"x": long})), 65536))
        try:
            blocks = body.blocks()
            self.assertLessEqual(len(await anext(blocks)), 2)
            await blocks.aclose()  # type: ignore[attr-defined]
        finally:
            await body.close()

    async def test_a_lost_body_is_told_as_such(self) -> None:
        data = self.stream(pa.table({"n": list(range(4000))}))

        async def lost() -> AsyncIterator[bytes]:
            yield data[:2000]
            raise BodyLost("gone")

        body = ArrowBody.of(reactor, lost())
        try:
            with self.assertRaises(BodyLost):
                await everything(body)
        finally:
            await body.close()

    async def test_closing_ends_a_thread_that_waits(self) -> None:
        silence: Deferred[None] = Deferred()

        async def stalled() -> AsyncIterator[bytes]:
            await silence
            yield b""

        body = ArrowBody.of(reactor, stalled())
        reading = ensureDeferred(everything(body))
        reactor.callLater(0.05, reading.cancel)  # type: ignore[attr-defined]
        with self.assertRaises(CancelledError):
            await reading
        await body.close()
