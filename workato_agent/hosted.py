"""An agent in a process that somebody else runs, as Windows runs its services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner

from .app import Agent, StartError
from .config import load_config


def start(config: Path, reactor: Any) -> Agent:
    """Start the agent of a config file; it stops, in good order, when the reactor does.

    Raises ConfigError and StartError, with nothing left open.
    """
    options = load_config(config)
    if options.logging.path is None:
        raise StartError(f"{config}: logging.path is missing: a service has no standard error")
    agent = Agent(options, reactor)
    globalLogBeginner.beginLoggingTo([agent.observer], redirectStandardIO=False)
    agent.startService()
    reactor.addSystemEventTrigger("before", "shutdown", agent.stopService)
    return agent
