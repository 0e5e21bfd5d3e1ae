"""Pure path logic: decoding, display and patterns."""

from __future__ import annotations

import fnmatch
import time
from urllib.parse import quote, quote_from_bytes

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.files.confinement import (
    MAX_PATH,
    is_temporary,
    names_of,
    shown,
    temporary_name,
    text_of,
)
from workato_agent.services.files.patterns import PathRules, compile_pattern
from workato_tunnel.problems import Problem

NAME = st.binary(min_size=1, max_size=20).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)


class DecodingTests(SynchronousTestCase):
    def refused(self, path: str, **options: bool) -> Problem:
        problem: Problem = self.assertRaises(Problem, names_of, path, **options)
        self.assertEqual(problem.code, "bad_request")
        self.assertEqual(problem.extra["field"], "path")
        return problem

    @given(st.lists(NAME, max_size=8))
    def test_any_names_survive_encoding(self, names: list[bytes]) -> None:
        encoded = "/".join(quote_from_bytes(name, safe="") for name in names)
        self.assertEqual(names_of(encoded), tuple(names))

    @given(st.text(max_size=60))
    @example("../x")
    @example("a/%2e%2e/b")
    @example("%252e%252e")
    def test_whatever_is_accepted_holds_only_plain_names(self, path: str) -> None:
        try:
            names = names_of(path)
        except Problem as problem:
            self.assertEqual(problem.code, "bad_request")
            return
        for name in names:
            self.assertNotIn(name, (b"", b".", b".."))
            self.assertFalse({0, 47} & set(name))

    def test_decoding_happens_once(self) -> None:
        self.assertEqual(names_of("a%252Fb/%25"), (b"a%2Fb", b"%"))
        self.assertEqual(names_of("a+b%20c"), (b"a+b c",))

    def test_backslash_and_colon_are_legal_except_on_windows(self) -> None:
        self.assertEqual(names_of("a%5Cb/c:d"), (b"a\\b", b"c:d"))
        self.refused("a%5C..%5Cb", windows=True)
        self.refused("C:", windows=True)
        self.refused("file.txt:stream", windows=True)

    def test_what_is_no_path_is_refused(self) -> None:
        for path in (
            *("..", "../a", "a/..", "a/../b", "%2e%2e", "%2E%2e/a", ".%2e", ".", "a/./b", "%2e"),
            *("/a", "a//b", "/", "a/", "//", "a%00", "%00", "a%2Fb", "%2F", "%2fetc", "..%2f"),
            *("%", "a%2", "%zz", "a%ü", "\ud83d"),
        ):
            self.refused(path)

    def test_one_trailing_slash_is_taken_where_folders_are_meant(self) -> None:
        self.assertEqual(names_of("a/b/", trailing_slash=True), (b"a", b"b"))
        self.assertEqual(names_of("", trailing_slash=True), ())
        self.assertEqual(names_of("/", trailing_slash=True), ())
        self.refused("a//", trailing_slash=True)

    def test_overlong_path_is_refused(self) -> None:
        self.assertEqual(len(names_of("a/" * (MAX_PATH // 2 - 1) + "a")), MAX_PATH // 2)
        self.refused("a/" * (MAX_PATH // 2) + "a")

    def test_names_of_uploads_under_way_are_refused(self) -> None:
        name = temporary_name()
        self.assertTrue(is_temporary(name))
        self.assertNotEqual(name, temporary_name())
        self.refused(name.decode())
        self.refused(f"a/{quote(name.decode(), safe='')}")
        self.assertEqual(names_of(".onprem-x.part"), (b".onprem-x.part",))

    def test_text_of_a_path_is_readable_or_percent_encoded(self) -> None:
        self.assertEqual(text_of(("ü".encode(), b"100%")), "ü/100%")
        self.assertEqual(text_of((b"caf\xe9", b"100%")), "caf%E9/100%25")
        self.assertEqual(names_of(text_of((b"caf\xe9", b"100%"))), (b"caf\xe9", b"100%"))
        self.assertEqual(shown(()), "the base folder")
        self.assertLess(len(shown((b"x" * 5000,))), 310)


class PatternTests(SynchronousTestCase):
    def matches(self, pattern: str, *paths: str) -> list[str]:
        compiled = compile_pattern(pattern)
        return [path for path in paths if compiled.matches(names_of(path))]

    def test_pattern_without_slash_speaks_of_the_name(self) -> None:
        self.assertEqual(
            self.matches("*.csv", "a.csv", "d/a.csv", "d/e/.csv", "a.csv/b", "a.csvx"),
            ["a.csv", "d/a.csv", "d/e/.csv"],
        )

    def test_pattern_with_slash_speaks_of_the_path(self) -> None:
        self.assertEqual(
            self.matches("in/*.csv", "in/a.csv", "a.csv", "x/in/a.csv", "in/d/a.csv"),
            ["in/a.csv"],
        )

    def test_two_stars_are_any_folders(self) -> None:
        paths = ("in", "in/a", "in/d/a", "in/d/e/a", "x/in/a", "a")
        self.assertEqual(self.matches("in/**", *paths), ["in/a", "in/d/a", "in/d/e/a"])
        self.assertEqual(self.matches("in/**/a", *paths), ["in/a", "in/d/a", "in/d/e/a"])
        self.assertEqual(self.matches("**/in/a", *paths), ["in/a", "x/in/a"])
        self.assertEqual(self.matches("**", *paths), list(paths))
        self.assertEqual(self.matches("**/d/**", *paths), ["in/d/a", "in/d/e/a"])

    def test_question_mark_is_one_character_of_any_length(self) -> None:
        self.assertEqual(
            self.matches("?.txt", "a.txt", "%C3%BC.txt", "ab.txt", ".txt"), ["a.txt", "%C3%BC.txt"]
        )
        self.assertEqual(self.matches("caf?", "caf%E9"), ["caf%E9"])

    def test_everything_else_stands_for_itself(self) -> None:
        self.assertEqual(self.matches("[a].(b)+$", "[a].(b)+$", "a.b"), ["[a].(b)+$"])
        self.assertEqual(self.matches("A*", "a"), [])
        self.assertEqual(self.matches("a*b", "a%0Ab"), ["a%0Ab"])

    @given(st.text("ab*?", min_size=1, max_size=8), st.text("abc", min_size=1, max_size=8))
    def test_a_name_matches_as_in_a_shell(self, pattern: str, name: str) -> None:
        assume("**" not in pattern)
        expected = fnmatch.fnmatchcase(name, pattern)
        self.assertEqual(compile_pattern(pattern).matches((name.encode(),)), expected)

    def test_hostile_pattern_takes_no_time(self) -> None:
        name = (b"a" * 255,)
        path = (b"a",) * 500
        started = time.process_time()
        self.assertFalse(compile_pattern("*a" * 250 + "*b").matches(name))
        self.assertFalse(compile_pattern("**/a/" * 200 + "b").matches(path))
        self.assertLess(time.process_time() - started, 2)

    def test_malformed_pattern_is_refused(self) -> None:
        for pattern in ("", "/a", "a/", "a//b", "../a", "a/./b", "x" * 1025):
            self.assertRaises(ValueError, compile_pattern, pattern)

    def test_folder_may_contain_a_match(self) -> None:
        def possible(pattern: str, *folders: str) -> list[str]:
            compiled = compile_pattern(pattern)
            return [folder for folder in folders if compiled.may_contain(names_of(folder))]

        folders = ("", "in", "in/d", "in/d/e", "out")
        self.assertEqual(possible("*.csv", *folders), list(folders))
        self.assertEqual(possible("in/*.csv", *folders), ["", "in"])
        self.assertEqual(possible("in/**", *folders), ["", "in", "in/d", "in/d/e"])
        self.assertEqual(possible("*/d/x", *folders), ["", "in", "in/d", "out"])

    def test_rules_let_pass_what_one_of_them_lets_pass(self) -> None:
        rules = PathRules.of(["*.csv", "in/**"])
        allowed = [p for p in ("a.csv", "a.txt", "in/a.txt") if rules.allow_file(names_of(p))]
        self.assertEqual(allowed, ["a.csv", "in/a.txt"])
        self.assertTrue(PathRules.of([]).allow_file((b"anything",)))
        self.assertTrue(PathRules.of([]).allow_folder((b"anything",)))
        self.assertFalse(PathRules.of(["in/*"]).allow_folder((b"out",)))
