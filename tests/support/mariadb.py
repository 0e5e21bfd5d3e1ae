"""A real MariaDB of one's own, in a temporary folder, for whoever takes it for something else.

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
from pathlib import Path
from typing import Any, Final, Self

from attrs import frozen

from .ports import free_port

SERVER: Final = "/usr/sbin/mariadbd"
INSTALL: Final = "/usr/bin/mariadb-install-db"
START_SECONDS: Final = 30.0

_SETTINGS: Final = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
)


@frozen
class MariadbServer:
    """A running server; it greets on ``port`` of 127.0.0.1."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> Self:
        """A new server with empty system tables. Takes one to two seconds."""
        folder = Path(tempfile.mkdtemp(prefix="onprem-maria-"))
        port = free_port()
        user = _unprivileged()
        if user:
            os.chown(folder, user["user"], user["group"])
        data = f"--datadir={folder / 'data'}"
        with (folder / "output").open("wb") as output:
            plain: dict[str, Any] = {
                "cwd": folder,
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": subprocess.STDOUT,
                **user,
            }
            install = [INSTALL, "--no-defaults", data, "--skip-test-db"]
            subprocess.run(install, check=True, timeout=60, **plain)
            process = subprocess.Popen(
                [
                    SERVER,
                    "--no-defaults",
                    data,
                    f"--port={port}",
                    f"--socket={folder / 'socket'}",
                    f"--pid-file={folder / 'pid'}",
                    *_SETTINGS,
                ],
                **plain,
            )
        server = cls(folder, port, process)
        atexit.register(server.destroy)
        server._wait()
        return server

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

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


def _unprivileged() -> Mapping[str, Any]:
    """Whom to run it as, for ``subprocess``."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("mysql")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
