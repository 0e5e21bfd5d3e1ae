"""The contract of database adapters, for SQLite through ODBC."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet import reactor

from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.odbc import OdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.settings import DatabasePolicy, OdbcSettings, PoolSettings

from .cases import contract
from .test_sqlite import Sqlite


class OdbcSqlite(Sqlite):
    type = "odbc"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="onprem-sqlite-")
        self._file = Path(self._folder.name) / "a b#%.db"
        self._file.touch()

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        settings = OdbcSettings({"Driver": "SQLite3", "Database": str(self._file)})
        return ThreadedAdapter.build(reactor, OdbcDriver.build(settings, policy), pool, policy)


globals().update(contract(OdbcSqlite))
