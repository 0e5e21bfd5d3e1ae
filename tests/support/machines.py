"""Machines: Debians with a systemd of their own, booted in containers, and a wire between them.

Nothing of it needs the host's systemd. What can't be done on a host (no root, no namespaces) ends
in a PackagingError that says so.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

from attrs import define

from .packages import PackagingError, debian, run, workplace

T = TypeVar("T")

BOOT_SECONDS: Final = 90.0
WAIT_SECONDS: Final = 60.0
ADDRESSES: Final = ("192.0.2.1", "192.0.2.2")
"""Of the two ends of a wire (RFC 5737)."""
_NUMBERS: Final = itertools.count(1)


def poll(look: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true value of ``look``. Raises PackagingError at the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise PackagingError(f"not {what} after {seconds:.0f} s")
        time.sleep(0.1)
    return found


@define(eq=False)
class Machine:
    """A booted Debian, fresh but for what was done in it since.

    :ivar network: the name of its network namespace, with nothing but the loopback at first.
    """

    name: str
    folder: Path
    network: str
    container: subprocess.Popen[bytes]
    leader: int = 0

    @classmethod
    def boot(cls, name: str) -> Self:
        """Raises PackagingError, with what systemd-nspawn and the Debian in it have printed."""
        unique = f"onprem-{os.getpid()}-{next(_NUMBERS)}"
        folder = workplace() / unique
        run("cp", "--archive", "--reflink=auto", debian(), folder)
        (folder / "etc/hostname").write_text(f"{name}\n", encoding="utf-8")
        (folder / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n{ADDRESSES[0]} gw.example\n", encoding="utf-8"
        )
        run("ip", "netns", "add", unique)
        run("ip", "-n", unique, "link", "set", "lo", "up")
        with folder.with_suffix(".log").open("wb") as log:
            container = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                    *(
                        f"--directory={folder}",
                        f"--machine={unique}",
                    ),
                    *(f"--network-namespace-path=/run/netns/{unique}", "--resolv-conf=off"),
                    *("--timezone=off", "--link-journal=no"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        machine = cls(name, folder, unique, container)
        atexit.register(machine.destroy)
        machine._wait()
        return machine

    def _wait(self) -> None:
        try:
            self.leader = poll(self._child, "started", BOOT_SECONDS)
            poll(self._booted, "booted", BOOT_SECONDS)
        except PackagingError as error:
            said = self.folder.with_suffix(".log").read_text(errors="replace")[-3000:]
            raise PackagingError(
                f"systemd-nspawn on this host: {error}; root in full, with namespaces and cgroups,"
                f" is needed. It printed:\n{said}"
            ) from error

    def _child(self) -> int:
        if self.container.poll() is not None:
            raise PackagingError(f"ended with {self.container.returncode}")
        children = Path(f"/proc/{self.container.pid}/task/{self.container.pid}/children")
        return int((children.read_text().split() or ["0"])[0])

    def _booted(self) -> bool:
        self._child()
        try:
            state = self.run("systemctl is-system-running || true")
        except PackagingError:
            return False  # its systemd does not answer yet
        return state.strip() in ("running", "degraded")

    def run(self, script: str, seconds: float = 120) -> str:
        """What a script prints; root runs it, each command of it must succeed."""
        enter = ("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net")
        environment = (
            *("env", "--ignore-environment", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        script = f"set -euo pipefail; cd\n{script}"
        return run(
            *(*enter, "--pid", "--cgroup", *environment, "bash", "-c", script), seconds=seconds
        )

    def take(self, *files: Path) -> None:
        """Put files into root's home."""
        for file in files:
            shutil.copy(file, self.folder / "root")

    def property(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def journal(self, unit: str) -> str:
        """The end of what a unit has logged."""
        return self.run(f"journalctl --no-pager --lines=30 --unit={unit}")

    def destroy(self) -> None:
        """End all that runs in it, and leave nothing."""
        atexit.unregister(self.destroy)
        if self.container.poll() is None:
            # The end of its first process is the end of all the others, and of every mount.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader or self.container.pid, signal.SIGKILL)
            try:
                self.container.wait(15)
            except subprocess.TimeoutExpired:
                self.container.kill()
                self.container.wait(15)
        run("ip", "netns", "delete", self.network)
        with contextlib.suppress(FileNotFoundError):
            Path(f"/run/systemd/nspawn/propagate/{self.network}").rmdir()
        shutil.rmtree(self.folder)


def join(one: Machine, other: Machine) -> None:
    """A wire between two machines, with :data:`ADDRESSES` at its ends."""
    run(
        *("ip", "-n", one.network, "link", "add", "wire", "type", "veth"),
        *("peer", "name", "wire", "netns", other.network),
    )
    for machine, address in zip((one, other), ADDRESSES, strict=True):
        run("ip", "-n", machine.network, "address", "add", f"{address}/24", "dev", "wire")
        run("ip", "-n", machine.network, "link", "set", "wire", "up")
