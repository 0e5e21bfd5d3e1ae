"""Batches, loads, procedures and what a database tells of its tables."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from workato_agent.services.database.adapters.base import Output
from workato_agent.services.database.loading import Load
from workato_agent.services.database.results import JsonWriter
from workato_agent.services.database.settings import DatabasePolicy
from workato_agent.services.database.statements import Batch, TableName, bind
from workato_tunnel.problems import Problem

from .contract import DatabaseContract, RowsBody, pause


class Batches(DatabaseContract):
    def batch(self, sql: str, rows: list[list[object]]) -> Batch:
        return Batch(bind(sql, rows[0], self.dialect), rows)

    async def test_a_statement_runs_for_every_set_of_values(self) -> None:
        await self.table("contract_b", "id int primary key, v varchar(20)")
        adapter = self.adapter()
        rows: list[list[object]] = [[index, f"v{index}"] for index in range(1000)]
        batch = self.batch("insert into contract_b values (?, ?)", rows)
        self.assertEqual(await adapter.batch(batch), 1000)
        batch = self.batch("update contract_b set v = ? where id < ?", [["x", 3], [None, 2]])
        self.assertEqual(await adapter.batch(batch), 5)
        found, _columns = await self.read(
            adapter, "select id, v from contract_b where id < 4 order by id"
        )
        self.assertEqual([list(row) for row in found], [[0, None], [1, None], [2, "x"], [3, "v3"]])

    async def test_a_batch_is_all_or_nothing(self) -> None:
        await self.table("contract_b", "id int primary key")
        rows: list[list[object]] = [[1], [2], [1]]
        work = self.adapter().batch(self.batch("insert into contract_b values (?)", rows))
        await self.problem(work, "query_failed")
        self.assertEqual(await self.count("contract_b"), 0)

    async def test_a_batch_is_not_let_by_read_only(self) -> None:
        await self.table("contract_b", "id int primary key")
        adapter = self.adapter(DatabasePolicy(read_only=True))
        work = adapter.batch(self.batch("insert into contract_b values (?)", [[1], [2]]))
        await self.problem(work, "policy_denied")
        self.assertEqual(await self.count("contract_b"), 0)


class Loads(DatabaseContract):
    def names(self, *names: str) -> list[str]:
        return [self.subject.fold(name) for name in names]

    async def test_rows_are_written(self) -> None:
        await self.table("contract_l", "id int primary key, v varchar(20), w int")
        adapter = self.adapter()
        rows = [[index, None if index % 7 == 0 else f"é{index}"] for index in range(2500)]
        body = RowsBody(self.names("id", "v"), rows)
        self.assertEqual(await adapter.load(self.load("contract_l", body)), 2500)
        found, _columns = await self.read(
            adapter, "select id, v, w from contract_l where id in (0, 1, 2499) order by id"
        )
        wanted = [[0, None, None], [1, "é1", None], [2499, None, None]]
        self.assertEqual([list(row) for row in found], wanted)

    async def test_text_becomes_the_columns_types(self) -> None:
        await self.table(
            "contract_l", "id int primary key, f double precision, d decimal(10,2), t varchar(20)"
        )
        adapter = self.adapter()
        body = RowsBody(
            self.names("id", "f", "d", "t"),
            [["1", "1.5", "-2.25", "007"], ["2", None, None, ""]],
            format="csv",
        )
        self.assertEqual(await adapter.load(self.load("contract_l", body)), 2)
        found, _columns = await self.read(adapter, "select id, f, t from contract_l order by id")
        self.assertEqual([list(row) for row in found], [[1, 1.5, "007"], [2, None, ""]])

    async def test_columns_may_be_named_anew(self) -> None:
        await self.table("contract_l", "id int primary key, v varchar(20)")
        adapter = self.adapter()
        body = RowsBody(["x", "y"], [["a", 1], ["b", 2]])
        load = self.load("contract_l", body, self.names("v", "id"))
        self.assertEqual(await adapter.load(load), 2)
        found, _columns = await self.read(adapter, "select id, v from contract_l order by id")
        self.assertEqual([list(row) for row in found], [[1, "a"], [2, "b"]])

    async def test_a_load_is_all_or_nothing(self) -> None:
        await self.table("contract_l", "id int primary key")
        adapter = self.adapter(max=1)
        rows = [[index] for index in range(500)]
        names = self.names("id")
        await self.problem(
            adapter.load(self.load("contract_l", RowsBody(names, [*rows, [5]]))), "query_failed"
        )
        wrong = Problem("bad_request", "row 501 is no row")
        await self.problem(
            adapter.load(self.load("contract_l", RowsBody(names, rows, wrong))), "bad_request"
        )
        self.assertEqual(await self.count("contract_l"), 0)
        self.assertEqual(await adapter.load(self.load("contract_l", RowsBody(names, rows))), 500)

    async def test_what_is_there_already(self) -> None:
        await self.table("contract_l", "id int primary key, v varchar(20)")
        adapter = self.adapter()
        names = self.names("id", "v")
        await adapter.load(self.load("contract_l", RowsBody(names, [[1, "old"], [2, "old"]])))
        body = RowsBody(names, [[2, "new"], [3, "new"]])
        await self.problem(adapter.load(self.load("contract_l", body)), "query_failed")
        ignoring = self.load("contract_l", body, None, "ignore", self.names("id"))
        self.assertEqual(await adapter.load(ignoring), 1)
        self.assertEqual(await self.contents(), [[1, "old"], [2, "old"], [3, "new"]])
        body = RowsBody(names, [[1, "newer"], [4, "newer"]])
        await adapter.load(self.load("contract_l", body, None, "update", self.names("id")))
        self.assertEqual(
            await self.contents(), [[1, "newer"], [2, "old"], [3, "new"], [4, "newer"]]
        )
        body = RowsBody(names, [[2, "newest"]])
        await adapter.load(self.load("contract_l", body, None, "update"))
        self.assertEqual((await self.contents())[1], [2, "newest"])

    async def contents(self) -> list[list[object]]:
        rows, _columns = await self.read(self.adapter(), "select id, v from contract_l order by id")
        return [list(row) for row in rows]

    async def test_an_unknown_table_or_column(self) -> None:
        await self.table("contract_l", "id int primary key")
        adapter = self.adapter()
        others = () if self.subject.load_names else ("query_failed",)
        body = RowsBody(self.names("id"), [[1]])
        await self.problem(adapter.load(self.load("no_such_table", body)), "not_found", *others)
        body = RowsBody(self.names("nope"), [[1]])
        await self.problem(adapter.load(self.load("contract_l", body)), "bad_request", *others)
        body = RowsBody(self.names("id"), [[1]])
        await self.problem(
            adapter.load(self.load("contract_l", body, self.names("id", "id"))),
            "bad_request",
            "query_failed",
        )

    async def test_a_load_of_nothing(self) -> None:
        await self.table("contract_l", "id int primary key")
        body = RowsBody(self.names("id"), [])
        self.assertEqual(await self.adapter().load(self.load("contract_l", body)), 0)

    async def test_a_load_that_is_cancelled_leaves_nothing(self) -> None:
        await self.table("contract_l", "id int primary key")
        adapter = self.adapter(max=1)
        body = RowsBody(self.names("id"), [[index] for index in range(1_000_000)])
        loading = Deferred.fromCoroutine(adapter.load(self.load("contract_l", body)))
        await pause(0.3)
        loading.cancel()
        await self.assertFailure(loading, Exception)
        taken = body.taken
        await pause(0.1)
        self.assertEqual(body.taken, taken)
        self.assertEqual(await self.count("contract_l"), 0)
        await self.read(adapter, "select 1 as a")

    async def test_read_only_is_not_loaded_into(self) -> None:
        await self.table("contract_l", "id int primary key")
        adapter = self.adapter(DatabasePolicy(read_only=True))
        body = RowsBody(self.names("id"), [[1]])
        await self.problem(adapter.load(self.load("contract_l", body)), "policy_denied")
        self.assertEqual(await self.count("contract_l"), 0)


class Procedures(DatabaseContract):
    async def test_a_procedure_gives_back_its_values_and_results(self) -> None:
        procedure = self.subject.procedure
        if procedure is None:
            return
        await self.run_all([*procedure.drop, *procedure.create])
        name = TableName(None, self.subject.fold("contract_procedure"))
        adapter = self.adapter()
        try:
            returned = await adapter.call(name, procedure.params, lambda: Output(JsonWriter()))
            self.assertEqual(returned.out, procedure.out)
            self.assertEqual(len(returned.result_sets), procedure.sets)
        finally:
            await self.run_all(procedure.drop)

    async def test_a_procedure_that_is_not_there(self) -> None:
        work = self.adapter().call(
            TableName(None, "no_such_procedure"), [1], lambda: Output(JsonWriter())
        )
        await self.problem(work, "query_failed", "operation_not_found", "not_found")


class Schemas(DatabaseContract):
    async def test_tables_and_their_shape(self) -> None:
        await self.table(
            "contract_parent", "id int not null, code varchar(10) not null, primary key (id, code)"
        )
        await self.table(
            "contract_child",
            "id int primary key, name varchar(20) not null unique, price decimal(10,2) default 1,"
            " parent int, code varchar(10),"
            " foreign key (parent, code) references contract_parent (id, code)",
        )
        adapter, fold = self.adapter(), self.subject.fold
        tables = {table.name: table for table in await adapter.tables()}
        self.assertEqual(tables[fold("contract_child")].type, "table")
        self.assertEqual(list(tables), sorted(tables))
        shape = await adapter.shape(TableName(None, fold("contract_child")))
        self.assertEqual((shape.name, shape.type), (fold("contract_child"), "table"))
        columns = {column.name: column for column in shape.columns}
        names = [fold(name) for name in ("id", "name", "price", "parent", "code")]
        self.assertEqual(list(columns), names)
        self.assertEqual(columns[fold("id")].type, "integer")
        name, price = columns[fold("name")], columns[fold("price")]
        self.assertEqual((name.type, name.nullable, name.length), ("string", False, 20))
        self.assertEqual((price.type, price.precision, price.scale), ("decimal", 10, 2))
        self.assertTrue(price.nullable)
        self.assertIn("1", price.default or "")
        self.assertEqual(list(shape.primary_key), [fold("id")])
        self.assertEqual([list(key) for key in shape.unique_keys], [[fold("name")]])
        (key,) = shape.foreign_keys
        self.assertEqual(list(key.columns), [fold("parent"), fold("code")])
        self.assertEqual(key.table, fold("contract_parent"))
        self.assertEqual(list(key.references), [fold("id"), fold("code")])
        parent = await adapter.shape(TableName(None, fold("contract_parent")))
        self.assertEqual(list(parent.primary_key), [fold("id"), fold("code")])

    async def test_an_unknown_table_has_no_shape(self) -> None:
        adapter = self.adapter()
        await self.problem(adapter.shape(TableName(None, "no_such_table")), "not_found")
        await self.problem(adapter.shape(TableName("nowhere", "contract")), "not_found")

    async def test_odd_names(self) -> None:
        name = "contract Odd 'é\""
        quoted = self.subject.quoted(name)
        await self.table(quoted, f"{self.subject.quoted('a b')} int")
        adapter = self.adapter()
        shape = await adapter.shape(TableName(None, name))
        self.assertEqual([column.name for column in shape.columns], ["a b"])
        body = RowsBody(["a b"], [[1], [2]])
        self.assertEqual(await adapter.load(Load(TableName(None, name), body)), 2)
