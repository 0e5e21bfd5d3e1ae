"""``tables``: every table of a statement is found, and what can't be understood is refused."""

from __future__ import annotations

import re
import sqlite3

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp
from twisted.trial.unittest import SynchronousTestCase

from tests.support.statements import (
    PRODUCTS,
    SAMPLE_COLUMNS,
    SAMPLE_TABLES,
    TABLES,
    allowed,
    denied,
    spliced,
)
from workato_agent.services.database.guard import Guard
from workato_agent.services.database.guard_vocabulary import NAMES, STRUCTURE
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import POSTGRESQL, Params, TableName, bind
from workato_tunnel.problems import Problem

_TOUCHING = (
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
)
_TOKEN = re.compile(r"\s+|\w+|'[^']*'|.", re.DOTALL)


def of(
    product: str, *tables: str, database: str | None = None, dialect: str | None = None
) -> Guard:
    policy = DatabasePolicy(tables=tables or TABLES, database=database, dialect=dialect)
    return Guard.of(policy, product, POSTGRESQL)


GUARDS = {product: of(product) for product in PRODUCTS}


class TablesTestCase(SynchronousTestCase):
    def check(self, guard: Guard, sql: str, params: Params | None = None) -> None:
        guard.check_statement(bind(sql, params, POSTGRESQL), "query")

    def refused(self, guard: Guard, sql: str, params: Params | None = None) -> Problem:
        try:
            self.check(guard, sql, params)
        except Problem as problem:
            self.assertEqual(problem.code, "policy_denied")
            self.assertEqual(problem.extra["rule"], "tables")
            self.assertTrue(problem.hint)
            return problem
        raise self.failureException(f"passed: {sql}")


class Statements(TablesTestCase):
    def test_what_analysts_write_passes(self) -> None:
        for product, guard in GUARDS.items():
            for sql in allowed(product):
                try:
                    self.check(guard, sql)
                except Problem as problem:
                    raise self.failureException(f"{product}: {sql}\n{problem}") from None

    def test_all_of_it_is_refused_where_nothing_is_listed(self) -> None:
        for product in PRODUCTS:
            guard = of(product, "nothing_of_the_kind")
            for sql in allowed(product):
                if re.search(r"\b(sales|SALES|products)\b", sql):
                    self.refused(guard, sql)

    def test_what_reaches_for_more_is_refused(self) -> None:
        for product, guard in GUARDS.items():
            for sql in denied(product):
                self.refused(guard, sql)

    def test_named_queries_are_the_customers_own(self) -> None:
        statement = bind("select * from secret", None, POSTGRESQL)
        GUARDS["postgresql"].check_statement(statement, "queries")

    def test_odd_characters_are_refused(self) -> None:
        for sql in (
            "select\u00a0* from sales.orders",
            "select * from sales.größe",
            "select * from\x0bsales.orders",
            "select 1 -- x\rfrom secret",
            "select '\x00'",
            "select \ufeff1",
            "select 1 -- \u2028 from secret",
        ):
            for guard in GUARDS.values():
                self.refused(guard, sql)
        self.check(GUARDS["postgresql"], "select \"größe\", 'ß' from sales.orders -- é")

    def test_the_table_is_named_and_so_are_those_that_may_be_used(self) -> None:
        problem = self.refused(GUARDS["postgresql"], "select * from hr.salaries")
        self.assertIn("hr.salaries", problem.detail or "")
        self.assertIn("sales.*, products", problem.hint or "")

    def test_a_position_is_the_callers(self) -> None:
        sql = "select ?, my_function(id) from sales.orders"
        problem = self.refused(GUARDS["postgresql"], sql, ["a long value"])
        self.assertEqual(problem.extra["position"], sql.index("my_function") + 1)


class Bounds(TablesTestCase):
    def test_large_and_deep_statements_are_refused_quickly(self) -> None:
        for sql in (
            "select " + "(" * 5000 + "1" + ")" * 5000,
            "select " + "not " * 5000 + "1",
            "select " + "- " * 5000 + "1",
            "select " + "case when 1 then " * 5000 + "1" + " end" * 5000,
            "select " + "coalesce(" * 5000 + "1" + ")" * 5000,
            "select 1 in (" + "1, " * 50_000 + "1)",
            "select '" + "x" * 200_000 + "'",
            "with " + ", ".join(f"c{n} as (select 1)" for n in range(1000)) + " select 1",
            "select " + "interval " * 3000,
            "select '" * 3001,
        ):
            self.refused(GUARDS["postgresql"], sql)

    def test_long_ones_within_the_bounds_pass(self) -> None:
        self.check(
            GUARDS["mysql"], "select 1 from sales.orders where id in (" + "1, " * 3000 + "1)"
        )
        self.check(GUARDS["mysql"], " union all ".join(["select id from sales.orders"] * 100))


