"""A real MariaDB of one's own: TLS with its own CA, a user with a password, in a temporary folder.

It runs as the system's ``mysql`` user where the tests run as root: the server refuses root.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import pymysql
from attrs import define

from .certificates import write_certificates
from .ports import free_port

SERVER: Final = "/usr/sbin/mariadbd"
INSTALL: Final = "/usr/bin/mariadb-install-db"
START_SECONDS: Final = 30.0
USER: Final = "owner"
PASSWORD: Final = "s3cret-öwner's"
DATABASE: Final = "app"

_SETTINGS: Final = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--max-allowed-packet=256M",
    "--max-connections=80",
)


@define(eq=False)
class MariadbServer:
    """A running server; it greets on ``port`` of 127.0.0.1.

    ``folder`` holds its socket, and ``ca.crt``, ``client.crt`` and ``client.key`` for those who
    connect with TLS. :data:`USER` may do everything from everywhere.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> Self:
        """A new server with the empty database :data:`DATABASE`. Takes one to two seconds."""
        folder = Path(tempfile.mkdtemp(prefix="onprem-maria-"))
        write_certificates(folder, USER)
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        user = _unprivileged()
        if user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user["user"], user["group"])
        install = [
            INSTALL, "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]  # fmt: skip
        with (folder / "output").open("wb") as output:
            outcome = subprocess.run(install, check=False, timeout=60, **_plain(folder, output))
        if outcome.returncode:
            text = (folder / "output").read_text()
            shutil.rmtree(folder, ignore_errors=True)
            raise RuntimeError(f"mariadb-install-db: {text[:4000]}")
        port = free_port()
        server = cls(folder, port, _launch(folder, port))
        atexit.register(server.destroy)
        server._wait()
        server._prepare()
        return server

    def pause(self, *, crash: bool = False) -> None:
        """Stop it and keep its data; ``crash``: as kill -9 does."""
        if crash:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(30)

    def resume(self) -> None:
        """Start it again after :meth:`pause`."""
        self.process = _launch(self.folder, self.port)
        self._wait()

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        if self.process.poll() is None:
            self.pause()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, **options: Any) -> Any:
        """A direct PyMySQL connection in autocommit mode, of :data:`USER` by default."""
        wanted: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "password": PASSWORD.encode(),
            "database": DATABASE,
            "autocommit": True,
            "ssl_disabled": True,
        }
        return pymysql.connect(**wanted | options)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as :data:`USER`; the rows of the last."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for sql in statements:
                    cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _prepare(self) -> None:
        root = pymysql.connect(unix_socket=str(self.folder / "socket"), user="root")
        with root.cursor() as cursor:
            cursor.execute(f"create user '{USER}'@'%%' identified by %s", (PASSWORD,))
            cursor.execute(f"grant all on *.* to '{USER}'@'%%' with grant option", ())
            cursor.execute(f"create database {DATABASE} character set utf8mb4")
        root.close()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"mariadbd: {(self.folder / 'output').read_text()[-4000:]}")
            time.sleep(0.02)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
                return b"MariaDB" in link.recv(200)
        except OSError:
            return False


@cache
def shared_server() -> MariadbServer:
    """One server for all tests that leave it as it was; it ends with the process."""
    return MariadbServer.start()


def _launch(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [
        SERVER,
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--port={port}",
        f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}",
        f"--ssl-ca={folder / 'ca.crt'}",
        f"--ssl-cert={folder / 'server.crt'}",
        f"--ssl-key={folder / 'server.key'}",
        *_SETTINGS,
    ]
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(command, **_plain(folder, output))


def _plain(folder: Path, output: Any) -> dict[str, Any]:
    return {
        "cwd": folder,
        # A server that starts removes what it takes for its temporary tables, also another's.
        "env": {**os.environ, "TMPDIR": str(folder / "tmp")},
        "stdin": subprocess.DEVNULL,
        "stdout": output,
        "stderr": subprocess.STDOUT,
        **_unprivileged(),
    }


def _unprivileged() -> Mapping[str, Any]:
    """Whom to run it as, for ``subprocess``."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("mysql")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
