"""A caller's connections in one WebSocket: caller, tunnel and targets all in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, Event, Protocol, State

from tests.agent.test_dispatch import DispatcherCase
from tests.support.calls import Answer
from tests.support.http_gateway import MemoryTransport
from workato_agent.calls import CallEnd, ServedProfile
from workato_agent.requests import Request
from workato_agent.services.tcp.bundle import SETTINGS
from workato_agent.services.tcp.link import TargetLink
from workato_agent.services.tcp.service import BUNDLED, TcpService
from workato_agent.services.tcp.settings import TcpSettings
from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import StreamReset
from workato_tunnel.events import (
    DataEnded,
    DataReceived,
    GoawayReceived,
    HeadReceived,
    StreamFinished,
    StreamTerminated,
)
from workato_tunnel.frames import Hello, Open
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.problems import Problem
from workato_tunnel.settings import SUBPROTOCOL, Settings
from workato_tunnel.tx.transport import StreamTransport

HANDSHAKE = (
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", SUBPROTOCOL),
)
CALLER = Settings(streams=32, budget=32 * 1024 * 1024, resumable=False)


class Target:
    """A connection to the target, from the target's side."""

    def __init__(self, clock: object) -> None:
        self.link = TargetLink(clock)
        self.transport = MemoryTransport()
        self.transport.protocol = self.link
        self.link.makeConnection(self.transport)

    def sends(self, data: bytes) -> None:
        self.link.dataReceived(data)

    def ends(self) -> None:
        self.link.readConnectionLost()

    def cuts(self) -> None:
        self.transport.lose(ConnectionLost())

    def takes(self) -> bytes:
        return self.transport.take()


class MemoryTcpService(TcpService):
    """One whose targets are in memory.

    :ivar unreachable: the next ones are not.
    :ivar waiting: what the next ones wait for.
    """

    targets: list[Target]
    unreachable = False
    waiting: Deferred[None] | None = None

    async def _connect(self, deadline: float) -> TargetLink:
        if self.unreachable:
            raise self._unreachable(OSError("no route"), 1)
        if self.waiting is not None:
            await self.waiting
        target = Target(self._reactor)
        self.targets.append(target)
        return target.link


class Connection(Answer):
    """One of the caller's connections, as the caller sees it."""

    ended = False


class BundleCase(DispatcherCase):
    def setUp(self) -> None:
        super().setUp()
        self.idle = 0.0
        self.denied = False
        self.library = Protocol(CLIENT, state=State.OPEN)
        self.connections: dict[int, Connection] = {}
        self.goaways: list[str] = []
        self.pongs: list[bytes] = []
        self.connection: TunnelConnection
        self.stream: StreamTransport
        self.answer: Answer
        self.hello: Hello | None = None

    def admit(self, request: Request, operation: str) -> None:
        if self.denied:
            raise Problem("policy_denied", f"{operation} is not allowed")

    # -- the caller

    def begin(self, *, hello: bool = True, **fields: object) -> None:
        """Open the WebSocket, and shake hands."""
        self.service = MemoryTcpService(
            self.pair.clock, TcpSettings("db.intra", 5432, idle_timeout=self.idle)
        )
        self.service.targets = []
        self.targets = self.service.targets
        profile = ServedProfile(self.service, self.admit)
        self.dispatcher.profiles = {"tcp": {"erp": profile}}
        values = {"service": "tcp", "profile": "erp", "caller": "me", "headers": HANDSHAKE}
        self.stream, self.answer = self.open(end=False, **(values | fields))
        self.assertEqual(self.answer.status, 101)
        self.assertEqual(self.answer.header("sec-websocket-protocol"), SUBPROTOCOL)
        self.connection = TunnelConnection(Role.GATEWAY, CALLER, SETTINGS.limits())
        if hello:
            self.send(encode_hello(Hello(limits=CALLER.limits(), hold=0)))

    def send(self, message: bytes) -> None:
        """One message, whatever it is."""
        self.library.send_binary(message)
        self.write(b"".join(self.library.data_to_send()))

    def write(self, data: bytes) -> None:
        """Bytes of the WebSocket."""
        self.stream.write(data)
        self.pair.flush()

    def connect(self, head: Open | None = None, *, end: bool = False) -> tuple[int, Connection]:
        """One more connection. What is written in its head should not matter."""
        stream = self.connection.open_stream(head or Open("", method="CONNECT"), end)
        self.connections[stream] = Connection()
        self.exchange()
        return stream, self.connections[stream]

    def say(self, stream: int, data: bytes, *, end: bool = False) -> None:
        if data:
            self.connection.send_data(stream, data)
        if end:
            self.connection.send_end(stream)
        self.exchange()

    def exchange(self) -> None:
        """Let all that can pass both ways, and take it."""
        while True:
            self.pair.flush()
            moved = self.take()
            while (message := self.connection.next_message()) is not None:
                self.library.send_binary(message)
                moved = True
            data = b"".join(self.library.data_to_send())
            if data:
                self.stream.write(data)
            if not (moved or data):
                return

    def take(self) -> bool:
        """Take what has come; whether anything has."""
        data = bytes(self.answer.body)
        self.answer.body.clear()
        if not data:
            return False
        self.library.receive_data(data)
        events: list[Event] = self.library.events_received()
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.BINARY:
                self.message(bytes(event.data))
            elif event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
        return True

    def message(self, message: bytes) -> None:
        if self.hello is None:
            self.hello = decode_hello(message)
            return
        for event in self.connection.receive_message(message, self.pair.clock.seconds()):
            if isinstance(event, GoawayReceived):
                self.goaways.append(event.goaway.code)
                continue
            connection = self.connections[event.stream]  # type: ignore[attr-defined]
            if isinstance(event, HeadReceived):
                connection.head = event.head
            elif isinstance(event, DataReceived):
                connection.body += event.data
                self.connection.consumed(event.stream, len(event.data))
            elif isinstance(event, DataEnded):
                connection.ended = True
            elif isinstance(event, StreamFinished):
                connection.trailers = event.trailers
            elif isinstance(event, StreamTerminated):
                connection.reset = StreamReset(event.reason, event.message, event.detail)
            else:
                raise AssertionError(event)

    # -- what there is to see

    def end_of(self, request_id: str) -> CallEnd:
        [end] = [each for each in self.observed.ends if each.head.request_id == request_id]
        return end

    def assert_all_over(self) -> None:
        """Nothing of the bundle is left, at either end."""
        self.assert_slots_free()
        self.assertTrue(all(target.transport.gone for target in self.targets))
        mine = (self.pair.agent, self.pair.gateway)
        delayed = [call.func.__self__ for call in self.pair.clock.getDelayedCalls()]
        self.assertEqual([each for each in delayed if each not in mine], [])
        self.assertEqual(self.service._bundled.left, BUNDLED)
        self.assertEqual(self.flushLoggedErrors(), [])

    def assert_closed(self, code: CloseCode, reason: str = "") -> None:
        self.pair.flush()
        self.take()
        assert self.library.close_rcvd is not None
        self.assertEqual(self.library.close_rcvd.code, code)
        self.assertIn(reason, self.library.close_rcvd.reason)
        assert self.answer.trailers is not None
        self.assertEqual(self.answer.trailers.code, "")
        self.assert_all_over()


