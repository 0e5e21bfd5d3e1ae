"""``workato-agent enrol``: turn an activation code into this agent's identity."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workato_tunnel.tx.process import become_owner_of

from ..config import AgentConfig, ConfigError, load_options
from ..identity.enrolment import EnrolmentError, EnrolmentResult, enrol
from ..tunnel.access import route_of
from .commands import Command, add_config, add_json, on_reactor, tell_config_error
from .output import DONE, FAILED, WRONG_USE, default_config, say, show, show_json


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--code",
        metavar="CODE",
        required=True,
        help="the activation code from the gateway; - reads it from stdin, out of sight of ps",
    )
    add_config(parser)
    parser.add_argument("--name", metavar="NAME", help="the agent's name (default: the host's)")
    parser.add_argument("--force", action="store_true", help="replace an identity that is there")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    code = sys.stdin.readline().strip() if arguments.code == "-" else arguments.code
    if not code:
        say("workato-agent enrol: there is no code on stdin")
        return WRONG_USE
    try:
        config = _config(arguments.config)
    except ConfigError as error:
        tell_config_error(error, as_json=arguments.json)
        return FAILED
    become_owner_of(config.identity)
    try:
        result = on_reactor(
            lambda reactor: enrol(
                code,
                config.identity,
                reactor=reactor,
                name=arguments.name,
                proxy=route_of(config.proxy),
                force=arguments.force,
            )
        )
    except EnrolmentError as error:
        if arguments.json:
            show_json({"ok": False, "error": str(error)})
        else:
            say(f"not enrolled: {error}")
        return FAILED
    if arguments.json:
        show_json({"ok": True, **_document(result)})
    else:
        show(f"enrolled as {result.name} in group {result.group}")
        show(f"  gateway      {result.gateway_url}")
        show(f"  identity     {result.directory}")
        show(f"  certificate  until {result.expires:%Y-%m-%d %H:%M} UTC, renewed by the agent")
        say(f"next: workato-agent run --config {arguments.config}")
    return DONE


def _config(file: Path) -> AgentConfig:
    if file == default_config() and not file.exists():
        return AgentConfig()
    return load_options(file, ("gateway", "proxy"))


def _document(result: EnrolmentResult) -> dict[str, object]:
    return {
        "agent_id": result.agent_id,
        "name": result.name,
        "group": result.group,
        "gateway_url": result.gateway_url,
        "identity": str(result.directory),
        "expires": result.expires.isoformat(),
    }


COMMAND = Command(
    "enrol",
    "turn an activation code into this agent's identity",
    "workato-agent enrol --code CODE --config config.yml",
    _arguments,
    _run,
)
