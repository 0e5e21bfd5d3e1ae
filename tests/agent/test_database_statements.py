"""The scanner finds parameters and nothing that only looks like one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.postgresql_literals import literal, quote
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.statements import (
    POSTGRESQL,
    SQLITE,
    Dialect,
    Params,
    bind,
    outline,
    tokens,
)
from workato_tunnel.problems import Problem


def render(sql: str, params: Params, dialect: Dialect = POSTGRESQL) -> str:
    return bind(sql, params, dialect).render(lambda value: f"<{value}>").sql


class QuestionMarks(SynchronousTestCase):
    def check(
        self, sql: str, expected: str, values: int = 1, dialect: Dialect = POSTGRESQL
    ) -> None:
        self.assertEqual(render(sql, list(range(values)), dialect), expected)

    def test_a_plain_parameter(self) -> None:
        self.check("select ?", "select <0>")
        self.check("a=?and b=?", "a=<0>and b=<1>", 2)

    def test_strings_comments_and_quoted_names_are_left_alone(self) -> None:
        for text in (
            "'?'",
            "'it''s ?'",
            '"a?b"',
            "-- ?\n",
            "/* ? */",
            "/* ? /* ? */ ? */",
            "E'\\'?'",
            "e'a''?'",
            "E'a'\n'\\'?'",
            "E'a' -- c\n 'b\\'?'",
            "$$?$$",
            "$a$ ? $$ ? $a$",
            "$été$?$été$",
            "U&'\\0041?'",
            "B'?'",
        ):
            self.check(f"select {text}, ?", f"select {text}, <0>")

    def test_a_backslash_ends_nothing_in_a_plain_string(self) -> None:
        self.check(r"select '\', ?, '\'", r"select '\', <0>, '\'")

    def test_a_dollar_in_a_name_begins_no_string(self) -> None:
        self.check("select a$$?$$", "select a$$<0>$$")

    def test_two_question_marks_are_an_operator(self) -> None:
        self.check("j ?? ? and j ??| ?", "j ? <0> and j ?| <1>", 2)
        self.check("j @?? ?", "j @? <0>")
        self.check("j ???", "j ?<0>")

    def test_nothing_is_changed_without_values(self) -> None:
        for params in (None, [], {}):
            self.assertEqual(bind("j ?? 'a' :b", params, POSTGRESQL).sql, "j ?? 'a' :b")
            self.assertEqual(
                bind("j ?? 'a' :b", params, POSTGRESQL).render(literal).sql, "j ?? 'a' :b"
            )

    def test_the_number_of_values_has_to_match(self) -> None:
        for values in (1, 3):
            with self.assertRaises(Problem) as caught:
                bind("select ?, ?", list(range(values)), POSTGRESQL)
            self.assertEqual(caught.exception.code, "bad_request")
            self.assertEqual(caught.exception.extra, {"field": "params"})

    def test_what_is_not_closed_reaches_to_the_end(self) -> None:
        for text in ("'?", '"?', "/* ?", "$a$ ?", "E'?\\", "-- ?"):
            self.check(f"? {text}", f"<0> {text}")

    def test_sqlite_quotes_names_in_brackets_and_backticks(self) -> None:
        self.check("select [a?b], `c?`, ?", "select [a?b], `c?`, <0>", 1, SQLITE)
        self.check("select /* /* ? */ ?", "select /* /* ? */ <0>", 1, SQLITE)
        self.check("select $$ ? $$", "select $$ <0> $$", 1, SQLITE)
        self.check(r"select e'\', ?", r"select e'\', <0>", 1, SQLITE)


class Names(SynchronousTestCase):
    def check(self, sql: str, expected: str) -> None:
        values: dict[str, object] = {"a": 1, "b": 2, "lo": 3, "hi": 4}
        self.assertEqual(render(sql, values), expected)

    def test_a_name_may_occur_again_and_in_any_order(self) -> None:
        self.check("select :b, :a, :b", "select <2>, <1>, <2>")

    def test_casts_and_named_arguments_are_left_alone(self) -> None:
        self.check("select :a::int, f(b := 1), x::text", "select <1>::int, f(b := 1), x::text")

    def test_array_slices_are_left_alone(self) -> None:
        self.check("select x[1:b], x[a:b], x[(1):b]", "select x[1:b], x[a:b], x[(1):b]")
        self.check("select x[:lo : :hi], x[:a]", "select x[<3> : <4>], x[<1>]")
        self.check("select x[1:2], :a", "select x[1:2], <1>")

    def test_question_marks_are_left_alone(self) -> None:
        self.check("j ? 'x' and j ?| :a", "j ? 'x' and j ?| <1>")

    def test_strings_are_left_alone(self) -> None:
        self.check(
            "select '12:a', \"x:b\", time '10:00' -- :zz",
            "select '12:a', \"x:b\", time '10:00' -- :zz",
        )

    def test_a_missing_value_is_named(self) -> None:
        with self.assertRaises(Problem) as caught:
            bind("select :nope", {"a": 1}, POSTGRESQL)
        self.assertEqual(caught.exception.extra, {"field": "params.nope"})


class Positions(SynchronousTestCase):
    def test_a_position_is_the_callers(self) -> None:
        sql = "select ?, :: ? fro x"
        rendered = bind(sql, ["a long value", 2], POSTGRESQL).render(literal)
        for word in ("select", "fro", "x"):
            position = rendered.sql.rindex(word) + 1
            self.assertEqual(rendered.caller_position(position), sql.rindex(word) + 1)

    def test_within_a_value_it_is_the_parameters(self) -> None:
        rendered = bind("a ? b", ["xyz"], POSTGRESQL).render(literal)
        self.assertEqual(rendered.caller_position(rendered.sql.index("y") + 1), 3)

    @given(st.text(alphabet="ab ?'\"-/*$:\n", max_size=40))
    def test_every_character_of_the_callers_text_is_found_again(self, sql: str) -> None:
        count = sum(token.kind.name == "QUESTION" for token in tokens(sql, POSTGRESQL))
        if not count:
            return
        rendered = bind(sql, ["#" * 3] * count, POSTGRESQL).render(literal)
        for position, character in enumerate(rendered.sql):
            if character != "#" and character in "ab":
                self.assertEqual(sql[rendered.caller_position(position + 1) - 1], character)


class Outlines(SynchronousTestCase):
    def test_the_first_word_and_the_end(self) -> None:
        shape = outline("/* a */ (SELECT 1) ; -- done\n;", POSTGRESQL)
        self.assertEqual((shape.first, shape.end, shape.several), ("select", 18, False))

    def test_words_in_strings_do_not_count(self) -> None:
        shape = outline("select 'insert', \"update\", $$delete$$ -- merge", POSTGRESQL)
        self.assertEqual(shape.words, {"select"})

    def test_a_second_statement_is_seen(self) -> None:
        self.assertTrue(outline("select 1; select 2", POSTGRESQL).several)
        self.assertTrue(outline(";select 1;;-- x\ndrop table y", POSTGRESQL).several)
        self.assertFalse(outline(";;select ';'; /* ; x */ ;", POSTGRESQL).several)

    @given(st.text(alphabet="aE1$'\"\\-/*;:?[]\n `", max_size=60))
    def test_tokens_are_in_order_and_never_overlap(self, sql: str) -> None:
        for dialect in (POSTGRESQL, SQLITE):
            end = 0
            for token in tokens(sql, dialect):
                self.assertLessEqual(end, token.start)
                self.assertLess(token.start, token.end)
                end = token.end
            self.assertLessEqual(end, len(sql))


class Literals(SynchronousTestCase):
    def test_numbers(self) -> None:
        for value, expected in (
            (5, "5"),
            (-5, "(-5)"),
            (2**70, str(2**70)),
            (-(2**63), "'-9223372036854775808'::pg_catalog.int8"),
            (Number("1.50"), "1.50"),
            (Number("-1e5"), "(-1e5)"),
            (True, "TRUE"),
            (None, "NULL"),
        ):
            self.assertEqual(literal(value), f" {expected} ")

    def test_text_with_backslashes_is_always_an_escape_string(self) -> None:
        self.assertEqual(quote("it's"), "'it''s'")
        self.assertEqual(quote("\\'; drop table x; --"), "E'\\\\''; drop table x; --'")

    def test_nul_is_refused(self) -> None:
        with self.assertRaises(Problem):
            quote("a\0b")

    def test_arrays_and_types(self) -> None:
        self.assertEqual(literal([1, [None]]), " ARRAY[1, ARRAY[NULL]] ")
        self.assertEqual(literal([]), " '{}' ")
        self.assertEqual(literal(Typed("time", "10:00+02")), " '10:00+02'::pg_catalog.timetz ")

    @given(st.text(max_size=50).filter(lambda text: "\0" not in text))
    def test_no_text_can_leave_its_literal(self, text: str) -> None:
        quoted = quote(text)
        found = list(tokens(f"x = {quoted} y", POSTGRESQL))
        self.assertEqual([token.kind.name for token in found], ["WORD", "OTHER", "LITERAL", "WORD"])
