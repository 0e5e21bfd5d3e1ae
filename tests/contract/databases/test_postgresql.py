"""The contract of database adapters, for PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor

from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.postgresql import PostgresqlAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    PostgresqlSettings,
)

from .cases import contract
from .subject import Procedure, Stored, Subject

TYPES: Mapping[ColumnType, Stored] = {
    "boolean": Stored("boolean"),
    "integer": Stored("bigint"),
    "float": Stored("double precision"),
    "decimal": Stored("decimal(38,9)"),
    "string": Stored("text"),
    "bytes": Stored("bytea"),
    "date": Stored("date"),
    "time": Stored("time"),
    "timestamp": Stored("timestamp"),
    "timestamptz": Stored("timestamptz"),
    "interval": Stored("interval"),
    "uuid": Stored("uuid"),
    "json": Stored("jsonb"),
    "array": Stored("int[]"),
}
STATES = {"syntax": "42601", "missing": "42P01", "duplicate": "23505", "zero": "22012"}


class Postgresql(Subject):
    product = r"^PostgreSQL \d+\.\d+"
    type = "postgresql"
    numbers = "select i from generate_series(1, :n) as i"
    endless = "select count(*) from generate_series(1, 1e12::bigint)"
    huge = "repeat('x', {size})"
    types: ClassVar[Mapping[ColumnType, Stored]] = TYPES
    nan = True
    big_integer = f"{'9' * 30}"
    casts = True
    question_operator = "'{\"a\": 1}'::jsonb ?? 'a'"
    slow_write = "insert into contract_slow select i from generate_series(1, 1e12::bigint) i"
    procedure = Procedure(
        create=(
            "create procedure contract_procedure(a int, out b int) language sql as 'select a * 2'",
        ),
        drop=("drop procedure if exists contract_procedure",),
        params=[21],
        out={"b": 42},
    )
    sqlstates: ClassVar[Mapping[str, str]] = STATES

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        return self._adapter(shared_server().port, policy, pool)

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._adapter(free_port(), policy, pool)

    def stuck(self, port: int, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._adapter(port, policy, pool, connect_timeout=1.0)

    def running(self, marker: str) -> int | None:
        return seen_running(marker)

    def end_connections(self) -> bool:
        return end_connections()

    def _adapter(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = PostgresqlSettings(
            host="127.0.0.1",
            port=port,
            database="postgres",
            user=SUPERUSER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return PostgresqlAdapter.build(reactor, settings, pool, policy)


def seen_running(marker: str) -> int:
    """How many statements with a word in them run on the shared server."""
    rows = shared_server().run(
        "select count(*) from pg_stat_activity where state = 'active'"
        f" and query like '%{marker}%' and pid <> pg_backend_pid()"
    )
    count: int = rows[0][0]
    return count


def end_connections() -> bool:
    """End all connections to the shared server but one's own."""
    shared_server().run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    return True


globals().update(contract(Postgresql))
