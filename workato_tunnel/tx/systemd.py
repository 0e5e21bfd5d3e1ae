"""What a service says to systemd: ready, reloading, stopping, how it is, and that it is alive.

The protocol is that of sd_notify(3): datagrams of ``NAME=VALUE`` lines to the Unix socket in
``$NOTIFY_SOCKET``. Where nobody gave one, nothing is said.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Self

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the status."""
_LONGEST_STATUS: Final = 400
_MOST_UNSAID: Final = 8


class SystemdNotifier:
    """Speaks for this process. The sign of life comes from the reactor: one that is blocked for as
    long as ``WatchdogSec`` of the unit is killed and started anew.

    :param address: a path, or ``@NAME`` of the abstract namespace; "" says nothing to anybody.
    :param watchdog: seconds within which systemd wants a sign of life; 0 if it wants none.
    :param status: the present state in a line, for ``systemctl status``.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, address: str, watchdog: float, status: Callable[[], str]
    ) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog
        self._status = status
        self._said = ""
        self._unsaid: list[str] = []
        self._alive = reactor.seconds()
        self._reactor = reactor
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    @classmethod
    def of(
        cls,
        reactor: Any,
        status: Callable[[], str],
        environ: MutableMapping[str, str] = os.environ,
    ) -> Self:
        """As the environment says. What it says is taken out of it: the programs that this process
        starts are others, and have nothing to say for it.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        # A process that has forked since (a daemon) is not the one that was meant.
        meant = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        wanted = meant and address and microseconds.isdecimal()
        return cls(reactor, address, int(microseconds) / 1e6 if wanted else 0.0, status)

    def ready(self) -> None:
        """It serves, from now on or again after :meth:`reloading`."""
        self._say("READY=1", self._changed_status())
        if self._address and not self._loop.running:
            self._loop.start(self._interval, now=False)

    def reloading(self) -> None:
        """The configuration is being read anew, until :meth:`ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """It ends, within so many seconds. Signs of life go on until :meth:`end`."""
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def end(self) -> None:
        """Nothing more will be said."""
        if self._loop.running:
            self._loop.stop()

    @property
    def _interval(self) -> float:
        return min(self._watchdog / 3, LOOK_EVERY) if self._watchdog else LOOK_EVERY

    def _look(self) -> None:
        words = [self._changed_status()]
        now = self._reactor.seconds()
        if self._watchdog and now - self._alive + self._interval > self._watchdog / 2:
            words.append("WATCHDOG=1")
            self._alive = now
        self._say(*words)

    def _changed_status(self) -> str:
        """The assignment of the status; "" when systemd knows it already."""
        line = " ".join(self._status().split())[:_LONGEST_STATUS]
        if line == self._said:
            return ""
        self._said = line
        return f"STATUS={line}"

    def _say(self, *assignments: str) -> None:
        self._unsaid += filter(None, assignments)
        if not self._address or not self._unsaid:
            self._unsaid.clear()
            return
        message = "\n".join(self._unsaid)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # systemd reads at once; a reactor must not wait where it does not.
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8"), self._address)
        except OSError as error:
            # It is said at the next look; of what is then out of date the later line counts.
            del self._unsaid[:-_MOST_UNSAID]
            self._log.warn(
                "systemd could not be told {message}: {reason}",
                event="systemd_not_told",
                message=message.replace("\n", " "),
                reason=error.strerror or str(error),
            )
        else:
            self._unsaid.clear()
