"""What a database profile is built from: plain values, whatever file format they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from attrs import field, frozen

TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@frozen
class PoolSettings:
    """Limits of a profile's connections. Times in seconds.

    :ivar min: idle connections that are kept although nobody needs them.
    :ivar max: connections open at the same time, whatever they are used for.
    :ivar idle: how long an unused connection is kept.
    :ivar wait: how long a call waits for a connection before it is told ``overloaded``.
    """

    min: int = 0
    max: int = 5
    idle: float = 60.0
    wait: float = 10.0


@frozen
class DatabasePolicy:
    """What the customer allows on a database profile; ``None`` and 0 mean no limit.

    :ivar read_only: by the database's own means (a read-only transaction, a read-only file).
    :ivar max_rows: rows of one result.
    :ivar max_bytes: bytes of one encoded result.
    :ivar adhoc: whether callers may send statements of their own, or named ones only.
    :ivar tables: patterns (``schema.table``, ``*`` within a part) of the tables that statements may
        touch; None for all.
    :ivar dialect: whose SQL it is that ``tables`` is to be read in, where the adapter doesn't tell.
    :ivar database: MySQL's, which tables are in that are named without one; None for none.
    :ivar statement_timeout: seconds that the database may work on one statement.
    """

    read_only: bool = False
    max_rows: int | None = None
    max_bytes: int | None = None
    statement_timeout: float = 0.0
    adhoc: bool = True
    tables: tuple[str, ...] | None = None
    dialect: str | None = None
    database: str | None = None


@frozen
class SessionSettings:
    """How callers' sessions live.

    :ivar agent: the agent's name, with which their ids begin; calls find the agent by it.
    :ivar timeout: seconds without a call after which a session is rolled back and ended.
    :ivar max: sessions open at the same time; fewer than the pool has connections, so that plain
        calls find one.
    """

    agent: str = ""
    timeout: float = 60.0
    max: int = 4

    @classmethod
    def beside(cls, pool: PoolSettings, *, agent: str, timeout: float) -> SessionSettings:
        """As many as a pool can spare."""
        return cls(agent, timeout, max(1, pool.max - 1))


@frozen
class SqliteSettings:
    """A SQLite file.

    :ivar path: the file; it must exist unless ``create`` is set.
    :ivar busy_timeout: seconds to wait for another process' lock.
    """

    path: Path
    create: bool = False
    busy_timeout: float = 5.0


@frozen
class PostgresqlSettings:
    """A PostgreSQL server and database.

    :ivar host: name, address, or the folder of a Unix socket (it begins with ``/``).
    :ivar tls: libpq's ``sslmode``; ``verify-full`` is the only one that proves who answers.
    :ivar ca_file: PEM file of the authority; the system's trust store for ``verify-…`` without it.
    :ivar connect_timeout: seconds for name resolution, TCP, TLS and login together.
    """

    host: str
    database: str
    user: str
    password: str = field(default="", repr=False)
    port: int = 5432
    tls: TlsMode = "prefer"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    connect_timeout: float = 30.0


@frozen
class MysqlSettings:
    """A MySQL or MariaDB server.

    :ivar host: name, address, or the path of a Unix socket (it begins with ``/``).
    :ivar database: None for none: statements then qualify their tables.
    :ivar tls: as for PostgreSQL; ``prefer`` takes TLS, unverified, where the server offers it.
    :ivar connect_timeout: seconds for name resolution, TCP, TLS and login together.
    """

    host: str
    user: str
    database: str | None = None
    password: str = field(default="", repr=False)
    port: int = 3306
    tls: TlsMode = "prefer"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    connect_timeout: float = 30.0


@frozen
class OdbcSettings:
    """Any ODBC data source.

    :ivar keys: the connection string's keys (``Driver`` or ``DSN``, and what the driver knows) with
        their plain values; user and password are not among them.
    """

    keys: Mapping[str, str] = field(repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 30.0


@frozen
class SqlserverSettings:
    """A Microsoft SQL Server, through an ODBC driver.

    :ivar instance: a named instance, found through the server's browser service; None: ``port``.
    :ivar driver: name of the ODBC driver; None for the best one that is installed.
    :ivar encrypt: ``False`` for none, ``True`` for TLS; None leaves it to the driver.
    :ivar trust_certificate: TLS without proof of who answers.
    :ivar properties: further keys of the connection string.
    """

    host: str
    user: str
    database: str | None = None
    password: str = field(default="", repr=False)
    port: int = 1433
    instance: str | None = None
    driver: str | None = None
    encrypt: bool | None = None
    trust_certificate: bool = False
    ca_file: Path | None = None
    connect_timeout: float = 30.0
    properties: Mapping[str, str] = field(factory=dict, repr=False)


@frozen
class OracleSettings:
    """An Oracle database, through the driver that needs no client software.

    :ivar service: its service name; else ``sid``. One of them, or ``dsn``, is given.
    :ivar dsn: a connect descriptor or an Easy Connect string, in place of host, port and the names.
    :ivar tls: TCPS.
    """

    user: str
    password: str = field(default="", repr=False)
    host: str = "localhost"
    port: int = 1521
    service: str | None = None
    sid: str | None = None
    dsn: str | None = None
    tls: bool = False
    ca_file: Path | None = None
    connect_timeout: float = 30.0


@frozen
class JdbcSettings:
    """Any database with a JDBC driver.

    :ivar classpath: jars and folders, of ``server.classpath``.
    :ivar properties: the driver's own.
    """

    url: str = field(repr=False)
    driver_class: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    classpath: Sequence[Path] = ()
    properties: Mapping[str, str] = field(factory=dict, repr=False)
    connect_timeout: float = 30.0
