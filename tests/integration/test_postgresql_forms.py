"""MessagePack and Arrow of PostgreSQL: every type, and the same whichever way they take."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.ipc

from tests.integration.test_postgresql_values import VALUES
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.base import Output, RowStream
from workato_agent.services.database.adapters.postgresql_literals import literal
from workato_agent.services.database.results import Writer
from workato_agent.services.database.results_arrow import ArrowWriter
from workato_agent.services.database.results_msgpack import MsgpackWriter, array_of
from workato_agent.services.database.statements import POSTGRESQL, bind, outline
from workato_tunnel.problems import Problem

NATIVE: Final[dict[str, object]] = {
    "'NaN'::float8": math.nan,
    "'-Infinity'::float4": -math.inf,
    "'\\x00ff'::bytea": b"\x00\xff",
    "''::bytea": b"",
    "'{\"a\": [1.10]}'::json": '{"a": [1.10]}',
    "E'[1,\\n2]'::json": "[1,\n2]",
    "'null'::jsonb": "null",
    "array[1.5, 'NaN', 1e20]::float8[]": [1.5, math.nan, 1e20],
    "array['\\x01'::bytea]": [b"\x01"],
    "array['{\"a\":1}'::jsonb]": ['{"a": 1}'],
}
"""Where the native form differs from JSON's."""

OUT_OF_RANGE: Final = (
    "date '0044-03-15 BC'", "date '12024-01-01'", "date 'infinity'", "timetz '10:00+05:30'",
    "timestamp '0044-03-15 10:00 BC'", "timestamp '-infinity'",
    "timestamptz '0044-03-15 10:00Z BC'", "timestamptz 'infinity'",
)  # fmt: skip
MORE: Final = (
    "1.50::numeric(10,2)", "'NaN'::numeric(10,2)", "null::numeric(10,2)", "-0.05::numeric(38,38)",
    "1234567::numeric(5,-2)", "time '24:00'", "null::timestamptz", "null::bytea", "null::date",
    "timestamptz '9999-12-31 23:59:59.999999Z'", "timestamp '0001-01-01'", "'NULL'", "E'a\\r\\nb'",
    "'\"'", "''", "null::text", "'\\N'", "timestamptz '1850-01-01 10:00Z'",
)  # fmt: skip


class Forms(PostgresqlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.run("drop type if exists mood cascade; drop domain if exists positive")
        self.server.run("create type mood as enum ('happy', 'sad')")
        self.server.run("create domain positive as int check (value > 0)")
        self.server.run("alter role owner set timezone = 'Europe/Berlin'")
        self.addCleanup(self.server.run, "alter role owner reset timezone")
        self.caller()

    async def test_native_values_of_each_type(self) -> None:
        for sql, _kind, wanted, _text in VALUES:
            found = (await self.fetched(f"select {sql} as v", MsgpackWriter()))[0][0]
            wanted = NATIVE.get(sql, wanted)
            self.assertEqual(repr(found), repr(wanted), sql)

    async def test_both_ways_bring_the_same(self) -> None:
        for sql in (*(entry[0] for entry in VALUES), *MORE):
            await self.check(f"select {sql} as v")
            await self.check(
                f"select {sql} as v, 1 as w, null as w, {sql} as v from generate_series(1, 3)"
            )
        fine = [entry[0] for entry in VALUES if entry[0] not in OUT_OF_RANGE]
        await self.check(
            "select " + ", ".join(each for each in fine if "array" not in each and "[" not in each)
        )

    async def test_values_beyond_arrow_are_an_error_with_a_hint(self) -> None:
        for sql in (*OUT_OF_RANGE, "time '24:00'", "'NaN'::numeric(10,2)"):
            for way in (self.fetched, self.copied):
                problem = await self.problem(
                    way(f"select {sql} as v", ArrowWriter()), "query_failed"
                )
                self.assertIn("'v'", problem.detail)
                self.assertIn("cast", problem.hint or "")

    async def test_many_rows_take_the_fast_way(self) -> None:
        sql = (
            "select i, 'é' || i as t, i / 4.0::float8 as f, i % 2 = 0 as b,"
            " case when i % 7 > 0 then timestamptz '2024-03-30 23:30Z'"
            " + i * interval '1 second' end as s,"
            " (i / 3.0)::numeric(12,4) as n, decode(md5(i::text), 'hex') as d"
            " from generate_series(1, 20000) as i"
        )
        for form in (ArrowWriter, MsgpackWriter):
            output = Output(form())
            stream = await self.adapter.query(bind(sql, None, POSTGRESQL), output)
            self.assertEqual(type(stream).__name__, "CopyRows")
            await self.read(stream, output)
            self.assertEqual(output.rows, 20000)
        await self.check(sql)

    async def check(self, sql: str) -> None:
        for form in (MsgpackWriter, ArrowWriter):
            found = []
            for way in (self.fetched, self.copied):
                try:
                    found.append(repr(await way(sql, form())))
                except Problem as problem:
                    found.append(f"{problem.code} {problem.detail.partition('Arrow type')[0]}")
            self.assertEqual(found[0], found[1], (form.format, sql))

    async def fetched(self, sql: str, writer: Writer) -> Any:
        output = Output(writer)
        rendered = bind(sql, None, POSTGRESQL).render(literal)
        rows = await self.adapter.fetch(rendered, outline(sql, POSTGRESQL), output)
        return await self.read(rows, output)

    async def copied(self, sql: str, writer: Writer) -> Any:
        output = Output(writer)
        rendered = bind(sql, None, POSTGRESQL).render(literal)
        rows = await self.adapter.copy(rendered, outline(sql, POSTGRESQL), output)
        if rows is None:
            return await self.fetched(sql, writer)
        return await self.read(rows, output)

    async def read(self, rows: RowStream, output: Output) -> Any:
        try:
            head = output.writer.head(rows.columns)
            parts = []
            while (block := await rows.next_block()) is not None:
                parts.append(block.data)
            await rows.finish()
        except BaseException:
            await rows.abort()
            raise
        body = b"".join(parts)
        if output.writer.format == "msgpack":
            return msgspec.msgpack.decode(array_of(body, output.rows))
        table = pyarrow.ipc.open_stream(head + body + output.writer.tail(0, truncated=False))
        read = table.read_all()
        read.validate(full=True)
        return read.schema.to_string(show_field_metadata=True), [
            column.to_pylist()
            if not pa.types.is_timestamp(column.type)
            else column.cast(pa.int64()).to_pylist()
            for column in read.columns
        ]
