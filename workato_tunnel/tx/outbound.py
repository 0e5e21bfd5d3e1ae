"""The socket's one producer: moves messages from the connection to the link while it takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from workato_tunnel.connection import TunnelConnection


class Link(Protocol):
    """An open WebSocket, as the session needs it."""

    def send_message(self, message: bytes) -> None:
        """Send one binary message."""

    def register(self, producer: IPushProducer) -> None:
        """Make this the transport's producer, to be paused while much is unsent."""

    def close(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code (RFC 6455, section 7.4)."""

    def abort(self) -> None:
        """Drop the socket at once."""


@implementer(IPushProducer)
class Outbound:
    """Packs late: what is next is decided when the transport has room, so that a control frame or
    a short answer never waits behind more than the transport's own buffer.

    :param drained: told of the streams whose writers may go on.
    """

    def __init__(
        self, connection: TunnelConnection, link: Link, drained: Callable[[list[int]], None]
    ) -> None:
        self._connection = connection
        self._link = link
        self._drained = drained
        self._paused = False
        self._stopped = False
        self._sending = False
        self.bytes_sent = 0

    def pauseProducing(self) -> None:
        """The transport holds enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._paused = False
        self.send()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._stopped = True

    def send(self) -> None:
        """Send what is ready, as far as the transport takes it."""
        if self._sending:
            return
        self._sending = True
        try:
            while not self._paused and not self._stopped:
                message = self._connection.next_message()
                if message is None:
                    break
                self.bytes_sent += len(message)
                self._link.send_message(message)
                drained = self._connection.take_drained()
                if drained:
                    self._drained(drained)
        finally:
            self._sending = False
