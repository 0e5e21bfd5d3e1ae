"""Ways around a policy, tried on a real PostgreSQL as an ordinary user and as a superuser."""

from __future__ import annotations

from typing import Any, Final

import psycopg2
from twisted.internet.defer import Deferred

from tests.support.database import Caller, request
from tests.support.postgresql_profile import PostgresqlTestCase
from tests.support.statements import SAMPLE_COLUMNS, SAMPLE_TABLES, TABLES, allowed, spliced
from workato_agent.services.database.guard import Guard
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import POSTGRESQL, bind
from workato_tunnel.problems import Problem

DATABASE: Final = "bypasses"
SECRET: Final = "the secret"

WRITES: Final = (
    "insert into sales.orders (id) values (99)",
    "with a as (insert into sales.orders (id) values (99) returning id) select * from a",
    "with a as (select 1) insert into sales.orders (id) values (99)",
    "explain analyze insert into sales.orders (id) values (99)",
    "explain (analyze) insert into sales.orders (id) values (99)",
    "select 1; insert into sales.orders (id) values (99)",
    "select 1;\n-- x\ninsert into sales.orders (id) values (99)",
    "commit; insert into sales.orders (id) values (99)",
    "select * into sales.taken from sales.orders",
    "create table sales.taken (a int)",
    "create temp table taken (a int)",
    "set transaction_read_only = off",
    "set local transaction_read_only = off",
    "set transaction read write",
    "set session characteristics as transaction read write",
    "reset transaction_read_only",
    "select set_config('transaction_read_only', 'off', true)",
    "select set_config('default_transaction_read_only', 'off', false)",
    "do $$ begin insert into sales.orders (id) values (99); end $$",
    "do $$ begin set transaction_read_only = off; end $$",
    "select lo_create(4711)",
    'select "lo_create"(4711)',
    "select pg_catalog.lo_create(4711)",
    'select pg_catalog."lo_create" /* x */ (4711)',
    'select U&"lo\\005fcreate"(4711)',
    "select (4711::oid).lo_create",
    "select g.lo_create from generate_series(4711, 4711) as g",
    "select lo_from_bytea(4711, 'x')",
    "select lo_import('/etc/hostname', 4711)",
    "select query_to_xml('select lo_create(4711)', true, true, '')",
    "select * from sales.orders where id in (select lo_create(4711)::int)",
    "select case when true then lo_create(4711) end",
    "select pg_notify('a', 'b')",
    "select pg_advisory_lock(4711)",
    "select pg_advisory_xact_lock(4711)",
    "select ('4711'::bigint).pg_advisory_lock",
    "select pg_terminate_backend(pid) from pg_stat_activity",
    "select pg_reload_conf()",
    "select pg_read_file('/etc/hostname')",
    "select ('/etc/hostname'::text).pg_read_file",
    "select pg_ls_dir('/')",
    "select nextval('sales.numbers')",
    "select setval('sales.numbers', 4711)",
    "select * from sales.orders for update",
    "select * from sales.orders for share",
    "lock table sales.orders in access exclusive mode",
    "copy sales.orders to '/tmp/onprem-taken'",
    "copy (select 1) to program 'touch /tmp/onprem-taken'",
    "copy sales.orders from program 'echo 99'",
    "prepare taken as insert into sales.orders (id) values (99)",
    "execute taken",
    "listen taken",
    "declare c cursor with hold for select 1",
    "alter role current_user set default_transaction_read_only = off",
    "alter system set log_statement = 'all'",
    "create function sales.taken() returns int language sql as 'select 1'",
    "vacuum",
    "analyze",
    "truncate sales.orders",
    "refresh materialized view x",
    "comment on table sales.orders is 'taken'",
    "grant all on sales.orders to public",
    "call sales.add()",
    "load 'x'",
    "discard all",
)
REACHES: Final = (
    "select text from secret",
    "select text from public.secret",
    'select "text" from "public"."secret"',
    "select text from only secret",
    "table secret",
    "select * from (table secret) x",
    "with orders as (select * from secret) select * from orders",
    "with secret as (select * from secret) select * from secret",
    "select (select text from secret) from sales.orders",
    "select query_to_xml('select * from secret', true, true, '')",
    "select table_to_xml('secret', true, true, '')",
    "select secret::text from secret",
    "select sales.leak()",
    "select leak from sales.leak() as leak",
    "select g.leak from generate_series(1, 1) as g",
    "select (1).leak",
    'select U&"text" from U&"\\0073ecret"',
    "select * from json_populate_record(null::secret, '{}'), secret",
    "select ts_stat('select to_tsvector(text) from secret')",
    "select set_config('search_path', 'hr', true) from orders",
    "set search_path = hr",
    "select 1 /* /* */ union select text from secret -- */ */",
    "select $$ ' $$, text from secret -- '",
    "select E'\\' from secret -- ', text from secret",
    "explain select * from secret",
    "copy secret to stdout",
    "insert into sales.orders (text) select text from secret",
    "insert into sales.orders (text) values ((select text from secret))",
    "update sales.orders set text = (select text from secret) returning text",
    "update sales.orders set text = secret.text from secret returning sales.orders.text",
    "delete from sales.orders using secret where secret.id = 1",
    "with a as (delete from secret returning text) select * from a",
    "merge into sales.orders o using secret s on o.id = s.id when matched then update set x = 1",
    "select * from sales.orders where text = any (array(select text from secret))",
    "select sum(1) filter (where exists (select 1 from secret)) from sales.orders",
    "select * from information_schema.tables",
    "select * from pg_catalog.pg_authid",
    "select * from pg_authid",
    "select * from postgres.public.secret",
    "do $$ begin perform 1 from secret; end $$",
)
_STATE: Final = """
    select (select md5(string_agg(o::text, ',' order by id)) from sales.orders o),
        (select count(*) from pg_class), (select count(*) from pg_proc),
        (select count(*) from pg_largeobject_metadata), (select last_value from sales.numbers),
        (select md5(string_agg(coalesce(relacl::text, ''), ',' order by oid)) from pg_class),
        (select count(*) from pg_db_role_setting), (select count(*) from pg_description),
        (select text from secret), (select count(*) from pg_locks where locktype = 'advisory')
"""


