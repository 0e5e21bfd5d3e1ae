"""AMQP 1.0 with a real RabbitMQ: TLS, kinds of queues, topics, and a server that hangs."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Awaitable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.trial.unittest import TestCase

from tests.support import rabbitmq
from workato_agent.services.handshakes import TlsSettings
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.amqp import AmqpBroker
from workato_agent.services.jms.settings import (
    Address,
    AmqpSettings,
)
from workato_tunnel.problems import Problem

MANY = 1 << 24


class RabbitmqCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.server = rabbitmq.shared_server()

    def broker(self, port: int | None = None, **settings: Any) -> AmqpBroker:
        given = {"username": rabbitmq.USER, "password": rabbitmq.PASSWORD, **settings}
        address = Address("localhost", port or self.server.ports.amqp)
        broker = AmqpBroker.of(reactor, AmqpSettings((address,), **given))
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    def queue(self) -> Destination:
        return Destination("queue", f"amqp / {secrets.token_hex(6)} ü%")

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def through(self, broker: AmqpBroker, queue: Destination, body: str) -> None:
        await broker.publish(queue, [OutgoingMessage(body)])
        batch = await broker.receive(Source(queue), 1, 20.0, MANY)
        assert batch is not None
        self.assertEqual(batch.messages[0].body, body)
        await batch.acknowledge()


class TlsTests(RabbitmqCase):
    async def test_the_certificate_is_verified(self) -> None:
        authority = (self.server.folder / "ca.crt").read_bytes()
        tls = TlsSettings(ca=authority)
        await self.through(self.broker(self.server.ports.amqps, tls=tls), self.queue(), "secret")
        for wrong in (
            TlsSettings(),
            TlsSettings(ca=(self.server.folder / "client.crt").read_bytes()),
        ):
            problem = await self.problem(
                self.broker(self.server.ports.amqps, tls=wrong).test(), "target_tls_failed"
            )
            self.assertIn("Test CA", problem.detail)

    async def test_tls_on_one_side_only(self) -> None:
        await self.problem(
            self.broker(tls=TlsSettings(), connect_timeout=5.0).test(), "target_tls_failed"
        )
        await self.problem(
            self.broker(self.server.ports.amqps, connect_timeout=5.0).test(),
            "target_wrong_type",
            "target_unreachable",
        )


class QueueTests(RabbitmqCase):
    async def test_queues_of_any_kind_are_used_as_they_are(self) -> None:
        for arguments in ("x-queue-type:quorum", "auto-delete:false\nx-max-length:100"):
            queue = Destination("queue", f"kind.{secrets.token_hex(6)}")
            self.declare(queue.name, arguments)
            broker = self.broker()
            await self.through(broker, queue, "one")
            await self.through(broker, queue, "two")

    def declare(self, queue: str, arguments: str) -> None:
        """Make a queue, by STOMP, and wait until it is there."""
        frame = (
            f"SUBSCRIBE\nid:1\nack:client\ndestination:/queue/{queue}\ndurable:true\n{arguments}\n"
        )
        with self.stomp(frame + "\n\0DISCONNECT\nreceipt:bye\n\n\0") as link:
            self.hear(link, b"receipt-id:bye")

    def stomp(self, frames: str) -> socket.socket:
        """Another client, that says this."""
        login = f"login:{rabbitmq.USER}\npasscode:{rabbitmq.PASSWORD.replace(':', chr(92) + 'c')}"
        link = socket.create_connection(("127.0.0.1", self.server.ports.stomp), timeout=30)
        link.sendall(f"CONNECT\naccept-version:1.2\nhost:/\n{login}\n\n\0{frames}".encode())
        return link

    def hear(self, link: socket.socket, words: bytes) -> None:
        """Wait for words."""
        heard = b""
        while words not in heard:
            data = link.recv(4096)
            self.assertTrue(data, heard)
            heard += data
        self.assertNotIn(b"ERROR", heard)

    async def test_many_messages_are_outstanding(self) -> None:
        broker, queue = self.broker(), self.queue()
        await broker.publish(queue, [OutgoingMessage(str(n)) for n in range(700)])
        taken: list[str] = []
        batches = []
        while len(taken) < 700:
            batch = await broker.receive(Source(queue), 1000, 20.0, MANY)
            assert batch is not None
            batches.append(batch)
            taken += [str(message.body) for message in batch.messages]
        self.assertEqual(sorted(taken), sorted(str(n) for n in range(700)))
        for batch in batches:
            await batch.acknowledge()
        self.assertIsNone(await broker.receive(Source(queue), 1, 0.0, MANY))

    async def test_a_topic_is_published_to(self) -> None:
        topic = Destination("topic", f"prices.{secrets.token_hex(6)}")
        broker = self.broker()
        with self.stomp(
            f"SUBSCRIBE\nid:1\ndestination:/topic/{topic.name}\nreceipt:made\n\n\0"
        ) as link:
            self.hear(link, b"receipt-id:made")
            await broker.publish(topic, [OutgoingMessage(b"by AMQP")])
            self.hear(link, b"by AMQP")
        problem = await self.problem(broker.receive(Source(topic), 1, 1.0, MANY), "bad_request")
        self.assertIn("bound to the exchange", problem.hint)

    async def test_virtual_hosts_are_named(self) -> None:
        await self.through(self.broker(virtual_host="/"), self.queue(), "in the default one")
        await self.problem(self.broker(virtual_host="none-such").test(), "target_permission_denied")


class HangTests(RabbitmqCase):
    async def test_work_on_a_server_that_hangs_ends_when_it_is_cancelled(self) -> None:
        broker, queue = self.broker(), self.queue()
        await broker.publish(queue, [OutgoingMessage("x"), OutgoingMessage("y")])
        batch = await broker.receive(Source(queue), 1, 20.0, MANY)
        assert batch is not None
        waiting = Deferred.fromCoroutine(broker.receive(Source(queue), 10, 60.0, MANY))
        self.server.hang()
        try:
            for work in (
                broker.publish(queue, [OutgoingMessage("z")]),
                broker.receive(Source(queue), 1, 1.0, MANY),
                batch.acknowledge(),
            ):
                running = Deferred.fromCoroutine(work)
                running.addTimeout(0.3, reactor)  # type: ignore[arg-type]
                await self.assertFailure(running, DeferredTimeout)
            waiting.cancel()
            with contextlib.suppress(CancelledError):
                self.assertIsNotNone(await waiting)
            closing = Deferred.fromCoroutine(broker.close())
            # It ends by itself: its patience is shorter than this.
            closing.addTimeout(30.0, reactor)  # type: ignore[arg-type]
            await closing
        finally:
            self.server.go_on()
        again = await self.broker().receive(Source(queue), 10, 20.0, MANY)
        assert again is not None
        await again.acknowledge()
