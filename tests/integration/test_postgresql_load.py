"""Bodies into tables of a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.postgresql_copyin import EndMarks
from workato_agent.services.database.loading import Load, LoadBody
from workato_agent.services.database.loading_csv import CsvBody
from workato_agent.services.database.loading_ndjson import NdjsonBody
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import TableName
from workato_agent.services.database.work import Threads
from workato_tunnel.problems import Problem

TABLE = TableName(None, "loaded")


class LoadTestCase(PostgresqlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.threads = Threads.of(reactor, 2, "bodies")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.stop()))
        self.server.run("drop table if exists loaded")
        self.server.run(
            "create table loaded (i int primary key, t text, n numeric(10,2), b bytea, a int[],"
            " j jsonb, s timestamptz, g int generated always as (i * 2) stored)"
        )
        self.addCleanup(self.server.run, "drop table loaded")

    async def pieces(self, data: bytes, size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            await self.pause(0)
            yield data[start : start + size]

    def csv(self, data: str, size: int = 7) -> CsvBody:
        return CsvBody(self.pieces(data.encode(), size), self.threads)

    def ndjson(self, *rows: object) -> NdjsonBody:
        data = "".join(json.dumps(row) + "\n" for row in rows)
        return NdjsonBody(self.pieces(data.encode(), 50), self.threads)

    async def load(self, body: LoadBody, policy: DatabasePolicy | None = None, **how: Any) -> int:
        self.caller(policy)
        return await self.adapter.load(Load(how.pop("table", TABLE), body, **how))

    def loaded(self, columns: str = "i, t") -> list[tuple[Any, ...]]:
        return self.server.run(f"select {columns} from loaded order by i")


class Csv(LoadTestCase):
    async def test_null_and_empty_differ(self) -> None:
        for end in ("\n", "\r\n"):
            self.server.run("truncate loaded")
            body = f'i,t{end}1,{end}2,""{end}3,"a ""b"",{end}c"{end}4,☃{end}'
            self.assertEqual(await self.load(self.csv(body)), 4)
            self.assertEqual(self.loaded(), [(1, None), (2, ""), (3, f'a "b",{end}c'), (4, "☃")])

    async def test_columns_in_their_order(self) -> None:
        self.assertEqual(await self.load(self.csv("x,y\nq,1\n"), columns=["t", "i"]), 1)
        self.assertEqual(self.loaded(), [(1, "q")])
        for columns, word in (
            (["t"], "columns names 1"),
            (["t", "no such"], "no such"),
        ):
            problem = await self.problem(
                self.load(self.csv("x,y\nq,1\n"), columns=columns), "bad_request"
            )
            self.assertIn(word, problem.detail)
            self.assertEqual(problem.extra["field"], "columns")

    async def test_what_results_hold_can_be_loaded(self) -> None:
        body = (
            'i,n,b,a,j,s\n1,1.50,AP8=,"[1,null,-3]","{""a"": [1]}",2024-07-01T12:00:00+02:00\n'
            '2,,\\x00ff,"{4,5}",null,\n3,,"",[],,\n'
        )
        self.assertEqual(await self.load(self.csv(body)), 3)
        self.assertEqual(
            self.loaded("n::text, b::text, a::text, j::text, extract(epoch from s)::int, g"),
            [("1.50", "\\x00ff", "{1,NULL,-3}", '{"a": [1]}', 1719828000, 2),
             (None, "\\x00ff", "{4,5}", "null", None, 4), (None, "\\x", "{}", None, None, 6)],
        )  # fmt: skip

    async def test_errors_name_the_line_and_nothing_is_written(self) -> None:
        for body, line, state in (
            ("i,t\n1,a\nx,b\n", 3, "22P02"),
            ("i,t\n1,a\n2\n", 3, "22P04"),
            ("i,t\n1,a\n1,b\n", 3, "23505"),
            ('i,t\n1,a\n2,"b', 3, "22P04"),
            ("i,t\n1,a\n,b\n", 3, "23502"),
        ):
            code = "bad_request" if state == "22P04" else "query_failed"
            problem = await self.problem(self.load(self.csv(body)), code)
            self.assertEqual(
                (problem.extra["line"], problem.extra["sqlstate"]), (line, state), body
            )
            self.assertIn(f"line {line}", problem.detail)
        for body, row in (("i,b\n1,AP8=\n2,A\n", 2), ("i,a\n1,[1]\n2,[1\n", 2)):
            code = "query_failed" if "[" in body else "bad_request"
            problem = await self.problem(self.load(self.csv(body)), code)
            self.assertEqual(problem.extra["row"], row)
        self.assertEqual(self.loaded(), [])

    async def test_bytes_that_are_not_utf8(self) -> None:
        body = CsvBody(self.pieces(b"i,t\n1,\xff\n", 100), self.threads)
        problem = await self.problem(self.load(body), "bad_request")
        self.assertEqual(problem.extra["sqlstate"], "22021")

    async def test_a_body_that_is_cut_is_not_written(self) -> None:
        async def cut() -> AsyncIterator[bytes]:
            yield b"i,t\n1,a\n2,b\n"
            await self.pause(0.1)
            raise Problem("tunnel_lost", "the caller has gone")

        await self.problem(self.load(CsvBody(cut(), self.threads)), "tunnel_lost")
        self.assertEqual(self.loaded(), [])
        await self.stops_within(1)

    async def test_a_line_that_would_end_the_data(self) -> None:
        for size in (1, 2, 3, 100):
            self.server.run("drop table if exists lines; create table lines (t text)")
            self.addCleanup(self.server.run, "drop table if exists lines")
            count = await self.load(
                self.csv("t\na\n\\.\nb\\.\n\\.c\n\\.\r\nd\n\\.".replace("\r", ""), size),
                table=TableName(None, "lines"),
            )
            found = self.server.run("select t from lines")
            self.assertEqual(
                [row[0] for row in found], ["a", "\\.", "b\\.", "\\.c", "\\.", "d", "\\."]
            )
            self.assertEqual(count, 7)
        problem = await self.problem(self.load(self.csv('i,t\n1,"a\n\\.\n"\n')), "bad_request")
        self.assertEqual(problem.extra["line"], 3)

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        st.lists(st.sampled_from(["\\.", "\\", ".", "\n", "\r\n", "a", '"x"', ","])),
        st.integers(1, 5),
    )
    def test_marks_are_found_however_a_body_is_cut(self, parts: list[str], size: int) -> None:
        data = "".join(parts).encode()
        lines = [b'"\\."' + line[2:] if line.rstrip(b"\r") == b"\\." else line
                 for line in data.split(b"\n")]  # fmt: skip
        marks = EndMarks()
        fed = [marks.feed(data[at : at + size]) for at in range(0, len(data), size)]
        self.assertEqual(b"".join((*fed, marks.end())), b"\n".join(lines))


class Rows(LoadTestCase):
    async def test_values_of_every_kind(self) -> None:
        rows = [
            {
                "i": 1,
                "t": "a\tb\n\\N \\ \r\x0b",
                "n": 1.25,
                "b": "AP8=",
                "a": [1, None],
                "j": {"a": [1.50, "x"]},
                "s": "2024-07-01T10:00:00Z",
            },
            {"i": 2, "t": None, "n": "3.10", "b": None, "a": [], "j": [1, "x", None], "s": None},
            {"i": 3, "t": "", "n": 7, "b": "", "a": None, "j": True, "s": "infinity"},
        ]
        self.assertEqual(await self.load(self.ndjson(*rows)), 3)
        self.assertEqual(
            self.loaded("t, n::text, b::text, a::text, j::text, s::text = 'infinity'"),
            [("a\tb\n\\N \\ \r\x0b", "1.25", "\\x00ff", "{1,NULL}", '{"a": [1.5, "x"]}', False),
             (None, "3.10", None, "{}", '[1, "x", null]', None),
             ("", "7.00", "\\x", None, "true", True)],
        )  # fmt: skip

    async def test_errors_name_the_row(self) -> None:
        rows = [{"i": n, "t": "x"} for n in range(1000)]
        rows[700]["t"] = "a\0b"
        problem = await self.problem(self.load(self.ndjson(*rows)), "bad_request")
        self.assertEqual(problem.extra["row"], 701)
        rows[700] = {"i": "x", "t": "y"}
        problem = await self.problem(self.load(self.ndjson(*rows)), "query_failed")
        self.assertEqual((problem.extra["row"], problem.extra["sqlstate"]), (701, "22P02"))
        self.assertEqual(self.loaded(), [])
        self.assertEqual(await self.load(self.ndjson()), 0)


class Conflicts(LoadTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.run("insert into loaded values (1, 'old'), (2, 'old')")

    async def test_rows_that_are_there_are_ignored(self) -> None:
        body = self.csv("i,t\n2,new\n3,new\n3,later\n")
        self.assertEqual(await self.load(body, on_conflict="ignore"), 1)
        self.assertEqual(self.loaded(), [(1, "old"), (2, "old"), (3, "new")])

    async def test_rows_that_are_there_are_updated(self) -> None:
        body = self.ndjson(*({"i": i, "t": t} for i, t in ((2, "new"), (3, "new"), (3, "later"))))
        self.assertEqual(await self.load(body, on_conflict="update"), 2)
        self.assertEqual(self.loaded(), [(1, "old"), (2, "new"), (3, "later")])
        self.assertEqual(await self.load(self.csv("i\n1\n4\n"), on_conflict="update"), 1)

    async def test_the_keys_can_be_named(self) -> None:
        self.server.run("create unique index on loaded (t, n)")
        body = self.csv("i,t,n\n7,q,1\n8,q,1\n9,q,\n10,q,\n")
        self.assertEqual(await self.load(body, on_conflict="update", keys=["t", "n"]), 3)
        self.assertEqual(self.loaded("i")[2:], [(8,), (9,), (10,)])
        for keys, code in ((["s"], "bad_request"), (["t"], "query_failed")):
            await self.problem(
                self.load(self.csv("i,t,n\n7,q,1\n"), on_conflict="update", keys=keys), code
            )
        self.server.run("create table if not exists keyless (i int)")
        self.addCleanup(self.server.run, "drop table keyless")
        problem = await self.problem(
            self.load(self.csv("i\n7\n"), on_conflict="ignore", table=TableName(None, "keyless")),
            "bad_request",
        )
        self.assertEqual(problem.extra["field"], "keys")


class Apart(LoadTestCase):
    async def endless(self) -> AsyncIterator[bytes]:
        yield b"i,t\n"
        for n in range(10**9):
            yield b"%d,%b\n" % (n, b"x" * 10_000)

    async def silent(self) -> AsyncIterator[bytes]:
        yield b"i,t\n1,a\n"
        await self.pause(60)

    async def test_a_cancelled_load(self) -> None:
        self.server.run("create table if not exists wide (i int, t text)")
        self.addCleanup(self.server.run, "drop table wide")
        for source in (self.endless, self.silent):
            body = CsvBody(source(), self.threads)
            called = Deferred.fromCoroutine(self.load(body, table=TableName(None, "wide")))
            await self.pause(0.4)
            self.assertEqual(self.working(), 1)
            called.cancel()
            await self.assertFailure(called, CancelledError)
            await self.stops_within(1)
        self.assertEqual(self.server.run("select count(*) from wide"), [(0,)])

    async def test_a_load_that_waits_for_a_lock_is_cancelled(self) -> None:
        blocker = self.server.connect(autocommit=False)
        self.addCleanup(blocker.close)
        blocker.cursor().execute("lock table loaded in exclusive mode")
        called = Deferred.fromCoroutine(self.load(CsvBody(self.endless(), self.threads)))
        await self.pause(0.4)
        called.cancel()
        await self.assertFailure(called, CancelledError)
        blocker.rollback()
        await self.stops_within(1)

    async def test_the_policys_time_does_not_count_that_of_a_slow_caller(self) -> None:
        async def slow() -> AsyncIterator[bytes]:
            yield b"i,t\n1,a\n"
            await self.pause(1.0)
            yield b"2,b\n"

        policy = DatabasePolicy(statement_timeout=0.5)
        self.assertEqual(await self.load(CsvBody(slow(), self.threads), policy), 2)
        blocker = self.server.connect(autocommit=False)
        self.addCleanup(blocker.close)
        blocker.cursor().execute("lock table loaded in exclusive mode")
        await self.problem(self.load(self.csv("i\n5\n"), policy), "deadline_exceeded")
        blocker.rollback()

    async def test_a_policy_that_is_read_only(self) -> None:
        problem = await self.problem(
            self.load(self.csv("i\n5\n"), DatabasePolicy(read_only=True)), "policy_denied"
        )
        self.assertEqual(problem.extra, {"rule": "read_only"})

    async def test_a_table_that_is_not_there(self) -> None:
        await self.problem(
            self.load(self.csv("i\n5\n"), table=TableName("no", "where")), "not_found"
        )

    async def test_a_load_in_a_session(self) -> None:
        self.caller()
        session = await self.adapter.session()
        self.assertEqual(await session.load(Load(TABLE, self.csv("i\n5\n6\n"))), 2)
        self.assertEqual(
            await session.load(Load(TABLE, self.csv("i,t\n6,x\n"), on_conflict="update")), 1
        )
        self.assertEqual(
            await session.load(Load(TABLE, self.csv("i,t\n6,y\n"), on_conflict="update")), 1
        )
        self.assertEqual(self.loaded(), [])
        await self.problem(session.load(Load(TABLE, self.csv("no\n1\n"))), "bad_request")
        await session.commit()
        self.assertEqual(self.loaded(), [(5, None), (6, "y")])
        await self.problem(session.load(Load(TABLE, self.csv("i\n5\n"))), "query_failed")
        await session.rollback()
        self.assertFalse(session.ended)
        await session.close()
