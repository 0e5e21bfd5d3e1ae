"""A config that changes while the agent runs: read anew, put in service or refused whole.

Profiles change at once. Sections of the agent's own settings (:data:`AT_START`) are looked at when
it starts; a change there is said to wait for that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from .config import AgentConfig, ConfigError, load_config
from .served import ServedProfiles

AT_START: Final = ("gateway", "proxy", "server", "logging", "audit", "metrics", "status")
LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the file."""

Signature = tuple[int, int, int] | None


class Reloader(Service):
    """Keeps the served profiles as the config file says.

    A change of the file is taken when it has stayed the same from one look to the next, so that
    nothing half-written is read. A file that is no valid config changes nothing.

    :param changed: called when other profiles are served, or when :attr:`problem` has changed.
    :param ended: called when the file has been read, whatever came of it.
    :ivar config: what is in force.
    :ivar problem: why the file is not in force; "" when it is.
    :ivar waiting: sections that differ from the file until the agent is started again.
    :ivar reloads: how often the file has been taken over.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: AgentConfig,
        served: ServedProfiles,
        changed: Callable[[], None],
        load: Callable[[Path], AgentConfig] = load_config,
        ended: Callable[[], None] = lambda: None,
        in_thread: Callable[..., Deferred[AgentConfig]] = deferToThread,
    ) -> None:
        self.config = config
        self.problem = ""
        self.waiting: tuple[str, ...] = ()
        self.reloads = 0
        self._reactor = reactor
        self._served = served
        self._changed = changed
        self._load = load
        self._ended = ended
        self._in_thread = in_thread
        self._taken = self._seen = self._look()
        self._timer: IDelayedCall | None = None
        self._reading: Deferred[None] | None = None
        self._again = False

    def startService(self) -> None:
        """Watch the file, where the config says so."""
        super().startService()  # type: ignore[no-untyped-call]
        self._schedule()

    def stopService(self) -> None:
        """A reading under way comes to nothing."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reload(self) -> None:
        """Read the file now; once more when it is being read already."""
        if self._reading is not None:
            self._again = True
            return
        self._reading = Deferred.fromCoroutine(self._reload())
        self._reading.addErrback(
            lambda failure: self._log.failure(
                "Reloading the config failed", event="reload_broke", failure=failure
            )
        )
        self._reading.addBoth(self._read)

    def _read(self, _: object) -> None:
        self._reading = None
        if not self.running:
            return
        if self._again:
            self._again = False
            self.reload()
        else:
            self._ended()

    async def _reload(self) -> None:
        file = self.config.file
        if file is None:
            return
        # What changes from here on is seen as another change.
        self._taken = self._seen = self._look()
        try:
            config = await self._in_thread(self._load, file)
            if not self.running:
                return
            waiting = tuple(
                name for name in AT_START if getattr(config, name) != getattr(self.config, name)
            )
            as_started = {name: getattr(self.config, name) for name in AT_START}
            config = evolve(config, **as_started)
            update = self._served.prepare(config)
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._served.apply(update)
        self.config = config
        self.reloads += 1
        if waiting and waiting != self.waiting:
            self._log.warn(
                "config: changes of {sections} are in force when the agent is started again",
                event="restart_needed",
                sections=", ".join(waiting),
            )
        self.waiting = waiting
        self.problem = ""
        for remark in config.remarks:
            self._log.warn("{remark}", event="config_remark", remark=remark)
        self._log.info(
            "Config reloaded: {added} profiles added, {changed} changed, {removed} removed;"
            " hash {hash}",
            event="config_reloaded",
            added=len(update.added),
            changed=len(update.changed),
            removed=len(update.removed),
            hash=config.config_hash,
        )
        self._changed()

    def _refuse(self, problem: str) -> None:
        self._log.error(
            "The config has not been reloaded, the one before stays in force: {problem}",
            event="config_refused",
            problem=problem,
        )
        if problem != self.problem:
            self.problem = problem
            self._changed()

    def _schedule(self) -> None:
        self._timer = self._reactor.callLater(LOOK_EVERY, self._watch)

    def _watch(self) -> None:
        self._schedule()
        if not self.config.config.auto_reload:
            return
        now = self._look()
        settled = now == self._seen
        self._seen = now
        if settled and now is not None and now != self._taken:
            self.reload()

    def _look(self) -> Signature:
        """What tells one state of the file from another; None where there is none to be seen."""
        if self.config.file is None:
            return None
        try:
            status = self.config.file.stat()
        except OSError:
            return None  # it is being replaced, or the next reload says what is wrong
        return status.st_mtime_ns, status.st_size, status.st_ino
