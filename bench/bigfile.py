"""One big file up and down: every byte checked by SHA-256, and both ends' memory meanwhile."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from demo.processes import ProgramError, usage

from .memory import Peak, process_of
from .results import Result, Target
from .site import GROUP, MIB, Site, through

_BLOCK = 4 * MIB
_WARM = 64 * MIB


def measure(site: Site) -> list[Result]:
    """``BENCH_GIB`` (default 2) GiB in one file, which lies on the disk."""
    if site.peers_only:
        return []
    size = int(os.environ.get("BENCH_GIB", "2")) * 1024 * MIB
    folder = Path(tempfile.mkdtemp(prefix="onprem-bigfile-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        deployment = site.deploy("bigfile", sections=f"files: {{ big: {{ base: {folder} }} }}\n")
        ours = through(deployment)
        headers = dict(ours.headers)
        pids = {"agent": process_of(deployment.agent), "gateway": process_of(deployment.gateway)}
        _put(ours.port, headers, "warm.bin", _WARM)
        _get(ours.port, headers, "warm.bin")
        before = {name: usage(pid).resident for name, pid in pids.items()}
        peak = Peak(pids)
        with peak.watching():
            sent = _put(ours.port, headers, "big.bin", size)
            began = time.perf_counter()
            received, count = _get(ours.port, headers, "big.bin")
            seconds = time.perf_counter() - began
        if count != size or received != sent:
            raise ProgramError(f"{count} of {size} bytes came back, or others than were sent")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what = f"one file of {size // MIB // 1024} GiB"
    grown = [
        Result(
            f"{name}, MB grown by {what} up and down",
            (peak.highest[name] - before[name]) / 1e6,
            None,
            Target("ours", most=30),
        )
        for name in pids
    ]
    return [
        Result(f"{what} up and down, the same by SHA-256; down, MB/s", size / seconds / 1e6),
        *grown,
    ]


def _blocks(first: bytes, size: int) -> Iterator[bytes]:
    """No two blocks alike, made faster than they can be sent."""
    block = bytearray(first)
    for number in range(size // _BLOCK):
        block[:8] = number.to_bytes(8, "big")
        yield bytes(block)


def _put(port: int, headers: dict[str, str], name: str, size: int) -> str:
    """Send random bytes, whose SHA-256 (returned) the agent compares before the file shows."""
    first = os.urandom(_BLOCK)
    digest = hashlib.sha256()
    for block in _blocks(first, size):
        digest.update(block)
    expected = base64.b64encode(digest.digest()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(
        "PUT",
        f"/v1/groups/{GROUP}/files/big/content/{name}",
        _blocks(first, size),
        {**headers, "Content-Length": str(size), "Content-Digest": f"sha-256=:{expected}:"},
    )
    response = connection.getresponse()
    said = response.read().decode()
    connection.close()
    if response.status >= 300:
        raise ProgramError(f"PUT: {response.status} {said}")
    return digest.hexdigest()


def _get(port: int, headers: dict[str, str], name: str) -> tuple[str, int]:
    """The SHA-256 of what came, and how much that was."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", f"/v1/groups/{GROUP}/files/big/content/{name}", headers=headers)
    response = connection.getresponse()
    if response.status != 200:
        raise ProgramError(f"GET: {response.status} {response.read(2000)!r}")
    digest, count = hashlib.sha256(), 0
    block = memoryview(bytearray(_BLOCK))
    while size := response.readinto(block):
        digest.update(block[:size])
        count += size
    connection.close()
    return digest.hexdigest(), count
