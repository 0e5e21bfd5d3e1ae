"""AMQP 1.0 against what is no broker, or a broken or hostile one, over TCP."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Awaitable
from typing import Any

from proton import Condition, Delivery
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.support.amqp_peer import Entry, Peer, PeerConnection
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.amqp import AmqpBroker
from workato_agent.services.jms.settings import Address, AmqpSettings
from workato_tunnel.problems import Problem

SASL = b"AMQP\x03\x01\x00\x00"
AMQP = b"AMQP\x00\x01\x00\x00"
QUEUE = Destination("queue", "q")
MANY = 1 << 24


def frame(channel: int, performative: bytes, kind: int = 0) -> bytes:
    """A frame (part 2 section 2.3)."""
    return struct.pack("!IBBH", len(performative) + 8, 2, kind, channel) + performative


def described(code: int, *fields: bytes) -> bytes:
    """A performative: a list of encoded fields."""
    content = b"".join(fields)
    head = struct.pack("!II", len(content) + 4, len(fields))
    return b"\x00\x53" + bytes([code]) + b"\xd0" + head + content


ANONYMOUS = b"\xa3\x09ANONYMOUS"
PLAIN = b"\xa3\x05PLAIN"
LOGIN = SASL + frame(0, described(0x40, ANONYMOUS), 1) + frame(0, described(0x44, b"\x50\x00"), 1)
OPEN = AMQP + frame(0, described(0x10, b"\xa1\x01x"))


class Script(Protocol):
    """Says its lines as soon as it has been spoken to, and nothing after."""

    transport: Any

    def __init__(self, lines: bytes, heard: list[bytes], *, hang_up: bool) -> None:
        self.lines = lines
        self.heard = heard
        self.hang_up = hang_up

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        lines, self.lines = self.lines, b""
        if lines:
            self.transport.write(lines)
            if self.hang_up:
                self.transport.loseConnection()


class AmqpCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.heard: list[bytes] = []

    def broker(self, port: int, **settings: Any) -> AmqpBroker:
        given = {"connect_timeout": 2.0, **settings}
        broker = AmqpBroker.of(reactor, AmqpSettings((Address("127.0.0.1", port),), **given))
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    def serve(self, lines: bytes, *, hang_up: bool = False) -> int:
        factory = Factory.forProtocol(lambda: Script(lines, self.heard, hang_up=hang_up))
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def answered(self, lines: bytes, *codes: str, **settings: Any) -> Problem:
        return await self.problem(self.broker(self.serve(lines), **settings).test(), *codes)


class HostileTests(AmqpCase):
    """No broker, or a broken one."""

    async def test_other_protocols_are_told_by_name(self) -> None:
        for lines, words in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server"),
            (b"AMQP\x00\x00\x09\x01", "an older AMQP"),
            (AMQP, "another layer of AMQP"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "a TLS server"),
            (b"qwertyuiop", "is not AMQP 1.0"),
        ):
            problem = await self.answered(lines, "target_wrong_type")
            self.assertIn(words, problem.detail)

    async def test_a_broker_that_hangs_up_at_once(self) -> None:
        broker = self.broker(self.serve(SASL, hang_up=True))
        await self.problem(broker.test(), "target_unreachable", "target_wrong_type")

    async def test_login_that_is_refused(self) -> None:
        refused = (
            SASL + frame(0, described(0x40, PLAIN), 1) + frame(0, described(0x44, b"\x50\x01"), 1)
        )
        problem = await self.answered(
            refused, "target_login_failed", username="u", password="hush-hush"
        )
        self.assertNotIn("hush-hush", f"{problem} {problem.hint}")

    async def test_mechanism_that_is_not_offered(self) -> None:
        problem = await self.answered(
            SASL + frame(0, described(0x40, PLAIN), 1), "target_login_failed"
        )
        self.assertIn("ANONYMOUS", problem.detail)

    async def test_connection_that_is_refused(self) -> None:
        error = described(0x1D, b"\xa3\x10amqp:not-allowed", b"\xa1\x08no vhost")
        close = frame(0, described(0x18, error))
        problem = await self.answered(LOGIN + OPEN + close, "target_permission_denied")
        self.assertIn("no vhost", problem.detail)

    async def test_half_a_login_ends_in_time(self) -> None:
        for lines in (SASL, SASL[:5], LOGIN, LOGIN + AMQP):
            await self.answered(lines, "target_unreachable", connect_timeout=0.2)

    async def test_frames_that_are_none(self) -> None:
        for lines in (
            struct.pack("!IBBH", 0x7FFFFFFF, 2, 0, 0),
            struct.pack("!IBBH", 3, 2, 0, 0),
            struct.pack("!IBBH", 8, 200, 0, 0),
            frame(0, described(0x99)),
            frame(0, b"\x00" * 40),
            frame(9, described(0x12)),
            frame(0, described(0x14)),
            frame(0, b"\x00\x53\x10\xd0\xff\xff\xff\xff\x00\x00\x00\x01"),
        ):
            broker = self.broker(self.serve(LOGIN + OPEN + lines), connect_timeout=0.3)
            work = broker.receive(Source(QUEUE), 1, 5.0, MANY)
            problem = await self.problem(work, "target_unreachable", "target_wrong_type")
            self.assertTrue(problem.detail)

    async def test_noise_at_any_place_raises_nothing_but_problems(self) -> None:
        chance = random.Random(7)
        for number in range(60):
            noise = chance.randbytes(chance.randrange(1, 200))
            head = chance.choice((b"", SASL, LOGIN, LOGIN + OPEN))
            lines = head + (frame(number % 3, noise) if number % 2 else noise)
            broker = self.broker(self.serve(lines, hang_up=True))
            await self.problem(
                broker.receive(Source(QUEUE), 1, 5.0, MANY),
                "target_unreachable",
                "target_wrong_type",
                "target_login_failed",
            )


class PeerTests(AmqpCase):
    """A broker that can be told how to behave."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = Peer()
        self.port = self.peer.listen()
        self.addCleanup(self.peer.stop)

    async def test_refusals_have_codes(self) -> None:
        for name, code in (
            ("amqp:not-found", "target_not_found"),
            ("amqp:unauthorized-access", "target_permission_denied"),
            ("amqp:resource-limit-exceeded", "overloaded"),
            ("amqp:internal-error", "target_unreachable"),
            ("com.example:odd", "target_unreachable"),
        ):
            self.peer.refuse = lambda _, name=name: Condition(name, "in its words\n\x00")  # type: ignore[misc]
            broker = self.broker(self.port)
            for work in (
                broker.receive(Source(QUEUE), 1, 5.0, MANY),
                broker.publish(QUEUE, [OutgoingMessage("x")]),
                broker.browse(QUEUE, 1, None),
            ):
                problem = await self.problem(work, code)
                self.assertIn("in its words", problem.detail)
                self.assertTrue(problem.detail.isprintable())

    async def test_messages_that_are_not_taken(self) -> None:
        for outcome, code in (
            (Delivery.REJECTED, "target_unreachable"),
            (Delivery.RELEASED, "target_not_found"),
            (Delivery.MODIFIED, "target_not_found"),
        ):
            self.peer.outcome = outcome
            broker = self.broker(self.port)
            problem = await self.problem(broker.publish(QUEUE, [OutgoingMessage("x")] * 3), code)
            self.assertEqual(problem.extra["published"], 0)

    async def test_wishes_that_are_not_granted_are_refused(self) -> None:
        topic = Destination("topic", "t")
        self.peer.less = {"filter", "durable", "copy"}
        self.peer.offers = []
        broker = self.broker(self.port)
        for work in (
            broker.receive(Source(QUEUE, "a = 'b'"), 1, 5.0, MANY),
            broker.receive(Source(topic, None, "s"), 1, 5.0, MANY),
            broker.browse(QUEUE, 1, None),
            broker.publish(QUEUE, [OutgoingMessage("x", delay=1.0)]),
        ):
            await self.problem(work, "bad_request")

    async def test_a_message_larger_than_the_limit_is_named_and_left(self) -> None:
        await self.broker(self.port).publish(QUEUE, [OutgoingMessage("x" * 2_000_000)])
        small = self.broker(self.port, max_message=100_000)
        for _ in range(2):
            problem = await self.problem(
                small.receive(Source(QUEUE), 1, 5.0, MANY), "payload_too_large"
            )
            self.assertIn("limits.message", problem.hint)
        batch = await self.broker(self.port).receive(Source(QUEUE), 1, 5.0, MANY)
        assert batch is not None
        self.assertEqual(len(batch.messages[0].body or ""), 2_000_000)
        self.assertFalse(batch.messages[0].redelivered)
        await batch.acknowledge()

    async def test_a_message_that_can_not_be_read_can_be_removed(self) -> None:
        self.peer.queue("q").append(Raw(b"\x00\x53\x99\xc0\xff no message"))
        broker = self.broker(self.port)
        batch = await broker.receive(Source(QUEUE), 1, 5.0, MANY)
        assert batch is not None
        self.assertEqual((batch.messages[0].id, batch.messages[0].body), ("", None))
        await batch.acknowledge()
        self.assertEqual(self.peer.queue("q"), [])

    async def test_a_lost_connection_gives_back_and_is_made_again(self) -> None:
        broker = self.broker(self.port)
        await broker.publish(QUEUE, [OutgoingMessage("x")])
        batch = await broker.receive(Source(QUEUE), 1, 5.0, MANY)
        assert batch is not None
        waiting = Deferred.fromCoroutine(
            broker.receive(Source(Destination("queue", "other")), 1, 30.0, MANY)
        )
        publishing = Deferred.fromCoroutine(broker.test())
        await publishing
        for link in self.peer.links:
            link.transport.abortConnection()
        await self.problem(waiting, "target_unreachable")
        await self.problem(batch.acknowledge(), "conflict")
        await batch.release()
        again = await broker.receive(Source(QUEUE), 1, 5.0, MANY)
        assert again is not None
        self.assertTrue(again.messages[0].redelivered)
        await again.acknowledge()

    async def test_more_receives_than_the_profile_has(self) -> None:
        broker = self.broker(self.port, max_receivers=2)
        waiting = [
            Deferred.fromCoroutine(broker.receive(Source(QUEUE), 1, 30.0, MANY)) for _ in range(2)
        ]
        await broker.publish(Destination("queue", "other"), [OutgoingMessage("x")])
        await self.problem(broker.receive(Source(QUEUE), 1, 1.0, MANY), "overloaded")
        for each in waiting:
            each.cancel()
            await self.assertFailure(each, CancelledError)


