"""What the Oracle adapter asks of its driver: there is no Oracle to test with."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import oracledb
from twisted.trial.unittest import SynchronousTestCase

from tests.support.oracle import FakeConnection, Info, Result, number, refusal
from workato_agent.services.database.adapters.oracle_connection import OracleConnection
from workato_agent.services.database.parameters import Typed
from workato_agent.services.database.statements import (
    ORACLE,
    Batch,
    Statement,
    TableName,
    bind,
    outline,
)
from workato_tunnel.problems import Problem

_ONE = Result([number("N", 1, 0)], [[Decimal(1)]])


class OracleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.fake = FakeConnection()
        self.connection = OracleConnection(self.fake, oracledb, (oracledb.Error,))

    def run_sql(self, sql: str, params: Any = None) -> Any:
        return self.connection.thd_run(bind(sql, params, ORACLE))

    def problem(self, code: str, function: Any, *args: Any) -> Problem:
        problem = self.assertRaises(Problem, function, *args)
        self.assertEqual(problem.code, code, problem.detail)
        return problem


class Statements(OracleCase):
    def test_parameters_of_both_styles(self) -> None:
        self.run_sql("select ? , q'[it's ?]' from dual where a=?and b = '?' -- ?", [1, "x"])
        self.assertEqual(
            self.fake.log[-1],
            ("select :p1  , q'[it's ?]' from dual where a=:p2 and b = '?'", [1, "x"]),
        )
        self.run_sql("select :a, :b, :a, ':a', x := 1 from dual", {"a": 1, "b": None})
        self.assertEqual(
            self.fake.log[-1],
            ("select :p1 , :p2 , :p3 , ':a', x := 1 from dual", [1, None, 1]),
        )

    def test_typed_values_are_wrapped_and_sized(self) -> None:
        self.run_sql(
            "insert into t values (?, ?)", [Typed("date", "2024-02-29"), Typed("float", "1.5")]
        )
        sql, binds = self.fake.log[-1]
        self.assertEqual(sql, "insert into t values (TO_DATE(:p1 , 'YYYY-MM-DD'), :p2 )")
        self.assertEqual(binds, ["2024-02-29", 1.5])
        self.assertEqual(self.fake.cursors[-1].sizes, (None, oracledb.DB_TYPE_BINARY_DOUBLE))

    def test_a_query_loses_its_semicolon_and_a_block_keeps_it(self) -> None:
        self.fake.on("select", _ONE)
        self.run_sql("select 1 from dual; -- x\n")
        self.assertEqual(self.fake.log[-1][0], "select 1 from dual")
        block = "begin null; null; end;"
        self.run_sql(block)
        self.assertEqual(self.fake.log[-1][0], block)
        unit = "create or replace procedure p as begin null; end;"
        self.run_sql(unit)
        self.assertEqual(self.fake.log[-1][0], unit)

    def test_rows_and_changes(self) -> None:
        self.fake.on("select", _ONE)
        cursor = self.run_sql("select 1 as n from dual")
        self.assertEqual([column.name for column in cursor.columns], ["N"])
        self.assertEqual(cursor.convert(cursor.thd_read(10, 1000), "json"), [(1,)])
        self.assertEqual(cursor.thd_read(10, 1000), [])
        self.fake.on("update", Result(changed=3))
        cursor = self.run_sql("update t set a = 1")
        self.assertEqual((cursor.columns, cursor.changed), ((), 3))

    def test_the_transaction_is_the_agents_own(self) -> None:
        for sql in ("commit", "rollback", "savepoint x", "set transaction read only", "Commit;"):
            self.assertEqual(
                self.problem("policy_denied", self.run_sql, sql).extra["rule"], "transaction"
            )
        self.problem("query_failed", self.run_sql, "select 1 from dual; delete from t")
        self.assertEqual(self.fake.log, [])

    def test_a_failed_statement_frees_its_cursor(self) -> None:
        self.fake.on("nope", Result(error=refusal("ORA-00942", "table or view does not exist")))
        self.assertRaises(oracledb.DatabaseError, self.run_sql, "select * from nope")
        self.assertTrue(self.fake.cursors[-1].closed)

    def test_errors_have_code_and_position(self) -> None:
        error = refusal("ORA-00904", '"X": invalid identifier', offset=10)
        self.fake.on("select", Result(error=error))
        statement = bind("select ?, x from dual", [1], ORACLE)
        self.assertRaises(oracledb.DatabaseError, self.connection.thd_run, statement)
        problem = self.connection.problem(error, statement)
        self.assertEqual(problem.code, "query_failed")
        # ":p1 " stands for the question mark.
        self.assertEqual(problem.extra, {"oracle_error": "ORA-00904", "position": 8})
        self.assertNotIn("Help", problem.detail)

    def test_codes_of_errors(self) -> None:
        for code, wanted in (
            ("ORA-01031", "target_permission_denied"),
            ("ORA-00001", "query_failed"),
            ("ORA-01013", "deadline_exceeded"),
            ("ORA-00028", "target_unreachable"),
            ("ORA-03113", "target_unreachable"),
        ):
            problem = self.connection.problem(refusal(code, "text"), None)
            self.assertEqual(problem.code, wanted, code)
        self.assertFalse(self.connection.seems_alive())


class ReadOnly(OracleCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection.thd_begin(writing=False)

    def test_the_transaction_is_read_only(self) -> None:
        self.assertEqual(self.fake.statements, ["SET TRANSACTION READ ONLY"])
        self.fake.on("select", _ONE)
        self.run_sql("select 1 from dual")

    def test_what_commits_or_writes_is_refused(self) -> None:
        for sql in (
            "create table x (a number)",
            "begin delete from t; commit; end;",
            "insert into t values (1)",
            "select t.nextval from dual for update",
            "select dbms_lock.sleep(1) from dual",
            "alter session set current_schema = x",
            "call p()",
            "with function f return number is begin return 1; end; select f from dual",
            "select /* ' */ 1 from dual; drop table t",
        ):
            problem = self.assertRaises(Problem, self.run_sql, sql)
            self.assertIn(problem.code, ("policy_denied", "query_failed"), sql)
        self.problem("policy_denied", self.connection.thd_call, TableName(None, "P"), [])
        self.assertEqual(self.fake.statements, ["SET TRANSACTION READ ONLY"])

    def test_the_databases_own_refusal_is_the_policys(self) -> None:
        error = refusal("ORA-01456", "may not perform insert/delete/update operation inside …")
        problem = self.connection.problem(error, None)
        self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "read_only"}))


class Batches(OracleCase):
    def batch(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        return self.connection.thd_batch(Batch(bind(sql, list(rows[0]), ORACLE), rows))

    def test_rows_go_together(self) -> None:
        self.fake.on("insert", lambda sql, rows: Result(changed=len(rows)))
        rows: list[list[object]] = [[index, None] for index in range(1200)]
        self.assertEqual(self.batch("insert into t values (?, ?)", rows), 1200)
        self.assertEqual([len(rows) for _, rows in self.fake.log], [500, 500, 200])

    def test_other_types_make_another_run_and_nulls_do_not(self) -> None:
        self.fake.on("insert", lambda sql, rows: Result(changed=len(rows)))
        day = Typed("date", "2024-02-29")
        count = self.batch("insert into t values (?)", [[None], [day], [None], ["x"], [1]])
        self.assertEqual(count, 5)
        self.assertEqual(
            self.fake.log,
            [
                (
                    "insert into t values (TO_DATE(:p1 , 'YYYY-MM-DD'))",
                    [[None], ["2024-02-29"], [None]],
                ),
                ("insert into t values (:p1 )", [["x"]]),
                ("insert into t values (:p1 )", [[1]]),
            ],
        )


class Loads(OracleCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake.on("all_tab_comments", Result([number("A")], [["APP", "TABLE"]]))
        columns = [
            ["ID", "NUMBER", 0, 10, 0, "N", "NO", "NO", None, None, 22],
            ["D", "DATE", 0, None, None, "Y", "NO", "NO", None, None, 7],
            ["R", "RAW", 0, None, None, "Y", "NO", "NO", None, None, 10],
        ]
        self.fake.on("all_tab_cols", Result([number("A")], columns))
        key = [["PK", "P", "ID", None, None, None]]
        self.fake.on("all_constraints", Result([number("A")], key))
        self.fake.on("^(INSERT|MERGE)", lambda sql, rows: Result(changed=len(rows)))

    def load(self, on_conflict: Any, columns: Sequence[str], *rows: Sequence[object]) -> int:
        name = TableName(None, "T")
        return self.connection.thd_load(name, columns, iter([rows]), on_conflict, [])

    def test_text_becomes_the_columns_types(self) -> None:
        count = self.load("error", ["ID", "D", "R"], ["1", "2024-02-29T10:00:00", "AP8="])
        self.assertEqual(count, 1)
        sql, rows = self.fake.log[-1]
        self.assertEqual(
            sql,
            'INSERT INTO "APP"."T" ("ID", "D", "R") VALUES'
            " (:1, TO_TIMESTAMP(:2, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF'), :3)",
        )
        self.assertEqual(rows, [[Decimal(1), "2024-02-29T10:00:00.000000000", b"\0\xff"]])

    def test_what_is_there_already(self) -> None:
        self.load("update", ["ID", "R"], [1, None])
        self.assertEqual(
            self.fake.log[-1][0],
            'MERGE INTO "APP"."T" t USING (SELECT :1 AS "ID", :2 AS "R" FROM DUAL) s'
            ' ON (t."ID" = s."ID") WHEN MATCHED THEN UPDATE SET t."R" = s."R"'
            ' WHEN NOT MATCHED THEN INSERT ("ID", "R") VALUES (s."ID", s."R")',
        )
        self.load("ignore", ["ID"], [1])
        self.assertNotIn("UPDATE", self.fake.log[-1][0])

    def test_wrong_columns_and_values(self) -> None:
        self.problem("bad_request", self.load, "error", ["X"], [1])
        self.problem("bad_request", self.load, "error", ["R"], ["no base64!"])
        self.problem("bad_request", self.load, "error", ["D"], ["yesterday"])

    def test_shape(self) -> None:
        shape = self.connection.thd_shape(TableName("APP", "T"))
        self.assertEqual(
            [column.type for column in shape.columns], ["integer", "timestamp", "bytes"]
        )
        self.assertEqual(list(shape.primary_key), ["ID"])
        self.assertEqual(shape.columns[0].database_type, "NUMBER(10)")


class Calls(OracleCase):
    def arguments(self, *rows: Sequence[object]) -> None:
        full = [["APP", None, "P", *row, None, None, None, "N"] for row in rows]
        self.fake.on("all_arguments", Result([number("A")], full))

    def test_out_parameters_and_results(self) -> None:
        self.arguments(
            ["A", 1, "NUMBER", "IN"], ["B", 2, "VARCHAR2", "OUT"], ["C", 3, "REF CURSOR", "OUT"]
        )
        opened = self.fake.opened(number("N", 1, 0), rows=[[Decimal(7)]])

        def run(sql: str, binds: Any) -> Result:
            binds[1].value = "done"
            binds[2].value = opened
            return Result()

        self.fake.on("^BEGIN", run)
        cursor, out = self.connection.thd_call(TableName(None, "P"), {"a": 21})
        sql, binds = self.fake.log[-1]
        self.assertEqual(sql, 'BEGIN "APP"."P"("A" => :p1, "B" => :p2, "C" => :p3); END;')
        self.assertEqual(binds[0], 21)
        self.assertEqual(out, {"b": "done"})
        self.assertTrue(cursor.thd_next())
        self.assertEqual(cursor.convert(cursor.thd_read(10, 100), "json"), [(7,)])
        self.assertFalse(cursor.thd_next())

    def test_a_function(self) -> None:
        self.arguments([None, 0, "NUMBER", "OUT"], ["A", 1, "DATE", "IN"])
        self.fake.on("^BEGIN", lambda sql, binds: binds[0].setvalue(0, Decimal("1.5")) or Result())
        _cursor, out = self.connection.thd_call(TableName(None, "P"), [Typed("date", "2024-02-29")])
        self.assertEqual(
            self.fake.log[-1][0],
            'BEGIN :p1 := "APP"."P"("A" => TO_DATE(:p2, \'YYYY-MM-DD\')); END;',
        )
        self.assertEqual(out, {"return": "1.5"})

    def test_wrong_parameters(self) -> None:
        self.arguments(["A", 1, "NUMBER", "IN"])
        name = TableName(None, "P")
        for params in ([], [1, 2], {"b": 1}):
            self.problem("bad_request", self.connection.thd_call, name, params)

    def test_no_such_procedure(self) -> None:
        self.fake.on("all_", Result([number("A")]))
        self.problem("operation_not_found", self.connection.thd_call, TableName(None, "X"), [])


class Lifetime(OracleCase):
    def test_a_used_connection_is_rolled_back_and_kept(self) -> None:
        self.fake.on("select", _ONE)
        self.run_sql("select 1 from dual")
        self.assertTrue(self.connection.thd_renew())
        self.assertEqual(self.fake.statements[-1], "rollback")
        self.assertTrue(all(cursor.closed for cursor in self.fake.cursors))

    def test_one_whose_session_was_changed_is_not_kept(self) -> None:
        self.run_sql("alter session set nls_date_format = 'YY'")
        self.assertFalse(self.connection.thd_renew())

    def test_one_that_fails_is_not_kept(self) -> None:
        self.fake.failing = refusal("ORA-03113", "end-of-file on communication channel")
        self.assertFalse(self.connection.thd_renew())
        self.assertFalse(self.connection.thd_answers())
        self.connection.thd_stop()
        self.connection.thd_close()
        self.assertTrue(self.fake.closed)

    def test_answers_has_a_time_out(self) -> None:
        self.assertTrue(self.connection.thd_answers())
        self.assertEqual(self.fake.call_timeout, 0)

    def test_stop_breaks_what_runs(self) -> None:
        self.connection.thd_stop()
        self.assertEqual(self.fake.log, [("cancel", None)])

    def test_facts(self) -> None:
        facts = self.connection.thd_facts()
        self.assertEqual(facts["target"], "Oracle Database 19.3.0.0.0")
        self.assertEqual((facts["database"], facts["user"]), ("ORCLPDB1", "APP"))

    def test_tables(self) -> None:
        rows = [["APP", "T", "TABLE", None], ["APP", "V", "VIEW", "a view"]]
        self.fake.on("all_tab_comments", Result([Info("A", oracledb.DB_TYPE_VARCHAR)], rows))
        self.assertEqual(
            [(table.name, table.type, table.comment) for table in self.connection.thd_tables()],
            [("T", "table", None), ("V", "view", "a view")],
        )


class Scanner(SynchronousTestCase):
    def test_quotes_of_oracle(self) -> None:
        for quote in ("q'[ ? ']'", "Q'{?'}'", "nq'!it's ?!'", "q'<>?>'", "'it''s ?'", '"?"'):
            statement = bind(f"select {quote}, ? from dual", [1], ORACLE)
            self.assertEqual(statement.values, [1], quote)

    def test_comments_do_not_nest_and_hints_are_comments(self) -> None:
        statement = bind("select /*+ x /* ? */ ? from dual", [1], ORACLE)
        self.assertEqual(statement.values, [1])

    def test_an_open_quote_reaches_to_the_end(self) -> None:
        shape = outline("select q'[ ; drop table t", ORACLE)
        self.assertFalse(shape.several)
        self.assertIsInstance(bind("select q'", {"a": 1}, ORACLE), Statement)
