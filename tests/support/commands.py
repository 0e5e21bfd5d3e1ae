"""The ``workato-agent`` command for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from attrs import frozen

from workato_agent.cli.main import main

ROOT = Path(__file__).parents[2]


@frozen
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str


def run_here(*arguments: object) -> Outcome:
    """Run a command in this process: for those that need no reactor."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
    return Outcome(status, out.getvalue(), err.getvalue())


def run_apart(*arguments: object, stdin: str = "", **environ: str) -> Outcome:
    """Run a command in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "workato_agent.cli.main", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )
    return Outcome(process.returncode, process.stdout, process.stderr)
