"""Preconditions and ranges as RFC 9110 has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.files.conditions import (
    Conditions,
    Validators,
    Verdict,
    http_date,
)
from workato_agent.services.files.ranges import RangeNotSatisfiable, Span, span_of
from workato_tunnel.problems import Problem

CURRENT = Validators('"now"', 784111777)  # Sun, 06 Nov 1994 08:49:37 GMT
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"


def of(**fields: str) -> Conditions:
    return Conditions.of(tuple((key.replace("_", "-"), value) for key, value in fields.items()))


class ConditionTests(SynchronousTestCase):
    def reading(self, **fields: str) -> Verdict:
        return of(**fields).verdict(CURRENT, reading=True)

    def writing(self, current: Validators | None = CURRENT, **fields: str) -> Verdict:
        return of(**fields).verdict(current, reading=False)

    def test_nothing_asked_is_nothing_refused(self) -> None:
        self.assertIs(self.reading(), Verdict.PROCEED)
        self.assertIs(self.writing(None), Verdict.PROCEED)

    def test_if_match_compares_strongly(self) -> None:
        self.assertIs(self.reading(if_match='"now"'), Verdict.PROCEED)
        self.assertIs(self.reading(if_match='"old", "now"'), Verdict.PROCEED)
        self.assertIs(self.reading(if_match='W/"now"'), Verdict.FAILED)
        self.assertIs(self.reading(if_match='"old"'), Verdict.FAILED)

    def test_if_match_star_wants_something_there(self) -> None:
        self.assertIs(self.writing(if_match="*"), Verdict.PROCEED)
        self.assertIs(self.writing(None, if_match="*"), Verdict.FAILED)
        self.assertIs(self.writing(Validators(None, 0), if_match="*"), Verdict.PROCEED)
        self.assertIs(self.writing(Validators(None, 0), if_match='"x"'), Verdict.FAILED)

    def test_if_none_match_compares_weakly(self) -> None:
        for tag in ('"now"', 'W/"now"', '"a","now"', "*", ' "a" ,, W/"now" '):
            self.assertIs(self.reading(if_none_match=tag), Verdict.NOT_MODIFIED)
            self.assertIs(self.writing(if_none_match=tag), Verdict.FAILED)
        self.assertIs(self.reading(if_none_match='"old"'), Verdict.PROCEED)
        self.assertIs(self.writing(None, if_none_match="*"), Verdict.PROCEED)

    def test_dates_compare_in_whole_seconds(self) -> None:
        self.assertIs(self.reading(if_modified_since=SAME), Verdict.NOT_MODIFIED)
        self.assertIs(self.reading(if_modified_since=LATER), Verdict.NOT_MODIFIED)
        self.assertIs(self.reading(if_modified_since=EARLIER), Verdict.PROCEED)
        self.assertIs(self.reading(if_unmodified_since=SAME), Verdict.PROCEED)
        self.assertIs(self.reading(if_unmodified_since=EARLIER), Verdict.FAILED)
        self.assertIs(self.writing(if_unmodified_since=EARLIER), Verdict.FAILED)
        self.assertIs(self.writing(None, if_unmodified_since=EARLIER), Verdict.PROCEED)

    def test_if_modified_since_is_for_reading_only(self) -> None:
        self.assertIs(self.writing(if_modified_since=LATER), Verdict.PROCEED)

    def test_tags_go_before_dates(self) -> None:
        self.assertIs(self.reading(if_match='"now"', if_unmodified_since=EARLIER), Verdict.PROCEED)
        self.assertIs(self.reading(if_none_match='"old"', if_modified_since=LATER), Verdict.PROCEED)

    def test_three_forms_of_a_date_are_read(self) -> None:
        for date in (SAME, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
            self.assertIs(self.reading(if_unmodified_since=date), Verdict.PROCEED)
            self.assertEqual(of(if_modified_since=date).if_modified_since, CURRENT.modified)
        self.assertEqual(http_date(CURRENT.modified), SAME)

    def test_malformed_date_is_ignored(self) -> None:
        for date in (
            "",
            "yesterday",
            "Sun, 99 Nov 1994 99:49:37 GMT",
            "0",
            "x" * 9999,
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 06 Nov 99999999 08:49:37 GMT",
        ):
            self.assertIs(self.reading(if_unmodified_since=date), Verdict.PROCEED)

    def test_malformed_tags_are_an_error_that_names_the_field(self) -> None:
        for tags in ("now", '"now', '"a" "b"', "", ",", '*, "a"', 'w/"a"', '"a", b'):
            problem = self.assertRaises(Problem, of, if_match=tags)
            self.assertEqual((problem.code, problem.extra["field"]), ("bad_request", "if-match"))

    def test_fields_of_one_name_are_one_list(self) -> None:
        headers = (("if-match", '"a"'), ("if-match", '"now"'))
        self.assertEqual(Conditions.of(headers).if_match, ('"a"', '"now"'))

    @given(st.text(max_size=40))
    def test_no_field_value_breaks_the_reading(self, value: str) -> None:
        for name in ("if_match", "if_none_match", "if_modified_since", "if_range"):
            try:
                conditions = of(**{name: value})
            except Problem as problem:
                self.assertEqual(problem.code, "bad_request")
            else:
                conditions.verdict(CURRENT, reading=True)
                conditions.range_applies(CURRENT, 0)

    def test_if_range_holds_for_the_strong_tag_or_an_old_exact_date(self) -> None:
        now = CURRENT.modified + 10.0
        self.assertTrue(of().range_applies(CURRENT, now))
        self.assertTrue(of(if_range='"now"').range_applies(CURRENT, now))
        self.assertTrue(of(if_range=SAME).range_applies(CURRENT, now))
        for value in ('"old"', 'W/"now"', EARLIER, LATER, "now", ""):
            self.assertFalse(of(if_range=value).range_applies(CURRENT, now))
        self.assertFalse(of(if_range=SAME).range_applies(CURRENT, CURRENT.modified + 0.5))


class RangeTests(SynchronousTestCase):
    def test_forms_of_a_single_range(self) -> None:
        for value, expected in {
            "bytes=0-0": Span(0, 1),
            "bytes=0-4": Span(0, 5),
            "bytes=5-": Span(5, 5),
            "bytes=-3": Span(7, 3),
            "bytes=-100": Span(0, 10),
            "bytes=9-9": Span(9, 1),
            "bytes=8-100": Span(8, 2),
            "BYTES=0-": Span(0, 10),
            "bytes = 1-2 ": Span(1, 2),
            "bytes=0-" + "9" * 500: Span(0, 10),
        }.items():
            self.assertEqual(span_of(value, 10), expected, value)

    def test_what_is_to_be_ignored_is(self) -> None:
        for value in (
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "items=0-1",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "bytes=--1",
            "bytes=1",
            "bytes=\u0661-",
            "bytes=" + "9" * 5000 + "-",
        ):
            self.assertIsNone(span_of(value, 10), value)

    def test_what_lies_outside_is_not_satisfiable_and_tells_the_size(self) -> None:
        for value, size in (
            ("bytes=10-", 10),
            ("bytes=11-12", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
            ("bytes=0-0", 0),
        ):
            problem = self.assertRaises(RangeNotSatisfiable, span_of, value, size)
            self.assertEqual(problem.status, 416)
            self.assertIn(("content-range", f"bytes */{size}"), problem.headers())

    @given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
    def test_span_is_the_slice_that_was_asked_for(self, size: int, first: int, last: int) -> None:
        content = bytes(range(size))
        for value, expected in (
            (f"bytes={first}-{last}", content[first : last + 1]),
            (f"bytes={first}-", content[first:]),
            (f"bytes=-{last}", content[-last:] if last else b""),
        ):
            try:
                span = span_of(value, size)
            except RangeNotSatisfiable:
                self.assertEqual(expected, b"")
                continue
            if span is None:
                self.assertLess(last, first)
                continue
            self.assertEqual(content[span.start : span.start + span.length], expected)
            self.assertEqual(len(expected), span.length)

    def test_content_range(self) -> None:
        self.assertEqual(Span(2, 3).content_range(10), "bytes 2-4/10")
