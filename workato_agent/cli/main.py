"""The ``workato-agent`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from ..version import VERSION
from .commands import Command
from .output import FAILED, INTERRUPTED

COMMANDS: Final = ("enrol", "check", "run", "encrypt", "status", "verify-audit")


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The command line, whole or with these commands only.

    A command's module is loaded with it: what only ``check`` needs would else stay in the memory of
    an agent for as long as it runs.
    """
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
    for name in names:
        command: Command = import_module(f".{name.replace('-', '_')}", __package__).COMMAND
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
    given = sys.argv[1:] if arguments is None else arguments
    named = [name for name in given[:1] if name in COMMANDS]
    parsed = parser(named or COMMANDS).parse_args(given)
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
