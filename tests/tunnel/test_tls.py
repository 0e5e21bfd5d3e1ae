"""TLS that sends at once and in one piece."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import write_certificates
from tests.support.sessions import Producer
from workato_tunnel.tx.tls import PromptTLSFactory


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


class PromptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ends: list[Any] = []
        self.wires: list[Wire] = []
        for options, is_client in ((CertificateOptions(), True), (server_options(), False)):
            factory = PromptTLSFactory(options, is_client, Factory.forProtocol(Above))
            self.ends.append(factory.buildProtocol(None))
            self.wires.append(Wire())
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.makeConnection(wire)
        self.pump()
        self.client, self.server = (end.wrappedProtocol for end in self.ends)
        self.wire = self.wires[0]
        self.wire.writes = 0

    def pump(self) -> None:
        """Carry what was written across, until there is nothing more."""
        while any(wire.value() for wire in self.wires):
            for wire, other in zip(self.wires, reversed(self.ends), strict=True):
                data = wire.value()
                wire.clear()
                if data:
                    other.dataReceived(data)

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