class ConnectionTests(BundleCase):
    def test_the_agents_hello_comes_at_once_and_promises_no_resumption(self) -> None:
        self.begin(hello=False)
        self.exchange()
        assert self.hello is not None
        self.assertEqual((self.hello.limits, self.hello.hold), (SETTINGS.limits(), 0))
        self.assertIsNone(self.hello.session)

    def test_bytes_of_two_connections_pass_both_ways_each_on_its_own(self) -> None:
        self.begin()
        (one, first), (two, second) = self.connect(), self.connect()
        self.assertEqual((first.status, second.status), (200, 200))
        self.say(one, b"select 1")
        self.say(two, b"select 2")
        self.targets[1].sends(b"two")
        self.targets[0].sends(b"one")
        self.exchange()
        self.assertEqual([each.takes() for each in self.targets], [b"select 1", b"select 2"])
        self.assertEqual((bytes(first.body), bytes(second.body)), (b"one", b"two"))

    def test_each_connection_half_closes_by_itself(self) -> None:
        self.begin()
        (one, first), (two, second) = self.connect(), self.connect()
        self.say(one, b"all", end=True)
        self.assertTrue(self.targets[0].transport.half_closed)
        self.assertFalse(self.targets[1].transport.half_closed)
        self.targets[0].sends(b"answer")
        self.targets[0].ends()
        self.targets[1].ends()
        self.exchange()
        self.assertEqual(bytes(first.body), b"answer")
        assert first.trailers is not None
        self.assertEqual((first.trailers.code, first.trailers.bytes), ("", 6))
        self.assertTrue(second.ended)
        self.assertIsNone(second.trailers)
        self.say(two, b"still takes this", end=True)
        self.assertEqual(self.targets[1].takes(), b"still takes this")
        assert second.trailers is not None
        self.assertEqual(second.trailers.code, "")
        self.assertEqual(self.dispatcher.in_flight, 1)

    def test_each_connection_is_observed_as_a_call_of_its_own(self) -> None:
        self.begin(request_id="r-7", trace="00-aa-bb-01")
        (one, _), (two, _) = self.connect(), self.connect()
        self.say(one, b"12345")
        self.targets[0].sends(b"123")
        self.exchange()
        self.say(two, b"1", end=True)
        self.targets[1].ends()
        self.targets[0].ends()
        self.say(one, b"", end=True)
        began = [(head.request_id, head.method) for head in self.observed.began]
        self.assertEqual(began, [("r-7", "GET"), ("r-7.1", "CONNECT"), ("r-7.2", "CONNECT")])
        for request_id, size in (("r-7.1", (5, 3)), ("r-7.2", (1, 0))):
            end = self.end_of(request_id)
            head = end.head
            self.assertEqual((end.bytes_in, end.bytes_out), size)
            self.assertEqual((end.operation, end.code, end.status), ("connect", "ok", 200))
            self.assertEqual((head.service, head.profile), ("tcp", "erp"))
            self.assertEqual((head.caller, head.trace), ("me", "00-aa-bb-01"))

    def test_whatever_the_caller_writes_only_the_calls_own_profile_is_reached(self) -> None:
        self.begin()
        _, connection = self.connect(
            Open(
                "files",
                "secret",
                method="DELETE",
                path="x",
                query="y",
                headers=(("a", "b"),),
                caller="root",
                timeout=1,
                request_id="forged",
            )
        )
        self.assertEqual(connection.status, 200)
        expected = Open(
            "tcp",
            "erp",
            method="CONNECT",
            caller="me",
            timeout=86_400_000,
            request_id="r-1.1",
        )
        self.assertEqual(self.observed.began[-1], expected)

    def test_a_request_that_has_ended_already_half_closes_the_target(self) -> None:
        self.begin()
        _, connection = self.connect(end=True)
        self.assertTrue(self.targets[0].transport.half_closed)
        self.targets[0].ends()
        self.exchange()
        self.assertIsNotNone(connection.trailers)


