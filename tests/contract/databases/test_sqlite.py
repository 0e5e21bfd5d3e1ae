"""The contract of database adapters, for SQLite files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor

from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.sqlite import SqliteDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings, SqliteSettings

from .cases import contract
from .subject import Stored, Subject


class Sqlite(Subject):
    product = r"^SQLite \d+\.\d+"
    type = "sqlite"
    numbers = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < :n)"
        " select i from n"
    )
    endless = (
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    )
    huge = "printf('%.*c', {size}, 'x')"
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        "boolean": Stored("boolean"),
        "integer": Stored("bigint"),
        "float": Stored("double precision"),
        "decimal": Stored("text", kind="string"),
        "string": Stored("text"),
        "bytes": Stored("blob"),
        "date": Stored("date"),
        "time": Stored("time"),
        "timestamp": Stored("timestamp"),
        "timestamptz": Stored("timestamptz"),
        "interval": Stored("interval"),
        "uuid": Stored("uuid"),
        "json": Stored("json"),
    }
    nul = True
    division_by_zero = None
    slow_write = (
        "insert into contract_slow with recursive n(i) as"
        " (select 1 union all select i + 1 from n) select i from n"
    )

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="onprem-sqlite-")
        self._file = Path(self._folder.name) / "a b?#%.db"
        self._file.touch()

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        driver = SqliteDriver(SqliteSettings(self._file), policy)
        return ThreadedAdapter.build(reactor, driver, pool, policy)

    def close(self) -> None:
        self._folder.cleanup()


globals().update(contract(Sqlite))
