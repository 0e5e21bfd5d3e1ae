"""``workato-agent status``: what the running agent says of itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..config import AgentConfig, ConfigError, load_options
from ..status import StatusUnavailable, read_status
from .commands import Command, add_config, add_json, tell_config_error
from .output import DONE, FAILED, default_config, painted, say, show, show_json


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--socket", metavar="PATH", type=Path, help="the status socket itself")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        status = read_status(arguments.socket or _socket(arguments.config))
    except ConfigError as error:
        tell_config_error(error, as_json=arguments.json)
        return FAILED
    except StatusUnavailable as error:
        if arguments.json:
            show_json({"running": False, "error": str(error)})
        else:
            say(str(error))
        return FAILED
    if arguments.json:
        show_json(status)
    else:
        for line in _lines(status):
            show(line)
    return DONE


def _socket(config: Path) -> Path:
    if config == default_config() and not config.exists():
        return AgentConfig().status_socket
    return load_options(config, ("gateway", "status")).status_socket


def _lines(status: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Any status as text, for its members are the agent's to choose."""
    width = max((len(name) for name in status), default=0) + 2
    for name, value in status.items():
        label = f"{indent}{name.replace('_', ' '):<{width}}"
        if isinstance(value, Mapping) and value:
            yield label.rstrip()
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and value:
            yield label.rstrip()
            for item in value:
                yield f"{indent}  {_item(item)}"
        else:
            yield f"{label}{_value(value)}"


def _item(item: object) -> str:
    if isinstance(item, Mapping):
        return "  ".join(f"{name}={_value(value)}" for name, value in item.items())
    return _value(item)


def _value(value: object) -> str:
    if value is True:
        return painted("yes", "good")
    if value is False:
        return painted("no", "bad")
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
    return str(value)


COMMAND = Command(
    "status",
    "show the state of the running agent",
    "workato-agent status --json",
    _arguments,
    _run,
)
