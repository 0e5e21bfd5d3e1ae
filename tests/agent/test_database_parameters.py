"""Bodies of calls: what is taken, and how what is refused names its field."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.bodies import MAX_SQL, MSGPACK, Encoded
from workato_agent.services.database.parameters import Number, Typed
from workato_tunnel.problems import Problem

EPOCH = "1970-01-01T00:00:01+00:00"


def decode(**body: Any) -> Any:
    return Encoded(json.dumps(body).encode()).query().params


class Bodies(SynchronousTestCase):
    def refused(self, body: bytes, field: str | None, code: str = "bad_request") -> Problem:
        with self.assertRaises(Problem) as caught:
            Encoded(body).query()
        self.assertEqual(caught.exception.code, code)
        self.assertEqual(caught.exception.extra.get("field"), field)
        return caught.exception

    def test_numbers_are_taken_as_they_are_written(self) -> None:
        call = Encoded(b'{"sql": "x", "params": [1.50, 1e400, 123456789012345678901]}').query()
        self.assertEqual(call.params, [Number("1.50"), Number("1e400"), 123456789012345678901])

    def test_what_is_not_json_is_refused(self) -> None:
        for body in (b"", b"{", b"\xff", b"[" * 100_000, b'{"sql": "\\ud800"}'):
            self.refused(body, None)

    def test_members_are_checked_by_name(self) -> None:
        self.refused(b'{"sql": 1}', "sql")
        self.refused(b'{"sq": "x"}', "sq")
        self.refused(b"{}", "sql")
        self.refused(b'{"sql": "x", "params": 3}', "params")
        self.refused(b'{"sql": "x", "max_rows": -1}', "max_rows")
        self.refused(b'{"sql": "  "}', "sql")
        self.refused(b'{"sql": "a\\u0000b"}', "sql")

    def test_execute_has_no_max_rows(self) -> None:
        with self.assertRaises(Problem):
            Encoded(b'{"sql": "x", "max_rows": 1}').execute()

    def test_a_statement_is_bounded(self) -> None:
        self.refused(json.dumps({"sql": "x" * (MAX_SQL + 1)}).encode(), "sql", "payload_too_large")
        self.refused(json.dumps({"sql": "é" * (MAX_SQL - 1)}).encode(), "sql", "payload_too_large")

    def test_a_value_that_is_no_value_is_named(self) -> None:
        for value, field in (
            ({"a": 1}, "params[0]"),
            ({"type": "nope", "value": 1}, "params[0].type"),
            ({"type": "date", "value": "yesterday"}, "params[0].value"),
            ({"type": "date", "value": True}, "params[0].value"),
            ({"type": "bytes", "value": "###"}, "params[0].value"),
            ({"type": "bytes", "value": "é"}, "params[0].value"),
            ({"type": "boolean", "value": "yes"}, "params[0].value"),
            ({"type": "array", "value": "x"}, "params[0].value"),
            ({"type": "integer", "value": 1.5}, "params[0].value"),
            ({"type": "timestamp", "value": "2024-01-01T00:00:00+01:00"}, "params[0].value"),
            ([1, {"type": "uuid", "value": "x"}], "params[0][1].value"),
            ([[[[[[[1]]]]]]], "params[0][0][0][0][0][0][0]"),
        ):
            self.refused(json.dumps({"sql": "x", "params": [value]}).encode(), field)
        self.refused(
            json.dumps({"sql": "x", "params": {"when": {"type": "date", "value": ""}}}).encode(),
            "params.when.value",
        )


class TypedValues(SynchronousTestCase):
    def test_each_type_is_taken(self) -> None:
        for kind, value, expected in (
            ("bytes", "AAH/", b"\0\1\xff"),
            ("decimal", "12345678901234567890.10", Typed("decimal", "12345678901234567890.10")),
            ("decimal", 5, Typed("decimal", "5")),
            ("float", "NaN", Typed("float", "NaN")),
            ("float", 1.5, Typed("float", "1.5")),
            ("integer", "9223372036854775808", 2**63),
            ("boolean", True, True),
            ("string", "x", Typed("string", "x")),
            ("date", "0044-03-15 BC", Typed("date", "0044-03-15 BC")),
            ("timestamp", "infinity", Typed("timestamp", "infinity")),
            ("timestamptz", "2024-01-01T10:00:00Z", Typed("timestamptz", "2024-01-01T10:00:00Z")),
            ("interval", "P1DT2H", Typed("interval", "P1DT2H")),
            ("array", [1, "a"], [1, "a"]),
            ("unknown", "x", "x"),
            ("json", {"b": [1, None]}, Typed("json", '{"b":[1,null]}')),
            ("date", None, None),
        ):
            self.assertEqual(decode(sql="x", params=[{"type": kind, "value": value}]), [expected])

    def test_numbers_within_json_keep_their_digits(self) -> None:
        body = b'{"sql": "x", "params": [{"type": "json", "value": {"a": [1.10, 1e400]}}]}'
        self.assertEqual(Encoded(body).query().params, [Typed("json", '{"a":[1.10,1e400]}')])

    @given(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8)
    )
    def test_nothing_but_problems_is_raised(self, value: object) -> None:
        try:
            decode(sql="x", params=[value])
        except Problem as problem:
            self.assertEqual(problem.code, "bad_request")

    @given(st.binary(max_size=200))
    def test_no_bytes_raise_anything_else(self, body: bytes) -> None:
        with self.assertRaises(Problem):
            Encoded(body).query()


class MessagePackValues(SynchronousTestCase):
    def values(self, *values: object) -> object:
        body = msgspec.msgpack.encode({"sql": "x", "params": values})
        return Encoded(body, MSGPACK).query().params

    def test_what_messagepack_has_a_type_for_needs_none(self) -> None:
        moment = datetime(2024, 2, 29, 13, 45, 0, 500, tzinfo=UTC)
        for sent, expected in (
            (b"\0\xff", b"\0\xff"),
            (2**64 - 1, 2**64 - 1),
            (1.5, Typed("float", "1.5")),
            (1e300, Typed("float", "1e+300")),
            (math.nan, Typed("float", "NaN")),
            (-math.inf, Typed("float", "-Infinity")),
            (msgspec.msgpack.Ext(-1, (1).to_bytes(4, "big")), Typed("timestamptz", EPOCH)),
            (moment, Typed("timestamptz", "2024-02-29T13:45:00.000500+00:00")),
            ([1, b"x", [1.5]], [1, b"x", [Typed("float", "1.5")]]),
        ):
            self.assertEqual(self.values(sent), [expected])

    def test_types_can_be_named(self) -> None:
        for kind, value, expected in (
            ("bytes", b"\0", b"\0"),
            ("bytes", "AA==", b"\0"),
            ("float", 1.5, Typed("float", "1.5")),
            ("float", math.inf, Typed("float", "Infinity")),
            ("decimal", 1.5, Typed("decimal", "1.5")),
            ("decimal", "1.50", Typed("decimal", "1.50")),
            ("json", {"a": [1.5, None]}, Typed("json", '{"a":[1.5,null]}')),
            ("timestamptz", msgspec.msgpack.Ext(-1, b"\0\0\0\1"), Typed("timestamptz", EPOCH)),
        ):
            self.assertEqual(self.values({"type": kind, "value": value}), [expected])

    def test_json_has_no_bytes_timestamps_or_infinities(self) -> None:
        deep: list[object] = []
        for _ in range(900):
            deep = [deep]
        for value in (b"x", math.nan, {"a": math.inf}, datetime(2024, 1, 1, tzinfo=UTC), {1: 2}):
            with self.assertRaises(Problem) as caught:
                self.values({"type": "json", "value": value})
            self.assertEqual(caught.exception.extra["field"], "params[0].value")
        with self.assertRaises(Problem) as caught:
            self.values({"type": "json", "value": deep})
        self.assertEqual(caught.exception.code, "bad_request")
