"""One builder for each database adapter.

A driver is imported when a profile needs it, so that an agent without such profiles is small and
works where the driver is not installed.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from . import policy
from .config.database import (
    DatabaseProfile,
    JdbcProfile,
    LibpqProfile,
    MysqlProfile,
    OdbcProfile,
    OracleProfile,
    PostgresqlProfile,
    RedshiftProfile,
    SqliteProfile,
    SqlserverProfile,
)
from .config.secrets import Secret
from .services.base import ProfileService
from .services.database.adapters.base import Adapter
from .services.database.adapters.driver import Driver
from .services.database.service import OPERATIONS, DatabaseService
from .services.database.settings import (
    DatabasePolicy,
    JdbcSettings,
    MysqlSettings,
    OdbcSettings,
    OracleSettings,
    PoolSettings,
    PostgresqlSettings,
    SessionSettings,
    SqliteSettings,
    SqlserverSettings,
)
from .serving_databases import DatabaseContext


def database_service(
    reactor: Any, context: DatabaseContext, profile: DatabaseProfile
) -> ProfileService:
    """The service of one profile. Raises ValueError, whose text is for the operator."""
    rules, pool = _policy(profile), _pool(profile)
    need = _Need(reactor, context, pool, rules)
    adapter = _ADAPTERS[type(profile)](need, profile)
    allowed = profile.policy.operations
    operations = tuple(
        name for name in OPERATIONS if allowed is None or name == policy.TEST or name in allowed
    )
    return DatabaseService.build(
        reactor,
        adapter,
        rules,
        operations,
        queries=profile.queries,
        sessions=SessionSettings.beside(pool, agent=context.agent, timeout=profile.session_timeout),
        debug=profile.debug,
    )


def _policy(profile: DatabaseProfile) -> DatabasePolicy:
    rules = profile.policy
    return DatabasePolicy(
        read_only=rules.read_only,
        max_rows=rules.max_rows,
        max_bytes=rules.max_bytes,
        statement_timeout=profile.statement_timeout,
        adhoc=rules.adhoc,
        tables=None if rules.tables is None else tuple(each.text for each in rules.tables),
        dialect=rules.dialect,
        database=profile.database if isinstance(profile, MysqlProfile) else None,
    )


def _pool(profile: DatabaseProfile) -> PoolSettings:
    pool = profile.pool
    return PoolSettings(min=pool.min, max=pool.max, idle=pool.idle, wait=pool.wait)


def _text(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()


@frozen
class _Need:
    """What an adapter is built with beside its driver's settings."""

    reactor: Any
    context: DatabaseContext
    pool: PoolSettings
    policy: DatabasePolicy

    def in_threads(self, driver: Driver) -> Adapter:
        """An adapter round a blocking driver."""
        from .services.database.adapters.threaded import ThreadedAdapter

        return ThreadedAdapter.build(self.reactor, driver, self.pool, self.policy)


def _installed(module: str, install: str) -> None:
    """Refuse a profile whose driver is not there, before anybody calls it."""
    if find_spec(module) is None:
        raise ValueError(f"its driver is not installed: {install}")


def _sqlite(need: _Need, profile: SqliteProfile) -> Adapter:
    from .services.database.adapters.sqlite import SqliteDriver

    if not isinstance(profile.database, Path):
        raise ValueError("a database in memory can't be served: name a file")
    settings = SqliteSettings(profile.database, create=profile.create)
    return need.in_threads(SqliteDriver(settings, need.policy))


def _postgresql(need: _Need, profile: PostgresqlProfile) -> Adapter:
    from .services.database.adapters.postgresql import PostgresqlAdapter

    return PostgresqlAdapter.build(need.reactor, _libpq(profile), need.pool, need.policy)


def _redshift(need: _Need, profile: RedshiftProfile) -> Adapter:
    from .services.database.adapters.redshift import RedshiftAdapter

    return RedshiftAdapter.build(need.reactor, _libpq(profile), need.pool, need.policy)


