"""manuals.py FOLDER EPOCH VERSION: man pages and bash completions out of the commands' own parsers.

Run by the virtualenv's Python while the package is built.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import shtab

from workato_agent.cli.main import parser as agent_parser
from workato_client.cli import parser as client_parser
from workato_gateway.cli.main import build_parser as gateway_parser

SUMMARIES: Final = {
    "workato-agent": "on-prem agent that serves the callers of a gateway",
    "workato-gateway": "gateway that on-prem agents dial and callers call",
    "onprem": "reach what on-prem agents serve",
}
FILES: Final = {
    "workato-agent": (
        ("/etc/workato-agent/config.yml", "what may be reached, and how"),
        ("/var/lib/workato-agent", "the agent's key and certificate, and its audit log"),
    ),
    "workato-gateway": (
        ("/etc/workato-gateway/gateway.yml", "the configuration"),
        ("/var/lib/workato-gateway", "the CA, the listeners' certificate and the store"),
    ),
    "onprem": (),
}
SEE_ALSO: Final = {
    "workato-agent": ("workato-gateway", "onprem"),
    "workato-gateway": ("workato-agent", "onprem"),
    "onprem": ("workato-agent", "workato-gateway"),
}


def text(plain: str) -> str:
    """Text as roff prints it: nothing in it is a request or an escape."""
    escaped = plain.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return "\n".join(
        rf"\&{line}" if line.startswith(".") else line for line in escaped.splitlines()
    )


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's commands, by name."""
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that do something, in the order of the help."""
    below = subcommands(parser)
    if not below:
        yield parser
    for one in below.values():
        yield from leaves(one)


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The arguments of one command."""
    formatter = parser._get_formatter()  # noqa: SLF001 - the words that --help uses
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        name = formatter._format_action_invocation(action)  # noqa: SLF001
        explained = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        yield f".TP\n\\fB{text(name)}\\fR\n{text(explained)}"


def usage(parser: argparse.ArgumentParser) -> str:
    """How the command is called, on one line."""
    words = " ".join(parser.format_usage().removeprefix("usage:").split())
    return text(words.removeprefix(parser.prog).strip())


def page(parser: argparse.ArgumentParser, day: str, version: str) -> str:
    """One man page of section 1 for the whole command."""
    name = parser.prog
    lines = [
        f'.TH {text(name.upper())} 1 "{day}" "{text(name)} {text(version)}"',
        f".SH NAME\n{text(name)} \\- {text(SUMMARIES[name])}",
        ".SH SYNOPSIS",
        *(f".B {text(one.prog)}\n{usage(one)}\n.br" for one in leaves(parser)),
        f".SH DESCRIPTION\n{text(parser.description or '')}",
        ".SH COMMANDS",
    ]
    for one in leaves(parser):
        lines.append(f".SS {text(one.prog.removeprefix(name).strip())}")
        if one.description:
            lines.append(text(one.description))
        lines.extend(options(one))
        if one.epilog:
            lines.append(f".PP\n.nf\n{text(one.epilog)}\n.fi")
    lines += [".SH EXIT STATUS", "0: done. 1: it failed. 2: wrong use."]
    if FILES[name]:
        lines.append(".SH FILES")
        lines += [f".TP\n.I {text(path)}\n{text(what)}" for path, what in FILES[name]]
    lines += [".SH SEE ALSO", ", ".join(rf"\fB{text(other)}\fR(1)" for other in SEE_ALSO[name])]
    return "\n".join(lines) + "\n"


def main(folder: str, epoch: str, version: str) -> None:
    """Write ``NAME.1`` and ``NAME.bash`` for each command."""
    day = datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for parser in (agent_parser(), gateway_parser(), client_parser()):
        page_text = page(parser, day, version)
        (target / f"{parser.prog}.1").write_text(page_text, encoding="utf-8")
        (target / f"{parser.prog}.bash").write_text(
            shtab.complete(parser, "bash"), encoding="utf-8"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
