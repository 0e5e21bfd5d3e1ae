"""Batches, procedures, the catalogue and sessions on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.base import Output, RowStream
from workato_agent.services.database.adapters.postgresql import PostgresqlAdapter
from workato_agent.services.database.adapters.postgresql_batch import find_values
from workato_agent.services.database.adapters.postgresql_session import PostgresqlSession
from workato_agent.services.database.adapters.postgresql_work import PostgresqlWork
from workato_agent.services.database.parameters import Number, Typed
from workato_agent.services.database.results import JsonWriter
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings
from workato_agent.services.database.statements import (
    POSTGRESQL,
    Batch,
    TableName,
    bind,
)


class WorkTestCase(PostgresqlTestCase):
    """Adapters asked directly."""

    def adapt(
        self, policy: DatabasePolicy | None = None, pool: PoolSettings | None = None
    ) -> PostgresqlAdapter:
        self.caller(policy, pool)
        return self.adapter

    def create(self, sql: str, drop: str) -> None:
        self.server.run(sql)
        self.addCleanup(self.server.run, drop)

    async def execute(self, work: PostgresqlWork, sql: str) -> int:
        outcome = await work.execute(bind(sql, None, POSTGRESQL), Output(JsonWriter()))
        return outcome.row_count

    async def rows(self, work: PostgresqlWork, sql: str) -> list[list[Any]]:
        output = Output(JsonWriter())
        stream = await work.query(bind(sql, None, POSTGRESQL), output)
        return await self.read(stream)

    async def read(self, stream: RowStream) -> list[list[Any]]:
        parts = []
        while (block := await stream.next_block()) is not None:
            parts.append(block.data)
        await stream.finish()
        rows: list[list[Any]] = json.loads(b"[%b]" % b"".join(parts))
        return rows


def batch(sql: str, rows: Sequence[Sequence[object]]) -> Batch:
    return Batch(bind(sql, list(rows[0]), POSTGRESQL), rows)


class Batches(WorkTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.create(
            "create table many (i int primary key, t text, d date, b bytea)", "drop table many"
        )

    async def test_many_rows_are_inserted(self) -> None:
        rows = [[n, f"it's \\ {n}", Typed("date", "2024-01-02"), bytes([n % 256])]
                for n in range(12_345)]  # fmt: skip
        adapter = self.adapt()
        self.assertEqual(
            await adapter.batch(batch("insert into many (i, t, d, b) values (?, ?, ?, ?)", rows)),
            12_345,
        )
        self.assertEqual(
            self.server.run("select count(*), sum(i), min(t), count(b) from many")[0][:3],
            (12_345, sum(range(12_345)), "it's \\ 0"),
        )

    async def test_any_statement_is_run_for_each_set(self) -> None:
        adapter = self.adapt()
        await adapter.batch(batch("insert into many (i) values (?)", [[1], [2], [3]]))
        changed = await adapter.batch(
            batch("update many set t = ? where i >= ?", [["a", 2], ["b", 3], ["c", 9]])
        )
        self.assertEqual(changed, 3)
        self.assertEqual(
            self.server.run("select i, t from many order by i"), [(1, None), (2, "a"), (3, "b")]
        )
        self.assertEqual(await adapter.batch(batch("delete from many where i = ?", [[1], [2]])), 2)

    async def test_all_or_nothing_and_the_set_is_named(self) -> None:
        adapter = self.adapt()
        for sql in (
            "insert into many (i) values (?)",
            "insert into many (i) select ?",
        ):
            rows: list[list[object]] = [[n] for n in range(3000)]
            rows[2500] = [7]
            problem = await self.problem(adapter.batch(batch(sql, rows)), "query_failed")
            self.assertEqual(problem.extra["field"], "params[2500]")
            self.assertEqual(problem.extra["sqlstate"], "23505")
            rows[2500] = ["x"]
            problem = await self.problem(adapter.batch(batch(sql, rows)), "query_failed")
            self.assertEqual(problem.extra["field"], "params[2500]")
            rows[2500] = ["a\0"]
            problem = await self.problem(adapter.batch(batch(sql, rows)), "bad_request")
            self.assertEqual(problem.extra["field"], "params[2500]")
        self.assertEqual(self.server.run("select count(*) from many"), [(0,)])

    async def test_a_row_that_meets_itself_is_updated_twice(self) -> None:
        sql = "insert into many (i, t) values (?, ?) on conflict (i) do update set t = excluded.t"
        changed = await self.adapt().batch(batch(sql, [[1, "a"], [1, "b"], [2, "c"]]))
        self.assertEqual(changed, 3)
        self.assertEqual(self.server.run("select t from many order by i"), [("b",), ("c",)])

    async def test_a_statement_can_not_be_left(self) -> None:
        adapter = self.adapt(DatabasePolicy(read_only=True))
        for sql in (
            "insert into many (i) values (?)",
            "select ?; commit; insert into many (i) values (1)",
            "commit /* ? */ -- ?",
        ):
            rows = [[1], [2]] if sql.count("?") == 1 else [[1]]
            try:
                await adapter.batch(Batch(bind(sql, rows[0], POSTGRESQL), rows))
            except Exception as error:  # noqa: BLE001 - which one is not the point
                self.assertIn(
                    getattr(error, "code", ""), ("query_failed", "policy_denied", "bad_request")
                )
            else:
                self.fail(sql)
        self.assertEqual(self.server.run("select count(*) from many"), [(0,)])

    async def test_a_cancelled_batch(self) -> None:
        adapter = self.adapt()
        for sql in (
            "insert into many (i) values (?)",
            "update many set t = pg_sleep(?)::text",
            "select pg_sleep(?)",
        ):
            rows = [[n] for n in range(1, 200_000 if sql.startswith("insert") else 50)]
            called = Deferred.fromCoroutine(adapter.batch(batch(sql, rows)))
            await self.pause(0.3)
            if called.called:
                continue
            called.cancel()
            await self.assertFailure(called, CancelledError)
            await self.stops_within(1)

    def test_only_a_single_row_of_values_is_multiplied(self) -> None:
        for sql, found in (
            ("insert into t values (?, ?)", True),
            (
                "INSERT INTO t (a) VALUES (lower(?), (select ?)) ON CONFLICT DO NOTHING",
                True,
            ),
            ("insert into t values (?, 1), (?, 2)", False),
            ("insert into t select ?, ?", False),
            ("insert into t values (?, 1) on conflict (a) do update set b = ?", False),
            ("with x as (select ?) insert into t values (?)", False),
            ("insert into values values (?, ?) returning a", True),
            ("update t set a = ? where b in (values (?))", False),
        ):
            values = find_values(bind(sql, [1, 2], POSTGRESQL))
            self.assertEqual(values is not None, found, sql)
        values = find_values(
            bind("insert into t values (?, '??', ?) returning 1 ?? 2", [1, 2], POSTGRESQL)
        )
        assert values is not None
        self.assertEqual(
            values.render([[1, 2], [3, 4]], str),
            "insert into t values (1, '??', 2), (3, '??', 4) returning 1 ? 2",
        )


class Calls(WorkTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.create(
            """
            create schema routines;
            create table routines.log (i int);
            create procedure routines.add_up(a int, inout total numeric,
              out note text, inout p int default 5)
              language plpgsql as $$begin total := total + a + p; note := 'done'; end$$;
            create procedure routines.note(i int) language sql
              as 'insert into routines.log values (i)';
            create function routines.twice(x numeric) returns numeric language sql
              as 'select x * 2';
            create function routines.pair(x int, out a int, out "B c" text) language sql
              as $$select x, 'y'$$;
            create function routines.numbers(n int default 3) returns setof int language sql
              as 'select generate_series(1, n)';
            create function routines.named(n int) returns table (k int, v text) language sql
              as $$select i, repeat('x', i) from generate_series(1, n) i$$;
            create function routines.nothing() returns void language sql as '';
            create function routines.opened() returns refcursor language plpgsql as
              $$declare c refcursor; begin open c for
                select i, i * 2 as j from generate_series(1, 1000) i; return c; end$$;
            create procedure routines.two(inout a refcursor, inout b refcursor)
              language plpgsql as
              $$begin open a for select 1 as x; open b for select 'y' as z; end$$;
            create function routines.total(variadic n int[]) returns bigint language sql
              as 'select sum(u) from unnest(n) u';
            create function routines.several(a int) returns text language sql as $$select 'int'$$;
            create function routines.several(a text, b text) returns text language sql
              as $$select 'texts'$$;
            """,
            "drop schema routines cascade",
        )

    async def run_it(
        self, name: str, params: Any = None, policy: DatabasePolicy | None = None
    ) -> Any:
        def outputs() -> Output:
            return Output(JsonWriter(), max_rows=100, own_limit=True)

        adapter = self.adapt(policy)
        found = await adapter.call(TableName("routines", name), params, outputs)
        sets = [
            (
                json.loads(b"[%b]" % each.rows),
                [column.name for column in each.columns],
                each.truncated,
            )
            for each in found.result_sets
        ]
        return dict(found.out), sets

    async def test_procedures_with_parameters_of_every_mode(self) -> None:
        wanted = ({"total": "3.5", "note": "done", "p": 1}, [])
        half = Number("0.5")
        self.assertEqual(await self.run_it("add_up", [2, half, 1]), wanted)
        self.assertEqual(await self.run_it("add_up", [2, half, None, 1]), wanted)
        self.assertEqual(await self.run_it("add_up", {"p": 1, "a": 2, "total": half}), wanted)
        self.assertEqual(
            await self.run_it("add_up", {"a": 2, "total": half}),
            ({"total": "7.5", "note": "done", "p": 5}, []),
        )
        self.assertEqual(await self.run_it("note", [7]), ({}, []))
        self.assertEqual(self.server.run("select i from routines.log"), [(7,)])

    async def test_functions(self) -> None:
        self.assertEqual(await self.run_it("twice", [Number("1.25")]), ({"return": "2.50"}, []))
        self.assertEqual(await self.run_it("pair", {"x": 4}), ({"a": 4, "B c": "y"}, []))
        self.assertEqual(await self.run_it("nothing"), ({}, []))
        self.assertEqual(await self.run_it("total", [1, 2, 3]), ({"return": 6}, []))
        self.assertEqual(await self.run_it("several", [1]), ({"return": "int"}, []))
        self.assertEqual(await self.run_it("several", ["a", "b"]), ({"return": "texts"}, []))

    async def test_sets_and_cursors_are_result_sets(self) -> None:
        self.assertEqual(
            await self.run_it("numbers"), ({}, [([[1], [2], [3]], ["numbers"], False)])
        )
        self.assertEqual(
            await self.run_it("named", [2]), ({}, [([[1, "x"], [2, "xx"]], ["k", "v"], False)])
        )
        out, sets = await self.run_it("numbers", {"n": 5000})
        self.assertEqual((out, len(sets[0][0]), sets[0][2]), ({}, 100, True))
        out, sets = await self.run_it("opened")
        self.assertEqual((len(sets[0][0]), sets[0][1:]), (100, (["i", "j"], True)))
        _out, sets = await self.run_it("two", [None, None])
        self.assertEqual(sets, [([[1]], ["x"], False), ([["y"]], ["z"], False)])

    async def test_what_is_not_there(self) -> None:
        await self.problem(self.run_it("missing"), "operation_not_found")
        await self.problem(self.run_it("log"), "operation_not_found")
        problem = await self.problem(self.run_it("twice", [1, 2]), "bad_request")
        self.assertIn("twice(x)", problem.hint or "")
        await self.problem(self.run_it("twice", {"y": 1}), "bad_request")

    async def test_a_policy_that_is_read_only(self) -> None:
        problem = await self.problem(
            self.run_it("note", [1], DatabasePolicy(read_only=True)), "policy_denied"
        )
        self.assertEqual(problem.extra, {"rule": "read_only"})
        self.assertEqual(self.server.run("select count(*) from routines.log"), [(0,)])

    async def test_a_cancelled_call(self) -> None:
        adapter = self.adapt()
        called = Deferred.fromCoroutine(
            adapter.call(TableName(None, "pg_sleep"), [60], lambda: Output(JsonWriter()))
        )
        await self.pause(0.3)
        self.assertEqual(self.working(), 1)
        called.cancel()
        await self.assertFailure(called, CancelledError)
        await self.stops_within(1)


class Catalogue(WorkTestCase):
    async def test_tables_and_their_shape(self) -> None:
        self.create(
            """
            create schema shop;
            create table shop.customers (id bigint generated always as identity primary key,
              name varchar(40) not null unique, "Code" char(3));
            create table shop.orders (customer bigint references shop.customers,
              day date default current_date,
              total numeric(10,2) not null, tags text[],
              half numeric generated always as (total / 2) stored,
              number serial, primary key (customer, day), unique (total, number));
            comment on table shop.orders is 'what was sold';
            comment on column shop.orders.total is 'with tax';
            create view shop.recent as select * from shop.orders;
            create materialized view shop.kept as select 1 as one;
            """,
            "drop schema shop cascade",
        )
        adapter = self.adapt()
        tables = [each for each in await adapter.tables() if each.schema == "shop"]
        self.assertEqual(
            [(each.name, each.type, each.comment) for each in tables],
            [("customers", "table", None), ("kept", "materialized view", None),
             ("orders", "table", "what was sold"), ("recent", "view", None)],
        )  # fmt: skip
        self.assertFalse([each for each in await adapter.tables() if each.schema == "pg_catalog"])
        shape = await adapter.shape(TableName("shop", "orders"))
        self.assertEqual((shape.schema, shape.name, shape.type), ("shop", "orders", "table"))
        columns = {column.name: column for column in shape.columns}
        self.assertEqual(list(columns), ["customer", "day", "total", "tags", "half", "number"])
        total = columns["total"]
        self.assertEqual(
            (
                total.type,
                total.database_type,
                total.nullable,
                total.precision,
                total.scale,
                total.comment,
            ),
            ("decimal", "numeric(10,2)", False, 10, 2, "with tax"),
        )
        self.assertEqual((columns["day"].default, columns["tags"].type), ("CURRENT_DATE", "array"))
        self.assertEqual(
            [name for name, column in columns.items() if column.generated], ["half", "number"]
        )
        self.assertEqual(shape.primary_key, ["customer", "day"])
        self.assertEqual(list(shape.unique_keys), [["total", "number"]])
        key = shape.foreign_keys[0]
        self.assertEqual(
            (key.columns, key.schema, key.table, key.references),
            (["customer"], "shop", "customers", ["id"]),
        )
        shape = await adapter.shape(TableName("shop", "customers"))
        self.assertEqual(
            [(each.name, each.generated, each.length) for each in shape.columns],
            [("id", True, None), ("name", False, 40), ("Code", False, 3)],
        )
        await self.problem(adapter.shape(TableName("shop", "Orders")), "not_found")
        await self.problem(adapter.shape(TableName(None, "orders")), "not_found")

    async def test_precision_and_scale_stand_in_results(self) -> None:
        answer = await self.caller().query(
            "select 1::numeric(10,2) as a, 1::numeric as b, 1::numeric(5,-2) as c, 1 as d"
        )
        self.assertEqual(
            answer.json["columns"],
            [{"name": "a", "type": "decimal", "precision": 10, "scale": 2},
             {"name": "b", "type": "decimal"},
             {"name": "c", "type": "decimal", "precision": 5, "scale": -2},
             {"name": "d", "type": "integer"}],
        )  # fmt: skip


class Sessions(WorkTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("create table kept (i int primary key)", "drop table kept")

    async def begin(self, adapter: PostgresqlAdapter) -> PostgresqlSession:
        session = await adapter.session()
        self.addCleanup(lambda: Deferred.fromCoroutine(session.close()))
        return session

    def kept(self) -> list[int]:
        return [row[0] for row in self.server.run("select i from kept order by i")]

    async def test_a_transaction_goes_over_several_calls(self) -> None:
        session = await self.begin(self.adapt())
        await self.execute(session, "insert into kept values (1)")
        await session.batch(batch("insert into kept values (?)", [[2], [3]]))
        self.assertEqual(await self.rows(session, "select count(*) from kept"), [[3]])
        self.assertEqual(self.kept(), [])
        await session.commit()
        self.assertEqual(self.kept(), [1, 2, 3])
        await self.execute(session, "delete from kept")
        await session.rollback()
        await session.rollback()
        await session.commit()
        self.assertEqual(self.kept(), [1, 2, 3])
        await self.execute(session, "insert into kept values (4)")
        await session.close()
        await session.close()
        self.assertEqual(self.kept(), [1, 2, 3])
        self.assertTrue(session.ended)
        await self.problem(self.rows(session, "select 1"), "not_found")

    async def test_a_refused_statement_leaves_a_transaction_to_be_rolled_back(self) -> None:
        session = await self.begin(self.adapt())
        await self.execute(session, "insert into kept values (1)")
        await self.problem(self.rows(session, "select 1/0"), "query_failed")
        problem = await self.problem(self.rows(session, "select 1"), "query_failed")
        self.assertEqual(problem.extra["sqlstate"], "25P02")
        problem = await self.problem(session.commit(), "query_failed")
        self.assertEqual(problem.extra["sqlstate"], "25P02")
        self.assertEqual(await self.rows(session, "select 1"), [[1]])
        await self.problem(session.shape(TableName(None, "no_such_table")), "not_found")
        self.assertEqual(await self.rows(session, "select 2"), [[2]])
        self.assertEqual(self.kept(), [])

    async def test_settings_and_temporary_tables_last_for_the_session(self) -> None:
        adapter = self.adapt(pool=PoolSettings(max=1))
        session = await self.begin(adapter)
        await self.execute(session, "set search_path = pg_catalog")
        await self.execute(session, "set datestyle = 'german'")
        await self.execute(session, "create temporary table mine as select date '2024-02-29' as d")
        await session.commit()
        self.assertEqual(await self.rows(session, "show search_path"), [["pg_catalog"]])
        self.assertEqual(await self.rows(session, "select * from mine"), [["2024-02-29"]])
        self.assertEqual(
            [column.name for column in (await session.shape(TableName(None, "mine"))).columns],
            ["d"],
        )
        await session.close()
        self.assertEqual(await self.rows(adapter, "show search_path"), [['"$user", public']])
        self.assertEqual(await self.rows(adapter, "select to_regclass('mine')::text"), [[None]])

    async def test_a_large_result_is_streamed(self) -> None:
        session = await self.begin(self.adapt())
        rows = await self.rows(session, "select i from generate_series(1, 50000) i")
        self.assertEqual(len(rows), 50_000)
        self.assertEqual(await self.rows(session, "select 1"), [[1]])

    async def test_one_call_at_a_time(self) -> None:
        session = await self.begin(self.adapt())
        called = Deferred.fromCoroutine(self.rows(session, "select pg_sleep(0.3)::text"))
        await self.problem(self.rows(session, "select 1"), "conflict")
        self.assertEqual(await called, [[""]])

    async def test_cancelled_work_ends_it(self) -> None:
        session = await self.begin(self.adapt())
        await self.execute(session, "insert into kept values (1)")
        called = Deferred.fromCoroutine(self.rows(session, "select pg_sleep(60)::text"))
        await self.pause(0.2)
        called.cancel()
        await self.assertFailure(called, CancelledError)
        await self.stops_within(1)
        self.assertTrue(session.ended)
        self.assertEqual(self.kept(), [])

    async def test_an_abandoned_result_ends_it(self) -> None:
        session = await self.begin(self.adapt())
        stream = await session.query(
            bind("select i from generate_series(1, 1e7::int) i", None, POSTGRESQL),
            Output(JsonWriter()),
        )
        await stream.next_block()
        await stream.abort()
        self.assertTrue(session.ended)
        await self.stops_within(1)

    async def test_a_connection_that_is_lost_ends_it(self) -> None:
        adapter = self.adapt(pool=PoolSettings(max=1))
        session = await self.begin(adapter)
        pid = (await self.rows(session, "select pg_backend_pid()"))[0][0]
        self.server.run(f"select pg_terminate_backend({pid})")
        await self.pause(0.2)
        self.assertTrue(session.ended)
        await self.problem(session.commit(), "not_found")
        self.assertEqual(await self.rows(adapter, "select 1"), [[1]])

    async def test_closing_while_a_statement_runs(self) -> None:
        session = await self.begin(self.adapt())
        called = Deferred.fromCoroutine(self.rows(session, "select pg_sleep(60)::text"))
        await self.pause(0.2)
        await session.close()
        await self.stops_within(1)
        await self.problem(called, "query_failed")

    async def test_a_policy_that_is_read_only(self) -> None:
        session = await self.begin(self.adapt(DatabasePolicy(read_only=True)))
        for sql in (
            "set transaction read write",
            "set session characteristics as transaction read write",
            "set default_transaction_read_only = off",
            "commit",
            "begin",
            "select set_config('transaction_read_only', 'off', false)",
            "insert into kept values (1)",
        ):
            for conclude in (session.rollback, session.commit):
                try:
                    await self.execute(session, sql)
                except Exception as error:  # noqa: BLE001 - which one is not the point
                    self.assertIn(
                        getattr(error, "code", ""), ("query_failed", "policy_denied"), sql
                    )
                try:
                    await self.execute(session, "insert into kept values (1)")
                except Exception as error:  # noqa: BLE001 - as above
                    self.assertIn(
                        getattr(error, "code", ""), ("query_failed", "policy_denied"), sql
                    )
                else:
                    self.fail(sql)
                try:
                    await conclude()
                except Exception as error:  # noqa: BLE001 - as above
                    self.assertEqual(getattr(error, "code", ""), "query_failed")
        self.assertEqual(self.kept(), [])
