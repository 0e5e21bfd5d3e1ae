"""The socket's one producer: moves messages from the connection to the link while it takes them."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from workato_tunnel.connection import TunnelConnection


class Link(Protocol):
    """An open WebSocket, as the session needs it."""

    def send_message(self, message: bytes) -> None:
        """Send one binary message."""

    def register(self, producer: IPushProducer) -> None:
        """Make this the transport's producer: paused while much is unsent, stopped as soon as the
        WebSocket closes, whoever closes it."""

    def close(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code (RFC 6455, section 7.4)."""

    def abort(self) -> None:
        """Drop the socket at once."""


class Sender(Protocol):
    """The session, as its socket's producer needs it."""

    connection: TunnelConnection

    def writers_may_go_on(self, stream_ids: list[int]) -> None:
        """Less than the low-water mark is queued on these streams."""

    def all_sent(self) -> None:
        """Nothing more can be sent now."""


@implementer(IPushProducer)
class Outbound:
    """Packs late: what is next is decided when the transport has room, so that a control frame or
    a short answer never waits behind more than the transport's own buffer."""

    def __init__(self, sender: Sender, link: Link) -> None:
        self._sender = sender
        self._connection = sender.connection
        self._link = link
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
        """The transport takes no more."""
        self._stopped = True

    def send(self) -> None:
        """Send what is ready, as far as the transport takes it."""
        if self._sending:
            return
        self._sending = True
        connection = self._connection
        try:
            while self._room() and (message := connection.next_message()) is not None:
                self.bytes_sent += len(message)
                self._link.send_message(message)
                drained = connection.take_drained()
                if drained:
                    self._sender.writers_may_go_on(drained)
        finally:
            self._sending = False
        self._sender.all_sent()

    def _room(self) -> bool:
        return not (self._paused or self._stopped)
