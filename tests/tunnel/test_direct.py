"""Writing past the reactor: nothing lost, nothing out of order, nobody left waiting."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IPushProducer, ISSLTransport, ITCPTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer

from tests.support.sessions import Producer
from workato_tunnel.tx.direct import HIGH_WATER, DirectWriter, IConsumingTransport


@implementer(IConsumingTransport)
class SocketTransport:
    """As Twisted's: writes wait for ``turn``; a pull producer is asked once all is sent."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle
        self.waiting = b""
        self.producer: Any = None
        self.streaming = False

    def getHandle(self) -> socket.socket:  # noqa: N802
        return self.handle

    def write(self, data: bytes) -> None:
        self.waiting += data

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def turn(self) -> None:
        """The reactor finds the socket writable."""
        sent = self.handle.send(self.waiting)
        self.waiting = self.waiting[sent:]
        if not self.waiting and self.producer is not None and not self.streaming:
            self.producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer, self.streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        raise NotImplementedError

    def getPeer(self) -> Any:
        raise NotImplementedError

    def getHost(self) -> Any:
        raise NotImplementedError


class DirectWriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.transport = SocketTransport(ours)
        self.producer = Producer()
        self.writer = DirectWriter(self.transport, self.producer)

    def received(self) -> bytes:
        data = b""
        while True:
            try:
                piece = self.theirs.recv(65536)
            except BlockingIOError:
                return data
            if not piece:
                return data
            data += piece

    def test_what_the_transport_still_holds_goes_first(self) -> None:
        self.transport.waiting = b"head "
        self.writer.write(b"body ")
        self.assertEqual(self.received(), b"")
        self.transport.turn()
        self.writer.write(b"more")
        self.assertEqual(self.transport.waiting, b"")
        self.assertEqual(self.received(), b"head body more")

    def test_what_the_socket_does_not_take_follows_in_order_and_holds_the_producer(self) -> None:
        self.writer.write(b"x")
        self.transport.turn()
        sent = b"x"
        while self.producer.told != ["pause"]:
            piece = bytes([len(sent) % 251]) * 10_000
            self.writer.write(piece)
            sent += piece
        self.assertGreater(len(self.transport.waiting), HIGH_WATER)
        self.assertLess(len(self.transport.waiting), HIGH_WATER + 10_001)
        received = b""
        while self.transport.waiting:
            received += self.received()
            self.assertEqual(self.producer.told, ["pause"])
            self.transport.turn()
        self.assertEqual(self.producer.told, ["pause", "resume"])
        self.writer.write(b"last")
        self.assertEqual(self.transport.waiting, b"")
        self.assertEqual(received + self.received(), sent + b"last")

    def test_a_broken_socket_is_the_transports_to_find(self) -> None:
        self.writer.write(b"x")
        self.transport.turn()
        self.theirs.close()
        self.writer.write(b"lost")
        self.writer.write(b"too")
        self.assertEqual(self.transport.waiting, b"losttoo")
        self.transport.producer.stopProducing()
        self.assertEqual(self.producer.told, ["stop"])

    def test_after_the_producer_has_gone_all_goes_through_the_transport(self) -> None:
        self.writer.write(b"x")
        self.transport.turn()
        self.writer.unregister()
        self.assertIsNone(self.transport.producer)
        self.writer.write(b"y")
        self.assertEqual(self.transport.waiting, b"y")

    def test_over_tls_or_without_a_socket_nothing_changes(self) -> None:
        for handle, provides in ((self.transport.handle, ISSLTransport), (None, ITCPTransport)):
            transport = SocketTransport(handle)  # type: ignore[arg-type]
            directlyProvides(transport, provides)
            producer: IPushProducer = Producer()
            writer = DirectWriter(transport, producer)
            self.assertEqual((transport.producer, transport.streaming), (producer, True))
            writer.write(b"x")
            self.assertEqual(transport.waiting, b"x")
