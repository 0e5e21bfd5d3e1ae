"""A real Samba Active Directory domain controller, in a network namespace of its own.

It takes well-known ports, so it is given a loopback interface for itself: ``python -m
tests.support.samba FOLDER`` in such a namespace makes and runs it, and two relays lead there by way
of Unix sockets, which namespaces share. Samba works as root only.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, Self

from attrs import define, field

from .certificates import write_certificates
from .ports import free_port

BASE: Final = "DC=ad,DC=test"
ADMINISTRATOR: Final = "Administrator@ad.test"
PASSWORD: Final = "Passw0rd.1"
START_SECONDS: Final = 120.0
"""Making a domain takes about ten seconds, more on a busy machine."""

_ROOT: Final = Path(__file__).parents[2]
_PORTS: Final = {"ldap": 389, "ldaps": 636}
_READY: Final = "ready"


@define
class Samba:
    """A running domain controller. ``folder`` holds ``ca.crt`` too."""

    folder: Path
    process: subprocess.Popen[bytes]
    ports: dict[str, int] = field(factory=lambda: {name: free_port() for name in _PORTS})
    _listeners: list[socket.socket] = field(factory=list)

    @classmethod
    def start(cls) -> Self:
        """A new domain. Takes about ten seconds."""
        if os.geteuid() != 0:
            raise RuntimeError("Samba's domain controller works as root only: run this test so")
        folder = Path(tempfile.mkdtemp(prefix="onprem-ad-"))
        write_certificates(folder, "agent")
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                ["unshare", "--net", sys.executable, "-m", "tests.support.samba", str(folder)],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        samba = cls(folder, process)
        atexit.register(samba.destroy)
        until = time.monotonic() + START_SECONDS
        while not (folder / _READY).exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"samba: {(folder / 'output').read_text()[-4000:]}")
            time.sleep(0.05)
        for name, port in samba.ports.items():
            listener = socket.create_server(("127.0.0.1", port))
            samba._listeners.append(listener)
            _relay(listener, _to_unix(folder / name))
        return samba

    def url(self, scheme: str) -> str:
        """``ldap`` or ``ldaps``."""
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        for listener in self._listeners:
            listener.close()
        # The end of its standard input ends it, and with that what it has started.
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_samba() -> Samba:
    """One for all tests that leave it as it was; it ends with the process."""
    return Samba.start()


def _to_unix(path: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(path))
        return link

    return connect


def _to_port(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=60)


def _relay(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Pass on whoever connects, in threads."""

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = connect()
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=copy, args=(source, sink), daemon=True).start()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=accept, daemon=True).start()


# -- within the namespace --------------------------------------------------------------------------


def _provision(folder: Path) -> list[str]:
    """Make the domain; the command that runs its controller."""
    domain = folder / "domain"
    domain.mkdir()
    subprocess.run(
        [
            "samba-tool", "domain", "provision", "--realm=AD.TEST", "--domain=ADT",
            "--server-role=dc", "--dns-backend=NONE", f"--adminpass={PASSWORD}",
            f"--targetdir={domain}", "--option=ldb:nosync=true", "--option=interfaces=lo",
            "--option=bind interfaces only=yes",
            "--host-ip=127.0.0.1", "--host-name=dc1",
        ],
        check=True,
    )  # fmt: skip
    return [
        "samba", "--foreground", "--model=single", "--debug-stdout", "--no-process-group",
        f"--configfile={domain / 'etc' / 'smb.conf'}",
        f"--option=tls certfile={folder / 'server.crt'}",
        f"--option=tls keyfile={folder / 'server.key'}",
        f"--option=tls cafile={folder / 'ca.crt'}",
        # What is not LDAP is not needed.
        "--option=server services=ldap",
    ]  # fmt: skip


def _main() -> None:
    folder = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    process = subprocess.Popen(_provision(folder), stdin=subprocess.DEVNULL)
    try:
        for name, port in _PORTS.items():
            until = time.monotonic() + START_SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"nothing listens on {port}")
                time.sleep(0.05)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(folder / name))
            listener.listen()
            _relay(listener, _to_port(port))
        (folder / _READY).touch()
        sys.stdin.read()
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    try:
        _to_port(port)().close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _main()
