"""``workato-agent encrypt``: a secret for the config file that only this agent can read."""

from __future__ import annotations

import argparse
import getpass
import sys

from ..config import AgentConfig, ConfigError, load_options
from ..config.secrets import MAX_SECRET
from .commands import Command, add_config, add_json, tell_config_error
from .output import DONE, FAILED, WRONG_USE, default_config, say, show, show_json


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    # Imported here: no other command pays for the cipher.
    from ..identity.sealing import SealError, SealingKey  # noqa: PLC0415

    try:
        if arguments.config == default_config() and not arguments.config.exists():
            config = AgentConfig()
        else:
            config = load_options(arguments.config, ("gateway",))
    except ConfigError as error:
        tell_config_error(error, as_json=arguments.json)
        return FAILED
    text = _asked() if sys.stdin.isatty() else _read()
    if text is None:
        return WRONG_USE
    try:
        sealed = SealingKey.load_or_make(config.identity).seal(text)
    except SealError as error:
        say(f"workato-agent encrypt: {error}")
        return FAILED
    if arguments.json:
        show_json({"encrypted": sealed})
    else:
        show(f"{{encrypted: '{sealed}'}}")
    return DONE


def _asked() -> str | None:
    text = getpass.getpass("Secret: ")
    if not text:
        say("workato-agent encrypt: nothing was typed")
        return None
    if getpass.getpass("Again: ") != text:
        say("workato-agent encrypt: the two differ")
        return None
    return text


def _read() -> str | None:
    text = sys.stdin.read(MAX_SECRET + 1).removesuffix("\n").removesuffix("\r")
    if not text:
        say("workato-agent encrypt: there is no secret on stdin")
        return None
    if len(text.encode()) > MAX_SECRET:
        say(f"workato-agent encrypt: a secret has at most {MAX_SECRET} bytes")
        return None
    return text


COMMAND = Command(
    "encrypt",
    "make a secret for config.yml that only this agent can read",
    "workato-agent encrypt --config config.yml < password.txt",
    _arguments,
    _run,
)
