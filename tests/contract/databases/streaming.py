"""Results of any size: in order, within bounds, in little memory."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from tests.support.database import request
from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import bind

from .contract import CSV, NDJSON, DatabaseContract, NativeWriter, pause

HUGE = 64 * 1024 * 1024
COPIES = 9
"""Of a huge value, that may be in memory at a time: as read, converted, encoded, put together and
handed on, while the next is being read."""
BESIDE = 16 * 1024 * 1024
"""What the first query of a process takes besides: modules, the allocator's own."""


class Streaming(DatabaseContract):
    def rows_of(self) -> str:
        text = self.subject.joined("'row '", "i")
        return f"select i, {text} as t from ({self.subject.numbers}) n"

    async def test_large_results_are_streamed_in_order_in_every_format(self) -> None:
        caller = self.caller()
        count = 20_000
        expected = [[index, f"row {index}"] for index in range(1, count + 1)]
        sql = self.rows_of()
        answer = await caller.query(sql, {"n": count})
        self.assertNotIsInstance(answer.response.body, bytes)
        self.assertEqual(answer.rows, expected)
        answer = await caller.query(sql, {"n": count}, accept=NDJSON)
        self.assertEqual(
            [list(json.loads(line).values()) for line in answer.body.splitlines()], expected
        )
        answer = await caller.query(sql, {"n": count}, accept=CSV)
        read = csv.reader(io.StringIO(answer.body.decode(), newline=""))
        self.assertEqual([[int(row[0]), row[1]] for row in list(read)[1:]], expected)
        self.assertEqual(answer.request.usage.rows, count)
        rows, _columns = await self.read(self.adapter(), sql, {"n": count})
        self.assertEqual([list(row) for row in rows], expected)

    async def test_max_rows_cuts(self) -> None:
        caller, numbers = self.caller(), self.subject.numbers
        for limit, count in ((0, 0), (1, 1), (50, 50), (51, 51), (7000, 7000), (9000, 8000)):
            answer = await caller.query(numbers, {"n": 8000}, max_rows=limit)
            self.assertEqual(answer.json["row_count"], count)
            self.assertEqual(answer.json["truncated"], limit < 8000)
            self.assertEqual(len(answer.rows), count)
            answer = await caller.query(numbers, {"n": 8000}, max_rows=limit, accept=CSV)
            self.assertEqual(len(answer.body.splitlines()) - 1, count)
            answer = await caller.query(numbers, {"n": 8000}, max_rows=limit, accept=NDJSON)
            self.assertEqual(len(answer.body.splitlines()), count)

    async def test_a_few_rows_of_many_come_at_once_and_leave_a_good_connection(self) -> None:
        caller = self.caller(max=1)
        for _ in range(3):
            answer = await caller.query(self.subject.numbers, {"n": 5_000_000}, max_rows=3)
            self.assertEqual(answer.rows, [[1], [2], [3]])

    async def test_the_policys_bounds(self) -> None:
        numbers = self.subject.numbers
        caller = self.caller(DatabasePolicy(max_rows=100))
        answer = await caller.query(numbers, {"n": 100})
        self.assertFalse(answer.json["truncated"])
        answer = await caller.query(numbers, {"n": 101})
        self.assertEqual((answer.json["row_count"], answer.json["truncated"]), (100, True))
        answer = await caller.query(numbers, {"n": 100}, accept=CSV)
        self.assertEqual(len(answer.body.splitlines()), 101)
        for accept in (CSV, NDJSON):
            work = caller.query(numbers, {"n": 101}, accept=accept)
            self.assertEqual(
                (await self.problem(work, "policy_denied")).extra, {"rule": "max_rows"}
            )
        caller = self.caller(DatabasePolicy(max_bytes=1000))
        answer = await caller.query(numbers, {"n": 8000})
        self.assertTrue(answer.json["truncated"])
        self.assertEqual(answer.rows[-1], [answer.json["row_count"]])
        self.assertGreater(answer.json["row_count"], 150)
        for accept in (CSV, NDJSON):
            work = caller.query(numbers, {"n": 8000}, accept=accept)
            await self.problem(work, "policy_denied")

    async def test_the_first_rows_of_many_come_before_the_others(self) -> None:
        adapter = self.adapter()
        writer = NativeWriter()
        statement = bind(self.rows_of(), {"n": 2_000_000}, self.dialect)
        stream = await adapter.query(statement, Output(writer))
        block = await stream.next_block()
        await stream.abort()
        self.assertIsNotNone(block)
        self.assertLess(len(writer.kept), 50_000)

    async def test_a_slow_reader_keeps_little_in_memory(self) -> None:
        adapter = self.adapter()
        output = Output(NativeWriter())
        statement = bind(self.rows_of(), {"n": 1_000_000}, self.dialect)
        stream = await adapter.query(statement, output)
        await stream.next_block()
        await stream.next_block()
        await pause(0.3)
        before = output.rows
        await pause(0.3)
        self.assertEqual(output.rows, before, "it reads on though nobody wants it")
        self.assertLess(before, 100_000)
        await stream.abort()

    async def test_closing_the_body_stops_the_statement(self) -> None:
        caller = self.caller(max=1)
        for accept in (None, CSV, NDJSON):
            sent = request(
                body={"sql": self.subject.numbers, "params": {"n": 5_000_000}}, accept=accept
            )
            response = await caller.service.handle(sent)
            body: Any = response.body
            self.assertGreater(len(await anext(body)), 1000)
            await body.aclose()
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_huge_values_pass_in_bounded_memory(self) -> None:
        if self.subject.huge is None:
            return
        value = self.subject.huge.format(size=HUGE)
        sql = f"select i, {value} as v from ({self.subject.numbers}) n"
        before = _peak_memory()
        sent = request(body={"sql": sql, "params": {"n": 12}})
        response = await self.caller().service.handle(sent)
        size = 0
        self.assertNotIsInstance(response.body, bytes)
        async for chunk in response.body:  # type: ignore[union-attr]  # not bytes
            size += len(chunk)
        self.assertGreater(size, 12 * HUGE)
        self.assertLess(_peak_memory(reset=False) - before, COPIES * HUGE + BESIDE)


def _peak_memory(*, reset: bool = True) -> int:
    """The process' largest resident size, in bytes; counted anew when told so (proc(5))."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
