"""Values of every type, both ways and without loss."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.support.database import typed
from workato_agent.services.database.results import ColumnType

from .contract import CSV, NDJSON, DatabaseContract

SAMPLES: Final[Mapping[ColumnType, Sequence[object]]] = {
    "boolean": (True, False),
    "integer": (0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)),
    "float": (0.0, 1.5, -0.25, 0.1, 1e22, 1e300, 2.2250738585072014e-308, 1.7976931348623157e308),
    "decimal": (
        "12345678901234567890123456789.012345678",
        "-99999999999999999999999999999.999999999",
        "0.000000001",
        "1.100000000",
    ),
    "string": (
        "", " ", " a ", "null", "NULL", "\\N", "'", '"', "\\", "a\nb\r\n\tc", "é ☃ 😀", "%s ? :x",
        "x" * 100_000,
    ),
    "bytes": (b"", b"\0", b"\0\xff\\x41'\"", bytes(range(256)) * 40),
    "date": ("2024-02-29", "1969-12-31", "1500-03-01", "9999-12-31"),
    "time": ("13:45:00.123456", "00:00:00", "23:59:59.999999"),
    "timestamp": ("2024-02-29T13:45:00.123456", "1969-12-31T23:59:59", "2024-03-31T02:30:00"),
    "timestamptz": ("2024-02-29T13:45:00.123456+01:00", "1969-12-31T23:59:59Z"),
    "interval": ("P1DT2H", "P1Y2M", "PT0.5S"),
    "uuid": ("123e4567-e89b-12d3-a456-426614174000",),
    "json": ({"a": [1, "é", None, {"b": True}]}, [], "text", 1.5),
    "array": ([1, 2, None], []),
}  # fmt: skip
"""What is sent; for types with text forms, that text is what comes back too."""


class Values(DatabaseContract):
    async def every_type(self) -> None:
        """A table with a column for every type."""
        types = self.subject.types.items()
        columns = ", ".join(f"v_{kind} {stored.sql}" for kind, stored in types)
        await self.table("contract_types", f"id int, {columns}")

    async def test_every_type_survives_both_ways_in_every_format(self) -> None:
        caller, adapter = self.caller(), self.adapter()
        await self.every_type()
        for kind, stored in self.subject.types.items():
            samples = list(stored.samples or SAMPLES[kind])
            if kind == "string" and self.subject.nul:
                samples.append("a\0b")
            await caller.execute("delete from contract_types")
            for number, value in enumerate(samples):
                sql = f"insert into contract_types (id, v_{kind}) values (?, ?)"
                await caller.execute(sql, [number, typed(kind, value)])
            sql = f"select v_{kind}, 1 as w from contract_types order by id"
            answer = await caller.query(sql)
            self.assertEqual(answer.types[0], stored.kind or kind, kind)
            expected = [stored.back(value) for value in samples]
            self._same(kind, [row[0] for row in answer.rows], expected)
            answer = await caller.query(sql, accept=NDJSON)
            lines = [list(json.loads(line).values()) for line in answer.body.splitlines()]
            self._same(kind, [row[0] for row in lines], expected)
            answer = await caller.query(sql, accept=CSV)
            self._same_text(kind, answer.body.decode(), expected)
            rows, _columns = await self.read(adapter, sql)
            self._same_native(kind, [row[0] for row in rows], expected)

    async def test_null_of_every_type(self) -> None:
        caller = self.caller()
        await self.every_type()
        types = self.subject.types
        marks = ", ".join("?" * len(types))
        nulls = [typed(kind, None) for kind in types]
        await caller.execute(f"insert into contract_types values (1, {marks})", nulls)
        columns = ", ".join(f"v_{kind}" for kind in types)
        sql = f"select {columns}, id from contract_types"
        answer = await caller.query(sql)
        self.assertEqual(answer.rows, [[*[None] * len(types), 1]])
        kinds = [stored.kind or kind for kind, stored in types.items()]
        self.assertEqual(answer.types[:-1], kinds)
        answer = await caller.query(sql, accept=CSV)
        self.assertEqual(answer.body.splitlines()[1], b"," * len(types) + b"1")

    async def test_plain_json_values_become_the_columns_types(self) -> None:
        await self.table(
            "contract_plain", "a int, b double precision, c varchar(20), d decimal(10,2)"
        )
        caller = self.caller()
        sql = "insert into contract_plain values (?, ?, ?, ?)"
        await caller.execute(sql, [1, 1.5, "x", "2.25"])
        answer = await caller.query("select a, b, c from contract_plain")
        self.assertEqual(answer.rows, [[1, 1.5, "x"]])

    async def test_parameters_come_back_as_what_they_are(self) -> None:
        caller, subject = self.caller(), self.subject
        for value in (
            0, -1, 2**31, -(2**31), 2**63 - 1, -(2**63),
            "", " ", "null", "NULL", "\\N", "'", '"', "\\", "a\nb\r\n\tc", "é ☃ 😀", "x" * 100_000,
        ):  # fmt: skip
            given = subject.given("integer" if isinstance(value, int) else "string", ":v")
            for accept in (None, NDJSON):
                answer = await caller.query(
                    f"select {given} as {subject.quoted('v')}, 1 as w", {"v": value}, accept=accept
                )
                found = answer.rows[0][0] if accept is None else answer.json["v"]
                self.assertEqual((found, type(found)), (value, type(value)), accept)
        data = bytes(range(256)) * 40
        sql = f"select {subject.given('bytes')} as b, 1 as i"
        for accept in (None, CSV):
            answer = await caller.query(sql, [typed("bytes", data)], accept=accept)
            self.assertIn(base64.b64encode(data), answer.body)

    async def test_floats_that_are_no_numbers(self) -> None:
        if not self.subject.nan:
            return
        caller = self.caller()
        await self.table("contract_nan", f"id int, v {self.subject.types['float'].sql}")
        for number, text in enumerate(("NaN", "Infinity", "-Infinity")):
            await caller.execute(
                "insert into contract_nan values (?, ?)", [number, typed("float", text)]
            )
        answer = await caller.query("select v from contract_nan order by id")
        self.assertEqual(answer.rows, [["NaN"], ["Infinity"], ["-Infinity"]])
        rows, _columns = await self.read(self.adapter(), "select v from contract_nan order by id")
        values: list[Any] = [row[0] for row in rows]
        self.assertTrue(math.isnan(values[0]))
        self.assertEqual(values[1:], [math.inf, -math.inf])

    async def test_integers_beyond_64_bits(self) -> None:
        if self.subject.big_integer is None:
            return
        answer = await self.caller().query(f"select {self.subject.big_integer} as v, 1 as w")
        self.assertIn(answer.types[0], ("integer", "decimal"))
        self.assertEqual(int(answer.rows[0][0]), int("9" * 30))

    def _same(self, kind: ColumnType, found: Sequence[Any], expected: Sequence[object]) -> None:
        """In the form of JSON."""
        for value, wanted in zip(found, expected, strict=True):
            if isinstance(wanted, bytes):
                self.assertEqual(value, base64.b64encode(wanted).decode(), kind)
            elif kind == "timestamptz":
                self.assertEqual(_instant(value), _instant(wanted), kind)
            elif kind in ("time", "timestamp"):
                self.assertEqual(_without_zeros(value), wanted, kind)
            else:
                self.assertEqual((value, type(value)), (wanted, type(wanted)), kind)

    def _same_text(self, kind: ColumnType, text: str, expected: Sequence[object]) -> None:
        """In CSV."""
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
        found: list[Any] = [row[0] for row in rows]
        for index, wanted in enumerate(expected):
            if isinstance(wanted, bool | dict | list) or kind == "json":
                found[index] = json.loads(found[index])
            elif isinstance(wanted, int):
                found[index] = int(found[index])
            elif isinstance(wanted, float):
                found[index] = float(found[index])
        self._same(kind, found, expected)

    def _same_native(
        self, kind: ColumnType, found: Sequence[Any], expected: Sequence[object]
    ) -> None:
        """As binary formats get it: bytes are bytes, JSON is text."""
        values = list(found)
        for index, wanted in enumerate(expected):
            if isinstance(wanted, bytes):
                self.assertEqual(bytes(values[index]), wanted, kind)
                values[index] = base64.b64encode(wanted).decode()
            elif kind == "json":
                values[index] = json.loads(values[index])
        self._same(kind, values, expected)


def _without_zeros(text: str) -> str:
    """A time whose fraction has no more digits than it needs."""
    return re.sub(r"\.?0+$", "", text) if "." in text else text


def _instant(text: Any) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
