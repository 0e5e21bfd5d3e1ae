"""The agent's own record of calls: one sealed JSON line for each, never any data.

The reactor only queues; a thread of the audit's own encodes, seals and writes. What can't be
written is kept, and once :data:`LIMIT` calls wait the agent takes no new ones: no call goes
unrecorded because a disk is full.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem

from .chain import Call, ChainError, ChainFile, Record, Start, Stop, Unrecorded, timestamp

LIMIT: Final = 16_384
"""Calls that may wait for the disk before new ones are refused."""
GATHER: Final = 0.02
"""Seconds for which lines gather, so that many share a write."""
SYNC_EVERY: Final = 0.5
RETRY: Final = 1.0
LAST_TRY: Final = 5.0
"""Seconds for which a stopping agent tries to write what is left."""
_CHUNK: Final = 64
_LONGEST: Final = 256
_UNROUTABLE: Final = frozenset({"service_not_found", "profile_not_found", "operation_not_found"})
_REFUSED: Final = _UNROUTABLE | {"overloaded", "policy_denied"}

_Waiting = tuple[float, str, str, str, str, str, str, bool, str, int | None, int, int, float]


class AuditError(Exception):
    """The audit can't begin; the agent must not start without it."""


class EndedCall(Protocol):
    """What the audit takes of a call that has ended (the dispatcher's ``CallEnd``)."""

    @property
    def head(self) -> Open: ...
    @property
    def operation(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def denied(self) -> bool: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def duration(self) -> float: ...


class FromThreads(Protocol):
    """The part of IReactorFromThreads that is used."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None: ...  # noqa: A002, N802


class AuditLog:
    """Records calls in a chain of files. One of the dispatcher's observers."""

    log = Logger()

    def __init__(
        self,
        path: Path,
        *,
        reactor: FromThreads,
        max_size: int,
        keep: int,
        version: str = "",
        limit: int = LIMIT,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.failure: str | None = None
        self._reactor = reactor
        self._version = version
        self._limit = limit
        self._now = wall_clock
        self._chain = ChainFile(path, max_size, keep)
        self._last = (0, "")
        self._queue: deque[_Waiting] = deque()
        self._refused = 0
        self._pending: list[Record] = []
        self._wake = threading.Event()
        self._halt = threading.Event()
        self._awake = False
        self._unsynced = False
        self._synced_at = 0.0
        self._thread: threading.Thread | None = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Open the chain and begin to write. Raises AuditError."""
        try:
            self._chain.open(self._now())
            self._chain.append([Start(0, timestamp(self._now()), self._version, os.getpid())])
            self._chain.sync()
            self._last = (self._chain.seq, self._chain.head)
        except (OSError, ChainError) as error:
            self._chain.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise AuditError(
                f"the audit log {self.path} can't be written: {reason}"
                " (audit.path in config.yml says where it goes)"
            ) from error
        self._thread = threading.Thread(target=self._thd_run, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> Deferred[None]:
        """Write what waits and end. Fires when it is on disk, or lost after LAST_TRY seconds."""
        if self._thread is None:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._halt.set()
            self._wake.set()
        waiting: Deferred[None] = Deferred()
        self._stopped.chainDeferred(waiting)
        return waiting

    def admit(self) -> None:
        """Ask before each call: raises Problem ``overloaded`` while too much waits for the disk."""
        if len(self._queue) < self._limit and self._thread is not None:
            return
        reason = self.failure or "the disk is too slow"
        raise Problem(
            "overloaded",
            f"The agent can't write its audit log ({reason}) and takes no calls without it",
            hint="free space on the agent's disk, or correct audit.path in its config.yml",
            retry_after=5,
        )

    def call_began(self, head: Open) -> None:
        """The audit has one line for a call, written when it ends."""

    def call_ended(self, end: EndedCall) -> None:
        """Queue the line of a call. Never blocks, never raises.

        A call that was served has a line whatever happens. Of those refused while far too much
        waits for the disk only the number is kept, so that memory stays bounded.
        """
        if len(self._queue) >= 2 * self._limit and end.code in _REFUSED:
            self._refused += 1
            return
        head = end.head
        caller, trace, request_id = head.caller, head.trace, head.request_id
        service, profile = head.service, head.profile
        if len(caller) + len(trace) + len(request_id) + len(service) + len(profile) > _LONGEST:
            caller, trace, request_id = caller[:_LONGEST], trace[:_LONGEST], request_id[:_LONGEST]
            service, profile = service[:_LONGEST], profile[:_LONGEST]
        self._queue.append(
            (
                self._now(),
                caller,
                trace,
                request_id,
                service,
                profile,
                end.operation,
                end.denied,
                end.code,
                end.rows,
                end.bytes_in,
                end.bytes_out,
                end.duration,
            )
        )
        if not self._awake:
            self._awake = True
            self._wake.set()

    def status(self) -> dict[str, object]:
        """For ``workato-agent status``. ``last`` names the newest line, to be kept elsewhere."""
        seq, head = self._last
        return {
            "path": str(self.path),
            "last": {"seq": seq, "hash": head},
            "waiting": len(self._queue),
            "failure": self.failure,
        }

    # -- in the audit's own thread -------------------------------------------------------------

    def _thd_run(self) -> None:
        try:
            self._thd_loop()
        except Exception as error:  # noqa: BLE001 - whatever it is, no call may go unrecorded
            self.failure = repr(error)
            self._reactor.callFromThread(self._log_failure, repr(error))
        finally:
            self._chain.close()
            self._reactor.callFromThread(self._end, len(self._queue) + len(self._pending))

    def _thd_loop(self) -> None:
        timeout: float | None = None
        give_up: float | None = None
        while True:
            self._wake.wait(timeout)
            stopping = self._halt.is_set()
            # In this order, so that a call queued meanwhile is either written below or wakes us.
            self._wake.clear()
            self._awake = False
            written = self._thd_write(stopping)
            if not stopping:
                self._halt.wait(GATHER)
                timeout = RETRY if not written else SYNC_EVERY if self._unsynced else None
                continue
            give_up = give_up or time.monotonic() + LAST_TRY
            if written or time.monotonic() > give_up:
                break
            timeout = RETRY / 4
        if written:
            self._thd_say_goodbye()

    def _thd_write(self, stopping: bool) -> bool:
        """Write and sync what waits; False where the disk refuses."""
        try:
            while self._pending or self._queue:
                if not self._pending:
                    count = min(_CHUNK, len(self._queue))
                    self._pending = [_record(self._queue.popleft()) for _ in range(count)]
                self._chain.append(self._pending)
                self._last = (self._chain.seq, self._chain.head)
                self._pending = []
                self._unsynced = True
            if self._refused:
                refused, self._refused = self._refused, 0
                self._pending = [Unrecorded(0, timestamp(self._now()), refused)]
                self._chain.append(self._pending)
                self._pending = []
            if self._unsynced and (stopping or time.monotonic() - self._synced_at > SYNC_EVERY):
                self._chain.sync()
                self._unsynced = False
                self._synced_at = time.monotonic()
        except OSError as error:
            if self.failure is None:
                self._reactor.callFromThread(self._log_failure, error.strerror)
            self.failure = error.strerror or "unknown error"
            return False
        if self.failure is not None:
            self.failure = None
            self._reactor.callFromThread(self._log_recovery)
        return True

    def _thd_say_goodbye(self) -> None:
        try:
            self._chain.append([Stop(0, timestamp(self._now()))])
            self._chain.sync()
        except OSError as error:
            self._reactor.callFromThread(self._log_failure, error.strerror)

    # -- back on the reactor -------------------------------------------------------------------

    def _log_failure(self, reason: str) -> None:
        self.log.error(
            "The audit log {path} can't be written: {reason}",
            event="audit_unwritable",
            path=str(self.path),
            reason=reason,
        )

    def _log_recovery(self) -> None:
        self.log.info(
            "The audit log {path} can be written again", event="audit_writable", path=str(self.path)
        )

    def _end(self, lost: int) -> None:
        if lost:
            self.log.critical(
                "{lost} calls could not be written to the audit log", event="audit_lost", lost=lost
            )
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._stopped is not None:
            self._stopped.callback(None)


def _record(waiting: _Waiting) -> Record:
    (
        when, caller, trace, request_id, service, profile, operation, denied, code, rows,
        bytes_in, bytes_out, duration,
    ) = waiting  # fmt: skip
    verdict = "denied" if denied else "unroutable" if code in _UNROUTABLE else "allowed"
    return Call(
        0,
        timestamp(when),
        caller,
        trace,
        request_id,
        service,
        profile,
        operation,
        verdict,
        code,
        rows,
        bytes_in,
        bytes_out,
        round(duration * 1000, 3),
    )
