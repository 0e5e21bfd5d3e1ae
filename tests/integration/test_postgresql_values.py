"""PostgreSQL's values: exact in every format, and the same whichever way they take."""

from __future__ import annotations

import json
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.database import typed
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.base import Output, RowStream
from workato_agent.services.database.adapters.postgresql_literals import literal
from workato_agent.services.database.formats import WRITERS
from workato_agent.services.database.statements import POSTGRESQL, bind, outline

VALUES: Final[tuple[tuple[str, str, object, str], ...]] = (
    # SQL, type, JSON, CSV
    ("true", "boolean", True, "true"),
    ("null::bool", "boolean", None, ""),
    ("32767::int2", "integer", 32767, "32767"),
    ("9223372036854775807", "integer", 2**63 - 1, "9223372036854775807"),
    ("4294967295::oid", "integer", 4294967295, "4294967295"),
    ("0.1::float4", "float", 0.1, "0.1"),
    ("1e20::float8", "float", 1e20, "1e+20"),
    ("'-0'::float8", "float", -0.0, "-0"),
    ("'NaN'::float8", "float", "NaN", "NaN"),
    ("'-Infinity'::float4", "float", "-Infinity", "-Infinity"),
    ("1.10::numeric", "decimal", "1.10", "1.10"),
    ("12345678901234567890123456789012345678.9", "decimal",
     "12345678901234567890123456789012345678.9", "12345678901234567890123456789012345678.9"),
    ("'NaN'::numeric", "decimal", "NaN", "NaN"),
    ("''::text", "string", "", '""'),
    ("'x'::char(3)", "string", "x  ", "x  "),
    ("'a\"b,c'::varchar", "string", 'a"b,c', '"a""b,c"'),
    ("E'\\n\\r\\t\\x01\\x02\\x1f\\x7f\\\\'", "string", "\n\r\t\x01\x02\x1f\x7f\\",
     '"\n\r\t\x01\x02\x1f\x7f\\"'),
    ("'☃ 😀'", "string", "☃ 😀", "☃ 😀"),
    ("'\\.'", "string", "\\.", "\\."),
    ("'\\x00ff'::bytea", "bytes", "AP8=", "AP8="),
    ("''::bytea", "bytes", "", '""'),
    ("date '2024-02-29'", "date", "2024-02-29", "2024-02-29"),
    ("date '0044-03-15 BC'", "date", "0044-03-15 BC", "0044-03-15 BC"),
    ("date '12024-01-01'", "date", "12024-01-01", "12024-01-01"),
    ("date 'infinity'", "date", "infinity", "infinity"),
    ("time '23:59:59.999999'", "time", "23:59:59.999999", "23:59:59.999999"),
    ("timetz '10:00+05:30'", "time", "10:00:00+05:30", "10:00:00+05:30"),
    ("timestamp '2024-01-01 10:00:00.5'", "timestamp", "2024-01-01T10:00:00.5",
     "2024-01-01T10:00:00.5"),
    ("timestamp '0044-03-15 10:00 BC'", "timestamp", "0044-03-15T10:00:00 BC",
     "0044-03-15T10:00:00 BC"),
    ("timestamp '-infinity'", "timestamp", "-infinity", "-infinity"),
    ("timestamptz '2024-07-01 10:00Z'", "timestamptz", "2024-07-01T12:00:00+02:00",
     "2024-07-01T12:00:00+02:00"),
    ("timestamptz '1850-01-01 10:00Z'", "timestamptz", "1850-01-01T10:53:28+00:53:28",
     "1850-01-01T10:53:28+00:53:28"),
    ("timestamptz '0044-03-15 10:00Z BC'", "timestamptz", "0044-03-15T10:53:28+00:53:28 BC",
     "0044-03-15T10:53:28+00:53:28 BC"),
    ("timestamptz 'infinity'", "timestamptz", "infinity", "infinity"),
    ("interval '1 year -2 days 03:00:00.5'", "interval", "P1Y-2DT3H0.5S", "P1Y-2DT3H0.5S"),
    ("interval '0'", "interval", "PT0S", "PT0S"),
    ("'123E4567-e89b-12d3-a456-426614174000'::uuid", "uuid",
     "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
    ("'{\"a\": [1.10]}'::json", "json", {"a": [1.1]}, '"{""a"": [1.10]}"'),
    ("E'[1,\\n2]'::json", "json", [1, 2], '"[1,\n2]"'),
    ("'null'::jsonb", "json", None, "null"),
    ("'10.0.0.0/8'::cidr", "string", "10.0.0.0/8", "10.0.0.0/8"),
    ("B'101'", "string", "101", "101"),
    ("'[1,5)'::int4range", "unknown", "[1,5)", '"[1,5)"'),
    ("row(1, 'a')", "unknown", "(1,a)", '"(1,a)"'),
    ("point '(1,2)'", "unknown", "(1,2)", '"(1,2)"'),
    ("array[1, null, -3]", "array", [1, None, -3], '"[1,null,-3]"'),
    ("array[[1,2],[3,4]]", "array", [[1, 2], [3, 4]], '"[[1,2],[3,4]]"'),
    ("'[0:1]={7,8}'::int[]", "array", [7, 8], '"[7,8]"'),
    ("'{}'::text[]", "array", [], "[]"),
    ("array['a', null, 'NULL', '', 'x\"y', 'b\\c,d{}']", "array",
     ["a", None, "NULL", "", 'x"y', "b\\c,d{}"],
     '"[""a"",null,""NULL"","""",""x\\""y"",""b\\\\c,d{}""]"'),
    ("array[1.50, 'NaN']::numeric[]", "array", ["1.50", "NaN"], '"[""1.50"",""NaN""]"'),
    ("array[1.5, 'NaN', 1e20]::float8[]", "array", [1.5, "NaN", 1e20], '"[1.5,""NaN"",1e+20]"'),
    ("array[true, false]", "array", [True, False], '"[true,false]"'),
    ("array['\\x01'::bytea]", "array", ["AQ=="], '"[""AQ==""]"'),
    ("array[timestamptz '2024-07-01 10:00Z']", "array", ["2024-07-01T12:00:00+02:00"],
     '"[""2024-07-01T12:00:00+02:00""]"'),
    ("array['{\"a\":1}'::jsonb]", "array", [{"a": 1}], '"[{""a"": 1}]"'),
    ("array[interval '1 day']", "array", ["P1D"], '"[""P1D""]"'),
    ("'sad'::mood", "string", "sad", "sad"),
    ("array['sad', null]::mood[]", "array", ["sad", None], '"[""sad"",null]"'),
    ("7::positive", "integer", 7, "7"),
)  # fmt: skip


class Values(PostgresqlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.run("drop type if exists mood cascade; drop domain if exists positive")
        self.server.run("create type mood as enum ('happy', 'sad')")
        self.server.run("create domain positive as int check (value > 0)")
        self.server.run("alter role owner set timezone = 'Europe/Berlin'")
        self.addCleanup(self.server.run, "alter role owner reset timezone")

    async def test_each_type_in_each_format(self) -> None:
        caller = self.caller()
        for sql, kind, wanted, text in VALUES:
            answer = await caller.query(f"select {sql} as v, 1 as w")
            self.assertEqual((answer.types[0], answer.rows), (kind, [[wanted, 1]]), sql)
            answer = await caller.query(f"select {sql} as v, 1 as w", accept="application/x-ndjson")
            self.assertEqual(len(answer.body.splitlines()), 1, sql)
            self.assertEqual(answer.json, {"v": wanted, "w": 1}, sql)
            answer = await caller.query(f"select {sql} as v, 1 as w", accept="text/csv")
            self.assertEqual(answer.body.decode(), f"v,w\r\n{text},1\r\n", sql)

    async def test_both_ways_bring_the_same(self) -> None:
        self.caller()
        for sql, _kind, _wanted, _text in VALUES:
            await self.check_both(f"select {sql} as v, 1 as w, null as n")
            await self.check_both(f"select {sql} as v")
        await self.check_both("select " + ", ".join(entry[0] for entry in VALUES))

    async def test_typed_parameters_arrive(self) -> None:
        caller = self.caller()
        for kind, value in (
            ("decimal", "12345678901234567890123456789012345678.9"), ("decimal", "-0.10"),
            ("date", "0044-03-15 BC"), ("date", "infinity"), ("time", "10:00:00.5"),
            ("timestamp", "2024-01-01T10:00:00.123456"), ("timestamp", "-infinity"),
            ("timestamptz", "2024-07-01T12:00:00+02:00"), ("interval", "P1Y2M3DT4H5M6.7S"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000"), ("json", {"a": [1, None, "x"]}),
            ("boolean", False), ("integer", 2**63 - 1), ("string", "it's \\ é"),
            ("array", [1, None, 2]), ("array", ["a", "b'c\\"]), ("array", [[1, 2], [3, 4]]),
            ("float", 1.5), ("float", "NaN"),
        ):  # fmt: skip
            answer = await caller.query("select ?", [typed(kind, value)])
            self.assertEqual((answer.types[0], answer.rows), (kind, [[value]]))
        answer = await caller.query("select ?", [typed("time", "10:00+02")])
        self.assertEqual(answer.rows, [["10:00:00+02"]])

    async def test_plain_text_takes_the_type_of_its_context(self) -> None:
        answer = await self.caller().query(
            "select date '2024-01-02' - ?, ? = any (?::uuid[]), ?::int + 1, 1 in (?, ?)",
            ["2024-01-01", typed("uuid", "123e4567-e89b-12d3-a456-426614174000"),
             ["123e4567-e89b-12d3-a456-426614174000"], "41", 1, "2"],
        )  # fmt: skip
        self.assertEqual(answer.rows, [[1, True, 42, True]])

    async def test_json_operators_go_with_values(self) -> None:
        caller = self.caller()
        sql = "select '{\"a\":1}'::jsonb ?? ?"
        self.assertEqual((await caller.query(sql, ["a"])).rows, [[True]])
        self.assertEqual((await caller.query("select '[\"a\"]'::jsonb ? 'a'")).rows, [[True]])
        answer = await caller.query("select (array[1,2,3])[2:3], :a::int", {"a": 5})
        self.assertEqual(answer.rows, [[[2, 3], 5]])

    async def test_both_ways_bring_the_same_of_random_rows(self) -> None:
        rows: list[tuple[object, ...]] = [
            (None, "NaN", "", b"", "0.10", "infinity", True),
            (None, "-Infinity", "\\", b"\\", "NaN", "0044-03-15 10:00 BC", None),
        ]

        @settings(max_examples=150, deadline=None, database=None)
        @given(
            st.tuples(
                st.none() | st.integers(-(2**63), 2**63 - 1),
                st.none() | st.floats(),
                st.none() | st.text().filter(lambda text: "\0" not in text),
                st.none() | st.binary(),
                st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=6),
                st.none() | st.datetimes(),
                st.none() | st.booleans(),
            )
        )
        def gather(row: tuple[object, ...]) -> None:
            rows.append(row)

        gather()
        kinds = ("int8", "float8", "text", "bytea", "numeric", "timestamptz", "bool")
        lines = [
            ", ".join(f"({_sql(value)})::{kind}" for value, kind in zip(row, kinds, strict=True))
            for row in rows
        ]
        self.caller()
        values = "), (".join(lines)
        await self.check_both(f"select * from (values ({values})) as t(a, b, c, d, e, f, g)")
        await self.check_both(f"select c from (values ({values})) as t(a, b, c, d, e, f, g)")

    async def check_both(self, sql: str) -> None:
        for form in ("text/csv", "application/json", "application/x-ndjson"):
            fetched, copied = await self.fetched(sql, form), await self.copied(sql, form)
            if copied is None:
                continue
            if form == "text/csv":
                self.assertEqual(fetched, copied)
            elif form == "application/json":
                self.assertEqual(repr(json.loads(f"[{fetched}]")), repr(json.loads(f"[{copied}]")))
            else:
                self.assertEqual(
                    [repr(json.loads(line)) for line in fetched.split("\n")[:-1]],
                    [repr(json.loads(line)) for line in copied.split("\n")[:-1]],
                )

    async def fetched(self, sql: str, form: str) -> str:
        output = Output(WRITERS[form]())
        rendered = bind(sql, None, POSTGRESQL).render(literal)
        return await self.body(
            await self.adapter.fetch(rendered, outline(sql, POSTGRESQL), output), output
        )

    async def copied(self, sql: str, form: str) -> str | None:
        output = Output(WRITERS[form]())
        rendered = bind(sql, None, POSTGRESQL).render(literal)
        rows = await self.adapter.copy(rendered, outline(sql, POSTGRESQL), output)
        return None if rows is None else await self.body(rows, output)

    async def body(self, rows: RowStream, output: Output) -> str:
        output.writer.head(rows.columns)
        parts = []
        while (block := await rows.next_block()) is not None:
            parts.append(block.data)
        await rows.finish()
        return b"".join(parts).decode()


def _sql(value: object) -> str:
    if value is None or isinstance(value, int | str | bytes):
        return literal(value)
    return literal(str(value))