class RefusalTests(BundleCase):
    def test_what_the_policy_denies_is_refused_and_the_others_go_on(self) -> None:
        self.begin()
        one, first = self.connect()
        self.denied = True
        _, second = self.connect()
        self.assertEqual((second.status, second.document()["code"]), (403, "policy_denied"))
        self.assertEqual(second.document()["request_id"], "r-1.2")
        self.assertTrue(self.end_of("r-1.2").denied)
        self.say(one, b"on")
        self.assertEqual(self.targets[0].takes(), b"on")
        self.assertIsNone(first.trailers)

    def test_an_agent_that_drains_refuses_new_ones_and_the_others_go_on(self) -> None:
        self.begin()
        one, _ = self.connect()
        drained = self.dispatcher.drain()
        _, second = self.connect()
        assert second.reset is not None
        self.assertEqual(second.reset.reason, "draining")
        self.say(one, b"on", end=True)
        self.assertEqual(self.targets[0].takes(), b"on")
        self.targets[0].ends()
        self.exchange()
        self.assertNoResult(drained)
        self.stream.half_close()
        self.pair.flush()
        self.successResultOf(drained)
        self.assert_all_over()

    def test_a_target_that_can_not_be_reached_is_a_problem(self) -> None:
        self.begin()
        self.service.unreachable = True
        _, connection = self.connect()
        self.assertEqual(connection.status, 502)
        document = connection.document()
        self.assertEqual((document["code"], document["host"]), ("target_unreachable", "db.intra"))
        assert connection.trailers is not None
        self.assertEqual(connection.trailers.code, "")
        self.assertEqual(self.end_of("r-1.1").code, "target_unreachable")

    def test_a_target_that_cuts_is_told_behind_its_last_words(self) -> None:
        self.begin()
        _, connection = self.connect()
        self.targets[0].sends(b"last words")
        self.targets[0].cuts()
        self.exchange()
        self.assertEqual(bytes(connection.body), b"last words")
        assert connection.trailers is not None
        self.assertEqual(connection.trailers.code, "target_unreachable")
        self.assertIn("ConnectionLost", connection.trailers.detail)
        self.assertEqual(self.end_of("r-1.1").code, "target_unreachable")

    def test_a_connection_on_which_nothing_comes_ends_and_the_others_go_on(self) -> None:
        self.idle = 10.0
        self.begin()
        (_, idle), (busy, other) = self.connect(), self.connect()
        for _ in range(2):
            self.pair.clock.advance(5)
            self.say(busy, b"x")
        assert idle.trailers is not None
        self.assertEqual(idle.trailers.code, "deadline_exceeded")
        self.assertTrue(self.targets[0].transport.aborted)
        self.assertIsNone(other.trailers)
        self.assertFalse(self.targets[1].transport.gone)

    def test_no_more_streams_than_promised_are_taken(self) -> None:
        self.begin()
        for _ in range(SETTINGS.streams):
            self.connect()
        # A caller that does not keep to it.
        self.connection.peer = Settings(streams=1000).limits()
        _, connection = self.connect()
        assert connection.reset is not None
        self.assertEqual(connection.reset.reason, "refused")
        self.assertEqual(self.dispatcher.in_flight, 1 + SETTINGS.streams)
