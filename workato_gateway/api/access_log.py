"""One line a request, written in batches: who called what, how it ended, how long it took.

The query is left out: callers put secrets there, whatever the documentation says. So is the random
part of a session's id and its like.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..agents.affinity import without_secret
from .exchange import Exchange

FLUSH_AFTER: Final = 0.5
"""Seconds a line may wait."""
FLUSH_AT: Final = 64 * 1024
"""Characters at which lines wait no longer."""
COMPLAIN_EVERY: Final = 60.0

_AS_IT_IS: Final = getattr(os, "O_BINARY", 0)
"""Windows would write another end of line."""
_PLAIN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class Sink(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Raises OSError."""

    def close(self) -> None: ...


class StandardOutput:
    """The process' standard output."""

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        view = memoryview(data)
        while view:  # twistd replaces sys.stdout by a log
            view = view[os.write(1, view) :]

    def close(self) -> None:
        """It stays open: it is not ours."""


@define
class RotatingFile:
    """A file that moves to ``.1``, ``.2`` … when it gets large, and follows a foreign rotation.

    :ivar max_size: bytes.
    :ivar keep: how many old files stay.
    """

    path: Path
    max_size: int = 64 * 1024 * 1024
    keep: int = 5
    _descriptor: int = field(init=False, default=-1)

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        if self._descriptor >= 0 and not self._is_current():
            self.close()
        if self._descriptor < 0:
            self._descriptor = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _AS_IT_IS, 0o640
            )
        size = os.fstat(self._descriptor).st_size
        if size and size + len(data) > self.max_size:
            self._rotate()
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _is_current(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def _rotate(self) -> None:
        self.close()
        for number in range(self.keep - 1, 0, -1):
            old = self._numbered(number)
            if old.exists():
                old.replace(self._numbered(number + 1))
        if self.keep:
            self.path.replace(self._numbered(1))
        else:
            self.path.unlink()
        self.write(b"")

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


@frozen
class Entry:
    """A line of the JSON form. ``time`` in UTC, ``duration`` in ms, ``code`` of the gateway's own
    problem, ``complete``: the answer went out whole."""

    time: str
    peer: str
    owner: str
    method: str
    path: str
    status: int
    code: str
    complete: bool
    bytes_in: int
    bytes_out: int
    duration: float
    request_id: str
    agent: str


@define
class AccessLog:
    """Collects lines and writes them twice a second, so that a line costs microseconds."""

    _sink: Sink
    _clock: IReactorTime
    json: bool = False
    _wall_clock: Callable[[], float] = time.time
    _lines: list[str] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)
    _second: int = field(init=False, default=-1)
    _stamp: str = field(init=False, default="")
    _flush_call: IDelayedCall | None = field(init=False, default=None)
    _complained: float = field(init=False, default=float("-inf"))
    _encoder: msgspec.json.Encoder = field(init=False, factory=msgspec.json.Encoder)
    _log = Logger()

    def record(self, exchange: Exchange, seconds: float) -> None:
        """Note an exchange that has ended after that many seconds."""
        now = self._wall_clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._stamp}.{int((now - second) * 1000):03d}Z"
        head = exchange.head
        path = head.target
        mark = path.find("?")
        if mark >= 0:
            path = path[:mark]
        path = without_secret(path)
        if self.json:
            line = self._encoder.encode(
                Entry(
                    stamp,
                    exchange.peer,
                    exchange.owner,
                    head.method,
                    path,
                    exchange.status,
                    exchange.code,
                    exchange.complete,
                    exchange.bytes_in,
                    exchange.bytes_out,
                    round(seconds * 1000, 3),
                    exchange.request_id,
                    exchange.agent,
                )
            ).decode()
        else:
            line = (
                f"{stamp} {exchange.peer or '-'} {_word(exchange.owner)} {head.method} {path} "
                f"{exchange.status}{'' if exchange.complete else '!'} {exchange.code or '-'} "
                f"{exchange.bytes_in} {exchange.bytes_out} {seconds * 1000:.3f}ms "
                f"{exchange.request_id} {_word(exchange.agent)}"
            )
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_AT:
            self.flush()
        elif self._flush_call is None:
            self._flush_call = self._clock.callLater(FLUSH_AFTER, self._flush_later)

    def _flush_later(self) -> None:
        self._flush_call = None
        self.flush()

    def flush(self) -> None:
        """Write what waits. Lines that the sink fails on are lost, which is logged each minute."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        data = ("\n".join(lines) + "\n").encode()
        try:
            self._sink.write(data)
        except OSError as error:
            now = self._clock.seconds()
            if now - self._complained >= COMPLAIN_EVERY:
                self._complained = now
                self._log.error(
                    "Access log: {count} lines lost: {error}",
                    event="access_log_lost",
                    count=len(lines),
                    error=str(error),
                )

    def close(self) -> None:
        """Write what waits and close the sink."""
        self.flush()
        self._sink.close()


def _word(text: str) -> str:
    """One word of a line: as it is where it is plain, else quoted as in JSON."""
    if not text:
        return "-"
    return text if _PLAIN.fullmatch(text) else msgspec.json.encode(text).decode()
