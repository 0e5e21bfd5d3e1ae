"""Values through JDBC that only some databases have, each from its real driver."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.mariadb import DATABASE, USER
from tests.support.mariadb import PASSWORD as MARIADB_PASSWORD
from tests.support.mariadb import shared_server as shared_mariadb
from tests.support.postgresql import PASSWORD, SUPERUSER
from tests.support.postgresql import shared_server as shared_postgresql
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.adapters.jdbc_connection import JdbcConnection
from workato_agent.services.database.adapters.jdbc_reading import NULL, SEPARATOR
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.results import ValueForm
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings
from workato_agent.services.database.statements import bind
from workato_tunnel.problems import Problem


def connect(url: str, driver_class: str, **more: Any) -> JdbcConnection:
    """A connection of its own."""
    profile = JdbcSettings(url=url, driver_class=driver_class, **more)
    return JdbcDriver.build(profile, DatabasePolicy()).thd_open()


class ValuesCase(SynchronousTestCase):
    connection: JdbcConnection

    def query(self, sql: str, params: Any = None, form: ValueForm = "json") -> list[list[Any]]:
        """The rows of a statement, wire-ready; JSON is decoded."""
        cursor = self.connection.thd_run(bind(sql, params, self.connection.dialect))
        self.types = [column.type for column in cursor.columns]
        rows: list[list[Any]] = []
        while block := cursor.thd_read(50, 10_000):
            rows += [[_decoded(value) for value in row] for row in cursor.convert(block, form)]
        cursor.thd_close()
        return rows

    def row(self, sql: str, params: Any = None, form: ValueForm = "json") -> list[Any]:
        (row,) = self.query(sql, params, form)
        return row


def _decoded(value: Any) -> Any:
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


class Postgresql(ValuesCase):
    def setUp(self) -> None:
        url = f"jdbc:postgresql://127.0.0.1:{shared_postgresql().port}/postgres?sslmode=require"
        self.connection = connect(url, "org.postgresql.Driver", user=SUPERUSER, password=PASSWORD)
        self.addCleanup(self.connection.thd_close)

    def test_what_has_no_end(self) -> None:
        found = self.row(
            "select 'infinity'::date, '-infinity'::timestamp, 'infinity'::timestamptz,"
            " 'NaN'::numeric, 'Infinity'::numeric, 'NaN'::float8, '-Infinity'::real"
        )
        self.assertEqual(
            found, ["infinity", "-infinity", "infinity", "NaN", "Infinity", "NaN", "-Infinity"]
        )

    def test_dates_and_times_at_the_edges(self) -> None:
        found = self.row(
            "select '0044-03-15 BC'::date, '0044-03-15 10:00 BC'::timestamp, '12345-01-01'::date,"
            " '24:00'::time, '24:00+02'::timetz, '10:00:00.100'::time,"
            " '1 year 2 mons -3 days'::interval"
        )
        self.assertEqual(
            found,
            ["0044-03-15 BC", "0044-03-15T10:00:00 BC", "12345-01-01", "24:00:00",
             "24:00:00+02:00", "10:00:00.1", "P1Y2M-3D"],
        )  # fmt: skip

    def test_numbers(self) -> None:
        found = self.row(
            "select 1e130::numeric, 12.50::numeric(10,2), 0.1::real, 0.1::float8, 5::int2, 7::oid,"
            " true, b'1'::bit(1), b'101'::bit(3)"
        )
        self.assertEqual(found, ["1" + "0" * 130, "12.50", 0.1, 0.1, 5, 7, True, True, "101"])

    def test_arrays_of_any_depth(self) -> None:
        found = self.row(
            "select array[1, null], array[array['a', 'b,{}\"'], array[null, '']],"
            " array[1.10, null]::numeric[], '{}'::int[], array['2020-01-01 10:00+02'::timestamptz],"
            " array['\\x00ff'::bytea], null::int[], array[true], array[0.5]::float8[]"
        )
        self.assertEqual(
            found,
            [[1, None], [["a", 'b,{}"'], [None, ""]], ["1.10", None], [],
             ["2020-01-01T08:00:00+00:00"], ["AP8="], None, [True], [0.5]],
        )  # fmt: skip

    def test_parameters_of_every_type(self) -> None:
        found = self.row(
            "select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?::int[], ?::jsonb",
            [
                Typed("decimal", "1" * 30 + ".5"), Typed("interval", "P1DT2H"),
                Typed("time", "10:00+02"), Typed("uuid", "123E4567-E89B-12D3-A456-426614174000"),
                Number("0.10"), 2**70, Typed("json", '{"a": [1, null]}'), [1, 2, None],
                [["x"], [None]], [], None,
            ],
        )  # fmt: skip
        self.assertEqual(
            found,
            ["1" * 30 + ".5", "P1DT2H", "10:00:00+02:00", "123e4567-e89b-12d3-a456-426614174000",
             "0.10", str(2**70), {"a": [1, None]}, [1, 2, None], [["x"], [None]], [], None],
        )  # fmt: skip

    def test_text_takes_the_type_of_its_context(self) -> None:
        found = self.row(
            "select date '2024-01-02' >= ?, ? = any(array['a']), 5 = ?", ["2024-01-01", "a", "5"]
        )
        self.assertEqual(found, [True, True, True])

    def test_operators_that_are_question_marks(self) -> None:
        document = '{"a": 1}'
        self.assertEqual(
            self.row(f"select '{document}'::jsonb ? 'a', '{document}'::jsonb ?| array['b']"),
            [True, False],
        )
        self.assertEqual(self.row("select ?::jsonb ?? ?, '?'", [document, "a"]), [True, "?"])
        self.assertEqual(
            self.row("select :d::jsonb ? :k /* ? */", {"d": document, "k": "a"}), [True]
        )

    def test_large_rows_after_small_ones(self) -> None:
        rows = self.query(
            "select i, repeat('é', case when i > 100 then 1000000 else 1 end)"
            " from generate_series(1, 105) i"
        )
        self.assertEqual([len(row[1]) for row in rows], [1] * 100 + [1_000_000] * 5)

    def test_nul_in_text_is_refused(self) -> None:
        statement = bind("select ?", ["a\0b"], self.connection.dialect)
        problem = self.assertRaises(Problem, self.connection.thd_run, statement)
        self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "params[0]"}))


class Mariadb(ValuesCase):
    def setUp(self) -> None:
        url = f"jdbc:mariadb://127.0.0.1:{shared_mariadb().port}/{DATABASE}"
        self.connection = connect(
            url, "org.mariadb.jdbc.Driver", user=USER, password=MARIADB_PASSWORD
        )
        self.addCleanup(self.connection.thd_close)

    def test_types_of_its_own(self) -> None:
        self.query(
            "create temporary table jdbc_own (a tinyint(1), b bigint unsigned, c decimal(38, 10),"
            " d float, e datetime(6), f time(2), g year, h bit(8), i bit(1), j longblob, k text)"
        )
        self.query(
            "insert into jdbc_own values (1, 18446744073709551615,"
            " 1234567890123456789012345678.0123456789, 0.1, '2020-01-01 10:00:00.123456',"
            " '-838:59:59', 2024, b'10000001', b'1', x'00ff', 'é😀')"
        )
        self.assertEqual(
            self.row("select * from jdbc_own"),
            [True, 2**64 - 1, "1234567890123456789012345678.0123456789", 0.1,
             "2020-01-01T10:00:00.123456", "-838:59:59", 2024, "gQ==", True, "AP8=", "é😀"],
        )  # fmt: skip

    def test_rows_that_are_not_read_are_not_waited_for(self) -> None:
        sql = "select a.seq from seq_1_to_1000000 a, seq_1_to_1000000 b"
        cursor = self.connection.thd_run(bind(sql, None, self.connection.dialect))
        self.assertTrue(cursor.thd_read(10, 1000))
        cursor.thd_close()
        self.connection.thd_rollback()
        self.assertEqual(self.row("select 1"), [1])


class H2(ValuesCase):
    def setUp(self) -> None:
        self.connection = connect("jdbc:h2:mem:values", "org.h2.Driver")
        self.addCleanup(self.connection.thd_close)

    def test_types_of_its_own(self) -> None:
        found = self.row(
            "select interval '1-2' year to month, interval '1 2:03:04.5' day to second,"
            " timestamp with time zone '2020-01-01 10:00:00.50+05', json '{\"a\": 1}',"
            " x'00ff', cast(0.1 as real), array[1, null], time '10:00', date '0044-03-15'"
        )
        self.assertEqual(
            found,
            ["P1Y2M", "PT26H3M4.5S", "2020-01-01T10:00:00.5+05:00", {"a": 1}, "AP8=", 0.1,
             [1, None], "10:00:00", "0044-03-15"],
        )  # fmt: skip

    def test_a_decimal_whose_point_floats_has_no_scale(self) -> None:
        cursor = self.connection.thd_run(
            bind("select cast(1e-10 as decfloat(20)), 1.50", None, self.connection.dialect)
        )
        self.assertEqual([each.type for each in cursor.columns], ["decimal", "decimal"])
        self.assertEqual([each.scale for each in cursor.columns], [None, 2])
        cursor.thd_close()

    def test_what_parts_values_is_no_secret_worth_knowing_later(self) -> None:
        for text in ("\x1f", "\x1e", SEPARATOR[:-1], NULL[:-1], "null", ""):
            self.assertEqual(self.row("select ?, ?", [text, None]), [text, None])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.none() | st.text(max_size=20), min_size=1, max_size=8))
    def test_any_text_survives(self, texts: list[str | None]) -> None:
        marks = ", ".join("cast(? as varchar)" for _ in texts)
        for form in ("json", "native"):
            self.assertEqual(self.row(f"select {marks}", texts, form), texts)  # type: ignore[arg-type]  # a form

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=8))
    def test_any_bytes_survive(self, values: list[bytes | None]) -> None:
        marks = ", ".join("cast(? as varbinary)" for _ in values)
        self.assertEqual(self.row(f"select {marks}", values, "native"), values)

    def test_a_lone_surrogate_is_refused(self) -> None:
        statement = bind("select ?", ["\ud800"], self.connection.dialect)
        problem = self.assertRaises(Problem, self.connection.thd_run, statement)
        self.assertEqual(problem.code, "bad_request")

    def test_what_does_not_fit_java_is_refused_and_harms_nothing(self) -> None:
        statement = bind("select repeat('x', 1000000000)", None, self.connection.dialect)
        error: Exception | None = None
        try:
            self.connection.thd_run(statement).thd_read(10, 10)
        except self.connection.errors as caught:
            error = caught
        assert error is not None
        self.assertEqual(self.connection.problem(error, statement).code, "overloaded")
        self.assertEqual(self.row("select 1"), [1])

    def test_routines_have_semicolons(self) -> None:
        problem = self.assertRaises(Problem, self.query, "select 1; select 2")
        self.assertEqual(problem.code, "query_failed")
        for sql in ("commit", "rollback", "savepoint x", "set autocommit on"):
            self.assertEqual(self.assertRaises(Problem, self.query, sql).code, "policy_denied")