class Parameters(TablesTestCase):
    def test_values_stand_where_they_are_put(self) -> None:
        values: list[object] = [
            "x",
            1,
            Number("1.5"),
            None,
            True,
            b"x",
            Typed("date", "2024-01-01"),
        ]
        self.check(
            GUARDS["postgresql"],
            "select ?, ?, ? + 1, ?, ?, ?, date ? from sales.orders where id = any (?) limit ?",
            [*values, [1, 2], 5],
        )
        self.check(GUARDS["mysql"], "select :a from sales.orders limit :n", {"a": "x", "n": 1})
        self.check(GUARDS["postgresql"], "select data ?? 'a', ? from sales.orders", [1])

    def test_they_join_no_neighbour(self) -> None:
        self.refused(GUARDS["postgresql"], "select 1 from secret where a = ?", ["x"])
        self.refused(GUARDS["postgresql"], "select * from ?", ["sales.orders"])
        self.refused(GUARDS["postgresql"], "select E? from sales.orders, secret", ["x"])

    def test_a_value_that_is_missing_is_refused(self) -> None:
        self.refused(GUARDS["mysql"], "select :a from sales.orders")
        self.refused(GUARDS["sqlite"], "select ?1 from sales.orders")


class Names(TablesTestCase):
    def passes(self, product: str, pattern: str, *names: str, database: str | None = None) -> None:
        guard = of(product, pattern, database=database)
        for name in names:
            self.check(guard, f"select * from {name}")

    def fails(self, product: str, pattern: str, *names: str, database: str | None = None) -> None:
        guard = of(product, pattern, database=database)
        for name in names:
            self.refused(guard, f"select * from {name}")

    def test_postgresql_folds_to_lower_case(self) -> None:
        self.passes(
            "postgresql", "Sales.Orders", "sales.orders", "SALES.Orders", '"sales"."orders"'
        )
        self.fails("postgresql", "Sales.Orders", '"Sales".orders', 'sales."Orders"')
        self.passes("postgresql", '"Stock"', '"Stock"', 'public."Stock"')
        self.fails("postgresql", '"Stock"', "Stock", '"stock"')

    def test_oracle_folds_to_upper_case(self) -> None:
        self.passes("oracle", "hr.emp", "HR.EMP", "hr.emp", '"HR"."EMP"')
        self.fails("oracle", "hr.emp", 'hr."emp"', '"hr".emp')

    def test_sql_server_and_sqlite_know_no_case(self) -> None:
        self.passes("sqlserver", "sales.Orders", "[SALES].[orders]", '"sales".ORDERS')
        self.passes("sqlite", "Orders", "orders", '"ORDERS"', "main.orders", "'orders'")

    def test_mysql_tells_cases_apart(self) -> None:
        self.passes("mysql", "Orders", "Orders", "`Orders`")
        self.fails("mysql", "Orders", "orders", "`ORDERS`")

    def test_a_name_without_schema_needs_a_pattern_without_one(self) -> None:
        self.passes("postgresql", "orders", "orders", "public.orders")
        self.fails("postgresql", "public.orders", "orders")
        self.fails("postgresql", "*", "sales.orders")
        self.passes("sqlserver", "orders", "orders", "dbo.orders")

    def test_where_the_schema_is_certain_it_may_be_left_out(self) -> None:
        self.passes("mysql", "shop.orders", "orders", "shop.orders", database="shop")
        self.passes("mysql", "orders", "orders", "shop.orders", database="shop")
        self.fails("mysql", "orders", "hr.orders", database="shop")
        self.fails("mysql", "shop.orders", "orders")
        self.passes("sqlite", "main.orders", "orders", "main.orders")

    def test_a_star_stays_within_its_part(self) -> None:
        self.passes("postgresql", "s*.ord*s", "sales.orders", "s.ords")
        self.fails("postgresql", "s*.ord*s", "sales.order", "hr.orders", "orders")
        self.fails("postgresql", '"s*".orders', "sales.orders")
        self.passes("postgresql", "db.sales.*", "db.sales.orders")
        self.fails("postgresql", "db.sales.*", "sales.orders", "other.sales.orders")

    def test_what_is_the_databases_own_has_to_be_named(self) -> None:
        for product, pattern, names in (
            ("postgresql", "*", ("pg_class", "pg_authid", "public.pg_x")),
            ("postgresql", "*.*", ("pg_catalog.pg_class", "information_schema.tables", "orders")),
            ("mysql", "*.*", ("mysql.user", "information_schema.tables", "SYS.x")),
            ("sqlite", "*", ("sqlite_master", "main.sqlite_schema", "pragma_table_list")),
            ("sqlserver", "*", ("sysobjects", "dbo.syscolumns")),
            ("sqlserver", "*.*", ("sys.objects", "information_schema.tables")),
            ("oracle", "*", ("user_tables", "all_tables", "DBA_USERS")),
            ("oracle", "*.*", ("sys.users",)),
        ):
            self.fails(product, pattern, *names)
        self.passes("postgresql", "information_schema.*", "information_schema.tables")
        self.passes("postgresql", "pg_catalog.pg_class", "pg_catalog.pg_class")
        self.passes("sqlite", "sqlite_master", "sqlite_master")

    def test_names_that_the_server_would_cut_off_are_refused(self) -> None:
        self.fails("postgresql", "*_public", "x" * 60 + "_public")
        self.passes("postgresql", "*_public", "x" * 56 + "_public")

    def test_load_and_schema_go_by_the_catalogues_names(self) -> None:
        guard = of("postgresql", "sales.*", '"Stock"')
        for schema, name, listed in (
            ("sales", "orders", True),
            ("Sales", "orders", False),
            (None, "Stock", True),
            ("public", "Stock", True),
            (None, "stock", False),
            (None, "orders", False),
            ("pg_catalog", "pg_class", False),
        ):
            table = TableName(schema, name)
            self.assertEqual(guard.shows(table), listed, table)
            if not listed:
                with self.assertRaises(Problem) as caught:
                    guard.check_table(table, "load")
                self.assertEqual(caught.exception.extra, {"rule": "tables"})
        with self.assertRaises(Problem):
            guard.check_procedure(TableName("sales", "report"))

    def test_drivers_of_any_database_need_a_dialect(self) -> None:
        self.check(of("odbc", "sales.*", dialect="mysql"), "select * from `sales`.`orders`")
        with self.assertRaises(ValueError):
            of("jdbc", "sales.*")