class BypassTestCase(PostgresqlTestCase):
    """A database of its own, with a table that callers must not see."""

    def setUp(self) -> None:
        super().setUp()
        self.server.run(f"drop database if exists {DATABASE} with (force)")
        self.server.run(f"create database {DATABASE}")
        self.addCleanup(self.server.run, f"drop database {DATABASE} with (force)")
        run = self.run_there
        run("create schema sales; create schema hr; create sequence sales.numbers")
        for table in SAMPLE_TABLES:
            run(f"create table {table} ({SAMPLE_COLUMNS}, text text)")
        run("create table hr.orders (text text)")
        run(f"insert into secret (id, text) values (1, '{SECRET}')")
        run("insert into sales.orders (id, text) values (1, 'x'), (2, 'y')")
        run(
            "create function sales.leak() returns text language sql as 'select text from secret';"
            "create function leak(int) returns text language sql as 'select text from secret';"
            "create procedure sales.add() language sql as 'insert into sales.orders values (99)'"
        )
        run(
            "do $$ begin create role ordinary login password 'x';"
            " exception when duplicate_object then null; end $$"
        )
        run(
            "grant usage, create on schema sales, public, hr to ordinary;"
            "grant all on all tables in schema sales, public, hr to ordinary;"
            "grant all on all sequences in schema sales to ordinary"
        )
        self.addCleanup(self.run_there, "drop owned by ordinary")

    def run_there(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.run(sql, DATABASE)

    def callers(self, **policy: Any) -> list[Caller]:
        """Services of an ordinary user and of a superuser."""
        rules = DatabasePolicy(**policy)
        return [
            self.caller(rules, database=DATABASE, user="ordinary", password="x"),
            self.caller(rules, database=DATABASE),
        ]

    async def refuse(self, work: Any, rule: str, sql: str) -> None:
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, "policy_denied", f"{sql}: {problem}")
            self.assertEqual(problem.extra["rule"], rule, sql)
        else:
            raise self.failureException(f"passed: {sql}")


