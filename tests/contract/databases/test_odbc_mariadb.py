"""The contract of database adapters, for MariaDB through ODBC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from twisted.internet import reactor

from tests.support.mariadb import DATABASE, PASSWORD, USER
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.odbc import OdbcDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, OdbcSettings, PoolSettings

from .cases import contract
from .subject import Stored
from .test_mysql import Mysql


def _in_the_servers_zone(text: object) -> str:
    """The server of the tests has the zone of their machine."""
    local = datetime.fromisoformat(str(text)).astimezone().replace(tzinfo=None)
    return local.isoformat(timespec="microseconds")


_WHOLE = "Connector/ODBC 3.1 reads a result whole before it gives the first row"


class OdbcMariadb(Mysql):
    type = "odbc"
    # The driver doesn't tell these types from those that they are stored as.
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        kind: stored
        for kind, stored in Mysql.types.items()
        if kind not in ("timestamptz", "interval", "json", "uuid", "boolean")
    } | {
        "uuid": Stored("uuid", kind="string"),
        "timestamptz": Stored(
            "timestamp(6) null",
            kind="timestamp",
            samples=("2024-02-29T13:45:00.123456+01:00", "2038-01-19T03:14:07Z"),
            back=_in_the_servers_zone,
        ),
    }
    exempt: ClassVar[Mapping[str, str]] = {
        "test_huge_values_pass_in_bounded_memory": _WHOLE,
        "test_closing_the_body_stops_the_statement": _WHOLE,
        "test_a_few_rows_of_many_come_at_once_and_leave_a_good_connection": _WHOLE,
    }

    def _at(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = OdbcSettings(
            keys={
                "Driver": "MariaDB Unicode",
                "Server": "127.0.0.1",
                "Port": str(port),
                "Database": DATABASE,
                "FORCETLS": "1",
            },
            user=USER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return ThreadedAdapter.build(reactor, OdbcDriver.build(settings, policy), pool, policy)


globals().update(contract(OdbcMariadb))
