"""The contract, for the Redshift adapter's way of talking, with a PostgreSQL at the other end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.base import Adapter, Outcome, Output, Work
from workato_agent.services.database.adapters.redshift import RedshiftAdapter
from workato_agent.services.database.results import ColumnType, JsonWriter
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    PostgresqlSettings,
)
from workato_agent.services.database.statements import POSTGRESQL, bind
from workato_tunnel.problems import Problem

from .cases import contract
from .subject import Stored
from .test_postgresql import TYPES, Postgresql

_FROM_HEX = (
    "create or replace function from_hex(text) returns bytea language sql immutable"
    " as $$select decode($1, 'hex')$$"
)


class RedshiftProtocol(Postgresql):
    type = "redshift"
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        name: stored for name, stored in TYPES.items() if name not in ("array", "interval")
    }
    question_operator = None
    procedure = None
    load_names = False

    def _adapter(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        if port == shared_server().port:
            shared_server().run(_FROM_HEX)
        settings = PostgresqlSettings(
            host="127.0.0.1",
            port=port,
            database="postgres",
            user=SUPERUSER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return RedshiftAdapter.build(reactor, settings, pool, policy)


globals().update(contract(RedshiftProtocol))
# Redshift enforces no keys: loads don't look for conflicts, and of keys only the primary is told.
# A backslash in a statement's own strings is refused.
globals()["RedshiftProtocolSchemas"].test_tables_and_their_shape = None
globals()["RedshiftProtocolLoads"].test_what_is_there_already = None
globals()["RedshiftProtocolStatements"].test_a_parameter_is_never_part_of_the_statement = None


class OnlyHere(PostgresqlTestCase):
    """What has no like in the contract."""

    def adapt(self, policy: DatabasePolicy | None = None) -> Adapter:
        self.caller()
        adapter = RedshiftProtocol()._adapter(
            self.server.port, policy or DatabasePolicy(), PoolSettings()
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        return adapter

    async def execute(self, adapter: Work, sql: str, *values: object) -> Outcome:
        statement = bind(sql, list(values), POSTGRESQL)
        return await adapter.execute(statement, Output(JsonWriter()))

    async def test_statements_that_would_end_the_transaction_are_refused(self) -> None:
        self.server.run("create table if not exists guarded (i int)")
        self.addCleanup(self.server.run, "drop table guarded")
        adapter = self.adapt(DatabasePolicy(read_only=True))
        session = await adapter.session()
        for sql in (
            "commit", "/* */ COMMIT", "begin", "end", "set transaction read write", "abort",
            "select 1; commit", "select 1 as atomic; commit; insert into guarded values (1)",
            "select '\\'; commit; insert into guarded values (1); --'", "do $$begin end$$",
            "insert into guarded values (1)", "explain analyze insert into guarded values (1)",
            "with x as (insert into guarded values (1) returning i) select * from x",
            "copy guarded from stdin", "reset all", "declare x cursor for select 1",
        ):  # fmt: skip
            for work in (adapter, session):
                try:
                    await self.execute(work, sql)
                except Problem as problem:
                    codes = ("query_failed", "policy_denied", "bad_request")
                    self.assertIn(problem.code, codes, sql)
                else:
                    self.fail(sql)
                await session.rollback()
        await session.close()
        self.assertEqual(self.server.run("select count(*) from guarded"), [(0,)])

    async def test_backslashes_in_values_arrive_whatever_strings_mean(self) -> None:
        adapter = self.adapt()
        for mode in ("on", "off"):
            self.server.run(f"alter role owner set standard_conforming_strings = {mode}")
            self.addCleanup(self.server.run, "alter role owner reset all")
            outcome = await self.execute(adapter, "select ? as v", "a\\'; select 1; --\\")
            self.assertEqual(outcome.rows, b'["a\\\\\'; select 1; --\\\\"]')
            await adapter.close()
            adapter = self.adapt()
