"""Ways around a policy, tried on a real MariaDB as a user who may do everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pymysql
from twisted.internet.defer import Deferred

from tests.support.database import request
from tests.support.mysql_profile import MysqlTestCase
from tests.support.statements import SAMPLE_COLUMNS, SAMPLE_TABLES, TABLES, spliced
from workato_agent.services.database.guard import Guard
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import MYSQL, bind
from workato_tunnel.problems import Problem

DATABASE: Final = "bypasses"
TAKEN: Final = "/tmp/onprem-taken-by-mysql"

WRITES: Final = (
    "insert into sales.orders (id) values (99)",
    "replace into sales.orders (id) values (99)",
    "replace sales.orders (id) values (99)",
    "update sales.orders set x = 99",
    "delete from sales.orders",
    "select 1; delete from sales.orders",
    "with a as (select 1) delete from sales.orders",
    "(select 1) union (select 2); truncate sales.orders",
    "truncate sales.orders",
    "create table sales.taken (a int)",
    "create temporary table sales.taken (a int)",
    "create table sales.taken as select 1",
    "alter table sales.orders add taken int",
    "drop table sales.orders",
    "rename table sales.orders to sales.taken",
    "analyze table sales.orders",
    "analyze delete from sales.orders",
    "analyze format=json delete from sales.orders",
    "explain delete from sales.orders",
    "optimize table sales.orders",
    "commit",
    "begin",
    "start transaction read write",
    "set transaction read write",
    "set session transaction read write",
    "set autocommit = 1",
    "set global max_connections = 99",
    "set @@session.tx_read_only = 0",
    "set statement tx_read_only = 0 for delete from sales.orders",
    "set password = password('x')",
    f"select * from sales.orders into outfile '{TAKEN}'",
    f"select * into outfile '{TAKEN}' from sales.orders",
    f"select 1 into dumpfile '{TAKEN}'",
    f"select 1 /*! into outfile '{TAKEN}' */",
    f"select 1 /*!50000 into outfile '{TAKEN}' */",
    f"select 1 /*M! into outfile '{TAKEN}' */",
    f"select 1 /*M!100000into outfile '{TAKEN}' */",
    f"select 1 /*!99999 */ into outfile '{TAKEN}'",
    f"select '\\\\' into outfile '{TAKEN}' -- '",
    f"select '\\' into outfile \"{TAKEN}\" -- '",
    f'select "\\" into outfile \'{TAKEN}\' -- "',
    "select 1 into @taken",
    "select load_file('/etc/hostname')",
    "select `load_file`('/etc/hostname')",
    "load data infile '/etc/hostname' into table sales.orders",
    "load data local infile '/etc/hostname' into table sales.orders",
    "handler sales.orders open",
    "do get_lock('taken', 1)",
    "select get_lock('taken', 0)",
    "select release_all_locks()",
    "select next value for sales.numbers",
    "select nextval(sales.numbers)",
    "select setval(sales.numbers, 99)",
    "select * from sales.orders for update",
    "select * from sales.orders lock in share mode",
    "lock tables sales.orders write",
    "flush tables",
    "reset query cache",
    "kill 1",
    "call sales.add_row()",
    "grant all on *.* to nobody",
    "create user taken",
    "create or replace view sales.taken as select 1",
    "create function sales.taken() returns int return 1",
    "prepare taken from 'delete from sales.orders'",
    "execute immediate 'delete from sales.orders'",
    "begin not atomic delete from sales.orders; end",
    "if 1 then delete from sales.orders; end if",
    "xa start 'taken'",
    "install soname 'x'",
    "shutdown",
    "use mysql",
    "binlog 'x'",
    "backup stage start",
)
REACHES: Final = (
    "select name from secret",
    "select name from `secret`",
    f"select name from {DATABASE}.secret",
    f"select name from `{DATABASE}` . `secret`",
    'select name from "secret"',
    "table secret",
    "select * from (table secret) x",
    "select 1 /*! union select name from secret */",
    "select 1 /*!50000 union select name from secret */",
    "select 1 /*M! union select name from secret */",
    "select 1 --1 union select name from secret",
    "select 1 # x\n union select name from secret",
    "select '\\' union select name from secret -- '",
    "select 1.e union select name from secret",
    "with secret as (select name from secret) select * from secret",
    "with SECRET as (select 1 as name) select name from secret",
    "with recursive a as (select 1 as n union select name from b), b as (select 1) select * from a",
    "select (select name from secret) from sales.orders",
    "select sales.leak()",
    "insert into sales.orders (name) select name from secret",
    "insert into sales.orders values (1) on duplicate key update x = (select x from secret)",
    "update sales.orders o, secret s set o.name = s.name",
    "update sales.orders o join secret s on true set o.name = s.name",
    "delete o from sales.orders o join secret s on s.id = o.id",
    "delete secret from sales.orders join secret",
    "select * from information_schema.tables",
    "select * from INFORMATION_SCHEMA.tables",
    "select * from mysql.user",
    "show create table secret",
    "describe secret",
    "explain select * from secret",
    "handler secret open",
    "select * from secret partition (p0)",
    "select * from sales.orders natural join secret",
    "select * from (sales.orders, secret)",
    "select * from { oj sales.orders left join secret on true }",
    "do (select name from secret)",
    "set @x = (select name from secret)",
    "select @x := name from secret",
    "use mysql",
)


class BypassTestCase(MysqlTestCase):
    """Databases of its own, with a table that callers must not see."""

    def setUp(self) -> None:
        super().setUp()
        names = ("sales", DATABASE)
        self.server.run(*(f"create or replace database {name}" for name in names))
        self.addCleanup(self.server.run, *(f"drop database if exists {name}" for name in names))
        self.addCleanup(Path(TAKEN).unlink, missing_ok=True)
        for table in SAMPLE_TABLES:
            full = table if "." in table else f"{DATABASE}.{table}"
            self.server.run(f"create table {full} ({SAMPLE_COLUMNS})")
        self.server.run(
            f"insert into {DATABASE}.secret (id, name) values (1, 'the secret')",
            "insert into sales.orders (id, name) values (1, 'x'), (2, 'y')",
            "create sequence sales.numbers",
            "create procedure sales.add_row() begin commit;"
            " start transaction read write; insert into sales.orders (id) values (99); end",
            "create function sales.leak() returns text reads sql data"
            f" return (select name from {DATABASE}.secret)",
        )

    def state(self) -> list[object]:
        return [Path(TAKEN).exists()] + [
            self.server.run(sql)
            for sql in (
                "select * from sales.orders order by id",
                f"select id, name from {DATABASE}.secret",
                "select table_schema, table_name from information_schema.tables order by 1, 2",
                "select routine_name from information_schema.routines order by 1",
                "select user, host from mysql.user order by 1, 2",
                "select next_not_cached_value from sales.numbers",
                "select @@global.max_connections",
            )
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
            before = self.state()
            caller = self.caller(DatabasePolicy(read_only=True), database=DATABASE)
            session = (await caller.call("sessions", None)).json["session"]
            for sql in WRITES:
                await self.refuse(caller.query(sql), "read_only", sql)
                await self.refuse(caller.execute(sql), "read_only", sql)
                body = {"sql": sql, "params": [[], []]}
                await self.refuse(caller.call("batch", body), "read_only", sql)
                path = f"sessions/{session}/query"
                await self.refuse(caller.call(path, {"sql": sql}), "read_only", sql)
            await self.refuse(caller.call("call/sales.add_row", {}), "read_only", "call")
            await self.refuse(caller.call("load/sales.orders", b"id\n99\n"), "read_only", "load")
            self.assertEqual((await caller.query("select 1")).rows, [[1]])
            self.assertEqual(self.state(), before)

        return Deferred.fromCoroutine(work())


class Tables(BypassTestCase):
    def test_the_secret_stays_one(self) -> Deferred[None]:
        async def work() -> None:
            before = self.state()
            caller = self.caller(DatabasePolicy(tables=TABLES), database=DATABASE)
            for sql in REACHES:
                await self.refuse(caller.query(sql), "tables", sql)
                await self.refuse(caller.execute(sql), "tables", sql)
            await self.refuse(caller.call("load/secret", b"id\n9\n"), "tables", "load")
            shape = caller.service.handle(request("GET", "schema/secret"))
            await self.refuse(shape, "tables", "schema")
            answer = await caller.query("select name from sales.orders order by id")
            self.assertEqual(answer.rows, [["x"], ["y"]])
            self.assertEqual(self.state(), before)

        return Deferred.fromCoroutine(work())

    def test_spliced_statements_that_pass_touch_only_what_is_listed(self) -> None:
        """The server itself tells, to a user without a right to anything else."""
        guard = Guard.of(DatabasePolicy(tables=TABLES), "mysql", MYSQL)
        self.server.run(
            "create or replace user bypasser identified by 'x'",
            "grant all on sales.* to bypasser",
            f"grant all on {DATABASE}.products to bypasser",
        )
        self.addCleanup(self.server.run, "drop user bypasser")
        connection = self.server.connect(user="bypasser", password="x", database=DATABASE)
        self.addCleanup(connection.close)
        valid = 0
        with connection.cursor() as cursor:
            for sql in spliced("mysql", seed=5, count=6000):
                try:
                    guard.check_statement(bind(sql, None, MYSQL), "query")
                except Problem:
                    continue
                try:
                    cursor.execute(f"explain {sql}")
                    cursor.fetchall()
                    valid += 1
                except pymysql.Error as error:
                    self.assertNotIn(error.args[0], (1044, 1142, 1143, 1370), sql)
        self.assertGreater(valid, 5)
