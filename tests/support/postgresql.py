"""A real PostgreSQL of one's own: TLS with its own CA, SCRAM logins, in a temporary folder.

The server refuses to run as root, so as root it is started as the system's ``postgres`` user (any
user with a passwd entry would do: initdb asks for one).
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import psycopg2
from attrs import define, field, frozen

from .certificates import write_certificates
from .ports import free_port

SUPERUSER: Final = "owner"
PASSWORD: Final = "s3cret-öwner"
BINARIES: Final = Path("/usr/lib/postgresql/15/bin")

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 60
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
"""
_ACCESS: Final = """
local   all all                scram-sha-256
hostssl all all 127.0.0.1/32   scram-sha-256
host    all plain 127.0.0.1/32 scram-sha-256
"""


@frozen
class _Identity:
    uid: int
    gid: int
    home: str


def _unprivileged() -> _Identity | None:
    if os.getuid() != 0:
        return None
    entry = pwd.getpwnam("postgres")
    return _Identity(entry.pw_uid, entry.pw_gid, entry.pw_dir)


@define
class PostgresqlServer:
    """A running server. ``folder`` holds ``ca.crt``, ``client.crt`` and ``client.key`` too."""

    folder: Path
    port: int
    _identity: _Identity | None = field(factory=_unprivileged)

    @classmethod
    def start(cls) -> Self:
        """A new server with an empty cluster. Takes about a second."""
        folder = Path(tempfile.mkdtemp(prefix="onprem-pg-"))
        server = cls(folder, free_port())
        atexit.register(server.destroy)
        folder.chmod(0o755)
        write_certificates(folder, SUPERUSER)
        server._own(folder)
        password_file = folder / "password"
        password_file.write_text(PASSWORD, encoding="utf-8")
        server._own(folder)
        server._run(
            "initdb", "-D", str(server._data), "-U", SUPERUSER, "-A", "scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--pwfile={password_file}",
        )  # fmt: skip
        with (server._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(port=server.port, folder=folder))
        (server._data / "pg_hba.conf").write_text(_ACCESS)
        server.resume()
        return server

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def resume(self) -> None:
        """Start it again after :meth:`pause`, or for the first time."""
        self._run(
            "pg_ctl",
            "-D",
            str(self._data),
            "-l",
            str(self.folder / "log"),
            "-w",
            "-t",
            "30",
            "start",
        )

    def pause(self, mode: str = "immediate") -> None:
        """Stop it and keep its data; ``immediate`` is what a crash looks like to its clients."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        if (self._data / "postmaster.pid").exists():
            self.pause()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "postgres", **options: Any) -> Any:
        """A direct psycopg2 connection of the superuser, in autocommit mode by default."""
        autocommit = options.pop("autocommit", True)
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=options.pop("user", SUPERUSER),
            password=options.pop("password", PASSWORD),
            dbname=database,
            **options,
        )
        connection.autocommit = autocommit
        return connection

    def run(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; the rows if it has some."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES / program), *arguments]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        identity = self._identity
        # Output goes to a file: the server would keep a pipe open for ever.
        with (self.folder / f"{program}.out").open("w+b") as output:
            outcome = subprocess.run(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=identity.uid if identity else None,
                group=identity.gid if identity else None,
                extra_groups=[] if identity else None,
                check=False,
                timeout=60,
            )
            output.seek(0)
            if outcome.returncode:
                raise RuntimeError(f"{program} failed: {output.read().decode(errors='replace')}")

    def _own(self, folder: Path) -> None:
        if self._identity is None:
            return
        for path in (folder, *folder.iterdir()):
            os.chown(path, self._identity.uid, self._identity.gid)


@cache
def shared_server() -> PostgresqlServer:
    """One server for all tests that leave it as it was; it ends with the process."""
    return PostgresqlServer.start()
