"""``workato-agent run``: the agent in the foreground, by the code path of ``twistd -n``."""

from __future__ import annotations

import argparse
import sys

from twisted.scripts import twistd

from ..config import ConfigError, load_config
from .commands import Command, add_config, tell_config_error
from .output import DONE, FAILED


def _run(arguments: argparse.Namespace) -> int:
    try:
        load_config(arguments.config)
    except ConfigError as error:
        tell_config_error(error, as_json=False)
        return FAILED
    config = str(arguments.config)
    # twistd writes no such file on Windows, and knows no such option there.
    no_pid_file = [] if sys.platform == "win32" else ["--pidfile="]
    sys.argv = ["twistd", "--nodaemon", *no_pid_file, "workato-agent", "--config", config]
    twistd.run()
    return DONE


COMMAND = Command(
    "run",
    "run the agent until SIGTERM, which lets calls in flight finish",
    "workato-agent run --config config.yml",
    add_config,
    _run,
)
