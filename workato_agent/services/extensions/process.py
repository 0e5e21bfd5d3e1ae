"""The process of an extension, seen from the agent: started, spoken to, and ended for good."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from ...requests import Request
from .exchange import Exchange
from .messages import (
    Broken,
    Call,
    Close,
    Failed,
    Malformed,
    Messages,
    Ready,
    Start,
    ToProcess,
    encode,
    from_process,
)
from .output import PrintedLines
from .settings import ExtensionSettings

GRACE: Final = 1.0
"""Seconds that a call has to stop once nobody waits for it."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the extension's own closing."""
_STDIN, _STDOUT, _STDERR, _REQUESTS, _RESPONSES = range(5)
_HOST: Final = "workato_agent.services.extensions.host"
_PACKAGES: Final = Path(__file__).resolve().parents[3]
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH")


class ExtensionProcess(ProcessProtocol):
    """One process, from its start to its end. It is not started twice.

    :param ended: told once, when the process is gone.
    :ivar usable: takes calls, or will once it is ready.
    :ivar answered: calls that it has brought to an end by itself.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, settings: ExtensionSettings, ended: Callable[[ExtensionProcess], None]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self.usable = True
        self.answered = 0
        self.problem = self._gone("is being closed")
        self._on_end = ended
        self._messages = Messages()
        self._exchanges: dict[int, Exchange] = {}
        self._numbers = 0
        self._ready = False
        self._over = False
        self._closing = False
        self._waiting: list[Deferred[None]] = []
        self._timers: set[IDelayedCall] = set()
        self._printed: Mapping[int, PrintedLines] = {
            _STDOUT: self._lines(_STDOUT),
            _STDERR: self._lines(_STDERR),
        }

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start it. Raises Problem."""
        settings = self._settings
        arguments = [sys.executable, "-P", "-m", _HOST]
        folder = settings.paths[0] if settings.paths else Path("/")
        if not folder.is_dir():
            self.usable = False
            raise Problem(
                "internal_error",
                f"the extension {settings.name} can't be started: there is no folder {folder}",
                hint="correct python_path in the agent's configuration",
            )
        nothing = os.open(os.devnull, os.O_RDONLY)
        pipes = {_STDIN: nothing, _STDOUT: "r", _STDERR: "r", _REQUESTS: "w", _RESPONSES: "r"}
        try:
            self._reactor.spawnProcess(
                self, sys.executable, arguments, _environment(), str(folder), childFDs=pipes
            )
        except OSError as error:
            self.usable = False
            raise Problem(
                "internal_error",
                f"the process of the extension {settings.name} can't be started: {error.strerror}",
                hint="check the machine's memory and limits of processes, and python_path",
            ) from None
        finally:
            os.close(nothing)
        self._after(settings.start_timeout, self._not_started)
        self._send(
            Start(
                settings.name,
                settings.controller,
                dict(settings.settings),
                settings.concurrency,
                settings.memory_limit,
                [str(path) for path in settings.paths],
            )
        )

    async def until_ready(self) -> None:
        """Wait until it takes calls. Raises Problem when it never will."""
        if not (self._ready or self._over):
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        if not self.usable:
            raise self.problem

    def begin(self, request: Request, *, test: bool) -> Exchange:
        """Begin a call. Only when it is ready and usable."""
        self._numbers += 1
        number = self._numbers
        exchange = Exchange(
            number, self._settings.name, request.body, self._send, self._exchange_given_up
        )
        self._exchanges[number] = exchange
        self._send(
            Call(
                number,
                request.method,
                request.path,
                request.query,
                list(request.headers),
                request.caller,
                max(0.0, request.deadline - self._reactor.seconds()),
                request.trace,
                request.request_id,
                request.profile,
                test,
            )
        )
        exchange.begin()
        return exchange

    async def close(self) -> None:
        """Let it close itself, for a moment, and wait until it is gone."""
        if self._over:
            return
        self._closing = True
        self.usable = False
        if self._ready and not self._exchanges:
            self._send(Close())
            self._after(CLOSE_TIMEOUT, self._kill)
        else:
            self._kill()
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        await gone

    def end(self, why: str) -> None:
        """End it now; calls on it fail. ``why`` goes on a sentence that begins with its name."""
        if self.usable:
            self.usable = False
            self.problem = self._gone(why)
            self._log.warn(
                "Extension {name} {why}",
                event="extension_stopped",
                name=self._settings.name,
                why=why,
            )
        self._kill()

    # -- what it says (ProcessProtocol) --------------------------------------------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        """Messages, or what it prints."""
        if childFD in self._printed:
            self._printed[childFD].receive(data)
            return
        touched: set[Exchange] = set()
        try:
            for content in self._messages.feed(data):
                self._receive(from_process.decode(content), touched)
        except (Malformed, msgspec.DecodeError) as error:
            self.end(f"breaks the protocol: {error}")
        for exchange in touched:
            exchange.stir()

    def processExited(self, reason: Failure) -> None:  # noqa: N802
        """It is gone; what it has started goes as well."""
        self._signal_group()
        # Who has left the group may hold the pipes open.
        self._after(GRACE, self._drop_pipes)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """It is gone, and all that it had to say is read."""
        self._over = True
        unasked = self.usable
        self.usable = False
        if unasked:
            how = _how(reason.value)
            self.problem = self._gone(f"ended by itself ({how})")
            self._log.error(
                "Extension {name} ended: {how}",
                event="extension_ended",
                name=self._settings.name,
                how=how,
            )
        for timer in list(self._timers):
            timer.cancel()
        self._timers.clear()
        for printed in self._printed.values():
            printed.end()
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.lose(self.problem)
        self._on_end(self)
        self._wake()

    # -- inside --------------------------------------------------------------------------------

    def _receive(self, message: Any, touched: set[Exchange]) -> None:
        if isinstance(message, Ready):
            self._ready = True
            self._log.info(
                "Extension {name} is ready", event="extension_ready", name=self._settings.name
            )
            self._wake()
        elif isinstance(message, Broken):
            self.usable = False
            self.problem = Problem(
                "internal_error",
                f"the extension {self._settings.name} can't be started: {message.reason}",
                hint=message.hint,
            )
        else:
            exchange = self._exchanges.get(message.call)
            if exchange is None:
                return
            if not exchange.receive(message):
                raise Malformed(f"{type(message).__name__} out of order")
            touched.add(exchange)
            if exchange.over.called:
                del self._exchanges[message.call]
                self.answered += 1
            if isinstance(message, Failed) and message.exhausted:
                self.end("has met its memory limit and is started anew")

    def _exchange_given_up(self, exchange: Exchange) -> None:
        def overdue() -> None:
            if not exchange.over.called:
                self.end("was ended: a call did not stop when its caller left or its time was up")

        self._after(GRACE, overdue)

    def _not_started(self) -> None:
        if not self._ready:
            self.end(f"has not started within {self._settings.start_timeout:g} s")

    def _gone(self, why: str) -> Problem:
        return Problem(
            "target_unreachable",
            f"the extension {self._settings.name} {why}",
            hint="the agent's log has what it printed; it is started anew for the next call",
        )

    def _send(self, message: ToProcess) -> None:
        transport: Any = self.transport
        if transport is not None and _REQUESTS in transport.pipes:
            transport.writeToChild(_REQUESTS, encode(message))

    def _kill(self) -> None:
        if not self._over and not self._signal_group():
            transport: Any = self.transport
            with suppress(Exception):
                transport.signalProcess("KILL")

    def _signal_group(self) -> bool:
        """Kill the process and what it has started; False before it has its group."""
        transport: Any = self.transport
        pid = transport.pid
        if pid is None:
            return False
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _drop_pipes(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            call()

        timer: IDelayedCall = self._reactor.callLater(seconds, fire)
        self._timers.add(timer)

    def _lines(self, descriptor: int) -> PrintedLines:
        def tell(line: str) -> None:
            if line:
                self._log.info(
                    "{name}: {line}", event="extension_output", name=self._settings.name, line=line
                )

        def switch(reading: bool) -> None:
            transport: Any = self.transport
            pipe = transport.pipes.get(descriptor)
            if pipe is not None:
                (pipe.startReading if reading else pipe.stopReading)()

        return PrintedLines(
            self._reactor, tell, lambda: switch(reading=False), lambda: switch(reading=True)
        )


def _environment() -> dict[str, str]:
    """No more of the agent's own than a Python needs: secrets may be in it."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = [str(_PACKAGES), environment.get("PYTHONPATH", "")]
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        **environment,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _how(value: object) -> str:
    number = getattr(value, "signal", None)
    if number is not None:
        with suppress(ValueError):
            return f"by signal {signal.Signals(number).name}"
        return f"by signal {number}"
    return f"with exit code {getattr(value, 'exitCode', None)}"
