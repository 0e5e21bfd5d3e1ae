"""Statements: parameters, shapes of results, what may be sent and what stays behind."""

from __future__ import annotations

from tests.support.database import typed
from workato_agent.services.database.settings import DatabasePolicy
from workato_tunnel.problems import Problem

from .contract import CSV, NDJSON, DatabaseContract


class Statements(DatabaseContract):
    async def test_the_profile_is_tested(self) -> None:
        facts = await self.caller().test()
        self.assertTrue(facts["ok"])
        self.assertRegex(facts["target"], self.subject.product)
        self.assertEqual(self.adapter().type, self.subject.type)

    async def test_parameters_of_both_styles(self) -> None:
        caller, given = self.caller(), self.subject.given
        sql = f"select {given('integer')} as a, {given('string')} as b, '?' as c -- ?"
        answer = await caller.query(sql, [1, "it's \\ ☃ 😀"])
        self.assertEqual(answer.rows, [[1, "it's \\ ☃ 😀", "?"]])
        answer = await caller.query(
            f"select {given('integer', ':b')} as x, {given('integer', ':a')} as y, ':a' as z,"
            f" {given('integer', ':a')} as again /* :c ? */",
            {"a": 1, "b": -2},
        )
        self.assertEqual(answer.rows, [[-2, 1, ":a", 1]])

    async def test_casts_and_question_operators_survive(self) -> None:
        caller, subject = self.caller(), self.subject
        if subject.casts:
            answer = await caller.query("select '7'::int as a, :b::int as b", {"b": "8"})
            self.assertEqual(answer.rows, [[7, 8]])
        if subject.question_operator is not None:
            sql = f"select {subject.given('integer')} as a, {subject.question_operator} as b"
            self.assertEqual((await caller.query(sql, [5])).rows, [[5, True]])

    async def test_a_parameter_is_never_part_of_the_statement(self) -> None:
        caller, given = self.caller(), self.subject.given("string")
        for value in ("'; drop table x; --", "\\'; --", "' or '1'='1", "%s %(x)s {0} ${1}", "\\"):
            answer = await caller.query(f"select {given} as a, '\\\\' as b, 'it''s' as c", [value])
            self.assertEqual(answer.rows[0][0], value)

    async def test_null_as_a_parameter(self) -> None:
        await self.table("contract_null", "a int, b varchar(10)")
        caller = self.caller()
        await caller.execute("insert into contract_null values (?, ?)", [None, None])
        await caller.execute(
            "insert into contract_null values (?, ?)", [typed("integer", None), "x"]
        )
        answer = await caller.query("select a, b from contract_null order by b")
        self.assertEqual(sorted(map(repr, answer.rows)), ["[None, 'x']", "[None, None]"])

    async def test_a_table_is_written_and_read(self) -> None:
        await self.table("contract", "id int primary key, name varchar(20)")
        caller, fold = self.caller(), self.subject.fold
        result = await caller.execute("insert into contract values (?, ?), (2, null)", [1, "one"])
        self.assertEqual(result, {"row_count": 2})
        updated = await caller.execute("update contract set name = 'x' where id > :i", {"i": 0})
        self.assertEqual(updated, {"row_count": 2})
        await caller.execute("insert into contract values (3, 'y')")
        answer = await caller.query("insert into contract values (4, 'y')")
        self.assertEqual((answer.json["columns"], answer.json["row_count"]), ([], 1))
        answer = await caller.query("select * from contract order by id desc", accept=CSV)
        head = f"{fold('id')},{fold('name')}\r\n".encode()
        self.assertEqual(answer.body, head + b"4,y\r\n3,y\r\n2,x\r\n1,x\r\n")
        self.assertEqual(answer.request.usage.rows, 4)
        self.assertEqual(await caller.execute("delete from contract"), {"row_count": 4})

    async def test_what_returning_brings_is_given_back(self) -> None:
        if not self.subject.returning:
            return
        await self.table("contract_back", "id int primary key, name varchar(20)")
        caller = self.caller()
        inserted = await caller.execute(
            "insert into contract_back values (?, ?), (2, null) returning id, name", [1, "one"]
        )
        self.assertEqual(inserted["rows"], [[1, "one"], [2, None]])
        self.assertEqual((inserted["row_count"], inserted["truncated"]), (2, False))
        answer = await caller.query("insert into contract_back values (3, 'y') returning id")
        self.assertEqual(answer.rows, [[3]])
        self.assertEqual(await self.count("contract_back"), 3)

    async def test_what_execute_brings_back_is_bounded(self) -> None:
        result = await self.caller().execute(self.subject.numbers, {"n": 10_001})
        self.assertEqual((result["row_count"], len(result["rows"])), (10_001, 10_000))
        self.assertTrue(result["truncated"])

    async def test_what_a_call_leaves_behind_is_gone(self) -> None:
        if self.subject.temporary is None:
            return
        caller = self.caller(max=1)
        await caller.execute(self.subject.temporary)
        await self.problem(caller.query("select * from mine"), "query_failed")

    async def test_no_call_ends_a_transaction(self) -> None:
        caller = self.caller()
        for sql in ("commit", "rollback", "begin", "savepoint x", "/* x */ commit", "  COMMIT ;"):
            for call in (caller.execute, caller.query):
                await self.problem(call(sql), "query_failed", "policy_denied", "bad_request")

    async def test_no_call_brings_two_statements(self) -> None:
        await self.table("contract_two", "id int")
        caller = self.caller()
        for sql in (
            "select 1; select 2",
            "insert into contract_two values (1); commit; drop table contract_two",
            "insert into contract_two values (1); insert into contract_two values (2)",
            "select 1 /*'*/; select 2",
        ):
            for accept in (None, CSV):
                work = caller.query(sql, accept=accept)
                await self.problem(work, "query_failed", "policy_denied", "bad_request")
            await self.problem(caller.execute(sql), "query_failed", "policy_denied", "bad_request")
        self.assertEqual(await self.count("contract_two"), 0)

    async def test_trailing_comments_and_semicolons_do_no_harm(self) -> None:
        caller = self.caller()
        for sql in ("select 1 as a;", "select 1 as a -- x", "select 1 as a /* ; */ ; -- ;\n ;"):
            for accept in (None, CSV, NDJSON):
                self.assertIn(b"1", (await caller.query(sql, accept=accept)).body)

    async def test_empty_results_keep_their_columns(self) -> None:
        caller, fold = self.caller(), self.subject.fold
        sql = self.subject.empty
        answer = await caller.query(sql)
        names = [column["name"] for column in answer.json["columns"]]
        self.assertEqual(names, [fold("a"), fold("b")])
        self.assertEqual((answer.rows, answer.json["row_count"]), ([], 0))
        head = f"{fold('a')},{fold('b')}\r\n".encode()
        self.assertEqual((await caller.query(sql, accept=CSV)).body, head)
        self.assertEqual((await caller.query(sql, accept=NDJSON)).body, b"")
        self.assertEqual((await caller.execute(sql))["rows"], [])

    async def test_columns_may_have_the_same_or_odd_names(self) -> None:
        caller, quoted = self.caller(), self.subject.quoted
        a, odd, colon = quoted("a"), quoted('x,"é'), quoted(":a")
        sql = f"select 1 as {a}, 2 as {a}, 3 as {odd}, 4 as {colon}"
        self.assertEqual((await caller.query(sql)).rows, [[1, 2, 3, 4]])
        answer = await caller.query(sql, accept=CSV)
        self.assertEqual(answer.body.decode(), 'a,a,"x,""é",:a\r\n1,2,3,4\r\n')
        answer = await caller.query(sql, accept=NDJSON)
        self.assertEqual(answer.json, {"a": 1, "a_2": 2, 'x,"é': 3, ":a": 4})

    async def test_characters_of_the_statement_itself_survive(self) -> None:
        text, name = "é☃😀\ufeff…", self.subject.quoted("é中")
        answer = await self.caller().query(f"select '{text}' as {name}")
        self.assertEqual(answer.json["columns"][0]["name"], "é中")
        self.assertEqual(answer.rows, [[text]])
        given = self.subject.given("string")
        answer = await self.caller().query(f"select '{text}' as a, {given} as b", [text])
        self.assertEqual(answer.rows, [[text, text]])

    async def test_a_thousand_columns(self) -> None:
        caller = self.caller()
        sql = "select " + ", ".join(f"{index} as c{index}" for index in range(1000))
        self.assertEqual((await caller.query(sql)).rows, [list(range(1000))])
        answer = await caller.query(sql, accept=CSV)
        self.assertEqual(answer.body.splitlines()[1].split(b",")[-1], b"999")

    async def test_a_hundred_parameters(self) -> None:
        given = self.subject.given("integer")
        sql = "select " + ", ".join(f"{given} as c{index}" for index in range(100))
        answer = await self.caller().query(sql, list(range(100)))
        self.assertEqual(answer.rows, [list(range(100))])

    async def test_read_only_can_not_be_written(self) -> None:
        await self.table("contract_kept", "id int")
        caller = self.caller(DatabasePolicy(read_only=True))
        statements = [
            "insert into contract_kept values (1)",
            "/* select */ insert into contract_kept values (1)",
            "update contract_kept set id = 2",
            "delete from contract_kept",
            "drop table contract_kept",
            "create table contract_other (id int)",
        ]
        if self.subject.returning:
            statements.append("insert into contract_kept values (1) returning id")
        for sql in statements:
            for work in (caller.execute(sql), caller.query(sql), caller.query(sql, accept=CSV)):
                problem = await self.problem(work, "policy_denied")
                self.assertEqual((problem.extra or {}).get("rule"), "read_only", sql)
        self.assertEqual((await caller.query("select count(*) from contract_kept")).rows, [[0]])
        with self.assertRaises(Problem):
            await caller.query("select * from contract_other")
