"""Writing to a plain TCP connection without a turn of the reactor in between.

A Twisted transport never writes at once: it asks to be told when the socket is writable, which for
a small message is two changes of the poll set and one event more than there is to do. Where nothing
waits, the socket itself is asked here first; what it does not take goes through the transport.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from twisted.internet.interfaces import (
    IConsumer,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from zope.interface import implementer

HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait before the producer is paused, as in Twisted's own transports."""


class IConsumingTransport(ITransport, IConsumer):
    """What is written to."""


@implementer(IPullProducer)
class DirectWriter:
    """The way out of one connection; nobody else writes to its transport.

    To the transport it is a pull producer, which is asked for more each time that all is sent. Over
    TLS, or where the transport has no socket, it only passes on.

    :param producer: paused while much waits, resumed when all is sent, stopped with the transport.
    """

    __slots__ = ("_direct", "_paused", "_producer", "_socket", "_transport", "_waiting")

    def __init__(self, transport: IConsumingTransport, producer: IPushProducer) -> None:
        self._transport = transport
        self._producer = producer
        self._paused = False
        self._waiting = 0
        self._direct = False
        self._socket = _socket(transport)
        if self._socket is None:
            transport.registerProducer(producer, True)
        else:
            transport.registerProducer(self, False)
            # Asked for more at once, whatever the transport still holds from before.
            self._direct = False

    def write(self, data: bytes) -> None:
        """Send, at once if possible."""
        if self._direct and self._socket is not None:
            try:
                sent = self._socket.send(data)
            except OSError:
                sent = 0  # full; or broken, and then the transport learns it by itself
            if sent == len(data):
                return
            data = data[sent:]
        self.gather(data)

    def write_pieces(self, pieces: Sequence[bytes]) -> None:
        """Send what belongs together, without joining it first."""
        sent = 0
        if self._direct and self._socket is not None:
            try:
                sent = self._socket.sendmsg(pieces)
            except OSError:
                sent = 0  # as above
            if sent == sum(map(len, pieces)):
                return
        self.gather(b"".join(pieces)[sent:])

    def gather(self, data: bytes) -> None:
        """Send together with what else this turn of the reactor brings."""
        self._direct = False
        self._transport.write(data)
        if self._socket is not None:
            self._waiting += len(data)
            if self._waiting > HIGH_WATER and not self._paused:
                self._paused = True
                self._producer.pauseProducing()

    def unregister(self) -> None:
        """The producer has no more, and is told no more; what was written is still sent."""
        self._direct = False
        self._socket = None
        self._transport.unregisterProducer()

    # -- the transport's producer

    def resumeProducing(self) -> None:
        """Twisted: nothing waits."""
        self._direct = True
        self._waiting = 0
        if self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Twisted: the transport is gone."""
        self._direct = False
        self._producer.stopProducing()


def _socket(transport: object) -> socket.socket | None:
    if ISSLTransport.providedBy(transport):
        return None
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle if isinstance(handle, socket.socket) else None
