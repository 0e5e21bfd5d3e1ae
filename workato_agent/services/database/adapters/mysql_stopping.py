"""Stops what a connection to MySQL is waiting for, over another connection to the same server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import Final

from attrs import frozen
from pymysql import err
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from .mysql_login import Login
from .mysql_wire import Wire

IDENTITY: Final = "@@hostname, @@port, @@server_id, VERSION()"
"""Expressions that tell one server from another."""
_INTERVAL: Final = 0.1
_log = Logger()


@frozen
class Victim:
    """A connection whose statement may have to be stopped.

    :ivar number: the server's, of the connection.
    :ivar server: values of :data:`IDENTITY`.
    """

    wire: Wire
    login: Login
    number: int
    server: Sequence[str]


def thd_kill(victim: Victim, until: float, idle: Event | None) -> None:
    """KILL QUERY until ``idle`` is set, or once without it; raises nothing.

    It is said again and again: the first may come just before the statement does.

    :param until: of the monotonic clock.
    """
    while True:
        try:
            _thd_kill_beside(victim, until, idle)
        except (err.MySQLError, OSError, Problem) as error:
            busy = isinstance(error, Problem) and error.code == "overloaded"
            if busy and time.monotonic() < until - _INTERVAL:
                # The server may have a connection to spare in a moment.
                time.sleep(_INTERVAL)
                continue
            _log.warn(
                "Could not stop a statement at {place}: {reason}",
                event="statement_not_stopped",
                place=victim.login.settings.host,
                reason=error.detail if isinstance(error, Problem) else str(error),
            )
        return


def _thd_kill_beside(victim: Victim, until: float, idle: Event | None) -> None:
    side = victim.login.thd_open_beside(victim.wire, max(0.2, until - time.monotonic()))
    try:
        side.limit(max(0.2, until - time.monotonic()))
        if side.thd_texts(f"SELECT {IDENTITY}")[0] != list(victim.server):
            # A proxy has led to another server, where the number is somebody else's.
            _log.warn(
                "Could not stop a statement at {place}: another server answered",
                event="statement_not_stopped",
                place=victim.login.settings.host,
            )
            return
        while True:
            side.thd_query(f"KILL QUERY {victim.number:d}")
            if idle is None or idle.wait(_INTERVAL) or time.monotonic() > until:
                return
    finally:
        side.thd_end()
