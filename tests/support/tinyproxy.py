"""A real tinyproxy with Basic credentials, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from .ports import free_port

_CONFIG = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 20
BasicAuth user p-w
Allow 127.0.0.1
{more}
"""


class Tinyproxy:
    """Runs until :meth:`stop`. Credentials are ``user`` and ``p-w``."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        config = folder / "tinyproxy.conf"
        user = "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
        config.write_text(user + _CONFIG.format(port=self.port, more=more))
        self._log = (folder / "tinyproxy.log").open("w+b")
        self._process = subprocess.Popen(
            ["/usr/bin/tinyproxy", "-d", "-c", str(config)], stdout=self._log, stderr=self._log
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(500):
            if b"Accepting connections" in self.log():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"tinyproxy does not start: {self.log().decode()}")

    def log(self) -> bytes:
        """What it has logged."""
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
