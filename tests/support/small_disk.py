"""Calls to the files service on a disk that is full, or mounted read-only: in a mount namespace.

``python -m tests.support.small_disk full|readonly FOLDER`` prints what came of each operation.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.files import Chunks, DirectReactor, InlineThreadPool, outcome, request, start
from workato_agent.services.files.posix import LocalFilesystem
from workato_agent.services.files.service import FilesService
from workato_agent.services.files.settings import FilesSettings
from workato_tunnel.problems import Problem

SIZE = 512 * 1024
BIG = b"x" * 65536
ROOT = Path(__file__).parents[2]


def outcomes_on(kind: str, folder: Path) -> dict[str, Any]:
    """Run this module in a mount namespace of its own; an unprivileged user gets one too."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    ran = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.support.small_disk", kind, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


class _Disk:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.service = FilesService(
            "hr", FilesSettings(base), LocalFilesystem(base), DirectReactor(), InlineThreadPool()
        )

    def attempt(self, method: str, path: str, query: str = "", body: Any = ()) -> list[Any]:
        """The problem's code and errno, or the status; and what there is afterwards."""
        before = self.tree()
        if isinstance(body, dict):
            body = [json.dumps(body).encode()]
        asked = request(method, path, query, (), Chunks(body))
        try:
            response = outcome(start(self.service.handle(asked)))
            told: list[Any] = [response.status, None]
        except Problem as problem:
            told = [problem.code, problem.extra.get("errno")]
        return [*told, self.tree() == before]

    def tree(self) -> dict[str, bytes]:
        """The files and folders that callers can see."""
        return {
            str(place.relative_to(self.base)): place.read_bytes() if place.is_file() else b"/"
            for place in self.base.rglob("*")
            if not place.name.startswith(".onprem-")
        }

    def attempts(self) -> dict[str, list[Any]]:
        """One of each operation that writes."""
        large = [BIG] * (2 * SIZE // len(BIG))
        return {
            "put": self.attempt("PUT", "content/new", body=large),
            "replace": self.attempt("PUT", "content/there", body=large),
            "part": self.attempt("PUT", "content/part", "offset=0", body=large),
            "append": self.attempt("POST", "append/there", body=large),
            "append new": self.attempt("POST", "append/new", body=large),
            "csv": self.attempt("POST", "csv/there", body={"row": ["y" * (SIZE // 2)]}),
            "copy": self.attempt("POST", "copy", body={"from": "large", "to": "copied"}),
            "move": self.attempt("POST", "move", body={"from": "there", "to": "d/moved"}),
            "folder": self.attempt("POST", "folders/made"),
            "delete": self.attempt("DELETE", "content/there"),
            "delete tree": self.attempt("DELETE", "content/d", "recursive=true"),
        }


def _prepare(base: Path, kind: str) -> None:
    """A small disk with a file that fills more than half of it; no inode is left when full."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=12", "tmpfs", base], check=True
    )
    (base / "d").mkdir()
    (base / "there").write_bytes(b"x\r\n")
    (base / "large").write_bytes(b"z" * (SIZE * 5 // 8))
    if kind == "readonly":
        subprocess.run(["mount", "-o", "remount,ro,bind", base], check=True)


def _main() -> None:
    kind, base = sys.argv[1], Path(sys.argv[2])
    _prepare(base, kind)
    disk = _Disk(base)
    told: dict[str, Any] = {}
    if kind == "full":
        told["kept"] = disk.attempt("PUT", "content/kept", "offset=0", [BIG] * 16)
        told["given up"] = disk.attempt("DELETE", "uploads/kept")
    told |= disk.attempts()
    if kind == "full":
        with contextlib.suppress(OSError):
            for number in range(20):
                (base / f"inode{number}").touch()
        told["put without inodes"] = disk.attempt("PUT", "content/x", body=[b"x"])
        told["folder without inodes"] = disk.attempt("POST", "folders/x")
    told["test"] = disk.attempt("GET", "")
    print(json.dumps(told))


if __name__ == "__main__":
    _main()
