"""Errors: the database's own words, codes and states, and what they leave."""

from __future__ import annotations

from .contract import CSV, NDJSON, DatabaseContract


class Errors(DatabaseContract):
    async def test_an_error_in_the_statement_is_the_databases_own(self) -> None:
        caller = self.caller()
        for accept in (None, CSV, NDJSON):
            work = caller.query("select * from no_such_table", accept=accept)
            problem = await self.problem(work, "query_failed")
            self.assertIn("no_such_table", problem.detail.lower())

    async def test_errors_have_their_sqlstate(self) -> None:
        await self.table("contract_state", "id int primary key")
        caller = self.caller()
        await caller.execute("insert into contract_state values (1)")
        for name, sql in (
            ("syntax", "selec 1"),
            ("missing", "select * from no_such_table"),
            ("duplicate", "insert into contract_state values (1)"),
            ("zero", "select 1 / 0"),
        ):
            pattern = self.subject.sqlstates.get(name)
            if pattern is not None:
                problem = await self.problem(caller.execute(sql), "query_failed")
                self.assertRegex(str((problem.extra or {}).get("sqlstate")), pattern)

    async def test_a_failed_statement_changes_nothing(self) -> None:
        await self.table("contract_half", "id int primary key")
        caller = self.caller()
        for call in (caller.execute, caller.query):
            problem = await self.problem(
                call("insert into contract_half values (1), (2), (1)"), "query_failed"
            )
            self.assertTrue(problem.detail)
        self.assertEqual(await self.count("contract_half"), 0)

    async def test_an_error_after_some_rows_ends_the_body_before_its_time(self) -> None:
        sql = self.subject.division_by_zero
        if sql is None:
            return
        caller = self.caller(max=1)
        sql = sql.format(numbers=self.subject.numbers)
        for accept in (None, CSV, NDJSON):
            await self.problem(caller.query(sql, {"n": 1000}, accept=accept), "query_failed")
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_bad_values_are_told_by_name(self) -> None:
        await self.table("contract_values", "id int")
        caller = self.caller()
        sql = "insert into contract_values values (:a)"
        problem = await self.problem(caller.execute(sql, {"b": 1}), "bad_request")
        self.assertEqual(problem.extra, {"field": "params.a"})
        await self.problem(caller.execute(sql, {"a": [[1], [2, 3]]}), "bad_request", "query_failed")
        self.assertEqual(await self.count("contract_values"), 0)

    async def test_a_connection_is_good_after_an_error(self) -> None:
        caller = self.caller(max=1)
        for _ in range(10):
            await self.problem(caller.query("select * from no_such_table"), "query_failed")
            self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
