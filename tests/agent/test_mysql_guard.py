"""MySQL's lexical rules, and what its statements are taken for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.mysql_guard import judge
from workato_agent.services.database.statements import MYSQL, Kind, bind, outline, tokens
from workato_tunnel.problems import Problem


def questions(sql: str) -> int:
    """How many parameters there are."""
    return sum(token.kind is Kind.QUESTION for token in tokens(sql, MYSQL))


class Lexis(SynchronousTestCase):
    def test_strings_names_and_comments_hide_parameters(self) -> None:
        for sql in (
            r"'\'?'", r"'a''?'", r'"\"?"', '"a""?"', "`a``?`", r"`\`", "# ?\n", "-- ?\n", "--\t?",
            "--\n", "-- ? \r ?", "/* ? */", "/* /* ? */", "/*+ ? */", "'?", '"?', "`?", "/* ?",
            "--",
        ):  # fmt: skip
            self.assertEqual(questions(f"select {sql}"), 0, sql)

    def test_what_only_looks_like_one_does_not(self) -> None:
        for sql in (
            "1 --? ", "1--?", "/*! ? */", "/*!50000 ? */", "/*M! ? */", r"'\\'?", r'"\\"?', r"`\`?",
            "# x\n?", "-- x\n?", "/* /* */ ?", "e'x' ?", "$$ ?", "[?]", "/?",
        ):  # fmt: skip
            self.assertEqual(questions(f"select {sql}"), 1, sql)

    def test_names(self) -> None:
        sql = "select :a, @x := :b, ':c', `:d`, x.:e # :f"
        statement = bind(sql, {"a": 1, "b": 2, "e": 3}, MYSQL)
        self.assertEqual(statement.values, [1, 2, 3])

    def test_outlines(self) -> None:
        shape = outline("(select 1) # x ;\n; -- y", MYSQL)
        self.assertEqual((shape.first, shape.end, shape.several), ("select", 10, False))
        self.assertTrue(outline("select 1; select 2", MYSQL).several)


class Judging(SynchronousTestCase):
    def test_what_mysql_commits(self) -> None:
        for sql, commits in (
            ("create table x (a int)", True), ("create temporary table x (a int)", False),
            ("drop temporary table x", False), ("DROP TABLE x", True), ("truncate x", True),
            ("insert into x values (1)", False), ("set password = 'x'", True),
            ("set @a = 1", False),
            ("grant all on x to y", True), ("analyze table x", True), ("select 1", False),
            ("load data infile 'x' into table y", False), ("load index into cache x", True),
        ):  # fmt: skip
            self.assertEqual(judge(sql, read_only=False).commits, commits, sql)

    def test_variables_of_the_callers_own_may_have_any_name(self) -> None:
        judge("set @sql_mode = 1, @autocommit = 0", read_only=False)
        judge("set @`names` = 1", read_only=False)
        judge("set session group_concat_max_len = 5", read_only=False)
        for sql in ("set @@sql_mode = ''", "set @@session . `sql_mode` = ''", "set Sql_Mode = ''"):
            with self.assertRaises(Problem):
                judge(sql, read_only=False)

    def test_words_in_strings_are_no_words(self) -> None:
        judge("select 'outfile', \"commit\", `dumpfile` /* outfile */ -- outfile", read_only=True)
        judge("select '/*!', \"/*!\", `/*!`", read_only=True)
        for sql in ("", "   ", "-- x", "'select'", "`select` 1", "?", ";"):
            for read_only in (False, True):
                with self.assertRaises(Problem):
                    judge(sql, read_only=read_only)
