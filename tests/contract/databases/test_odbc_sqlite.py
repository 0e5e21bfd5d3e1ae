"""The contract of database adapters, for SQLite through ODBC."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor

from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.odbc import OdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, OdbcSettings, PoolSettings

from .cases import contract
from .subject import Stored
from .test_sqlite import Sqlite


class OdbcSqlite(Sqlite):
    type = "odbc"
    # The driver executes RETURNING and gives no rows, knows fifteen digits of a float, and NUL ends
    # its text.
    returning = False
    nul = False
    load_names = False
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        **Sqlite.types,
        "float": Stored("double precision", samples=(0.0, 1.5, -0.25, 0.1, 1e22, 1e300)),
    }
    exempt: ClassVar[Mapping[str, str]] = {
        "test_huge_values_pass_in_bounded_memory": "the driver reads a result whole",
    }

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="onprem-sqlite-")
        self._file = Path(self._folder.name) / "a b#%.db"
        self._file.touch()

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        settings = OdbcSettings({"Driver": "SQLite3", "Database": str(self._file)})
        return ThreadedAdapter.build(reactor, OdbcDriver.build(settings, policy), pool, policy)


globals().update(contract(OdbcSqlite))
