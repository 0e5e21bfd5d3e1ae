"""The contract of database adapters, for PostgreSQL through ODBC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor

from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.odbc import OdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, OdbcSettings, PoolSettings

from .cases import contract
from .subject import Stored
from .test_postgresql import TYPES, Postgresql


class OdbcPostgresql(Postgresql):
    type = "odbc"
    question_operator = None
    # The driver has no name for these types; their text is what comes back.
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        kind: stored for kind, stored in TYPES.items() if kind not in ("json", "array")
    }

    def _adapter(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = OdbcSettings(
            keys={
                "Driver": "PostgreSQL Unicode",
                "Server": "127.0.0.1",
                "Port": str(port),
                "Database": "postgres",
                "SSLmode": "require",
            },
            user=SUPERUSER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return ThreadedAdapter.build(reactor, OdbcDriver.build(settings, policy), pool, policy)

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._adapter(free_port(), policy, pool)


globals().update(contract(OdbcPostgresql))