class ReadOnly(BypassTestCase):
    def test_nothing_is_changed_by_any_call(self) -> Deferred[None]:
        async def work() -> None:
            before = self.run_there(_STATE)
            for caller in self.callers(read_only=True):
                for sql in WRITES:
                    await self.refuse(caller.query(sql), "read_only", sql)
                    await self.refuse(caller.execute(sql), "read_only", sql)
                    body = {"sql": sql, "params": [[], []]}
                    await self.refuse(caller.call("batch", body), "read_only", sql)
                for name in ("lo_create", "pg_catalog.set_config", "pg_terminate_backend"):
                    body = {"params": ["transaction_read_only"]}
                    await self.refuse(caller.call(f"call/{name}", body), "read_only", name)
                await self.refuse(
                    caller.call("load/sales.orders", b"id\n99\n"), "read_only", "load"
                )
            self.assertEqual(self.run_there(_STATE), before)

        return Deferred.fromCoroutine(work())

    def test_a_session_stays_read_only(self) -> Deferred[None]:
        async def work() -> None:
            before = self.run_there(_STATE)
            for caller in self.callers(read_only=True):
                session = (await caller.call("sessions", None)).json["session"]
                for sql in WRITES:
                    for operation in ("query", "execute"):
                        path = f"sessions/{session}/{operation}"
                        await self.refuse(caller.call(path, {"sql": sql}), "read_only", sql)
                answer = await caller.call(
                    f"sessions/{session}/query", {"sql": "show transaction_read_only"}
                )
                self.assertEqual(answer.rows, [["on"]])
                await caller.call(f"sessions/{session}/commit", None)
                answer = await caller.call(
                    f"sessions/{session}/query", {"sql": "show transaction_read_only"}
                )
                self.assertEqual(answer.rows, [["on"]])
                await caller.service.handle(request("DELETE", f"sessions/{session}"))
            self.assertEqual(self.run_there(_STATE), before)

        return Deferred.fromCoroutine(work())

    def test_a_procedure_that_writes_is_held_by_the_transaction(self) -> Deferred[None]:
        async def work() -> None:
            for caller in self.callers(read_only=True):
                await self.problem(caller.call("call/sales.add", {}), "policy_denied")
            self.assertEqual(self.run_there("select count(*) from sales.orders"), [(2,)])

        return Deferred.fromCoroutine(work())


class Tables(BypassTestCase):
    def test_the_secret_stays_one(self) -> Deferred[None]:
        async def work() -> None:
            before = self.run_there(_STATE)
            for caller in self.callers(tables=("sales.*", "orders")):
                for sql in REACHES:
                    await self.refuse(caller.query(sql), "tables", sql)
                    await self.refuse(caller.execute(sql), "tables", sql)
                await self.refuse(caller.call("call/sales.leak", {}), "tables", "call")
                await self.refuse(caller.call("load/secret", b"id\n9\n"), "tables", "load")
                for name in ("secret", "public.secret", "pg_catalog.pg_authid"):
                    shape = caller.service.handle(request("GET", f"schema/{name}"))
                    await self.refuse(shape, "tables", name)
                listed = await caller.service.handle(request("GET", "schema"))
                self.assertNotIn(b"secret", listed.body)  # type: ignore[arg-type]
                self.assertIn(b"parts", listed.body)  # type: ignore[arg-type]
                answer = await caller.query("select id from sales.orders order by id")
                self.assertEqual(answer.rows, [[1], [2]])
            self.assertEqual(self.run_there(_STATE), before)

        return Deferred.fromCoroutine(work())

    def test_what_analysts_write_runs(self) -> Deferred[None]:
        async def work() -> None:
            caller = self.callers(tables=TABLES)[1]
            ran = 0
            for sql in allowed("postgresql"):
                try:
                    await caller.execute(sql)
                    ran += 1
                except Problem as problem:
                    self.assertEqual(problem.code, "query_failed", sql)
            self.assertGreater(ran, 50)

        return Deferred.fromCoroutine(work())

    def test_spliced_statements_that_pass_touch_only_what_is_listed(self) -> None:
        """The server itself tells, to a user without a right to anything else."""
        guard = Guard.of(DatabasePolicy(tables=TABLES), "postgresql", POSTGRESQL)
        self.run_there(
            "revoke all on secret, hr.orders from ordinary;"
            "revoke execute on function leak(int), sales.leak() from public"
        )
        connection = self.server.connect(DATABASE, user="ordinary", password="x", autocommit=False)
        self.addCleanup(connection.close)
        valid = 0
        with connection.cursor() as cursor:
            for sql in spliced("postgresql", seed=5, count=6000):
                try:
                    guard.check_statement(bind(sql, None, POSTGRESQL), "query")
                except Problem:
                    continue
                try:
                    cursor.execute(f"explain {sql}")
                    valid += 1
                except psycopg2.Error as error:
                    self.assertNotEqual(error.pgcode, "42501", sql)
                finally:
                    connection.rollback()
        self.assertGreater(valid, 5)


class Adhoc(BypassTestCase):
    def test_a_session_is_no_way_around_it(self) -> Deferred[None]:
        async def work() -> None:
            caller = self.callers(adhoc=False)[0]
            session = (await caller.call("sessions", None)).json["session"]
            for path in ("query", "execute", f"sessions/{session}/query"):
                await self.refuse(caller.call(path, {"sql": "select 1"}), "adhoc", path)
            body = {"sql": "select 1", "params": [[]]}
            for path in ("batch", f"sessions/{session}/batch"):
                await self.refuse(caller.call(path, body), "adhoc", path)

        return Deferred.fromCoroutine(work())
