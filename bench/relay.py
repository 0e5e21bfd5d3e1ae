"""A slow link on loopback: a TCP relay with a rate, a delay and a window, in a process of its own.

``python -m bench.relay LISTEN TARGET RATE DELAY WINDOW``; bytes a second (0: no limit), seconds one
way, bytes. It models what one TCP connection meets on such a link: bytes leave it ``delay`` after
they came in (after their turn at the rate), and no more than ``window`` of them are unacknowledged,
where an acknowledgement takes another ``delay`` to come back. Its own kernel buffers are small, so
that they don't stand in as a queue that the link would not have.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from typing import cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

_KERNEL_BUFFER = 32 * 1024


class _Direction:
    """One direction of a relayed connection."""

    def __init__(self, reactor: PosixReactorBase, rate: float, delay: float, window: int) -> None:
        self._reactor = reactor
        self._rate, self._delay, self._window = rate, delay, window
        self._line: deque[tuple[float, bytes]] = deque()
        self._unacknowledged: deque[tuple[float, int]] = deque()
        self._in_flight = 0
        self._free_at = 0.0
        self._timer_set = False
        self._ended = False
        self.source: Connection | None = None
        self.sink: Connection | None = None

    def accept(self, data: bytes) -> None:
        """Bytes came in: they leave after their turn and the delay."""
        begun = max(self._reactor.seconds(), self._free_at)
        self._free_at = begun + (len(data) / self._rate if self._rate else 0.0)
        leaves = self._free_at + self._delay
        self._line.append((leaves, data))
        self._unacknowledged.append((leaves + self._delay, len(data)))
        self._in_flight += len(data)
        self._throttle()
        self.arm()

    def end(self) -> None:
        """The source is closed: so is the sink, after what is still under way."""
        self._ended = True
        self.arm()

    def _throttle(self) -> None:
        if self.source is None or self._ended:
            return
        if self._in_flight >= self._window:
            self.source.pauseProducing()
        else:
            self.source.resumeProducing()

    def arm(self) -> None:
        """Set the timer for what is under way; nothing moves before there is a sink."""
        if self._timer_set or self.sink is None:
            return
        moments = [queue[0][0] for queue in (self._line, self._unacknowledged) if queue]
        if moments:
            self._timer_set = True
            wait = max(0.0, min(moments) - self._reactor.seconds())
            self._reactor.callLater(wait, self._move)
        elif self._ended:
            self.sink.loseConnection()

    def _move(self) -> None:
        self._timer_set = False
        now = self._reactor.seconds()
        while self.sink is not None and self._line and self._line[0][0] <= now:
            self.sink.write(self._line.popleft()[1])
        while self._unacknowledged and self._unacknowledged[0][0] <= now:
            self._in_flight -= self._unacknowledged.popleft()[1]
        self._throttle()
        self.arm()


class _End(Protocol):
    """One of the two connections: what it receives goes one way, what it sends came the other."""

    def __init__(self, out: _Direction, back: _Direction) -> None:
        self._out, self._back = out, back

    def connectionMade(self) -> None:
        connection = cast("Connection", self.transport)
        connection.setTcpNoDelay(True)
        connection.bufferSize = 256 * 1024
        self._out.source = self._back.sink = connection
        self._back.arm()

    def dataReceived(self, data: bytes) -> None:
        self._out.accept(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._out.end()


class _Relay(Factory):
    def __init__(
        self, reactor: PosixReactorBase, target: int, rate: float, delay: float, window: int
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._link = (rate, delay, window)

    def buildProtocol(self, addr: object) -> Protocol:
        there = _Direction(self._reactor, *self._link)
        back = _Direction(self._reactor, *self._link)
        near, far = _End(there, back), _End(back, there)
        with socket.socket() as dialled:
            short_queue(dialled)
            # On loopback this takes no time: the kernel answers for the listener.
            dialled.connect(("127.0.0.1", self._target))
            self._reactor.adoptStreamConnection(
                dialled.fileno(), socket.AF_INET, Factory.forProtocol(lambda: far)
            )
        return near


def short_queue(handle: socket.socket) -> None:
    """No long queue in the kernel before the link, and segments of a network's size.

    Before it connects or listens: what TCP offers its peer is fixed by then. Loopback's own
    segments of 64 KiB stall in a buffer that small.
    """
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)


def main(*arguments: str) -> None:
    """Relay until killed."""
    listen, target, rate, delay, window = (float(argument) for argument in arguments)
    reactor = cast("PosixReactorBase", installed_reactor)
    relay = _Relay(reactor, int(target), rate, delay, int(window))
    port = reactor.listenTCP(int(listen), relay, interface="127.0.0.1")
    short_queue(port.socket)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
