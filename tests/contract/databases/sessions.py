"""Transactions: each call's own, and those that go over several calls."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from workato_agent.services.database.adapters.base import Output, Session
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import bind
from workato_tunnel.problems import Problem

from .contract import DatabaseContract, NativeWriter, RowsBody, pause


class Sessions(DatabaseContract):
    async def begun(self, **pool: int) -> Session:
        """A session on a table ``contract_s`` with a row 1 that is not committed yet."""
        await self.table("contract_s", "id int primary key, v varchar(20)")
        session = await self.adapter(**pool).session()
        self.addCleanup(lambda: Deferred.fromCoroutine(session.close()))
        await self.run_on(session, "insert into contract_s values (?, 'a')", [1])
        return session

    async def seen(self, session: Session) -> list[int]:
        """The rows as the session sees them."""
        rows, _columns = await self.read(session, "select id from contract_s order by id")
        return [row[0] for row in rows]  # type: ignore[misc]  # they are integers

    async def test_a_session_sees_its_own_work_and_commits_it(self) -> None:
        session = await self.begun()
        self.assertEqual(await self.seen(session), [1])
        await session.commit()
        self.assertEqual(await self.count("contract_s"), 1)
        await self.run_on(session, "insert into contract_s values (2, 'b')")
        await session.commit()
        await session.close()
        self.assertTrue(session.ended)
        self.assertEqual(await self.count("contract_s"), 2)

    async def test_what_is_not_committed_is_not_seen_and_is_undone(self) -> None:
        session = await self.begun()
        await session.rollback()
        self.assertEqual(await self.seen(session), [])
        await self.run_on(session, "insert into contract_s values (3, 'c')")
        await session.close()
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_session_that_is_closed_answers_no_more(self) -> None:
        session = await self.begun()
        await session.close()
        await session.close()
        self.assertTrue(session.ended)
        await self.problem(self.run_on(session, "select 1"), "not_found")
        await self.problem(session.commit(), "not_found")
        await self.problem(session.rollback(), "not_found")

    async def test_commit_and_rollback_without_work_do_nothing(self) -> None:
        session = await self.adapter().session()
        await session.commit()
        await session.rollback()
        await session.commit()
        await session.close()

    async def test_one_call_at_a_time(self) -> None:
        session = await self.begun()
        statement = bind(self.subject.numbers, {"n": 100_000}, self.dialect)
        rows = await session.query(statement, Output(NativeWriter()))
        await rows.next_block()
        await self.problem(self.run_on(session, "select 1"), "conflict")
        await self.problem(session.commit(), "conflict")
        while await rows.next_block() is not None:
            pass
        await rows.finish()
        self.assertEqual(await self.seen(session), [1])

    async def test_cancelled_work_ends_the_session(self) -> None:
        session = await self.begun()
        running = Deferred.fromCoroutine(self.run_on(session, self.subject.endless))
        await pause(0.3)
        running.cancel()
        await self.assertFailure(running, Exception)
        self.assertTrue(await self.until(lambda: session.ended))
        await self.problem(self.run_on(session, "select 1"), "not_found")
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_result_that_is_given_up_ends_the_session(self) -> None:
        session = await self.begun()
        statement = bind(self.subject.numbers, {"n": 1_000_000}, self.dialect)
        rows = await session.query(statement, Output(NativeWriter()))
        await rows.next_block()
        await rows.abort()
        self.assertTrue(session.ended)
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_closing_a_busy_session_stops_its_work(self) -> None:
        session = await self.begun()
        running = Deferred.fromCoroutine(self.run_on(session, self.subject.endless))
        await pause(0.3)
        await session.close()
        with self.assertRaises(Problem):
            await running
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_refused_statement_leaves_a_session_that_can_be_rolled_back(self) -> None:
        session = await self.begun()
        await self.problem(self.run_on(session, "select * from no_such_table"), "query_failed")
        self.assertFalse(session.ended)
        await session.rollback()
        await self.run_on(session, "insert into contract_s values (5, 'e')")
        await session.commit()
        self.assertEqual(await self.count("contract_s"), 1)

    async def test_a_session_is_over_when_its_connection_is_lost(self) -> None:
        session = await self.begun()
        if not self.subject.end_connections():
            return
        await pause(0.2)
        with self.assertRaises(Problem):
            await self.run_on(session, "insert into contract_s values (6, 'f')")
        self.assertTrue(session.ended)
        await self.problem(session.commit(), "not_found")
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_session_takes_a_place_of_the_pool(self) -> None:
        adapter = self.adapter(max=1, wait=0.1)  # type: ignore[arg-type]
        session = await adapter.session()
        await self.problem(self.run_on(adapter, "select 1"), "overloaded")
        await session.close()
        await self.run_on(adapter, "select 1")

    async def test_no_statement_ends_the_transaction_of_a_session(self) -> None:
        session = await self.begun()
        for sql in ("commit", "rollback", "begin"):
            work = self.run_on(session, sql)
            await self.problem(work, "query_failed", "policy_denied", "bad_request")
        await session.close()
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_session_keeps_its_own_settings_to_itself(self) -> None:
        if self.subject.temporary is None:
            return
        adapter = self.adapter(max=1)
        session = await adapter.session()
        await self.run_on(session, self.subject.temporary)
        self.assertEqual(len((await self.read(session, "select count(*) from mine"))[0]), 1)
        await session.close()
        await self.problem(self.run_on(adapter, "select * from mine"), "query_failed")

    async def test_a_session_batches_and_loads(self) -> None:
        session = await self.begun()
        body = RowsBody([self.subject.fold("id"), self.subject.fold("v")], [[7, "x"], [8, "y"]])
        self.assertEqual(await session.load(self.load("contract_s", body)), 2)
        self.assertEqual(await self.seen(session), [1, 7, 8])
        await session.rollback()
        self.assertEqual(await self.count("contract_s"), 0)

    async def test_a_statements_time_is_limited_in_a_session_too(self) -> None:
        session = await self.adapter(DatabasePolicy(statement_timeout=0.3)).session()
        await self.problem(self.run_on(session, self.subject.endless), "deadline_exceeded")
        await session.close()

    async def test_a_read_only_session_writes_nothing(self) -> None:
        await self.table("contract_s", "id int primary key")
        session = await self.adapter(DatabasePolicy(read_only=True)).session()
        problem = await self.problem(
            self.run_on(session, "insert into contract_s values (1)"), "policy_denied"
        )
        self.assertEqual((problem.extra or {}).get("rule"), "read_only")
        await session.close()
