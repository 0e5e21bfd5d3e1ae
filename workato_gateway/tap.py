"""``twistd workato-gateway``: options and the service they make."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import ClassVar, Final

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from workato_tunnel.tx.process import acting_as

from .app import Gateway
from .config import Config, ConfigError, load
from .identity.authority import AuthorityError
from .storage.interface import StoreError

_LOG_OPTIONS: Final = ("logfile", "syslog", "logger")


class Options(UsageOptions):
    """The command line after ``twistd workato-gateway``."""

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", "/etc/workato-gateway/gateway.yml", "The gateway's configuration."]
    ]
    config: Config

    def postOptions(self) -> None:
        """Read the config, so that what is wrong with it is a wrong use. Raises UsageError."""
        try:
            self.config = load(Path(self["config"]))
        except ConfigError as error:
            raise UsageError(str(error)) from error


class TwistdGateway(Gateway):
    """A gateway under twistd, which reads certificates anew on SIGHUP."""

    def startService(self) -> None:
        """As :class:`Gateway`, and take the signal."""
        super().startService()
        self._reactor.callWhenRunning(self._take_signal)

    def _take_signal(self) -> None:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))


def makeService(options: Options) -> IService:
    """The gateway that the options describe. Ends the program when it can't be built."""
    from twisted.internet import reactor  # noqa: PLC0415 - twistd may install another one before

    twistd = getattr(options, "parent", None) or {}
    try:
        with acting_as(twistd.get("uid"), twistd.get("gid")):
            gateway = TwistdGateway(options.config, reactor)
    except (AuthorityError, StoreError, OSError) as error:
        raise SystemExit(f"workato-gateway: {error}") from error
    # A daemon's standard error leads nowhere.
    lost = not twistd.get("nodaemon") and options.config.logging.path is None
    gateway.log_by_twistd = lost or any(twistd.get(name) for name in _LOG_OPTIONS)
    return gateway
