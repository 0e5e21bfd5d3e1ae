"""The contract of database adapters, for SQL Server's driver path: FreeTDS and a small TDS server.

The server has SQLite behind it: what is tried is the protocol, the driver and its types, not T-SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import ClassVar

from twisted.internet import reactor

from tests.support.ports import free_port
from tests.support.tds import DATABASE, PASSWORD, USER, TdsServer
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.sqlserver import SqlserverDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import (
    DatabasePolicy,
    PoolSettings,
    SqlserverSettings,
)

from .cases import contract
from .subject import Stored
from .test_sqlite import Sqlite

_BEHIND = "the server's SQL is SQLite's"


@cache
def shared_server() -> TdsServer:
    return TdsServer.start()


class Sqlserver(Sqlite):
    product = r"^SQL Server 16\.0"
    type = "sqlserver"
    huge = None
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        "boolean": Stored("bit"),
        "integer": Stored("bigint"),
        "float": Stored("float"),
        "decimal": Stored("decimal(38,9)"),
        "string": Stored("nvarchar(max)"),
        "bytes": Stored("varbinary(max)"),
        "date": Stored("date"),
        "time": Stored("time(7)"),
        "timestamp": Stored("datetime2(7)"),
        "timestamptz": Stored("datetimeoffset(7)"),
        "uuid": Stored("uniqueidentifier"),
    }
    nul = False
    load_names = False
    returning = False
    temporary = None
    slow_write = None
    sqlstates: ClassVar[Mapping[str, str]] = {
        "syntax": "42000",
        "missing": "42S02",
        "duplicate": "23000",
    }
    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "test_tables_and_their_shape",
            "test_an_unknown_table_has_no_shape",
            "test_odd_names",
            "test_a_procedure_that_is_not_there",
            "test_what_is_there_already",
        ),
        _BEHIND,
    )

    def __init__(self) -> None:
        self._server = shared_server()

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        return self._at(self._server.port, policy, pool)

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._at(free_port(), policy, pool)

    def stuck(self, port: int, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._at(port, policy, pool, connect_timeout=1.0)

    def running(self, marker: str) -> int | None:
        return sum(marker in sql for sql in self._server.running)

    def end_connections(self) -> bool:
        self._server.end_connections()
        return True

    def close(self) -> None:
        """The server stays for the next test."""

    def _at(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = SqlserverSettings(
            host="127.0.0.1",
            port=port,
            user=USER,
            password=PASSWORD,
            database=DATABASE,
            driver="FreeTDS",
            connect_timeout=connect_timeout,
        )
        return ThreadedAdapter.build(reactor, SqlserverDriver.build(settings, policy), pool, policy)


globals().update(contract(Sqlserver))