class Fuzz(TablesTestCase):
    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_a_refused_statement_is_refused_in_any_dress(self, data: st.DataObject) -> None:
        product = data.draw(st.sampled_from(PRODUCTS))
        sql = data.draw(st.sampled_from(denied(product)))
        pieces = _TOKEN.findall(sql)
        dressed = "".join(
            data.draw(st.sampled_from((" ", "\n", "\t ", " /* x */ ", " -- x\n")))
            if piece.isspace()
            else piece
            for piece in pieces
        )
        wrap = data.draw(st.sampled_from(("{}", "{};", "({})", "select * from ({}) x", "/**/{}--")))
        self.refused(GUARDS[product], wrap.format(dressed))

    def test_spliced_statements_that_pass_touch_only_what_is_listed(self) -> None:
        """SQLite itself tells which tables a statement reads and writes."""
        database = sqlite3.connect(":memory:")
        self.addCleanup(database.close)
        database.execute("ATTACH ':memory:' AS sales")
        for table in SAMPLE_TABLES:
            database.execute(f"CREATE TABLE {table} ({SAMPLE_COLUMNS})")
        touched: set[str] = set()

        def authorize(action: int, first: str | None, *_rest: object) -> int:
            if action in _TOUCHING and first is not None:
                touched.add(first.lower())
            return sqlite3.SQLITE_OK

        database.set_authorizer(authorize)
        valid = 0
        for sql in spliced("sqlite", seed=11, count=6000):
            touched.clear()
            try:
                self.check(GUARDS["sqlite"], sql)
                database.execute(f"EXPLAIN {sql}")
            except (Problem, sqlite3.Error):
                continue
            valid += 1
            self.assertNotIn("secret", touched, sql)
        self.assertGreater(valid, 20)

    def test_the_vocabulary_is_sqlglots(self) -> None:
        for name in STRUCTURE:
            known = set(getattr(exp, name).arg_types)
            self.assertEqual(STRUCTURE[name] - known, frozenset(), name)
        for name in NAMES:
            self.assertTrue(hasattr(exp, name))
