"""MySQL's own types, and any value as a parameter, on a real MariaDB."""

from __future__ import annotations

import base64
import decimal
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.database import typed
from tests.support.mysql_profile import MysqlTestCase
from workato_agent.services.database.adapters.mysql import MysqlDriver
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.results import ValueForm
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import MYSQL, bind

FEW = settings(max_examples=60, deadline=None, database=None)


class Types(MysqlTestCase):
    async def both(self, sql: str) -> tuple[list[str], list[Any]]:
        """Types and the first row: the same by the text protocol and by a prepared statement."""
        caller = self.caller()
        plain = await caller.query(sql)
        prepared = await caller.query(f"{sql} where 1 = ?", [1])
        self.assertEqual(plain.json["columns"], prepared.json["columns"])
        self.assertEqual(plain.rows, prepared.rows)
        for accept in ("text/csv", "application/x-ndjson"):
            one = await caller.query(sql, accept=accept)
            other = await caller.query(f"{sql} where 1 = ?", [1], accept=accept)
            self.assertEqual(one.body, other.body)
        return plain.types, plain.rows[0]

    async def test_integers_of_every_size(self) -> None:
        self.table(
            "sizes",
            "a tinyint, b tinyint unsigned, c smallint, d mediumint, e int unsigned, f bigint,"
            " g bigint unsigned, h year, i int(5) zerofill, j mediumint unsigned,"
            " k smallint unsigned",
        )
        row = [
            -128,
            255,
            -32768,
            -8388608,
            2**32 - 1,
            -(2**63),
            2**64 - 1,
            2155,
            42,
            2**24 - 1,
            65535,
        ]
        self.server.run(f"insert into sizes values ({', '.join(map(str, row))})")
        types, found = await self.both("select * from sizes")
        self.assertEqual((set(types), found), ({"integer"}, row))

    async def test_booleans_and_bits(self) -> None:
        self.table("bits", "a boolean, b tinyint(1), c tinyint(4), d bit(1), e bit(20), f bit(64)")
        self.server.run(f"insert into bits values (true, 5, 1, b'1', b'101', {2**64 - 1})")
        types, found = await self.both("select * from bits")
        self.assertEqual(types, ["boolean", "boolean", "integer", "boolean", "integer", "integer"])
        # What a BOOLEAN holds beside 0 and 1 is not made less.
        self.assertEqual(found, [True, 5, 1, True, 5, 2**64 - 1])

    async def test_decimals_and_floats(self) -> None:
        big = "9" * 35 + "." + "9" * 30
        self.table(
            "numbers_",
            "a decimal(65, 30), b decimal(5), c float, d double, e decimal(20, 2) unsigned",
        )
        self.server.run(
            f"insert into numbers_ values ({big}, -12345, 16777215, 5e-324, 1.5),"
            " (0, 0, 0.1, 1.7976931348623157e308, 0), (0, 0, 1.17549e-38, 0.1, 0)"
        )
        answer = await self.caller().query("select * from numbers_ order by a desc, d")
        self.assertEqual(answer.types, ["decimal", "decimal", "float", "float", "decimal"])
        columns = answer.json["columns"]
        self.assertEqual((columns[0]["precision"], columns[0]["scale"]), (65, 30))
        self.assertEqual((columns[1]["precision"], columns[1]["scale"]), (5, 0))
        self.assertEqual((columns[4]["precision"], columns[4]["scale"]), (20, 2))
        self.assertEqual(answer.rows[0], [big, "-12345", 16777215.0, 5e-324, "1.50"])
        self.assertEqual(answer.rows[1][2:4], [1.17549e-38, 0.1])
        self.assertEqual(answer.rows[2][2:4], [0.1, 1.7976931348623157e308])
        await self.both("select a, b, d, e from numbers_")

    async def test_times(self) -> None:
        self.table(
            "times",
            "a date, b time, c time(6), d datetime, e datetime(6), f timestamp(3) null, g time(2)",
        )
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("set sql_mode = '', time_zone = '+02:00'")
            cursor.execute(
                "insert into times values ('2024-02-29', '838:59:59', '-838:59:58.000001',"
                " '2024-02-29 13:45:00', '9999-12-31 23:59:59.999999',"
                " '2024-07-01 14:00:00.123', '1:2:3.4'), ('0000-00-00', '-0:00:01', 0,"
                " '0000-00-00 00:00:00', '2024-00-00', '0000-00-00 00:00:00', null)"
            )
        types, first = await self.both("select * from times")
        self.assertEqual(
            types, ["date", "time", "time", "timestamp", "timestamp", "timestamptz", "time"]
        )
        self.assertEqual(
            first,
            [
                "2024-02-29", "838:59:59", "-838:59:58.000001", "2024-02-29T13:45:00",
                "9999-12-31T23:59:59.999999", "2024-07-01T12:00:00.123+00:00", "01:02:03.40",
            ],
        )  # fmt: skip
        for sql, params in (("select * from times", None), ("select * from times where ?", [1])):
            answer = await self.caller().query(sql, params)
            self.assertEqual(
                answer.rows[1],
                [
                    "0000-00-00", "-00:00:01", "00:00:00.000000", "0000-00-00T00:00:00",
                    "2024-00-00T00:00:00.000000", "0000-00-00T00:00:00.000+00:00", None,
                ],
            )  # fmt: skip

    async def test_texts_and_bytes(self) -> None:
        self.table(
            "texts",
            "a char(5), b varchar(5) character set latin1, c text, d enum('x', 'é'),"
            " e set('a', 'b'),"
            " f binary(3), g varbinary(3), h tinyblob, i varchar(9) collate utf8mb4_bin, j inet6,"
            " k point, l varchar(5) character set utf16",
        )
        with self.server.connect(charset="utf8mb4") as connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into texts values ('é', 'é', '😀', 'é', 'a,b', x'00', x'ff00', x'', '☃',"
                " '::1', point(1, 2), '😀')"
            )
        types, found = await self.both("select * from texts")
        self.assertEqual(
            types, [*["string"] * 5, *["bytes"] * 3, *["string"] * 2, "bytes", "string"]
        )
        self.assertEqual(found[:10], ["é", "é", "😀", "é", "a,b", "AAAA", "/wA=", "", "☃", "::1"])
        self.assertEqual(len(base64.b64decode(found[10])), 25)
        self.assertEqual(found[11], "😀")

    async def test_uuid_and_json(self) -> None:
        self.table("own", "a uuid, b json, c longtext")
        text = '{"a": [1.10, "é\\n"],\n "b": 12345678901234567890}'
        await self.caller().execute(
            "insert into own values (?, ?, ?)", ["123E4567-E89B-12D3-A456-426614174000", text, text]
        )
        types, found = await self.both("select * from own")
        self.assertEqual(types, ["uuid", "json", "string"])
        self.assertEqual(found[0], "123e4567-e89b-12d3-a456-426614174000")
        self.assertEqual(found[1], {"a": [1.10, "é\n"], "b": 12345678901234567890})
        self.assertEqual(found[2], text)
        answer = await self.caller().query("select b from own")
        self.assertIn(b"1.10", answer.body)

    async def test_parameters_take_the_columns_types(self) -> None:
        self.table(
            "taken",
            "a date, b time(6), c datetime(6), d timestamp(6) null, e decimal(20, 5), f double,"
            " g bit(8),"
            " h year, i json",
        )
        caller = self.caller()
        await caller.execute(
            "insert into taken values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                "2024-02-29", "-12:00:00.5", "2024-02-29T13:45:00.123456", typed(
                    "timestamptz", "2024-02-29T13:45:00.5-05:30"
                ), 1.25, typed("float", "1e-300"), 5, 2024, typed("json", {"x": 1}),
            ],
        )  # fmt: skip
        answer = await caller.query("select * from taken")
        self.assertEqual(
            answer.rows,
            [
                [
                    "2024-02-29", "-12:00:00.500000", "2024-02-29T13:45:00.123456",
                    "2024-02-29T19:15:00.500000+00:00", "1.25000", 1e-300, 5, 2024, {"x": 1},
                ]
            ],
        )  # fmt: skip
        answer = await caller.query(
            "select 1 as a from taken where a = ? and d = ? and c > ? and b < ?",
            [
                typed("date", "2024-02-29"), typed("timestamptz", "2024-02-29T19:15:00.5Z"),
                typed("timestamp", "2024-02-29T13:45"), typed("time", "00:00"),
            ],
        )  # fmt: skip
        self.assertEqual(answer.rows, [[1]])

    async def test_values_that_mysql_does_not_have(self) -> None:
        caller = self.caller()
        for value in (
            typed("float", "NaN"), typed("float", "-Infinity"), typed("decimal", "NaN"),
            typed("decimal", "1e70"), [1, 2], typed("date", "infinity"),
            typed("date", "10000-01-01"), typed("timestamptz", "0001-01-01T00:00:00+05:00"),
            typed("timestamp", "2024-02-30T00:00:00"), typed("time", "25:61"),
            typed("timestamp", "2024-01-01T00:00:00.1234567"), typed("interval", "PT839H"),
            10**80,
        ):  # fmt: skip
            problem = await self.problem(caller.query("select ? as a", [value]), "bad_request")
            self.assertEqual(problem.extra, {"field": "params[0]"}, value)
            self.assertTrue(problem.hint)

    def test_large_values_come_and_go(self) -> None:
        for size in (0, 250, 251, 65535, 65536, 2**24 - 5, 2**24 + 7):
            # Bodies have their own bound: the driver is asked.
            driver = MysqlDriver.build(self.settings(), DatabasePolicy()).thd_open()
            try:
                text = "é" + "x" * size
                driver.thd_begin(writing=True)
                sql = "select ? as a, ? as b"
                cursor = driver.thd_run(bind(sql, [text, text.encode()], MYSQL))
                rows = cursor.convert(cursor.thd_read(10, 1), "native")
                self.assertTrue(rows[0][0] == text and rows[0][1] == text.encode(), size)
                self.assertEqual(cursor.thd_read(10, 1), [])
                cursor.thd_close()
                driver.thd_commit()
            finally:
                driver.thd_close()