class Raw(Entry):
    """Bytes that are sent as they are."""

    def encoded(self) -> bytes:
        return self.content


class Garbling(PeerConnection):
    """Sends some bytes wrongly."""

    def connectionMade(self) -> None:
        send, self.chance = self.transport.write, random.Random(self.peer.port.getHost().port)

        def garble(data: bytes) -> None:
            content = bytearray(data)
            if self.chance.random() < 0.3:
                for _ in range(self.chance.randrange(1, 4)):
                    place = self.chance.randrange(len(content))
                    content[place] = self.chance.choice((0, 255, 128, self.chance.randrange(256)))
            send(bytes(content))

        self.transport.write = garble
        super().connectionMade()


class GarbledTests(AmqpCase):
    async def test_what_a_broker_garbles_raises_nothing_but_problems(self) -> None:
        for _ in range(10):
            peer = Peer(protocol=Garbling)
            broker = self.broker(peer.listen(), connect_timeout=0.3)
            for work in (
                broker.publish(QUEUE, [OutgoingMessage("x"), OutgoingMessage(b"y" * 30_000)]),
                broker.receive(Source(QUEUE), 5, 0.0, MANY),
                broker.browse(QUEUE, 1, None),
                broker.test(),
            ):
                running: Deferred[Any] = Deferred.fromCoroutine(work)
                running.addTimeout(0.2, reactor)  # type: ignore[arg-type]
                with contextlib.suppress(Problem, DeferredTimeout):
                    await running
            await broker.close()
            await peer.stop()


class SilenceTests(AmqpCase):
    """A broker that stops to speak."""

    async def test_heartbeats_find_a_dead_broker(self) -> None:
        peer = Peer()
        port = peer.listen()
        self.addCleanup(peer.stop)
        broker = self.broker(port, heartbeat=0.2)
        await broker.test()
        for link in peer.links:
            link.pump = lambda: None  # type: ignore[method-assign]
            link.transport.pauseProducing()
        problem = await self.problem(
            broker.receive(Source(QUEUE), 1, 30.0, MANY), "target_unreachable"
        )
        self.assertIn("silent", problem.detail)
        for link in peer.links:
            link.transport.abortConnection()

    async def test_both_sides_stay_awake(self) -> None:
        peer = Peer()
        port = peer.listen()
        self.addCleanup(peer.stop)
        broker = self.broker(port, heartbeat=0.5)
        # Two idle time-outs long nobody has anything to say.
        self.assertIsNone(await broker.receive(Source(QUEUE), 1, 2.2, MANY))
        self.assertEqual(len(peer.links), 1)
