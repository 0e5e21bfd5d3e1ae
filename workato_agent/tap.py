"""``twistd workato-agent``: options and the service they make."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, ClassVar, Final

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions

from workato_tunnel.tx.process import acting_as

from .app import Agent, StartError
from .config import ConfigError, load_config
from .system import config_folder

_LOG_OPTIONS: Final = ("logfile", "syslog", "logger")


class Options(UsageOptions):
    """The command line after ``twistd workato-agent``."""

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", str(config_folder() / "config.yml"), "The agent's configuration."]
    ]


class TwistdAgent(Agent):
    """An agent under twistd: what keeps it from starting ends the program, in one line."""

    log_by_twistd = False
    """Whether twistd's own options say where the log goes."""

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        """The parent is twistd's application, whose log we write unless twistd was told how."""
        if not self.log_by_twistd:
            self.use_log_of(parent)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Raises SystemExit."""
        try:
            super().startService()
        except StartError as error:
            raise SystemExit(f"workato-agent: {error}") from None
        self._reactor.callWhenRunning(self._take_signals)

    def _take_signals(self) -> None:
        """Twisted's own handler of SIGTERM makes the process die of the signal at the end, as if it
        had not stopped in good order."""
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self._on_sigterm))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def _on_sigterm(self) -> None:
        if self.running:
            self._log.info("SIGTERM: stopping", event="sigterm")
            self._reactor.stop()
        else:
            self._log.warn("SIGTERM again: calls in flight are cancelled", event="sigterm_again")
            self.dispatcher.abort()


def makeService(options: Options) -> IService:
    """The agent that the options describe. Ends the program when it can't be built."""
    from twisted.internet import reactor  # noqa: PLC0415 - twistd may install another one before

    twistd = getattr(options, "parent", None) or {}
    try:
        with acting_as(twistd.get("uid"), twistd.get("gid")):
            config = load_config(Path(options["config"]))
            agent = TwistdAgent(config, reactor)
    except (StartError, ConfigError) as error:
        raise SystemExit(f"workato-agent: {error}") from None
    lost = not twistd.get("nodaemon") and config.logging.path is None
    agent.log_by_twistd = lost or any(twistd.get(name) for name in _LOG_OPTIONS)
    return agent
