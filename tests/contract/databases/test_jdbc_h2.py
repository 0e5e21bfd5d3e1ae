"""The contract of database adapters, for H2 through JDBC: a database that nothing is known of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor

from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings, PoolSettings

from .cases import contract
from .subject import Procedure, Stored, Subject


class JdbcH2(Subject):
    product = r"^H2 \d+\.\d+"
    type = "jdbc"
    numbers = "select x as i from system_range(1, :n)"
    endless = "select count(*) from system_range(1, 100000000) a, system_range(1, 100000000) b"
    huge = "repeat('x', {size})"
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        "boolean": Stored("boolean"),
        "integer": Stored("bigint"),
        "float": Stored("double precision"),
        "decimal": Stored("decimal(38, 9)"),
        "string": Stored("varchar"),
        "bytes": Stored("varbinary(100000)"),
        "date": Stored("date"),
        "time": Stored("time(6)"),
        "timestamp": Stored("timestamp(6)"),
        "timestamptz": Stored("timestamp(6) with time zone"),
        "interval": Stored(
            "interval day to second(6)", samples=("PT26H", "PT-0.5S"), back=lambda value: value
        ),
        "uuid": Stored("uuid"),
        "json": Stored("json"),
        "array": Stored("int array"),
    }
    nan = True
    nul = True
    big_integer = f"{'9' * 30}"
    returning = False
    temporary = "create local temporary table mine (id int)"
    transactional_ddl = False
    casts = True
    slow_write = (
        "insert into contract_slow"
        " select a.x from system_range(1, 100000000) a, system_range(1, 100000000) b"
        " where a.x + b.x < 0"
    )
    procedure = Procedure(
        create=[
            'create alias contract_procedure for "java.lang.Math.absExact(int)"',
        ],
        drop=["drop alias if exists contract_procedure"],
        params=[-42],
        out={"return": 42},
    )
    exempt: ClassVar[Mapping[str, str]] = {
        "test_huge_values_pass_in_bounded_memory": "the database itself is in the same memory",
    }
    sqlstates: ClassVar[Mapping[str, str]] = {
        "syntax": "42001",
        "missing": "42S0[24]",
        "duplicate": "23505",
        "zero": "22012",
    }

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        settings = JdbcSettings(
            url="jdbc:h2:mem:contract;DB_CLOSE_DELAY=-1", driver_class="org.h2.Driver"
        )
        return ThreadedAdapter.build(reactor, JdbcDriver.build(settings, policy), pool, policy)

    def fold(self, name: str) -> str:
        return name.upper()


globals().update(contract(JdbcH2))
