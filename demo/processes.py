"""Programs in the background: started, waited for, stopped with all their children."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import define, frozen

# Below the range of outgoing connections: a connection to such a port never meets itself.
_PORTS = range(12000, 32000)


class ProgramError(Exception):
    """A program did not do what it was started for; says which, and shows its output."""


def clean_up_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does: with its ``finally`` blocks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ProgramError(f"no free port from {_PORTS.start} to {_PORTS.stop}")


def command(name: str) -> str:
    """The path of a command of the virtualenv that this Python runs in."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ProgramError(f"{path} is missing: run this by `make`, which installs it")
    return str(path)


def run(argv: Sequence[str], *, cwd: Path, seconds: float = 60) -> str:
    """The standard output of a command that ends by itself. ProgramError has all it printed."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{' '.join(argv)}: no end after {seconds:.0f} s") from error
    if done.returncode:
        raise ProgramError(
            f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@define
class Background:
    """A running program, its output in ``log``."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Background:
        """Start it as the leader of a session, so that its children can be stopped with it."""
        log = cwd / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        return cls(name, log, process)

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Poll until ``ready()``; ProgramError when the program ends before, or at the deadline."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise ProgramError(
                    f"{self.name} ended with {self.process.returncode} before {what}:\n"
                    f"{self.output()}"
                )
            if time.monotonic() > deadline:
                raise ProgramError(
                    f"{self.name}: not {what} after {seconds:.0f} s:\n{self.output()}"
                )
            time.sleep(0.02)

    def wait_for_port(self, port: int, seconds: float = 30) -> None:
        """Wait until something accepts on 127.0.0.1:port."""
        self.wait_until(lambda: accepts(port), f"listening on port {port}", seconds)

    def stop(self, seconds: float = 10) -> None:
        """SIGTERM, then SIGKILL for what is left of it and its children."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def accepts(port: int) -> bool:
    """Whether 127.0.0.1:port takes a connection."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@frozen
class Usage:
    """What a process and its descendants have used: CPU seconds, and resident bytes now."""

    cpu: float
    resident: int


def usage(*pids: int) -> Usage:
    """The sum over these processes and all their descendants (from /proc)."""
    cpu, resident = 0.0, 0
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for pid in _with_descendants(pids):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / tick
        resident += int(fields[21]) * page
    return Usage(cpu, resident)


def _with_descendants(pids: Sequence[int]) -> list[int]:
    found = list(pids)
    for pid in found:
        for task in Path("/proc").glob(f"{pid}/task/*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in task.read_text(encoding="ascii").split())
    return found
