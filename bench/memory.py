"""Memory of the gateway and the agent: while much goes through, while nobody reads, afterwards."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from attrs import define, evolve, field

from demo.deployment import Deployment
from demo.processes import Background, ProgramError, usage

from .peers import Way
from .results import Result, Target
from .site import Site, through
from .transfers import download, running, transfer, upload
from .wrk import small_calls

_MB = 1e6
_WARM_RESETS = 1_000
_RESETS = 9_000


@define
class Peak:
    """The highest resident set of each process while it watches."""

    pids: dict[str, int]
    highest: dict[str, int] = field(factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample every 20 ms."""
        over = threading.Event()

        def sample() -> None:
            while not over.wait(0.02):
                for name, pid in self.pids.items():
                    now = usage(pid).resident
                    self.highest[name] = max(self.highest.get(name, 0), now)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield
        finally:
            over.set()
            sampler.join()


def measure(site: Site) -> list[Result]:
    """``BENCH_GIB`` (default 2) GiB each way, then slow and stopped readers, then 10,000 resets."""
    if site.peers_only:
        return []
    gibibytes = int(os.environ.get("BENCH_GIB", "2"))
    deployment = site.deploy("memory")
    ours = through(deployment)
    small_calls(ours, callers=8, seconds=2)
    pids = {"agent": process_of(deployment.agent), "gateway": process_of(deployment.gateway)}
    before = {name: usage(pid).resident for name, pid in pids.items()}
    results = []

    peak = Peak(pids)
    with peak.watching():
        for _ in range(gibibytes):
            transfer(download(ours))
            transfer(upload(ours, site.bulk_file))
    results += _against(peak, before, f"while {gibibytes} GiB go each way")

    for what, reader in (
        ("beside 4 readers of 20 kB/s", evolve(download(ours), rate=20_000)),
        ("beside 4 readers that stopped", evolve(download(ours), stop_after=1_000_000)),
    ):
        peak = Peak(pids)
        with peak.watching(), running(site.folder, *[reader] * 4):
            time.sleep(8)
        results += _against(peak, before, what)
    return [*results, *_resets(deployment, ours, pids)]


def process_of(process: Background | None) -> int:
    """The process' id. Raises ProgramError where it is not running."""
    if process is None:
        raise ProgramError("the deployment is not running")
    return process.pid


def _against(peak: Peak, before: dict[str, int], when: str) -> list[Result]:
    results = []
    for name, highest in peak.highest.items():
        results += [
            Result(f"{name}, highest MB {when}", highest / _MB, None, Target("ours", most=120)),
            Result(
                f"{name}, MB grown {when}",
                (highest - before[name]) / _MB,
                None,
                Target("ours", most=30),
            ),
        ]
    return results


def _resets(deployment: Deployment, ours: Way, pids: dict[str, int]) -> list[Result]:
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda _: _open_and_reset(ours), range(_WARM_RESETS)))
        time.sleep(1)
        before = {name: (usage(pid).resident, _open_files(pid)) for name, pid in pids.items()}
        list(callers.map(lambda _: _open_and_reset(ours), range(_RESETS)))
        time.sleep(2)
    if not deployment.connected():
        raise ProgramError("the resets ended the session")
    small_calls(ours, callers=8, seconds=1)
    time.sleep(1)
    results = []
    for name, pid in pids.items():
        resident, files = before[name]
        results += [
            Result(
                f"{name}, MB grown over 9,000 calls opened and reset",
                (usage(pid).resident - resident) / _MB,
                None,
                Target("ours", most=5),
            ),
            Result(
                f"{name}, open files more after them",
                _open_files(pid) - files,
                None,
                Target("ours", most=8),
            ),
        ]
    return results


def _open_and_reset(ours: Way) -> None:
    """Ask for the big file, see the answer begin, and drop the connection hard."""
    head = f"GET {ours.bulk} HTTP/1.1\r\nHost: bench\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in ours.headers)
    for _ in range(200):
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.settimeout(30)
            caller.connect(("127.0.0.1", ours.port))
            caller.sendall(f"{head}\r\n".encode())
            status = caller.recv(4096).split(b" ", 2)[1:2]
        if status == [b"200"]:
            return
        if status != [b"429"]:
            raise ProgramError(f"a call to be reset was answered {status}")
        time.sleep(0.1)
    raise ProgramError("429 for 20 seconds: the limit on resets does not let go")


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
