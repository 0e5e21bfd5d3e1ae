"""A process of its own group, run to its end in a thread: output kept up to a limit.

A script can't outlive its call: the whole group is told to end (SIGTERM), and killed when it does
not. What a child does to leave the group (``setsid``) can't be followed; then at least nobody waits
for the pipes that it keeps open.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_LINGER: Final = 1.0
"""Seconds for which output is read on when the process has ended and others hold its pipes."""

_READ: Final = 64 * 1024
_LOOK: Final = 0.1


class NotStarted(Exception):
    """The command can't be run. The message says why."""


@frozen
class Ended:
    """What a process has left.

    :ivar exit_code: negative where a signal ended it (its number).
    :ivar truncated: a part of its output is not kept.
    :ivar duration: seconds.
    """

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool
    duration: float


class _Output:
    """Text of one pipe, up to a limit; what follows is read and dropped."""

    def __init__(self, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._room = limit
        self.truncated = False

    def add(self, data: bytes, *, final: bool = False) -> None:
        if self._room <= 0 and data:
            self.truncated = True
            return
        text = self._decoder.decode(data, final)
        if len(text) > self._room:
            self.truncated = True
            text = text[: self._room]
        self._room -= len(text)
        self._parts.append(text)

    def text(self) -> str:
        return "".join(self._parts)


@define(eq=False)
class ScriptProcess:
    """One run of a command. :meth:`thd_run` blocks; :meth:`stop` may be called from anywhere."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    output_limit: int
    user: str | None = None
    pid: int | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)

    def thd_start(self) -> subprocess.Popen[bytes]:
        """Start it. Raises NotStarted."""
        try:
            process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env=dict(self.environment),
                start_new_session=True,
                user=self.user,
                group=self._group(),
                extra_groups=None if self.user is None else [],
                umask=0o077,
            )
        except (OSError, ValueError, KeyError) as error:
            name = self.command[0] if self.command else ""
            raise NotStarted(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        self.pid = process.pid
        if self._stopped:
            self.stop()
        return process

    def thd_run(self, process: subprocess.Popen[bytes]) -> Ended:
        """Read what it writes until it has ended."""
        began = time.monotonic()
        outputs = {name: _Output(self.output_limit) for name in ("stdout", "stderr")}
        with selectors.DefaultSelector() as selector, process:
            for name, output in outputs.items():
                pipe = getattr(process, name)
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, output)
            until: float | None = None
            while selector.get_map() and (until is None or time.monotonic() < until):
                for key, _ in selector.select(_LOOK):
                    data = os.read(key.fd, _READ)
                    key.data.add(data)
                    if not data:
                        selector.unregister(key.fileobj)
                if until is None and process.poll() is not None:
                    until = time.monotonic() + _LINGER
            code = process.wait()
        self._ended = True
        for output in outputs.values():
            output.add(b"", final=True)
        return Ended(
            code,
            outputs["stdout"].text(),
            outputs["stderr"].text(),
            any(output.truncated for output in outputs.values()),
            time.monotonic() - began,
        )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the whole group, now or as soon as it has started."""
        self._stopped = True
        if self.pid is None or self._ended:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # it has just ended

    def _group(self) -> int | None:
        if self.user is None:
            return None
        import pwd  # noqa: PLC0415 - there is none on Windows, nor another user

        return pwd.getpwnam(self.user).pw_gid
