"""The contract of database adapters, for MariaDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from twisted.internet import reactor

from tests.support.mariadb import DATABASE, PASSWORD, USER, shared_server
from tests.support.ports import free_port
from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.adapters.mysql import MysqlDriver
from workato_agent.services.database.adapters.threaded import ThreadedAdapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, MysqlSettings, PoolSettings

from .cases import contract
from .subject import Procedure, Stored, Subject

_SPANS: Mapping[object, object] = {"P1DT2H": "26:00:00.000000", "-PT0.5S": "-00:00:00.500000"}

_PROCEDURE = (
    "create procedure contract_procedure(in n int, out doubled int)"
    " begin set doubled = n * 2; select n as a; select 'x' as b, n as c; end"
)


class Mysql(Subject):
    product = r"^MariaDB \d+\.\d+"
    type = "mysql"
    numbers = "select seq as i from seq_1_to_100000000 where seq <= :n"
    endless = "select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < 0"
    huge = "repeat('x', {size})"
    types: ClassVar[Mapping[ColumnType, Stored]] = {
        "boolean": Stored("boolean"),
        "integer": Stored("bigint"),
        "float": Stored("double"),
        "decimal": Stored("decimal(38, 9)"),
        "string": Stored("longtext"),
        "bytes": Stored("longblob"),
        "date": Stored("date"),
        "time": Stored("time(6)"),
        "timestamp": Stored("datetime(6)"),
        "timestamptz": Stored(
            "timestamp(6) null",
            samples=("2024-02-29T13:45:00.123456+01:00", "2038-01-19T03:14:07Z"),
        ),
        "interval": Stored("time(6)", kind="time", samples=list(_SPANS), back=_SPANS.__getitem__),
        "uuid": Stored("uuid"),
        "json": Stored("json"),
    }
    nul = True
    big_integer = "9" * 30
    transactional_ddl = False
    division_by_zero = None
    slow_write = "insert into contract_slow select 1 from seq_1_to_1000000000000"
    procedure = Procedure(
        create=[_PROCEDURE],
        drop=["drop procedure if exists contract_procedure"],
        params=[21],
        out={"doubled": 42},
        sets=2,
    )
    sqlstates: ClassVar[Mapping[str, str]] = {
        "syntax": "42000",
        "missing": "42S02",
        "duplicate": "23000",
    }

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        return self._at(shared_server().port, policy, pool)

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._at(free_port(), policy, pool)

    def stuck(self, port: int, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        return self._at(port, policy, pool, connect_timeout=1.0)

    def running(self, marker: str) -> int | None:
        rows = shared_server().run(
            f"select count(*) from information_schema.processlist"
            f" where id <> connection_id() and info like '%{marker}%'"
        )
        return int(rows[0][0])

    def end_connections(self) -> bool:
        server = shared_server()
        for (number,) in server.run(
            "select id from information_schema.processlist"
            " where id <> connection_id() and user = 'owner'"
        ):
            server.run(f"kill {number}")
        return True

    def joined(self, *parts: str) -> str:
        return f"concat({', '.join(parts)})"

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def _at(
        self, port: int, policy: DatabasePolicy, pool: PoolSettings, connect_timeout: float = 30.0
    ) -> Adapter:
        settings = MysqlSettings(
            host="127.0.0.1",
            port=port,
            database=DATABASE,
            user=USER,
            password=PASSWORD,
            connect_timeout=connect_timeout,
        )
        return ThreadedAdapter.build(reactor, MysqlDriver.build(settings, policy), pool, policy)


globals().update(contract(Mysql))
