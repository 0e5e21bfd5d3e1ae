"""STOMP to a real ActiveMQ: TLS, several addresses, a broker that hangs, limits on the way in."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from tests.support import activemq
from tests.support.ports import free_port
from workato_agent.services.handshakes import ClientCertificate, TlsSettings, Trust
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.stomp import StompBroker
from workato_agent.services.jms.brokers.stomp_link import LinkLost, Refused, StompLink
from workato_agent.services.jms.memory import MemoryServer
from workato_agent.services.jms.settings import (
    Address,
    StompSettings,
)
from workato_tunnel.problems import Problem

QUEUE = Destination("queue", "connecting")
MIB = 2**20


class StompConnecting(TestCase):
    timeout = 90

    def setUp(self) -> None:
        self.server = activemq.shared_server()
        self.ca = (self.server.folder / "ca.crt").read_bytes()

    def broker(self, *ports: int, host: str = "127.0.0.1", **settings: Any) -> StompBroker:
        broker = StompBroker.of(
            reactor,
            StompSettings(
                addresses=tuple(Address(host, port) for port in ports),
                username=activemq.USER,
                password=activemq.PASSWORD,
                **settings,
            ),
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    async def problem(self, work: Any, *codes: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def test_tls_with_a_ca_of_ones_own(self) -> None:
        port = self.server.ports.stomp_ssl
        for host in ("127.0.0.1", "localhost"):
            broker = self.broker(port, host=host, tls=TlsSettings(ca=self.ca))
            facts = await broker.test()
            self.assertTrue(facts["tls"])
            await broker.publish(QUEUE, [OutgoingMessage("over TLS")])
            batch = await broker.receive(Source(QUEUE), 1, 20.0, MIB)
            assert batch is not None
            await batch.acknowledge()

    async def test_a_certificate_that_nobody_vouches_for(self) -> None:
        broker = self.broker(self.server.ports.stomp_ssl, tls=TlsSettings())
        problem = await self.problem(broker.test(), "target_tls_failed")
        self.assertIn("not trusted", problem.detail)
        trusting = self.broker(self.server.ports.stomp_ssl, tls=TlsSettings(trust_all=True))
        await trusting.test()

    async def test_a_certificate_for_another_name(self) -> None:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.server.ports.stomp_ssl)
        for verify, refused in ((True, True), (False, False)):
            trust = Trust(TlsSettings(ca=self.ca, verify_host=verify))
            handshake = trust.handshake("broker.example")
            link = StompLink(reactor, MIB)
            factory = Factory.forProtocol(lambda link=link: link)  # type: ignore[misc]
            await wrapClientTLS(handshake, endpoint).connect(factory)
            with contextlib.suppress(LinkLost, Refused):
                await link.log_in([("accept-version", "1.2"), ("host", "x")])
            self.assertEqual("not for broker.example" in str(handshake.refusal), refused)
            link.abort("seen")
            await link.end()

    async def test_a_broker_that_asks_for_a_certificate(self) -> None:
        port = self.server.ports.stomp_mutual
        bare = self.broker(port, tls=TlsSettings(ca=self.ca))
        await self.problem(bare.test(), "target_tls_failed", "target_unreachable")
        folder = self.server.folder
        shown = ClientCertificate(
            (folder / "client.crt").read_bytes(), (folder / "client.key").read_bytes()
        )
        await self.broker(port, tls=TlsSettings(ca=self.ca, certificate=shown)).test()

    async def test_plain_text_to_a_port_for_tls_and_the_other_way_round(self) -> None:
        plain = self.broker(self.server.ports.stomp_ssl, connect_timeout=2.0)
        codes = ("target_unreachable", "target_wrong_type", "target_tls_failed")
        await self.problem(plain.test(), *codes)
        tls = TlsSettings(ca=self.ca)
        await self.problem(
            self.broker(self.server.ports.stomp, tls=tls, connect_timeout=2.0).test(), *codes
        )

    async def test_the_next_address_is_tried(self) -> None:
        facts = await self.broker(free_port(), self.server.ports.stomp).test()
        self.assertEqual(facts["address"], f"127.0.0.1:{self.server.ports.stomp}")
        first, second = free_port(), free_port()
        problem = await self.problem(self.broker(first, second).test(), "target_unreachable")
        self.assertIn(str(first), problem.detail)
        self.assertIn(str(second), problem.detail)

    async def test_openwire_is_no_stomp(self) -> None:
        broker = self.broker(self.server.ports.openwire, connect_timeout=2.0)
        await self.problem(broker.test(), "target_wrong_type", "target_unreachable")

    async def test_a_message_that_is_too_large_says_so_and_stays(self) -> None:
        queue = Destination("queue", "connecting.large")
        broker = self.broker(self.server.ports.stomp)
        await broker.publish(queue, [OutgoingMessage(b"x" * 100_000)])
        small = self.broker(self.server.ports.stomp, max_message=10_000)
        await self.problem(small.receive(Source(queue), 1, 10.0, MIB), "payload_too_large")
        batch = await broker.receive(Source(queue), 1, 20.0, MIB)
        assert batch is not None
        self.assertEqual(len(batch.messages[0].body or b""), 100_000)
        await batch.acknowledge()

    async def test_a_subscription_that_another_client_holds(self) -> None:
        topic = Destination("topic", "connecting.topic")
        source = Source(topic, None, "held")
        holder = self.broker(self.server.ports.stomp)
        await holder.receive(source, 1, 0.0, MIB)
        waiting = Deferred.fromCoroutine(holder.receive(source, 1, 30.0, MIB))
        other = self.broker(self.server.ports.stomp)
        await self.problem(other.receive(source, 1, 0.0, MIB), "conflict")
        waiting.cancel()
        with contextlib.suppress(CancelledError):
            await waiting
        # It is let go when nobody has asked for a while.
        while True:
            try:
                await other.receive(source, 1, 0.0, MIB)
            except Problem as problem:
                self.assertEqual(problem.code, "conflict", problem)
                continue
            break

    async def test_a_broker_that_hangs_blocks_nothing_else_and_is_given_up(self) -> None:
        broker = self.broker(self.server.ports.stomp, heartbeat=0.5, connect_timeout=1.0)
        other = MemoryServer(reactor).client()
        await broker.publish(QUEUE, [])
        await broker.test()
        receiving = Deferred.fromCoroutine(
            broker.receive(Source(Destination("queue", "connecting.empty")), 1, 60.0, MIB)
        )
        await broker.publish(Destination("queue", "connecting.other"), [OutgoingMessage("x")])
        self.server.hang()
        try:
            publishing = Deferred.fromCoroutine(broker.publish(QUEUE, [OutgoingMessage("x")]))
            for number in range(20):
                await other.publish(QUEUE, [OutgoingMessage(f"{number}")])
                batch = await other.receive(Source(QUEUE), 1, 1.0, MIB)
                assert batch is not None
                await batch.acknowledge()
            self.assertFalse(publishing.called)
            await self.problem(publishing, "target_unreachable")
            await self.problem(receiving, "target_unreachable")
            await self.problem(broker.test(), "target_unreachable")
        finally:
            self.server.go_on()
        await broker.test()
