"""The ``workato-agent`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from ..version import VERSION
from . import check, encrypt, enrol, run, status, verify_audit
from .output import FAILED, INTERRUPTED

COMMANDS: Final = (
    enrol.COMMAND,
    check.COMMAND,
    run.COMMAND,
    encrypt.COMMAND,
    status.COMMAND,
    verify_audit.COMMAND,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="workato-agent",
        description="On-prem agent: lets callers of a gateway reach what this host can reach.",
        epilog="exit status: 0 done, 1 failed, 2 wrong use",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"workato-agent {VERSION}")
    commands = whole.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Wrong use exits with 2 (argparse)."""
    parsed = parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `head` does: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


if __name__ == "__main__":
    sys.exit(main())
