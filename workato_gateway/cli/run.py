"""``workato-gateway run``: the gateway in the foreground, as ``twistd -n workato-gateway``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from twisted.application.service import ServiceMaker
from twisted.python.usage import UsageError
from twisted.scripts.twistd import runApp

from .administration import DEFAULT_CONFIG, CommandError

if sys.platform == "win32":
    from twisted.scripts._twistw import ServerOptions
else:
    from twisted.scripts._twistd_unix import ServerOptions

EXAMPLE = """example:
  workato-gateway run --config /srv/gateway/gateway.yml"""


SERVICE_MAKER = ServiceMaker(
    "workato-gateway",
    "workato_gateway.tap",
    "The gateway that on-prem agents dial and callers call.",
    "workato-gateway",
)


NO_PID_FILE: Final = () if sys.platform == "win32" else ("--pidfile=",)
"""twistd writes none on Windows, and knows no such option there."""


class _Options(ServerOptions):
    """twistd's, with our service only: it is found wherever the package is installed."""

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        self.loadedPlugins = {SERVICE_MAKER.tapname: SERVICE_MAKER}
        yield (SERVICE_MAKER.tapname, None, SERVICE_MAKER.options, SERVICE_MAKER.description)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--config",
        metavar="PATH",
        default=os.environ.get("WORKATO_GATEWAY_CONFIG", DEFAULT_CONFIG),
        help=f"gateway.yml; default $WORKATO_GATEWAY_CONFIG or {DEFAULT_CONFIG}",
    )
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> None:
    options = _Options()  # type: ignore[no-untyped-call]
    try:
        options.parseOptions(  # type: ignore[no-untyped-call]
            ["--nodaemon", *NO_PID_FILE, SERVICE_MAKER.tapname, f"--config={arguments.config}"]
        )
    except UsageError as error:
        raise CommandError(str(error)) from error
    runApp(options)
