"""What a database profile is built from: plain values, whatever file format they came from."""

from __future__ import annotations

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
    :ivar statement_timeout: seconds that the database may work on one statement.
    """

    read_only: bool = False
    max_rows: int | None = None
    max_bytes: int | None = None
    statement_timeout: float = 0.0


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
