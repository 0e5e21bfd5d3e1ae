"""The ``workato-gateway`` command for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from attrs import frozen

from workato_gateway.cli.main import main

ROOT = Path(__file__).parents[2]


@frozen
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> str:
        """The last line of what it printed, as scripts take it."""
        return self.out.strip().splitlines()[-1]


def gateway_here(*arguments: object) -> Outcome:
    """Run a command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
    return Outcome(status, out.getvalue(), err.getvalue())


def gateway_apart(*arguments: object, timeout: float = 60, **environ: str) -> Outcome:
    """Run a command in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "workato_gateway.cli.main", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )
    return Outcome(process.returncode, process.stdout, process.stderr)