def _libpq(profile: LibpqProfile) -> PostgresqlSettings:
    return PostgresqlSettings(
        host=profile.host,
        database=profile.database,
        user=profile.username,
        password=_text(profile.password),
        port=profile.port,
        tls=profile.sslmode,
        ca_file=profile.sslrootcert,
        certificate_file=profile.sslcert,
        key_file=profile.sslkey,
        connect_timeout=profile.timeout,
    )


def _mysql(need: _Need, profile: MysqlProfile) -> Adapter:
    _installed("pymysql", "pip install pymysql, Debian: python3-pymysql")
    from .services.database.adapters.mysql import MysqlDriver

    settings = MysqlSettings(
        host=profile.host,
        user=profile.username,
        database=profile.database,
        password=_text(profile.password),
        port=profile.port,
        tls=profile.sslmode,
        ca_file=profile.sslrootcert,
        certificate_file=profile.sslcert,
        key_file=profile.sslkey,
        connect_timeout=profile.timeout,
    )
    return need.in_threads(MysqlDriver.build(settings, need.policy))


def _odbc(need: _Need, profile: OdbcProfile) -> Adapter:
    _installed("pyodbc", "pip install pyodbc, Debian: python3-pyodbc")
    from .services.database.adapters.odbc import OdbcDriver

    user, password = profile.login()
    settings = OdbcSettings(profile.keys(), user, password, profile.timeout)
    return need.in_threads(OdbcDriver.build(settings, need.policy))


def _sqlserver(need: _Need, profile: SqlserverProfile) -> Adapter:
    _installed("pyodbc", "pip install pyodbc, Debian: python3-pyodbc")
    from .services.database.adapters.sqlserver import SqlserverDriver

    settings = SqlserverSettings(
        host=profile.host,
        user=profile.username,
        database=profile.database,
        password=_text(profile.password),
        port=profile.port or 1433,
        # A port that is given is the instance's own: nobody has to be asked for it.
        instance=profile.instance if profile.port is None else None,
        driver=profile.driver,
        encrypt=profile.encrypt,
        trust_certificate=profile.trust_certificate,
        ca_file=profile.ssl_ca,
        connect_timeout=profile.timeout,
        properties=profile.properties,
    )
    return need.in_threads(SqlserverDriver.build(settings, need.policy))


def _oracle(need: _Need, profile: OracleProfile) -> Adapter:
    _installed("oracledb", "pip install 'workato-agent[oracle]'")
    from .services.database.adapters.oracle import OracleDriver

    settings = OracleSettings(
        user=profile.username,
        password=_text(profile.password),
        host=profile.host,
        port=profile.port,
        service=profile.service_name,
        sid=profile.database,
        dsn=profile.dsn,
        tls=profile.tls,
        ca_file=profile.ssl_ca,
        connect_timeout=profile.timeout,
    )
    return need.in_threads(OracleDriver.build(settings, need.policy))


def _jdbc(need: _Need, profile: JdbcProfile) -> Adapter:
    _installed(
        "jpype", "pip install 'workato-agent[jdbc]', and a JRE, Debian: default-jre-headless"
    )
    from .services.database.adapters.jdbc import JdbcDriver

    settings = JdbcSettings(
        url=profile.url,
        driver_class=profile.driver_class,
        user=profile.username,
        password=None if profile.password is None else profile.password.reveal(),
        classpath=need.context.classpath,
        properties=profile.properties,
        connect_timeout=profile.timeout,
    )
    return need.in_threads(JdbcDriver.build(settings, need.policy))


_ADAPTERS: Final[Mapping[type[DatabaseProfile], Callable[[_Need, Any], Adapter]]] = {
    JdbcProfile: _jdbc,
    MysqlProfile: _mysql,
    OdbcProfile: _odbc,
    OracleProfile: _oracle,
    PostgresqlProfile: _postgresql,
    RedshiftProfile: _redshift,
    SqliteProfile: _sqlite,
    SqlserverProfile: _sqlserver,
}
