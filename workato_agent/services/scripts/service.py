"""Scripts that an administrator allows to be run, as ``docs/services/scripts.md`` says."""

from __future__ import annotations

import secrets
import signal
from collections import OrderedDict
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .processes import GRACE, Ended, NotStarted, ScriptProcess
from .settings import Script, ScriptsSettings
from .templates import arguments

OPERATIONS: Final = ("test", "run", "runs")
MAX_BODY: Final = 1024 * 1024
KEPT_SECONDS: Final = 3600.0
MAX_KEPT: Final = 100
MAX_QUEUED: Final = 100


class _Body(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    parameters: dict[str, object] = {}
    background: bool = False


@define(eq=False)
class _Run:
    """One run, from the moment it waits for its turn."""

    identifier: str
    script: str
    owner: str
    process: ScriptProcess
    began: float
    outcome: Ended | Problem | None = None
    work: Deferred[None] | None = None
    ended_at: float = 0.0

    def document(self) -> dict[str, object]:
        """What the caller is told of it."""
        shown: dict[str, object] = {
            "run": self.identifier,
            "script": self.script,
            "pid": self.process.pid,
        }
        if self.outcome is None:
            return {**shown, "state": "queued" if self.process.pid is None else "running"}
        if isinstance(self.outcome, Problem):
            return {**shown, "state": "failed", "problem": self.outcome.members(self.identifier)}
        ended = self.outcome
        return {
            **shown,
            "state": "ended",
            "exit_code": ended.exit_code,
            "stdout": ended.stdout,
            "stderr": ended.stderr,
            "truncated": ended.truncated,
            "duration": round(ended.duration, 3),
        }


@frozen
class _Asked:
    operation: str
    name: str


@define(eq=False)
class ScriptsService:
    """Serves one profile of the ``command_line_scripts`` section (a ``ProfileService``).

    :param pool: for the threads in which scripts are waited for; at least as many as may run.
    """

    type = "scripts"

    _settings: ScriptsSettings
    _reactor: Any
    _pool: ThreadPool
    operations: tuple[str, ...] = OPERATIONS
    _turns: DeferredSemaphore = field(init=False)
    _runs: OrderedDict[str, _Run] = field(factory=OrderedDict, init=False)
    _active: set[_Run] = field(factory=set, init=False)
    _log: Logger = field(factory=Logger, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = DeferredSemaphore(self._settings.concurrency)

    def operation(self, request: Request) -> str:
        """``test``, ``run`` or ``runs``. Raises Problem ``operation_not_found``."""
        return self._asked(request).operation

    async def handle(self, request: Request) -> Response:
        """Serve a call; see :class:`~workato_agent.services.base.ProfileService`."""
        asked = self._asked(request)
        if asked.operation == "test":
            return _json(200, self._catalogue())
        if asked.operation == "runs":
            return _json(200, self._kept(asked.name, request.caller).document())
        script = self._settings.scripts.get(asked.name)
        if script is None:
            raise Problem(
                "not_found",
                f"the profile has no script {asked.name[:100]!r}",
                hint=f"it has {', '.join(sorted(self._settings.scripts))[:500] or 'none'}",
            )
        body = _decoded(await request.body.read(MAX_BODY))
        run = self._new(asked.name, script, body, request)
        if body.background:
            self._keep(run)
            run.work = Deferred.fromCoroutine(self._work(run))
            return _json(202, run.document(), (("location", f"runs/{run.identifier}"),))
        await self._work(run)
        if isinstance(run.outcome, Problem):
            raise run.outcome
        return _json(200, run.document())

    async def close(self) -> None:
        """Stop what runs in the background."""
        working = [run.work for run in self._active if run.work is not None]
        for work in working:
            work.cancel()
        for work in working:
            await work

    def _asked(self, request: Request) -> _Asked:
        names = [unquote(part) for part in request.path.split("/")]
        if names == [""] and request.method in ("GET", "HEAD"):
            return _Asked("test", "")
        if len(names) == 1 and names[0] and request.method == "POST":
            return _Asked("run", names[0])
        if len(names) == 2 and names[0] == "runs" and request.method in ("GET", "HEAD"):
            return _Asked("runs", names[1])
        raise Problem(
            "operation_not_found",
            f"scripts have no {request.method} {request.path[:100]!r}",
            hint="there are POST {script}, GET runs/{run}, and GET without a path for the list",
        )

    def _catalogue(self) -> dict[str, object]:
        return {
            "ok": True,
            "target": f"{len(self._settings.scripts)} scripts",
            "running": len(self._active),
            "scripts": [
                {
                    "id": identifier,
                    "name": script.name,
                    "parameters": [
                        {
                            "name": parameter.name,
                            "label": parameter.label or parameter.name,
                            "optional": parameter.optional,
                            "control_type": parameter.control_type,
                            "pick_list": [list(choice) for choice in parameter.choices],
                        }
                        for parameter in script.parameters
                    ],
                }
                for identifier, script in self._settings.scripts.items()
            ],
        }

    def _new(self, name: str, script: Script, body: _Body, request: Request) -> _Run:
        settings = self._settings
        process = ScriptProcess(
            arguments(script, body.parameters),
            settings.folder,
            settings.environment,
            settings.output_limit,
            settings.user,
        )
        if len(self._active) >= settings.concurrency + MAX_QUEUED:
            raise Problem(
                "overloaded",
                f"{settings.concurrency} scripts run and {MAX_QUEUED} wait",
                hint="try again later, or raise concurrency_limit in the agent's configuration",
                retry_after=5,
            )
        identifier = f"{settings.agent}~{secrets.token_urlsafe(16)}"
        return _Run(identifier, name, request.caller, process, self._reactor.seconds())

    async def _work(self, run: _Run) -> None:
        """Wait for a turn and run. Cancelling ends the process; the run then has its outcome."""
        self._active.add(run)
        try:
            await self._turns.acquire()
            try:
                run.outcome = await self._run(run)
            finally:
                self._turns.release()
        except CancelledError:
            run.outcome = Problem("tunnel_lost", "the run was stopped before its end")
            if run.work is None:
                raise
        except Exception:  # noqa: BLE001 - told in the outcome and in the log
            self._log.failure("Running {script} failed", event="script_broke", script=run.script)
            run.outcome = Problem("internal_error", "the agent failed on this run")
        finally:
            run.ended_at = self._reactor.seconds()
            self._active.discard(run)

    async def _run(self, run: _Run) -> Ended | Problem:
        timed_out = False

        def on_timeout() -> None:
            nonlocal timed_out
            timed_out = True
            stopping.append(self._begin_to_stop(run))

        stopping: list[Any] = []
        timer = self._reactor.callLater(self._settings.timeout, on_timeout)
        try:
            ended = await self._in_thread(run, stopping)
        except NotStarted as error:
            return Problem(
                "target_not_found",
                f"the script can't be started: {error}",
                hint="check the command in the agent's configuration, and its rights",
            )
        finally:
            for call in (timer, *stopping):
                if call.active():
                    call.cancel()
        if timed_out:
            return Problem(
                "deadline_exceeded",
                f"the script ran longer than the profile's timeout of {self._settings.timeout:g} s"
                " and was ended",
                hint="raise 'timeout' of the profile, or run it in the background",
                extra={"stdout": ended.stdout[-2000:], "stderr": ended.stderr[-2000:]},
            )
        return ended

    async def _in_thread(self, run: _Run, stopping: list[Any]) -> Ended:
        """Run in a thread. A cancel ends the process, and is passed on when it has ended."""
        process = run.process
        results: list[Ended | Failure] = []
        waiting: list[Deferred[None]] = []

        def ended(result: Ended | Failure) -> None:
            results.append(result)
            for each in waiting:
                each.callback(None)

        deferToThreadPool(
            self._reactor, self._pool, lambda: process.thd_run(process.thd_start())
        ).addBoth(ended)
        cancelled = False
        while not results:
            waiting[:] = [Deferred()]
            try:
                await waiting[0]
            except CancelledError:
                waiting.clear()
                if not cancelled:
                    stopping.append(self._begin_to_stop(run))
                cancelled = True
        if cancelled:
            raise CancelledError
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def _begin_to_stop(self, run: _Run) -> Any:
        """Ask the process to end; it is killed when it doesn't."""
        run.process.stop()
        return self._reactor.callLater(GRACE, run.process.stop, signal.SIGKILL)

    def _keep(self, run: _Run) -> None:
        now = self._reactor.seconds()
        for identifier, kept in list(self._runs.items()):
            if kept.outcome is not None and now - kept.ended_at > KEPT_SECONDS:
                del self._runs[identifier]
        while len(self._runs) >= MAX_KEPT:
            ended = next((name for name, kept in self._runs.items() if kept.outcome), None)
            if ended is None:
                raise Problem("overloaded", f"{MAX_KEPT} runs are under way", retry_after=30)
            del self._runs[ended]
        self._runs[run.identifier] = run

    def _kept(self, identifier: str, caller: str) -> _Run:
        run = self._runs.get(identifier)
        # Another caller's run is none: an id that leaks opens nothing.
        gone = run is None or (
            run.outcome is not None and self._reactor.seconds() - run.ended_at > KEPT_SECONDS
        )
        if run is None or gone or run.owner != caller:
            raise Problem(
                "not_found",
                "there is no such run",
                hint="results are kept for an hour, on the agent that ran the script",
            )
        return run


def _decoded(body: bytes) -> _Body:
    if not body.strip():
        return _Body()
    try:
        return msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            "bad_request",
            f"the body is not what is expected: {error}",
            hint='send {"parameters": {"name": "value"}, "background": false} as JSON',
        ) from None


def _json(status: int, content: object, more: tuple[tuple[str, str], ...] = ()) -> Response:
    body = msgspec.json.encode(content)
    return Response(status, (("content-type", "application/json"), *more), body)
