"""Writing past the reactor: nothing lost, nothing out of order, nobody left waiting."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
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
        try:
            sent = self.handle.send(self.waiting)
        except BlockingIOError:
            return
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


class DirectCase(SynchronousTestCase):
    """A writer over a real socket."""

    def setUp(self) -> None:
        self.connect()

    def connect(self) -> None:
        """A new pair of sockets, and a writer to one of them."""
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.transport = SocketTransport(ours)
        self.producer = Producer()
        self.writer = DirectWriter(self.transport, self.producer)

    def received(self, limit: int = 1 << 30) -> bytes:
        """What has come, or that much of it."""
        data = b""
        while len(data) < limit:
            try:
                piece = self.theirs.recv(min(65536, limit - len(data)))
            except BlockingIOError:
                return data
            if not piece:
                return data
            data += piece
        return data


class DirectWriterTests(DirectCase):
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


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "pieces", "gather", "turn", "read", "turn", "read")),
        st.sampled_from((0, 1, 17, 4096, 8192, 50_000, 65_536, 200_000, 600_000)),
    ),
    max_size=30,
)


class MixtureTests(DirectCase):
    def act(self, kind: str, size: int) -> bytes:
        """Write in one of the ways; what was written."""
        self.written = (self.written + 1) % 251
        data = bytes([self.written]) * (size // 2) + b"%d" % self.written + bytes(size // 2)
        data = data[:size]
        if kind == "pieces":
            cut = size // 3
            self.writer.write_pieces((b"%x\r\n" % size, data[:cut], b"", data[cut:], b"\r\n"))
            return b"%x\r\n%b\r\n" % (size, data)
        (self.writer.write if kind == "write" else self.writer.gather)(data)
        return data

    @settings(max_examples=60, deadline=None)
    @given(STEPS, st.booleans())
    @example([("turn", 0), ("pieces", 600_000), ("read", 600_000), ("write", 1)] * 3, True)
    @example([("turn", 0), ("gather", 1), ("write", 8192), ("pieces", 8192)] * 2, False)
    @example([("gather", 65_536)], True)
    @example([("gather", 65_536), ("gather", 1), ("read", 1), ("turn", 0), ("turn", 0)], False)
    def test_any_mixture_keeps_the_order_loses_nothing_and_paces_the_producer(
        self, steps: list[tuple[str, int]], unregister: bool
    ) -> None:
        self.connect()
        self.written = 0
        sent, received = b"", b""
        for kind, size in steps:
            if kind == "turn":
                self.transport.turn()
            elif kind == "read":
                received += self.received(size)
            else:
                sent += self.act(kind, size)
            told = self.producer.told
            self.assertEqual(told, ["pause", "resume"] * (len(told) // 2) + told[len(told) & ~1 :])
            paused = bool(told) and told[-1] == "pause"
            if paused:
                self.assertGreater(len(self.transport.waiting), 0)
            else:
                self.assertLessEqual(len(self.transport.waiting), HIGH_WATER)
        if unregister:
            self.writer.unregister()
            told = list(self.producer.told)
            for kind in ("write", "pieces", "gather"):
                waiting = len(self.transport.waiting)
                sent += self.act(kind, 100)
                self.assertGreater(len(self.transport.waiting), waiting)
        while self.transport.waiting:
            received += self.received()
            self.transport.turn()
        received += self.received()
        self.assertEqual(received, sent)
        if unregister:
            self.assertEqual(self.producer.told, told)
        else:
            self.assertNotEqual(self.producer.told[-1:], ["pause"])
        for end in (self.transport.handle, self.theirs):
            end.close()

    def test_pieces_leave_at_once_where_nothing_waits(self) -> None:
        self.transport.turn()
        self.writer.write_pieces((b"5\r\n", b"hello", b"\r\n"))
        self.assertEqual(self.received(), b"5\r\nhello\r\n")
        self.assertEqual(self.transport.waiting, b"")

    def test_what_is_gathered_waits_for_the_turn_and_so_does_what_follows(self) -> None:
        self.transport.turn()
        self.writer.gather(b"head ")
        self.writer.write(b"body ")
        self.writer.write_pieces((b"in ", b"pieces"))
        self.assertEqual(self.received(), b"")
        self.transport.turn()
        self.assertEqual(self.received(), b"head body in pieces")
        self.writer.write(b" at once")
        self.assertEqual(self.received(), b" at once")

    def test_more_pieces_than_the_kernel_takes_arrive_whole(self) -> None:
        self.transport.turn()
        pieces = [b"%d," % number for number in range(5000)]
        self.writer.write_pieces(pieces)
        self.transport.turn()
        self.assertEqual(self.received(), b"".join(pieces))

    def test_pieces_for_a_broken_socket_are_left_to_the_transport(self) -> None:
        self.transport.turn()
        self.theirs.close()
        self.writer.write_pieces((b"lost", b"too"))
        self.assertEqual(self.transport.waiting, b"losttoo")
