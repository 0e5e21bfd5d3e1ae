"""The contract of database adapters, for PostgreSQL through JDBC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor

from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, SUPERUSER
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings, PoolSettings

from .cases import contract
from .test_postgresql import Postgresql


class JdbcPostgresql(Postgresql):
    type = "jdbc"
    exempt: ClassVar[Mapping[str, str]] = {
        "test_huge_values_pass_in_bounded_memory": "Java's heap has a bound of its own",
    }

    def _adapter(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = JdbcSettings(
            url=f"jdbc:postgresql://127.0.0.1:{port}/postgres?sslmode=require",
            driver_class="org.postgresql.Driver",
            user=SUPERUSER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return ThreadedAdapter.build(reactor, JdbcDriver.build(settings, policy), pool, policy)

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._adapter(free_port(), policy, pool)


globals().update(contract(JdbcPostgresql))
