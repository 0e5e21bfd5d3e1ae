"""What a command is, and what several of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from ..config import ConfigError
from .output import INTERRUPTED, default_config, say, show_json

T = TypeVar("T")


@frozen
class Command:
    """One of ``workato-agent``'s commands.

    :ivar run: does it and returns the exit status.
    """

    name: str
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``, with the same default everywhere."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default_config(),
        help="the agent's config.yml (default: $WORKATO_AGENT_CONFIG, else %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def tell_config_error(error: ConfigError, as_json: bool) -> None:
    """Every fault of a config, one a line."""
    if as_json:
        problems = [
            {
                "path": problem.path,
                "line": problem.line,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in error.problems
        ]
        show_json({"ok": False, "file": str(error.file), "problems": problems})
    else:
        say(str(error))


def on_reactor(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run ``work(reactor)`` to its end. Raises what it raises; SystemExit on SIGINT and SIGTERM."""
    results: list[T] = []
    errors: list[BaseException] = []

    async def collect(reactor: Any) -> None:
        try:
            results.append(await work(reactor))
        except Exception as error:  # noqa: BLE001 - raised again below, outside the reactor
            errors.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(collect(reactor)))
    except SystemExit:
        if not results and not errors:
            raise SystemExit(INTERRUPTED) from None
    if errors:
        raise errors[0]
    return results[0]
