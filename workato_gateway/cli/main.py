"""``workato-gateway``: the gateway's command line.

Exits with 0, with 1 when the command failed, with 2 when it was used wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from ..config import ConfigError
from ..identity.authority import AuthorityError
from ..storage.interface import StoreError
from .administration import CommandError, WrongUse
from .output import say

PROGRAM: Final = "workato-gateway"
_COMMANDS: Final = {
    "init": "make a new gateway: config, CA, certificate, store and an admin token",
    "run": "run the gateway in the foreground",
    "group": "create, list, allow, delete groups",
    "agent": "activation codes; list, disable, enable, revoke agents",
    "token": "create, list, revoke tokens",
    "webhook": "test the receivers of events",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command sets ``command`` to its function."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="The gateway that on-prem agents dial and callers call.",
        epilog=f"{PROGRAM} COMMAND --help shows each command with an example",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in _COMMANDS.items():
        module = import_module(f".{name}", __package__)
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except WrongUse as error:
        say(f"{PROGRAM}: {error}")
        return 2
    except (CommandError, ConfigError, StoreError, AuthorityError) as error:
        say(f"{PROGRAM}: {error}")
        return 1
    except UnicodeEncodeError:
        say(f"{PROGRAM}: an argument is no UTF-8 text")
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
