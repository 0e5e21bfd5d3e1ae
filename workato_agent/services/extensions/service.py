"""Services that are written by others, each in a process of its own.

Whatever an extension does, the agent goes on: a call that hangs or a process that dies costs the
calls on that extension, and the next one finds it started anew.
"""

from __future__ import annotations

import math
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredSemaphore

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .exchange import Exchange
from .process import ExtensionProcess
from .settings import ExtensionSettings

METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
TEST: Final = "test"
MAX_QUEUED: Final = 100
"""Calls that may wait for their turn."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between starts of an extension that ends again and again."""
SHORT_PAUSE: Final = 1.0
"""A call waits that long for a start; for longer ones it is told to come again."""


@define(eq=False)
class ExtensionService:
    """Serves one profile of the ``extensions`` section (a ``ProfileService``)."""

    type = "extension"

    _reactor: Any
    _settings: ExtensionSettings
    operations: tuple[str, ...] = (TEST, *METHODS)
    _turns: DeferredSemaphore = field(init=False)
    _process: ExtensionProcess | None = field(default=None, init=False)
    _ending: set[ExtensionProcess] = field(factory=set, init=False)
    _failures: int = field(default=0, init=False)
    _not_before: float = field(default=0.0, init=False)
    _why: str = field(default="", init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = DeferredSemaphore(self._settings.concurrency)

    def operation(self, request: Request) -> str:
        """The method in lower case; ``test`` for GET and HEAD without a path and a query."""
        method = request.method.lower()
        if method in ("get", "head") and request.path == "" and request.query == "":
            return TEST
        if method in METHODS:
            return method
        raise Problem(
            "operation_not_found",
            f"extensions have no {request.method[:32]!r}",
            hint=f"there are {', '.join(METHODS).upper()}",
        )

    async def handle(self, request: Request) -> Response:
        """Pass a call on; see :class:`~workato_agent.services.base.ProfileService`."""
        test = self.operation(request) == TEST
        if len(self._turns.waiting) >= MAX_QUEUED:
            raise Problem(
                "overloaded",
                f"{MAX_QUEUED} calls wait for the extension {self._settings.name}",
                hint="try again later, or raise concurrency in the agent's configuration",
                retry_after=5,
            )
        await self._turns.acquire()
        exchange: Exchange | None = None
        try:
            process = await self._running()
            exchange = process.begin(request, test=test)
        finally:
            # The turn is the call's until the process is through with it, whoever still waits.
            if exchange is None:
                self._turns.release()
            else:
                exchange.over.addBoth(lambda _: self._turns.release())
        await exchange.head()
        whole = exchange.whole()
        if whole is not None and request.method != "HEAD":
            return Response(exchange.status, _without_length(exchange.headers), whole)
        return Response(exchange.status, exchange.headers, exchange)

    async def close(self) -> None:
        """End the process."""
        self._closed = True
        for process in list(self._ending):
            await process.close()

    async def _running(self) -> ExtensionProcess:
        """The process, ready for a call. Raises Problem."""
        process = self._process
        if process is None or not process.usable:
            pause = self._not_before - self._reactor.seconds()
            if pause > SHORT_PAUSE:
                raise Problem(
                    "target_unreachable",
                    f"{self._why}; it is started again in {math.ceil(pause)} s",
                    hint="the agent's log has what it printed",
                    retry_after=math.ceil(pause),
                )
            if pause > 0:
                await self._sleep(pause)
            process = self._started()
        await process.until_ready()
        return process

    def _started(self) -> ExtensionProcess:
        """The process that others have started meanwhile, or a new one."""
        process = self._process
        if process is not None and process.usable:
            return process
        if self._closed:
            raise Problem("target_unreachable", "the profile is being closed")
        process = ExtensionProcess(self._reactor, self._settings, self._process_ended)
        self._not_before = self._reactor.seconds() + SHORT_PAUSE
        process.start()
        self._process = process
        self._ending.add(process)
        return process

    def _process_ended(self, process: ExtensionProcess) -> None:
        self._ending.discard(process)
        self._failures = 1 if process.answered else self._failures + 1
        self._why = process.problem.detail
        pause = 0.0 if self._failures == 1 else min(LONGEST_PAUSE, 2.0 ** (self._failures - 2))
        self._not_before = max(self._not_before, self._reactor.seconds() + pause)
        if self._process is process:
            self._process = None

    def _sleep(self, seconds: float) -> Deferred[None]:
        waking: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._reactor.callLater(seconds, waking.callback, None)
        return waking


def _without_length(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The dispatcher gives a whole body its length."""
    return tuple((name, value) for name, value in headers if name != "content-length")
