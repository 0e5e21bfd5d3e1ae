"""TLS that sends at once and in one piece."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import write_certificates
from tests.support.sessions import Producer
from workato_tunnel.tx.tls import RECORD, PromptTLSFactory


class Above(Protocol):
    """The protocol above TLS."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class Wire(StringTransport):
    """The connection below; without a socket, so nothing passes its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.writes += 1
            super().write(data)

    def loseConnection(self) -> None:
        self.closed = True


def server_options() -> CertificateOptions:
    """The certificate of a server."""
    with tempfile.TemporaryDirectory() as folder:
        write_certificates(Path(folder), "client")
        key, certificate = (
            (Path(folder) / f"server.{kind}").read_bytes() for kind in ("key", "crt")
        )
    return CertificateOptions(
        privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, key),
        certificate=crypto.load_certificate(crypto.FILETYPE_PEM, certificate),
    )


class TlsCase(SynchronousTestCase):
    """A client and a server whose handshake has not moved yet."""

    def setUp(self) -> None:
        self.ends: list[Any] = []
        self.wires: list[Wire] = []
        for options, is_client in ((CertificateOptions(), True), (server_options(), False)):
            factory = PromptTLSFactory(options, is_client, Factory.forProtocol(Above))
            self.ends.append(factory.buildProtocol(None))
            self.wires.append(Wire())
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.makeConnection(wire)
        self.client, self.server = (end.wrappedProtocol for end in self.ends)
        self.wire = self.wires[0]

    def pump(self) -> None:
        """Carry what was written across, until there is nothing more."""
        while any(wire.value() for wire in self.wires):
            for wire, other in zip(self.wires, reversed(self.ends), strict=True):
                data = wire.value()
                wire.clear()
                if data:
                    other.dataReceived(data)


class PromptTests(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.pump()
        self.wire.writes = 0

    def test_the_records_of_one_write_leave_together_and_at_once(self) -> None:
        self.client.transport.write(b"x" * 100_000)
        self.assertEqual(self.wire.writes, 1)
        self.client.transport.writeSequence([b"a", b"b"])
        self.assertEqual(self.wire.writes, 2)
        self.pump()
        self.assertEqual(self.server.received, b"x" * 100_000 + b"ab")

    def test_the_producer_above_is_paced_by_the_connection_below(self) -> None:
        producer = Producer()
        self.client.transport.registerProducer(producer, True)
        self.assertRaises(RuntimeError, self.client.transport.registerProducer, Producer(), True)
        below: Any = self.wire.producer
        below.pauseProducing()
        below.resumeProducing()
        self.client.transport.unregisterProducer()
        below.pauseProducing()
        self.client.transport.registerProducer(producer, True)
        below.stopProducing()
        self.assertEqual(producer.told, ["pause", "resume", "stop"])
        self.client.transport.unregisterProducer()
        late = Producer()
        self.client.transport.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])

    def test_a_close_says_goodbye_and_leaves_nobody_registered(self) -> None:
        self.client.transport.write(b"last")
        self.client.transport.loseConnection()
        self.pump()
        self.assertEqual(self.server.received, b"last")
        self.assertTrue(self.wire.closed)
        self.assertIsNone(self.wire.producer)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.booleans(),
                st.builds(
                    lambda records, more: max(0, records * RECORD + more),
                    st.integers(0, 5),
                    st.integers(-2, 2) | st.integers(1000, 1100),
                ),
                st.booleans(),
            ),
            max_size=8,
        )
    )
    @example([(True, RECORD, False), (True, RECORD + 1, False), (False, 2 * RECORD, True)])
    @example([(True, 64 * RECORD, False), (True, 0, False), (True, 1, True)])
    def test_each_write_is_one_below_and_each_side_gets_the_bytes_of_the_other(
        self, writes: list[tuple[bool, int, bool]]
    ) -> None:
        sides = (self.server, self.client)
        wanted = [b"", b""]
        for side in sides:
            side.received = b""
        for number, (by_client, size, arrives) in enumerate(writes):
            data = (b"%d " % number * size)[:size]
            wire = self.wires[0 if by_client else 1]
            before = wire.writes
            sides[by_client].transport.write(data)
            self.assertEqual(wire.writes - before, 1 if data else 0)
            wanted[by_client] += data
            if arrives:
                self.pump()
        self.pump()
        self.assertEqual([sides[1].received, sides[0].received], wanted)

    def test_an_empty_write_sends_nothing(self) -> None:
        self.client.transport.write(b"")
        self.client.transport.writeSequence([])
        self.assertEqual((self.wire.writes, self.wire.value()), (0, b""))

    def test_what_was_encrypted_before_tls_broke_still_leaves_and_the_connection_is_closed(
        self,
    ) -> None:
        whole: Any = self.ends[0].getHandle()

        class Breaking:
            """Encrypts one record."""

            records = 0

            def send(self, data: bytes) -> int:
                self.records += 1
                if self.records > 1:
                    raise SSL.Error([("SSL routines", "", "broken")])
                return int(whole.send(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(whole, name)

        self.ends[0]._tlsConnection = Breaking()
        self.client.transport.write(b"x" * (3 * RECORD))
        self.assertEqual(self.wire.writes, 1)
        self.assertTrue(self.wire.closed)
        self.assertIsNone(self.wire.producer)
        self.pump()
        self.assertEqual(self.server.received, b"x" * RECORD)
        self.client.transport.write(b"late")
        self.assertEqual(self.wire.writes, 1)

    def test_a_close_behind_a_large_write_loses_none_of_it(self) -> None:
        self.client.transport.write(b"x" * 200_000)
        self.client.transport.loseConnection()
        self.client.transport.write(b"late")
        self.pump()
        self.assertEqual(self.server.received, b"x" * 200_000)
        self.assertTrue(self.wire.closed)
        self.assertTrue(self.wires[1].closed)

    def test_writes_after_the_connection_is_lost_are_dropped(self) -> None:
        transport = self.client.transport
        self.ends[0].connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.client.lost)
        before = self.wire.writes
        transport.write(b"late")
        transport.write(bytes(100_000))
        self.assertEqual(self.wire.writes, before)


class BeforeTheHandshakeTests(TlsCase):
    def test_what_is_written_is_sent_once_it_is_done(self) -> None:
        self.client.transport.write(b"first ")
        self.client.transport.write(b"x" * (5 * RECORD + 1))
        self.client.transport.write(b"")
        self.server.transport.write(b"y" * (2 * RECORD))
        # Nothing but the client's greeting so far.
        self.assertLess(len(self.wire.value()), RECORD)
        self.assertEqual(self.wires[1].value(), b"")
        self.pump()
        self.client.transport.write(b" last")
        self.pump()
        self.assertEqual(self.server.received, b"first " + b"x" * (5 * RECORD + 1) + b" last")
        self.assertEqual(self.client.received, b"y" * (2 * RECORD))

    def test_a_close_waits_for_what_was_written(self) -> None:
        self.client.transport.write(b"x" * (2 * RECORD + 5))
        self.client.transport.loseConnection()
        self.assertFalse(self.wire.closed)
        self.pump()
        self.assertEqual(self.server.received, b"x" * (2 * RECORD + 5))
        self.assertTrue(self.wire.closed)

    def test_a_broken_greeting_is_answered_with_an_alert_and_nothing_else(self) -> None:
        self.server.transport.write(b"waits")
        self.ends[1].dataReceived(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")
        alert = self.wires[1].value()
        self.assertTrue(self.wires[1].closed)
        self.assertEqual(alert[:1], b"\x15")
        self.assertNotIn(b"waits", alert)
