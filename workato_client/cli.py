"""The ``onprem`` command of callers."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from .forward import Forwarder, ForwardError
from .settings import Settings, SettingsError

DONE = 0
FAILED = 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="onprem",
        description="Reach what agents serve, through their gateway.",
        epilog="environment: ONPREM_URL, ONPREM_GROUP, ONPREM_TOKEN, ONPREM_CA;"
        " exit status: 0 done, 1 failed, 2 wrong use",
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    forward = commands.add_parser(
        "forward",
        help="a local port that leads to a tcp profile",
        description="Listen on a local port and lead each connection to a tcp profile.",
        epilog="example:\n  onprem forward erp 5432 & psql -h 127.0.0.1 -p 5432",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    forward.add_argument("profile", metavar="PROFILE")
    forward.add_argument(
        "port", metavar="PORT", type=int, nargs="?", default=0, help="default: a free one"
    )
    forward.add_argument(
        "--listen", metavar="ADDRESS", default="127.0.0.1", help="default: %(default)s"
    )
    forward.add_argument("--url", help="the gateway (default: $ONPREM_URL)")
    forward.add_argument("--group", help="the group of agents (default: $ONPREM_GROUP)")
    forward.add_argument("--ca", help="PEM file of whom to trust (default: $ONPREM_CA)")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Wrong use exits with 2 (argparse)."""
    whole = parser()
    parsed = whole.parse_args(arguments)
    try:
        settings = Settings.of(parsed.url, parsed.group, parsed.ca)
    except SettingsError as error:
        whole.error(str(error))
    try:
        return asyncio.run(_forward(settings, parsed.profile, parsed.listen, parsed.port))
    except KeyboardInterrupt:
        return DONE


async def _forward(settings: Settings, profile: str, host: str, port: int) -> int:
    forwarder = Forwarder(settings, profile, lambda text: print(text, file=sys.stderr, flush=True))
    try:
        await forwarder.probe()
        server = await forwarder.serve(host, port)
    except (ForwardError, OSError, TimeoutError) as error:
        print(f"onprem forward: {error}", file=sys.stderr)
        return FAILED
    ended = asyncio.Event()
    if sys.platform != "win32":
        # There Ctrl-C is the way to end it, and asyncio takes no signals.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    shown, number = server.sockets[0].getsockname()[:2]
    print(f"{shown}:{number} leads to {profile} of {settings.group}", flush=True)
    try:
        await ended.wait()
    finally:
        # Not ``async with``, which from Python 3.12.1 on waits for the connections that are open.
        server.close()
    return DONE


if __name__ == "__main__":
    sys.exit(main())
