"""``adhoc``, ``tables`` and ``dialect`` in the config."""

from __future__ import annotations

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.configs import ConfigTestCase
from workato_agent.config.jsonschema import config_schema
from workato_agent.config.policies import DatabasePolicy
from workato_agent.config.tablepatterns import PatternPart, TablePattern

SQLITE = "adapter: sqlite, database: x.db"
ODBC = "adapter: odbc, driver: FreeTDS"


class Patterns(SynchronousTestCase):
    def test_parts_are_names_or_quoted_names(self) -> None:
        for text, *expected in (
            ("orders", ("orders", False)),
            ("sales.*", ("sales", False), ("*", False)),
            ("*", ("*", False)),
            ("hq.dbo.Orders", ("hq", False), ("dbo", False), ("Orders", False)),
            ('"Stock"', ("Stock", True)),
            ('sales."a.b c"', ("sales", False), ("a.b c", True)),
            ("`a`.[b c]", ("a", True), ("b c", True)),
            ("größe.é*", ("größe", False), ("é*", False)),
            ("v$session", ("v$session", False)),
        ):
            parts = tuple(PatternPart(*part) for part in expected)
            self.assertEqual(TablePattern.parse(text).parts, parts)

    def test_anything_else_is_none(self) -> None:
        for text in (
            "", " ", ".", "a.", ".a", "a..b", "a.b.c.d", "a b", " a", "a ", '"a', '""', 'a"b"',
            "a;b", "'a'", "a,b", "f(x)", "[a", "a]", "a\nb", '"a\nb"',
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                TablePattern.parse(text)

    @given(st.text(max_size=20))
    def test_any_text_is_a_pattern_or_a_value_error(self, text: str) -> None:
        try:
            pattern = TablePattern.parse(text)
        except ValueError:
            return
        self.assertTrue(all(part.text for part in pattern.parts))


class Policies(ConfigTestCase):
    def check(self, profile: str, fault: str) -> None:
        path, message = self.only_fault(f"database: {{a: {{{profile}}}}}")[:2]
        self.assertIn(fault, f"{path} {message}")

    def test_rules_are_read(self) -> None:
        config = self.load(
            f"database: {{a: {{{SQLITE}, policy: {{adhoc: false, tables: [sales.*, '\"X\"']}}}}}}"
        )
        policy = config.profiles["database"]["a"].policy
        assert isinstance(policy, DatabasePolicy)
        self.assertFalse(policy.adhoc)
        self.assertEqual([pattern.text for pattern in policy.tables or ()], ["sales.*", '"X"'])

    def test_faults_are_named_with_their_place(self) -> None:
        self.check(f"{SQLITE}, policy: {{tables: [a, 'b c']}}", "tables[1]")
        self.check(f"{SQLITE}, policy: {{tables: [[a]]}}", "expected text")
        self.check(f"{SQLITE}, policy: {{tables: []}}", "tables")
        self.check(f"{SQLITE}, policy: {{adhoc: perhaps}}", "adhoc")

    def test_drivers_of_any_database_name_their_sql(self) -> None:
        self.check(f"{ODBC}, policy: {{tables: [a]}}", "policy.dialect")
        self.check(f"{SQLITE}, policy: {{dialect: mysql}}", "remove it")
        self.check(f"{ODBC}, policy: {{dialect: cobol}}", "dialect")
        self.load(f"database: {{a: {{{ODBC}, policy: {{tables: [a], dialect: sqlserver}}}}}}")

    def test_the_json_schema_knows_them(self) -> None:
        validator = jsonschema.Draft202012Validator(config_schema())
        policy = {"adhoc": False, "tables": ["sales.*"], "dialect": "mysql"}
        profile = {"adapter": "odbc", "driver": "x", "policy": policy}
        validator.validate({"database": {"a": profile}})
