"""Oracle's values both ways, at the driver's surface: there is no Oracle to test with."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import oracledb
from twisted.trial.unittest import SynchronousTestCase

from tests.support.oracle import FakeConnection, Info, LargeObject, Result, number
from workato_agent.services.database.adapters.oracle_connection import OracleConnection
from workato_agent.services.database.adapters.oracle_values import (
    bound,
    column_of,
    day_time,
    output_handler,
)
from workato_agent.services.database.parameters import Number, ParameterType, Typed
from workato_agent.services.database.results import ValueForm
from workato_agent.services.database.statements import ORACLE, bind
from workato_tunnel.problems import Problem


def read(info: Info, *values: Any, form: ValueForm = "json") -> list[Any]:
    """Values of one column, as they reach the caller."""
    fake = FakeConnection()
    fake.on("", Result([info], [[value] for value in values]))
    connection = OracleConnection(fake, oracledb, (oracledb.Error,))
    cursor = connection.thd_run(bind("select 1 from dual", None, ORACLE))
    found: list[Any] = []
    while rows := cursor.thd_read(100, 1_000_000):
        found += [row[0] for row in cursor.convert(rows, form)]
    return found


class Results(SynchronousTestCase):
    def test_numbers_are_exact(self) -> None:
        huge = Decimal("1234567890123456789012345678.0123456789")
        self.assertEqual(
            read(number("n", 0, -127), huge, Decimal("1E+30"), None),
            [str(huge), "1" + "0" * 30, None],
        )
        self.assertEqual(read(number("i", 10, 0), Decimal(2), Decimal(-7)), [2, -7])
        self.assertEqual(read(number("d", 10, 2), Decimal("1.50")), ["1.50"])

    def test_numbers_are_fetched_as_decimals(self) -> None:
        handle = output_handler(oracledb)
        cursor = FakeConnection().cursor()
        self.assertIs(handle(cursor, number("n")).type, Decimal)
        self.assertIsNone(handle(cursor, Info("t", oracledb.DB_TYPE_VARCHAR)))

    def test_types(self) -> None:
        for info, wanted in (
            (number("n", 10, 0), "integer"),
            (number("n", 38, 0), "decimal"),
            (number("n", 0, -127), "decimal"),
            (Info("v", oracledb.DB_TYPE_VARCHAR), "string"),
            (Info("c", oracledb.DB_TYPE_CLOB), "string"),
            (Info("r", oracledb.DB_TYPE_RAW), "bytes"),
            (Info("b", oracledb.DB_TYPE_BLOB), "bytes"),
            (Info("d", oracledb.DB_TYPE_DATE), "timestamp"),
            (Info("t", oracledb.DB_TYPE_TIMESTAMP, scale=6), "timestamp"),
            (Info("l", oracledb.DB_TYPE_TIMESTAMP_LTZ, scale=6), "timestamptz"),
            (Info("i", oracledb.DB_TYPE_INTERVAL_DS), "interval"),
            (Info("y", oracledb.DB_TYPE_INTERVAL_YM), "interval"),
            (Info("j", oracledb.DB_TYPE_JSON), "json"),
            (Info("j", oracledb.DB_TYPE_CLOB, is_json=True), "json"),
            (Info("f", oracledb.DB_TYPE_BINARY_DOUBLE), "float"),
            (Info("o", oracledb.DB_TYPE_BOOLEAN), "boolean"),
            (Info("w", oracledb.DB_TYPE_ROWID), "string"),
        ):
            self.assertEqual(column_of(info).type, wanted, info)

    def test_what_the_driver_would_lose_is_refused(self) -> None:
        for info in (
            Info("z", oracledb.DB_TYPE_TIMESTAMP_TZ, scale=6),
            Info("t", oracledb.DB_TYPE_TIMESTAMP, scale=9),
            Info("o", oracledb.DB_TYPE_OBJECT),
        ):
            problem = self.assertRaises(Problem, column_of, info)
            self.assertEqual(problem.code, "query_failed")
            self.assertIn(info.name, problem.detail)
            self.assertTrue(problem.hint)

    def test_dates_and_intervals(self) -> None:
        moment = datetime(2024, 2, 29, 13, 45, 0, 500000)  # noqa: DTZ001 - as the driver has it
        self.assertEqual(
            read(Info("t", oracledb.DB_TYPE_TIMESTAMP, scale=6), moment),
            ["2024-02-29T13:45:00.5"],
        )
        self.assertEqual(
            read(Info("t", oracledb.DB_TYPE_TIMESTAMP_LTZ, scale=6), moment),
            ["2024-02-29T13:45:00.5+00:00"],
        )
        interval = Info("i", oracledb.DB_TYPE_INTERVAL_DS)
        self.assertEqual(
            read(interval, timedelta(days=1, hours=2), timedelta(seconds=-0.5), timedelta()),
            ["P1DT2H", "PT-0.5S", "PT0S"],
        )
        months = Info("y", oracledb.DB_TYPE_INTERVAL_YM)
        self.assertEqual(
            read(months, oracledb.IntervalYM(1, 2), oracledb.IntervalYM(0, 0)), ["P1Y2M", "P0M"]
        )
        self.assertEqual(day_time(timedelta(days=-1, hours=-2)), "P-1DT-2H")

    def test_bytes_and_floats_by_form(self) -> None:
        raw = Info("r", oracledb.DB_TYPE_RAW)
        self.assertEqual(read(raw, b"\0\xff"), ["AP8="])
        self.assertEqual(read(raw, b"\0\xff", form="native"), [b"\0\xff"])
        double = Info("f", oracledb.DB_TYPE_BINARY_DOUBLE)
        self.assertEqual(read(double, 0.1, math.inf, math.nan), [0.1, "Infinity", "NaN"])
        self.assertEqual(read(double, math.inf, form="native"), [math.inf])

    def test_json_is_embedded_and_its_numbers_are_exact(self) -> None:
        info = Info("j", oracledb.DB_TYPE_JSON)
        (found,) = read(info, {"a": [1, Decimal("0.10")], "d": b"\0"})
        self.assertIsInstance(found, msgspec.Raw)
        self.assertEqual(bytes(found), b'{"a":[1,0.10],"d":"AA=="}')
        (text,) = read(info, {"a": None}, form="native")
        self.assertEqual(json.loads(text), {"a": None})

    def test_large_objects_are_read_in_pieces_and_only_as_far_as_asked(self) -> None:
        large = [LargeObject("é" * 9_000_000), LargeObject("b"), LargeObject("")]
        fake = FakeConnection()
        info = Info("c", oracledb.DB_TYPE_CLOB)
        fake.on("", Result([info], [[each] for each in large]))
        connection = OracleConnection(fake, oracledb, (oracledb.Error,))
        cursor = connection.thd_run(bind("select c from t", None, ORACLE))
        (row,) = cursor.thd_read(100, 1000)
        self.assertEqual(len(str(row[0])), 9_000_000)
        self.assertEqual((large[0].reads, large[1].reads), (2, 0))
        self.assertEqual([list(each) for each in cursor.thd_read(100, 1000)], [["b"], [""]])
        blob = LargeObject(b"", oracledb.DB_TYPE_BLOB)
        self.assertEqual(read(Info("b", oracledb.DB_TYPE_BLOB), blob, form="native"), [b""])


class Parameters(SynchronousTestCase):
    def test_plain_values_are_themselves(self) -> None:
        for value in (None, 1, -(2**63), "x", "é😀", b"\0"):
            self.assertEqual(bound(value, "p", booleans=False).value, value)
        self.assertEqual(bound(Number("1.10"), "p", booleans=False).value, Decimal("1.10"))

    def test_booleans_are_numbers_where_there_are_none(self) -> None:
        self.assertIs(bound(True, "p", booleans=True).value, True)
        self.assertEqual(type(bound(True, "p", booleans=False).value), int)

    def test_dates_are_read_by_the_database(self) -> None:
        cases: tuple[tuple[ParameterType, str, str, str], ...] = (
            ("date", "2024-2-9", "2024-02-09", "TO_DATE({}, 'YYYY-MM-DD')"),
            ("date", "0044-03-15 BC", "-0044-03-15", "TO_DATE({}, 'SYYYY-MM-DD')"),
            (
                "timestamp",
                "2024-02-29 13:45",
                "2024-02-29T13:45:00.000000000",
                "TO_TIMESTAMP({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF')",
            ),
            (
                "timestamptz",
                "2024-02-29T13:45:00.123456789+0130",
                "2024-02-29T13:45:00.123456789+01:30",
                "TO_TIMESTAMP_TZ({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.FFTZH:TZM')",
            ),
            ("interval", "P1DT2H", "P1DT2H", "TO_DSINTERVAL({})"),
            ("interval", "P1Y2M", "P1Y2M", "TO_YMINTERVAL({})"),
        )
        for kind, text, value, pattern in cases:
            found = bound(Typed(kind, text), "p", booleans=False)
            self.assertEqual((found.value, found.pattern), (value, pattern))

    def test_floats_are_binary(self) -> None:
        found = bound(Typed("float", "NaN"), "p", booleans=False)
        self.assertEqual(found.type_name, "DB_TYPE_BINARY_DOUBLE")
        self.assertTrue(math.isnan(float(str(found.value))))

    def test_what_has_no_place_is_refused(self) -> None:
        for value in ([1], Typed("decimal", "NaN"), Typed("date", "infinity"), "\ud800", 10**50):
            problem = self.assertRaises(Problem, bound, value, "params[3]", booleans=False)
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "params[3]"}))
