"""What MySQL does in its own way: implicit commits, killing, packets, procedures, modes of SQL."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.database import typed
from tests.support.mysql_profile import MysqlTestCase
from workato_agent.services.database.adapters.base import Output, Params, Returned
from workato_agent.services.database.adapters.mysql import MysqlDriver
from workato_agent.services.database.parameters import Typed
from workato_agent.services.database.results import JsonWriter
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_agent.services.database.statements import MYSQL, Batch, TableName, bind
from workato_tunnel.problems import Problem

READ_ONLY = DatabasePolicy(read_only=True)


class Refusals(MysqlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.table("kept", "id int primary key, v varchar(20)")
        self.server.run("insert into kept values (1, 'a')")

    async def test_what_ends_or_escapes_a_transaction_is_refused(self) -> None:
        caller = self.caller()
        for sql in (
            "commit", "COMMIT AND CHAIN", "rollback", "begin", "start transaction", "savepoint x",
            "release savepoint x", "xa begin 'x'", "lock tables kept write", "unlock tables",
            "set autocommit = 0", "set session autocommit = 1", "set @@session.autocommit = 0",
            "set `autocommit` = 0", "set transaction read write", "set names latin1",
            "set sql_mode = 'ANSI_QUOTES'", "set @a = 1, sql_mode = ''", "set time_zone = '+01:00'",
            "set statement sql_mode = '' for select 1", "set character_set_results = latin1",
            "execute immediate 'commit'", "prepare x from 'commit'", "execute x",
            "begin not atomic commit; end", "if 1 then commit; end if", "x: loop commit; end loop",
            "case when 1 then commit; end case", "while 1 do commit; end while",
            "for i in (select 1) do commit; end for", "repeat commit; until 1 end repeat",
            "/*!commit*/", "/*!50000 commit */", "/*!99999 x */ commit", "/*M! commit */",
            "-- x\ncommit", "# x\ncommit", "handler kept open", "delimiter //", ";commit",
            "( commit )",
            "load data local infile '/etc/passwd' into table kept",
        ):  # fmt: skip
            for work in (caller.execute(sql), caller.query(sql)):
                problem = await self.problem(work, "policy_denied")
                self.assertEqual(problem.extra, {"rule": "transaction"}, sql)

    async def test_what_read_only_lets_through(self) -> None:
        caller = self.caller(READ_ONLY)
        for sql in (
            "select * from kept", "(select 1)", "with a as (select 1 as b) select * from a",
            "values (1), (2)", "show tables", "show create table kept", "describe kept",
            "explain select * from kept", "/* x */ select 1", "# x\nselect 1",
            "select 'into outfile', \"/*!\" as b, `v` from kept", "select @a := 1", "help 'select'",
        ):  # fmt: skip
            await caller.query(sql)
        answer = await caller.query("select v from kept where id = ?", [1])
        self.assertEqual(answer.rows, [["a"]])

    async def test_what_read_only_does_not(self) -> None:
        file = self.server.folder / "data" / "written"
        for sql in (
            "insert into kept values (2, 'b')", "replace into kept values (1, 'b')",
            "with a as (select 1) delete from kept", "delete from kept", "truncate kept",
            "drop table kept", "create table other (a int)", "create temporary table other (a int)",
            "set @a = 1", "set global max_connections = 1", "do release_lock('x')", "kill 1",
            f"select 1 into outfile '{file}'", f"select 1 into dumpfile '{file}'",
            f"select 1 /*!50000 into outfile '{file}' */", f"select 1 /*! into outfile '{file}' */",
            f"select 1 /*!99999 ' */ into outfile '{file}' -- '", "analyze table kept",
            f"select 1 into/**/outfile '{file}'", "use mysql", "flush tables",
            "optimize table kept", "analyze delete from kept", "update kept set v = 'b'", "commit",
            "grant all on *.* to x",
            "load data infile '/etc/passwd' into table kept", "reset master", "shutdown",
        ):  # fmt: skip
            caller = self.caller(READ_ONLY)
            for work in (caller.execute(sql), caller.query(sql)):
                await self.problem(work, "policy_denied")
        self.assertFalse(file.exists())
        self.assertEqual(self.server.run("select v from kept"), [("a",)])

    async def test_the_servers_own_transaction_stands_behind_the_words(self) -> None:
        self.server.run(
            "create or replace function sneaky() returns int begin"
            " insert into kept values (9, 'x'); return 1; end",
            "create or replace procedure sneaks() begin commit; insert into kept values (8, 'x');"
            " end",
        )
        self.addCleanup(self.server.run, "drop function sneaky", "drop procedure sneaks")
        caller = self.caller(READ_ONLY)
        problem = await self.problem(caller.query("select sneaky()"), "policy_denied")
        self.assertEqual(problem.extra, {"rule": "read_only"})
        driver = MysqlDriver.build(self.settings(), READ_ONLY).thd_open()
        self.addCleanup(driver.thd_close)
        driver.thd_begin(writing=False)
        with self.assertRaises(driver.errors) as caught:
            driver.thd_call(TableName(None, "sneaks"), None)
        self.assertEqual(driver.problem(caught.exception, None).code, "policy_denied")
        self.assertEqual(self.server.run("select count(*) from kept"), [(1,)])

    async def test_settings_of_the_server_do_not_change_how_statements_are_read(self) -> None:
        modes = self.server.run("select @@global.sql_mode")[0][0]
        self.server.run("set global sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,ORACLE'")
        self.addCleanup(self.server.run, f"set global sql_mode = '{modes}'")
        caller = self.caller(pool=PoolSettings(max=1))
        for _ in range(2):
            answer = await caller.query("select 'a\\'?' as a, \"?\" as b, ? as c", ["x\\'"])
            self.assertEqual(answer.rows, [["a'?", "?", "x\\'"]])
            answer = await caller.query("select @@sql_mode as m, @@time_zone as t")
            self.assertNotRegex(answer.rows[0][0], "ANSI|ORACLE|NO_BACKSLASH")
            self.assertEqual(answer.rows[0][1], "+00:00")

    async def test_parameters_in_comments_with_code(self) -> None:
        caller = self.caller()
        answer = await caller.query("select /*!40000 ? , */ ? as b", [1, 2])
        self.assertEqual(answer.rows, [[1, 2]])
        problem = await self.problem(
            caller.query("select /*!999999 ? , */ ? as b", [1, 2]), "bad_request"
        )
        self.assertIn("1 parameters", problem.detail)
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])


class Statements(MysqlTestCase):
    async def test_mysqls_own_statements(self) -> None:
        self.table("own", "id int auto_increment primary key, v varchar(20)")
        caller = self.caller()
        self.assertEqual(
            await caller.execute("insert into own (v) values (?), (?)", ["a", "b"]),
            {"row_count": 2},
        )
        # Rows that were found count, also when they had the value already.
        self.assertEqual(await caller.execute("update own set v = 'a'"), {"row_count": 2})
        self.assertEqual(await caller.execute("update own set v = 'a'"), {"row_count": 2})
        answer = await caller.query("show columns from own")
        self.assertEqual(len(answer.rows), 2)
        answer = await caller.query("insert into own (v) values ('c') returning id, v")
        self.assertEqual(answer.rows, [[3, "c"]])
        for sql in ("alter table own add w int", "truncate own", "create index i on own (v)"):
            await caller.execute(sql)
        self.assertEqual((await caller.query("select * from own")).rows, [])
        answer = await caller.query("select 6 % 4 as a, 7 div 2 as b, 1 || 0 as c, @x := 5 as d")
        self.assertEqual(answer.rows, [[2, 3, 1, 5]])
        await caller.execute("use mysql")
        self.assertEqual((await caller.query("select database() as d")).rows, [["app"]])

    async def test_errors_tell_where(self) -> None:
        caller = self.caller()
        problem = await self.problem(caller.query("select 1 as a,\n  2 frm x"), "query_failed")
        extra: Any = problem.extra
        self.assertEqual((extra["sqlstate"], extra["mysql_error"]), ("42000", 1064))
        self.assertEqual(extra["position"], 24)
        problem = await self.problem(caller.query("select ? frm frm x", [1]), "query_failed")
        self.assertEqual((problem.extra or {})["position"], 14)
        self.table("ruled", "id int primary key, n int not null, constraint positive check (n > 0)")
        await caller.execute("insert into ruled values (1, 1)")
        for sql, name in (
            ("insert into ruled values (1, 1)", "PRIMARY"),
            ("insert into ruled values (2, 0)", "positive"),
        ):
            problem = await self.problem(caller.execute(sql), "query_failed")
            self.assertEqual((problem.extra or {}).get("constraint"), name, problem.detail)

    async def test_statements_beyond_max_allowed_packet(self) -> None:
        limit = self.server.run("select @@max_allowed_packet")[0][0]
        self.server.run("set global max_allowed_packet = 2097152")
        self.addCleanup(self.server.run, f"set global max_allowed_packet = {limit}")
        caller = self.caller(pool=PoolSettings(max=1))
        problem = await self.problem(
            caller.query("select length(?) as a", ["x" * 2_100_000]), "payload_too_large"
        )
        self.assertIn("max_allowed_packet", problem.hint or "")
        answer = await caller.query("select length(?) as a", ["x" * 2_000_000])
        self.assertEqual(answer.rows, [[2_000_000]])

    async def test_a_deadlock_in_a_session_leaves_it_in_a_new_transaction(self) -> None:
        self.table("dead", "id int primary key, v int")
        self.server.run("insert into dead values (1, 0), (2, 0)")
        self.caller()
        session = await self.adapter.session()
        self.addCleanup(lambda: Deferred.fromCoroutine(session.close()))
        other = self.server.connect(autocommit=False)
        self.addCleanup(other.close)

        async def run(sql: str) -> None:
            await session.execute(bind(sql, None, MYSQL), Output(JsonWriter()))

        await run("update dead set v = 1 where id = 1")
        with other.cursor() as cursor:
            cursor.execute("update dead set v = 2 where id = 2")
            cursor.execute("insert into dead select seq + 10, 0 from seq_1_to_1000")
        waiting = Deferred.fromCoroutine(run("update dead set v = 1 where id = 2"))
        await self.pause(0.3)
        error: Problem | None = None
        with other.cursor() as cursor:
            cursor.execute("update dead set v = 2 where id = 1")
        try:
            await waiting
        except Problem as problem:
            error = problem
        self.assertIsNotNone(error)
        assert error is not None
        self.assertEqual((error.extra or {}).get("sqlstate"), "40001")
        other.rollback()
        await run("insert into dead values (5, 5)")
        await session.rollback()
        self.assertEqual(self.server.run("select v from dead where id in (1, 5)"), [(0,)])

    async def test_ddl_is_its_own_transaction(self) -> None:
        self.table("mine", "id int")
        self.caller()
        session = await self.adapter.session()
        self.addCleanup(lambda: Deferred.fromCoroutine(session.close()))

        async def run(sql: str) -> None:
            await session.execute(bind(sql, None, MYSQL), Output(JsonWriter()))

        await run("alter table mine add a int")
        await run("insert into mine values (1, 1)")
        problem = await self.problem(run("alter table mine add b int"), "policy_denied")
        self.assertEqual(problem.extra, {"rule": "transaction"})
        self.assertEqual(self.server.run("select count(*) from mine"), [(0,)])
        await run("create temporary table t (a int)")
        await session.rollback()
        self.assertEqual(self.server.run("select count(*) from mine"), [(0,)])
        await run("alter table mine add b int")
        await run("insert into mine values (1, 1, 1)")
        await session.commit()
        self.assertEqual(self.server.run("select count(*) from mine"), [(1,)])

    async def test_a_query_that_was_cut_short_is_stopped_on_the_server(self) -> None:
        caller = self.caller(pool=PoolSettings(max=1))
        before = (await caller.query("select connection_id() as c")).rows
        began = time.monotonic()
        answer = await caller.query(
            "select seq, repeat('x', 100) as x from seq_1_to_100000000", max_rows=2
        )
        self.assertEqual(len(answer.rows), 2)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual((await caller.query("select connection_id() as c")).rows, before)
        await self.stops_within(1)

    async def test_a_killed_connection_is_told_and_replaced(self) -> None:
        caller = self.caller(pool=PoolSettings(max=1))
        called = Deferred.fromCoroutine(caller.query("select sleep(50) as killed"))
        await self.pause(0.4)
        (number,) = self.server.run(
            "select id from information_schema.processlist where info like '%as killed%'"
            " and id <> connection_id()"
        )[0]
        self.server.run(f"kill query {number}")
        problem = await self.problem(called, "query_failed")
        self.assertIn("KILL", problem.hint or "")
        called = Deferred.fromCoroutine(caller.query("select sleep(50) as killed"))
        await self.pause(0.4)
        self.server.run(f"kill {number}")
        await self.problem(called, "target_unreachable")
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])


class Writing(MysqlTestCase):
    def driver(self) -> Any:
        driver: Any = MysqlDriver.build(self.settings(), DatabasePolicy()).thd_open()
        self.addCleanup(driver.thd_close)
        driver.thd_begin(writing=True)
        return driver

    def test_batches_of_inserts_go_in_statements_of_many_rows(self) -> None:
        self.table("b", "id int primary key, v varchar(20), w int default 7")
        driver = self.driver()

        def run(sql: str, rows: list[list[object]]) -> int:
            count: int = driver.thd_batch(Batch(bind(sql, rows[0], MYSQL), rows))
            return count

        def queries() -> int:
            rows = driver.thd_texts("show session status like 'Com_stmt_execute'")
            return int(rows[0][1])

        before = queries()
        rows: list[list[object]] = [[index, f"v{index}"] for index in range(5000)]
        self.assertEqual(run("insert into b (id, v) values (?, ?)", rows), 5000)
        self.assertLess(queries() - before, 20)
        changes: list[list[object]] = [[1, "a"], [2, "b"], [6000, "c"]]
        upsert = (
            "insert into b (id, v) values (?, concat(?, ')')) on duplicate key update v = values(v)"
        )
        self.assertEqual(run(upsert, changes), 5)
        self.assertEqual(run("update b set v = ? where id = ?", [["x", 1], ["y", 9999]]), 1)
        self.assertEqual(run("insert into b (id, v) select ?, ?", [[7000, "s"]]), 1)
        self.assertEqual(run("insert into b values (?, 'q', 1), (?, 'r', 2)", [[8000, 8001]]), 2)
        self.assertEqual(run("delete from b where id = ? returning id", [[8000], [8001], [1]]), 3)
        self.assertEqual(run("replace into b values (?, ?, ?)", [[2, None, None]]), 2)
        with self.assertRaises(driver.errors):
            run("insert into b (id, v) values (?, ?)", [[9000, "x"], [9001, "y"], [2, "twice"]])
        self.assertEqual(driver.thd_texts("select count(*) from b where id >= 9000")[0], ["0"])
        self.assertEqual(driver.thd_texts("select v from b where id = 6000")[0], ["c)"])
        with self.assertRaises(Problem) as caught:
            run("insert into b (id, v) values (?, ?)", [[9000, "x"], [9001, [1]]])
        self.assertEqual((caught.exception.extra or {})["field"], "params[1][1]")
        driver.thd_commit()

    def test_wide_and_large_rows(self) -> None:
        names = [f"c{index}" for index in range(500)]
        self.table("wide", ", ".join(f"{name} int" for name in names))
        driver = self.driver()
        rows: list[list[object]] = [[row for _ in names] for row in range(300)]
        marks = ", ".join("?" for _ in names)
        sql = f"insert into wide values ({marks})"
        self.assertEqual(driver.thd_batch(Batch(bind(sql, rows[0], MYSQL), rows)), 300)
        self.table("heavy", "id int, b longblob")
        heavy: list[list[object]] = [[row, bytes(3_000_000)] for row in range(7)]
        sql = "insert into heavy values (?, ?)"
        self.assertEqual(driver.thd_batch(Batch(bind(sql, heavy[0], MYSQL), heavy)), 7)
        driver.thd_commit()

    def test_a_load_takes_what_results_show(self) -> None:
        self.table(
            "l",
            "id int primary key, f boolean, b varbinary(9), t timestamp(6) null, d datetime,"
            " j json, n decimal(20, 10), x bit(8), e varchar(5)",
        )
        driver = self.driver()
        names = ["id", "F", "b", "t", "d", "j", "n", "x", "e"]
        rows = [
            ["1", "true", "AP8=", "2024-02-29T13:45:00.5+01:00", "2024-02-29T13:45:00", '{"a": 1}',
             "1.5", "5", ""],
            [2, False, b"\0", "2024-02-29 13:45:00", None, [1, 2], Typed("decimal", "2"), 6, None],
        ]  # fmt: skip
        table = TableName(None, "l")
        self.assertEqual(driver.thd_load(table, names, iter([rows]), "error", ()), 2)
        driver.thd_commit()
        self.assertEqual(
            driver.thd_texts("select * from l order by id"),
            [
                ["1", "True", "AP8=", "2024-02-29T12:45:00.500000+00:00", "2024-02-29T13:45:00",
                 '{"a": 1}', "1.5000000000", "5", ""],
                ["2", "False", "AA==", "2024-02-29T13:45:00.000000+00:00", None, "[1,2]",
                 "2.0000000000", "6", None],
            ],
        )  # fmt: skip

    def test_a_load_in_a_lenient_mode_still_refuses_what_does_not_fit(self) -> None:
        modes = self.server.run("select @@global.sql_mode")[0][0]
        self.server.run("set global sql_mode = ''")
        self.addCleanup(self.server.run, f"set global sql_mode = '{modes}'")
        self.table("strict", "id tinyint, v varchar(3)")
        driver = self.driver()
        for row in (["300", "a"], ["x", "a"], ["1", "long"]):
            with self.assertRaises(driver.errors):
                driver.thd_load(TableName(None, "strict"), ["id", "v"], iter([[row]]), "error", ())
        driver.thd_load(TableName(None, "strict"), ["id", "v"], iter([[["1", "a"]]]), "error", ())
        self.assertEqual(driver.thd_texts("select @@sql_mode"), [[""]])
        self.assertEqual(driver.thd_texts("select count(*) from strict"), [["1"]])

    def test_conflicts_of_a_load(self) -> None:
        self.table("c", "id int, code varchar(9), v int, primary key (id), unique key u (code)")
        driver = self.driver()

        def load(rows: list[list[object]], conflict: str, *keys: str) -> int:
            count: int = driver.thd_load(
                TableName("app", "c"), ["id", "code", "v"], iter([rows]), conflict, keys
            )
            return count

        self.assertEqual(load([[1, "a", 1], [2, "b", 2]], "error"), 2)
        self.assertEqual(load([[1, "a", 9], [3, "c", 3], [4, "b", 9]], "ignore"), 1)
        self.assertEqual(load([[1, "a", 1]], "ignore", "ID"), 0)
        self.assertEqual(load([[1, "a", 5], [4, "d", 4]], "update"), 2)
        self.assertEqual(load([[9, "d", 6]], "update", "code"), 1)
        with self.assertRaises(Problem) as caught:
            load([[1, "a", 1]], "update", "v")
        self.assertEqual((caught.exception.extra or {})["field"], "keys")
        with self.assertRaises(Problem) as caught:
            load([[1, "a", 1], [5, "x", [1]]], "error")
        self.assertIn("row 2, column v", caught.exception.detail)
        self.assertEqual(
            driver.thd_texts("select * from c order by id"),
            [["1", "a", "5"], ["2", "b", "2"], ["3", "c", "3"], ["9", "d", "6"]],
        )


class Procedures(MysqlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.run(
            "create or replace procedure everything(in a int, out b decimal(10, 2),"
            " inout c varchar(20), out d date, out e boolean, out f varbinary(4),"
            " out g datetime(3), out h json)"
            " begin set b = a + 0.5, c = concat(c, '!'), d = '2024-02-29', e = a > 1,"
            " f = x'00ff', g = '2024-02-29 13:45:00.125', h = '{\"x\": 1}'; select a as first, c as"
            " second; select seq from seq_1_to_5000; end",
            "create or replace procedure quiet(a int) begin set @quiet = a; end",
            "create or replace procedure broken() begin select 1 as a; select * from nowhere; end",
            "create or replace function doubled(n bigint) returns bigint return n * 2",
        )
        self.addCleanup(
            self.server.run, "drop procedure everything", "drop procedure quiet",
            "drop procedure broken", "drop function doubled",
        )  # fmt: skip
        self.caller(pool=PoolSettings(max=1))

    async def call(self, name: str, params: Params | None) -> Returned:
        schema, _, bare = name.rpartition(".")
        return await self.adapter.call(
            TableName(schema or None, bare), params, lambda: Output(JsonWriter(), max_rows=100)
        )

    async def test_out_parameters_have_their_types(self) -> None:
        for params in (
            [7, "x"], [7, None, "x", None, None, None, None, None], {"a": 7, "c": "x"},
            {"A": 7, "c": "x", "b": None},
        ):  # fmt: skip
            returned = await self.call("everything", params)  # type: ignore[arg-type]
            self.assertEqual(
                returned.out,
                {
                    "b": "7.50", "c": "x!", "d": "2024-02-29", "e": True, "f": "AP8=",
                    "g": "2024-02-29T13:45:00.125", "h": '{"x": 1}',
                },
            )  # fmt: skip
            self.assertEqual([each.row_count for each in returned.result_sets], [1, 100])
            self.assertEqual([each.truncated for each in returned.result_sets], [False, True])

    async def test_functions_and_procedures_without_results(self) -> None:
        self.assertEqual((await self.call("doubled", [21])).out, {"return": 42})
        self.assertEqual((await self.call("app.doubled", {"n": 2**40})).out, {"return": 2**41})
        returned = await self.call("quiet", [1])
        self.assertEqual((dict(returned.out), list(returned.result_sets)), ({}, []))

    async def test_calls_that_do_not_fit(self) -> None:
        problem = await self.problem(self.call("everything", [1]), "bad_request")
        self.assertIn("OUT b", problem.hint or "")
        await self.problem(self.call("everything", {"a": 1}), "bad_request")
        await self.problem(self.call("everything", {"a": 1, "c": "", "z": 1}), "bad_request")
        await self.problem(self.call("nothing", []), "operation_not_found")
        await self.problem(self.call("x`; drop table y", []), "operation_not_found")
        await self.problem(self.call("broken", []), "query_failed")
        self.assertEqual((await self.call("doubled", [1])).out, {"return": 2})

    async def test_a_statement_may_call(self) -> None:
        caller = self.caller()
        answer = await caller.query("call everything(1, @b, @c, @d, @e, @f, @g, @h)")
        self.assertEqual(answer.rows, [[1, None]])
        await caller.execute("call quiet(?)", [typed("integer", 5)])
