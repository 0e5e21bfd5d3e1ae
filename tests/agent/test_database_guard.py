"""``adhoc`` and ``read_only``: what is refused before anything is sent."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.guard import Guard
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import (
    GENERIC,
    MSSQL,
    MYSQL,
    ORACLE,
    POSTGRESQL,
    SQLITE,
    Dialect,
    TableName,
    bind,
)
from workato_tunnel.problems import Problem

DIALECTS: dict[str, Dialect] = {
    "postgresql": POSTGRESQL,
    "redshift": POSTGRESQL,
    "mysql": MYSQL,
    "sqlite": SQLITE,
    "sqlserver": MSSQL,
    "oracle": ORACLE,
    "odbc": GENERIC,
    "jdbc": GENERIC,
}
QUERIES = (
    "select 1",
    "SELECT * FROM orders WHERE id = 1;",
    "(select 1) union (select 2)",
    "with a as (select 1) select * from a",
    "select a, 'insert into x', \"delete\" from orders -- drop",
    "select count(*) from orders group by region having sum(total) > 1",
    "select case when a > 1 then 2 else 3 end from orders",
)
CHANGES = (
    "insert into orders values (1)",
    "update orders set a = 1",
    "delete from orders",
    "merge into orders using x on 1 = 1 when matched then delete",
    "create table x (a int)",
    "drop table orders",
    "truncate table orders",
    "select 1; delete from orders",
    "select * into copy from orders",
    "with a as (select 1) insert into orders select * from a",
    "set x = 1",
    "begin",
    "commit",
    "grant select on orders to x",
    "call f()",
    "execute x",
    "do f()",
    "lock table orders",
    "",
    "-- nothing",
    "; select 1",
)


def of(product: str, **policy: object) -> Guard:
    return Guard.of(DatabasePolicy(**policy), product, DIALECTS[product])  # type: ignore[arg-type]


class GuardTestCase(SynchronousTestCase):
    def check(self, guard: Guard, sql: str, operation: str = "query") -> None:
        guard.check_statement(bind(sql, None, GENERIC), operation)

    def refused(self, rule: str, guard: Guard, sql: str, operation: str = "query") -> Problem:
        try:
            self.check(guard, sql, operation)
        except Problem as problem:
            self.assertEqual(problem.code, "policy_denied")
            self.assertEqual(problem.extra["rule"], rule, problem)
            self.assertTrue(problem.hint)
            return problem
        raise self.failureException(f"passed: {sql}")


class Adhoc(GuardTestCase):
    def test_without_it_statements_of_a_caller_are_refused(self) -> None:
        guard = of("postgresql", adhoc=False)
        for operation in ("query", "execute", "batch"):
            self.refused("adhoc", guard, "select 1", operation)

    def test_named_ones_tables_and_procedures_are_not(self) -> None:
        guard = of("postgresql", adhoc=False)
        self.check(guard, "delete from orders", "queries")
        guard.check_table(TableName("a", "b"), "load")
        guard.check_procedure(TableName("a", "b"))


class ReadOnly(GuardTestCase):
    def test_queries_pass_everywhere(self) -> None:
        for product in DIALECTS:
            for sql in QUERIES:
                self.check(of(product, read_only=True), sql)

    def test_everything_else_is_refused_everywhere_and_in_named_queries(self) -> None:
        for product in DIALECTS:
            for sql in CHANGES:
                for operation in ("query", "execute", "queries"):
                    self.refused("read_only", of(product, read_only=True), sql, operation)

    def test_without_the_rule_everything_passes(self) -> None:
        for sql in CHANGES:
            self.check(of("postgresql"), sql)

    def test_postgresql(self) -> None:
        guard = of("postgresql", read_only=True)
        for sql in (
            "table orders",
            "values (1), (2)",
            "show search_path",
            "explain select 1",
            "explain (analyze, format json) select 1",
            "explain analyze verbose with a as (select 1) select * from a",
            "select replace(a, 'x', 'y'), pg_typeof(a), pg_size_pretty(1::int8) from orders",
            "select lo_price, pg_stat from line_orders",
            "select * from pg_catalog.pg_class",
            "select $$ insert into $$, E'it\\'s', U&'\\0041'",
            "select data ? 'a' from orders",
        ):
            self.check(guard, sql)
        for sql in (
            "explain analyze delete from orders",
            "explain (analyze) insert into orders values (1)",
            "explain analyze create table x as select 1",
            "explain execute x",
            "with a as (delete from orders returning *) select * from a",
            "with a as (select 1) update orders set b = 1",
            "select set_config('transaction_read_only', 'off', true)",
            "set transaction_read_only = off",
            "set local transaction read write",
            "select lo_create(0)",
            "select LO_CREATE (0)",
            'select "lo_create"(0)',
            "select pg_catalog . lo_create(0)",
            "select (0::oid).lo_create",
            "select g.lo_create from generate_series(0, 0) as g",
            'select U&"lo\\005fcreate"(0)',
            "select u&\"lo!005fcreate\" uescape '!' (0)",
            "select/**/lo_create/**/(0)",
            "select pg_advisory_lock(1)",
            "select pg_terminate_backend(1)",
            "select pg_notify('a', 'b')",
            "select pg_reload_conf()",
            "select pg_something_new(1)",
            "select * from dblink('x', 'delete from orders') as t(a int)",
            "select * from query_to_xml('select lo_create(0)', true, true, '')",
            "select ts_stat('select lo_create(0)')",
            "select * from orders for update",
            "select * from orders for no key update",
            "copy orders to program 'sh'",
            "copy (select 1) to '/tmp/x'",
            "do $$ begin end $$",
            "prepare x as select 1",
            "listen x",
            "declare c cursor for select 1",
            "fetch all from c",
            "select nextval('x')",
        ):
            self.refused("read_only", guard, sql)

    def test_mysql(self) -> None:
        guard = of("mysql", read_only=True)
        for sql in (
            "show tables",
            "describe orders",
            "desc orders",
            "explain select 1",
            "explain format=json select 1",
            "table orders",
            "select replace(a, 'x', 'y'), insert(a, 1, 2, 'x'), if(a, 1, 2) from `orders`",
        ):
            self.check(guard, sql)
        for sql in (
            "select 1 /*! into outfile '/tmp/x' */",
            "select 1 /*!50000 into @x */",
            "select 1 /*M!100000 into @x */",
            "select * from orders into outfile '/tmp/x'",
            "select 1 into @x",
            "select '\\' into outfile '/tmp/x' -- '",
            'select "\\" into outfile \'/tmp/x\' -- "',
            "select get_lock('a', 1)",
            "select load_file('/etc/passwd')",
            "select next value for s",
            "select nextval(s)",
            "select * from orders lock in share mode",
            "select * from orders for update",
            "handler orders open",
            "load data infile 'x' into table orders",
            "explain delete from orders",
            "analyze delete from orders",
            "kill 1",
            "replace orders values (1)",
            "with a as (select 1) delete from orders",
        ):
            self.refused("read_only", guard, sql)

    def test_sqlite(self) -> None:
        guard = of("sqlite", read_only=True)
        self.check(guard, "pragma table_info(orders)")
        self.check(guard, "explain query plan select 1")
        for sql in (
            "attach 'x' as y",
            "vacuum",
            "select load_extension('x')",
            "select writefile('a', 'b')",
            "replace into orders values (1)",
        ):
            self.refused("read_only", guard, sql)

    def test_where_statements_need_no_semicolon_words_that_begin_one_are_refused(self) -> None:
        for product in ("sqlserver", "odbc", "jdbc"):
            guard = of(product, read_only=True)
            self.check(guard, 'select "drop", "exec" from orders')
            for sql in (
                "select 1 delete from orders",
                "select 1 exec xp_cmdshell 'x'",
                "select 1 exec('x')",
                "select 1 shutdown",
                "select 1 waitfor delay '0:0:9'",
                "select * from openrowset('x', 'y', 'z')",
                "select * from openquery(x, 'delete y')",
                "select 1 drop table orders",
                "select next value for s",
            ):
                self.refused("read_only", guard, sql)

    def test_packages_of_oracle_that_reach_elsewhere_are_refused(self) -> None:
        guard = of("oracle", read_only=True)
        self.check(guard, "select dbms_lob.substr(a, 1), utl_raw.length(b) from orders")
        for sql in (
            "select utl_http.request('http://x') from dual",
            "select dbms_pipe.receive_message('x') from dual",
            "with function f return number is begin commit; return 1; end; select f from dual",
        ):
            self.refused("read_only", guard, sql)

    def test_of_databases_that_are_not_known_nothing_is_taken_for_granted(self) -> None:
        for product in ("odbc", "jdbc"):
            guard = of(product, read_only=True)
            for sql in (
                "select a[1], array[1, 2], `b c`, [d e], date'2024-01-01', n'x' from orders -- x",
                "select 'a # b', \"c $$ d\" from orders",
            ):
                self.check(guard, sql)
            for sql in (
                "select 1 # '\n into outfile '/tmp/x' -- '",
                "select 1 --1 ' \n into outfile '/tmp/x' -- '",
                "select q'[']', x into y -- ']' from dual",
                "select $$ ' $$ into outfile '/tmp/x' -- '",
                "select [a'b] into c -- '] from orders",
                "select `a'b` into c -- '` from orders",
                "select e'\\' into x -- '",
                "select 1 /* /* */ into x -- */ */",
                "select (x).lo_create from (select 0::oid as x) y",
                'select x."lo_create" from (select 0::oid as x) x',
                "select pg_what_another_version_brings(1)",
            ):
                self.refused("read_only", guard, sql)

    def test_what_would_take_long_to_judge_is_refused(self) -> None:
        for piece in ("(", '"a",'):
            self.refused("read_only", of("odbc", read_only=True), "select " + piece * 110_000)

    def test_white_space_of_other_alphabets_hides_no_word(self) -> None:
        for product in DIALECTS:
            for sql in ("select 1 exec\u00a0xp_cmdshell", "select lo_create\u00a0(0)"):
                self.refused("read_only", of(product, read_only=True), sql)
            self.check(of(product, read_only=True), "select größe, 名前 from orders")

    def test_oracles_own_quotes_hide_nothing(self) -> None:
        guard = of("oracle", read_only=True)
        self.check(guard, "select q'[it's utl_http.request]' from dual")
        self.refused("read_only", guard, "select q'[']', utl_http.request('x'), q'[']' from dual")

    def test_load_is_refused_and_schema_is_not(self) -> None:
        guard = of("sqlite", read_only=True)
        guard.check_table(TableName(None, "orders"), "schema")
        with self.assertRaises(Problem) as caught:
            guard.check_table(TableName(None, "orders"), "load")
        self.assertEqual(caught.exception.extra, {"rule": "read_only"})

    def test_procedures_are_called_only_where_a_transaction_holds_them(self) -> None:
        of("postgresql", read_only=True).check_procedure(TableName("sales", "report"))
        for product in DIALECTS.keys() - {"postgresql"}:
            with self.assertRaises(Problem):
                of(product, read_only=True).check_procedure(TableName("sales", "report"))
        for name in ("lo_create", "pg_terminate_backend", "set_config", "PG_READ_FILE"):
            with self.assertRaises(Problem):
                of("postgresql", read_only=True).check_procedure(TableName("pg_catalog", name))

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(CHANGES[:-3]),
        st.sampled_from(sorted(DIALECTS)),
        st.sampled_from(("", " ", "\n", "/* x */", "-- x\n", "(", "((")),
        st.sampled_from(("", ";", " ; ", " -- x", "/* x */", ")", "\n;\n;")),
        st.booleans(),
    )
    def test_dressing_up_helps_nobody(
        self, sql: str, product: str, before: str, after: str, upper: bool
    ) -> None:
        sql = f"{before}{sql.upper() if upper else sql}{after}"
        self.refused("read_only", of(product, read_only=True), sql.replace(" ", "\t\n"))

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(alphabet="ab '\"`[]()/*-$;!#\\\nEU&", max_size=30),
        st.sampled_from(sorted(DIALECTS)),
    )
    def test_any_text_is_judged(self, text: str, product: str) -> None:
        try:
            self.check(of(product, read_only=True), f"select {text}")
        except Problem as problem:
            self.assertEqual(problem.code, "policy_denied")


class Import(SynchronousTestCase):
    def test_the_parser_is_loaded_by_the_first_check_that_needs_it(self) -> None:
        program = (
            "import sys\n"
            "from workato_agent.services.database.guard import Guard\n"
            "from workato_agent.services.database.settings import DatabasePolicy\n"
            "from workato_agent.services.database.statements import POSTGRESQL, bind\n"
            "import workato_agent.app\n"
            "s = bind('select 1', None, POSTGRESQL)\n"
            "of = lambda p: Guard.of(p, 'postgresql', POSTGRESQL)\n"
            "of(DatabasePolicy(read_only=True)).check_statement(s, 'query')\n"
            "guard = of(DatabasePolicy(tables=('a',)))\n"
            "print('sqlglot' in sys.modules)\n"
            "guard.check_statement(s, 'query')\n"
            "print('sqlglot' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.stdout.split(), ["False", "True"])
