"""``workato-agent run``: the agent in the foreground, by the code path of ``twistd -n``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.scripts.twistd import runApp

from ..config import ConfigError, load_config
from .commands import Command, add_config, tell_config_error
from .output import DONE, FAILED

if sys.platform == "win32":
    from twisted.scripts._twistw import ServerOptions
else:
    from twisted.scripts._twistd_unix import ServerOptions

SERVICE_MAKER = ServiceMaker(
    "workato-agent",
    "workato_agent.tap",
    "The on-prem agent that dials a gateway and serves its calls.",
    "workato-agent",
)


class _Options(ServerOptions):
    """twistd's, with our service only: no other plugin is loaded."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        self.loadedPlugins = {SERVICE_MAKER.tapname: SERVICE_MAKER}
        yield (SERVICE_MAKER.tapname, None, SERVICE_MAKER.options, SERVICE_MAKER.description)


def _run(arguments: argparse.Namespace) -> int:
    try:
        load_config(arguments.config)
    except ConfigError as error:
        tell_config_error(error, as_json=False)
        return FAILED
    # twistd writes no such file on Windows, and knows no such option there.
    no_pid_file = [] if sys.platform == "win32" else ["--pidfile="]
    options = _Options()  # type: ignore[no-untyped-call]
    options.parseOptions(  # type: ignore[no-untyped-call]
        ["--nodaemon", *no_pid_file, SERVICE_MAKER.tapname, f"--config={arguments.config}"]
    )
    runApp(options)
    return DONE


COMMAND = Command(
    "run",
    "run the agent until SIGTERM, which lets calls in flight finish",
    "workato-agent run --config config.yml",
    add_config,
    _run,
)