class RoundTrips(MysqlTestCase):
    """Any value is what it was, however it is spelt, when the server has had it."""

    def setUp(self) -> None:
        super().setUp()
        self.driver = MysqlDriver.build(self.settings(), DatabasePolicy()).thd_open()
        self.addCleanup(self.driver.thd_close)
        self.driver.thd_begin(writing=True)

    def sent(self, value: object, form: ValueForm = "native") -> Any:
        """What comes back for a parameter."""
        cursor = self.driver.thd_run(bind("select ? as a, '?' as b", [value], MYSQL))
        (row,) = cursor.convert(cursor.thd_read(10, 1 << 20), form)
        cursor.thd_close()
        self.assertEqual(row[1], "?")
        return row[0]

    def test_text(self) -> None:
        @FEW
        @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
        def check(text: str) -> None:
            for form in ("native", "json", "csv"):
                self.assertEqual(self.sent(text, form), text)

        check()

    def test_bytes(self) -> None:
        @FEW
        @given(st.binary(max_size=400))
        def check(data: bytes) -> None:
            self.assertEqual(self.sent(data), data)
            self.assertEqual(self.sent(data, "json"), base64.b64encode(data).decode())

        check()

    def test_integers(self) -> None:
        @FEW
        @given(st.integers(-(2**63), 2**64 - 1))
        def check(number: int) -> None:
            self.assertEqual(self.sent(number), number)

        check()

    def test_floats(self) -> None:
        @FEW
        @given(st.floats(allow_nan=False, allow_infinity=False))
        def check(number: float) -> None:
            found = self.sent(Typed("float", repr(number)))
            self.assertEqual(struct.pack("<d", found), struct.pack("<d", number))

        check()

    def test_decimals(self) -> None:
        @FEW
        @given(st.decimals(allow_nan=False, allow_infinity=False, places=20, max_value=10**30))
        def check(number: decimal.Decimal) -> None:
            if number < -(10**30):
                return
            found = self.sent(Number(str(number)))
            self.assertEqual(decimal.Decimal(found), number)

        check()

    def test_moments(self) -> None:
        @FEW
        @given(st.datetimes())
        def check(moment: Any) -> None:
            text = moment.isoformat(timespec="microseconds")
            found = self.sent(Typed("timestamp", text))
            self.assertEqual(found.ljust(26, "0") if "." in found else f"{found}.000000", text)

        check()

    def test_text_in_a_table_by_the_text_protocol(self) -> None:
        self.table("trips", "id int auto_increment primary key, v longtext, b longblob")

        @FEW
        @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.binary())
        def check(text: str, data: bytes) -> None:
            sql = "insert into trips (v, b) values (?, ?)"
            self.driver.thd_run(bind(sql, [text, data], MYSQL)).thd_close()
            cursor = self.driver.thd_run(
                bind("select v, b from trips order by id desc limit 1", None, MYSQL)
            )
            (row,) = cursor.convert(cursor.thd_read(10, 1 << 20), "native")
            cursor.thd_close()
            self.assertEqual(list(row), [text, data])

        check()
        self.driver.thd_commit()
