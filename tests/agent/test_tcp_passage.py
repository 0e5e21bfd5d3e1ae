"""Raw TCP between a caller's WebSocket and a target, both in memory."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, Event, Protocol, State

from tests.agent.test_dispatch import DispatcherCase
from tests.support.calls import Answer
from tests.support.http_gateway import MemoryTransport
from workato_agent.requests import Request, Response
from workato_agent.services.tcp.forward import WebSocketForward as Forward
from workato_agent.services.tcp.link import LINGER, READ_SIZE, TargetLink
from workato_tunnel.settings import DATA_SIZE
from workato_tunnel.tx.transport import StreamTransport


class PassageCase(DispatcherCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = MemoryTransport()
        self.link = TargetLink(self.pair.clock)
        self.target.protocol = self.link
        self.library = Protocol(CLIENT, state=State.OPEN)
        self.idle = 0.0
        self.early = b""
        self.stream: StreamTransport
        self.answer: Answer

    def begin(self) -> None:
        async def connect(request: Request) -> Response:
            self.link.makeConnection(self.target)
            self.forward = Forward(self.pair.clock, self.link, self.idle)
            return Response(101, passage=self.forward)

        self.serve(connect)
        self.stream, self.answer = self.open(end=False)
        self.assertEqual(self.answer.status, 101)

    def send(self, *messages: bytes) -> None:
        """The caller's messages."""
        for message in messages:
            self.library.send_binary(message)
        self.pass_on()

    def pass_on(self) -> None:
        for data in self.library.data_to_send():
            if data:
                self.stream.write(data)
        self.pair.flush()

    def received(self) -> list[bytes]:
        """The caller's part: the binary messages that have come."""
        self.pair.flush()
        data = bytes(self.answer.body)
        self.answer.body.clear()
        self.library.receive_data(data)
        return [bytes(event.data) for event in self.events() if event.opcode is Opcode.BINARY]

    def events(self) -> list[Frame]:
        events: list[Event] = self.library.events_received()
        return [event for event in events if isinstance(event, Frame)]

    def target_sends(self, data: bytes) -> None:
        self.link.dataReceived(data)
        self.pair.flush()

    def assert_closed(self, code: CloseCode, reason: str = "") -> None:
        self.pair.flush()
        assert self.library.close_rcvd is not None
        self.assertEqual(self.library.close_rcvd.code, code)
        self.assertIn(reason, self.library.close_rcvd.reason)
        assert self.answer.trailers is not None
        self.assertEqual(self.answer.trailers.code, "")
        self.assert_slots_free()

    def assert_no_clock_runs(self) -> None:
        calls = [call.func.__self__ for call in self.pair.clock.getDelayedCalls()]
        self.assertEqual([owner for owner in calls if owner in (self.link, self.forward)], [])


class ForwardTests(PassageCase):
    def test_bytes_pass_at_once_both_ways(self) -> None:
        self.begin()
        self.send(b"select 1", b"; select 2")
        self.assertEqual(self.target.take(), b"select 1; select 2")
        self.assertEqual(self.target.writes, 1)
        self.target_sends(b"row")
        self.assertEqual(self.received(), [b"row"])
        self.stream.reset("cancelled")
        self.pair.flush()
        self.assertTrue(self.target.aborted)
        self.assert_slots_free()
        end = self.observed.ends[0]
        self.assertEqual((end.code, end.bytes_out), ("cancelled", 5))
        self.assertEqual(end.bytes_in, 8 + 10 + 2 * 6)

    def test_the_target_may_end_first_and_still_gets_what_comes(self) -> None:
        self.begin()
        self.link.readConnectionLost()
        self.assertEqual(self.received(), [b""])
        self.send(b"still", b" this", b"")
        self.assertTrue(self.target.disconnecting)
        self.assertFalse(self.target.aborted)
        self.assertEqual(self.received(), [])
        self.assert_closed(CloseCode.NORMAL_CLOSURE)
        self.assertEqual(self.target.take(), b"still this")
        self.assertTrue(self.target.gone)
        self.assert_no_clock_runs()

    def test_a_target_that_never_takes_the_rest_is_cut(self) -> None:
        self.begin()
        self.link.readConnectionLost()
        self.send(b"x" * 1000, b"")
        self.pair.clock.advance(LINGER - 1)
        self.assertFalse(self.target.aborted)
        self.pair.clock.advance(1)
        self.assertTrue(self.target.aborted)

    def test_the_caller_may_end_first_and_still_gets_what_comes(self) -> None:
        self.begin()
        self.send(b"all", b"")
        self.assertTrue(self.target.half_closed)
        self.send(b"too late")
        self.assertEqual(self.target.take(), b"all")
        self.target_sends(b"answer")
        self.link.readConnectionLost()
        self.assertEqual(self.received(), [b"answer", b""])
        self.assert_closed(CloseCode.NORMAL_CLOSURE)

    def test_a_target_that_cuts_is_told_behind_its_last_words(self) -> None:
        self.begin()
        self.target_sends(b"last words")
        self.target.lose(ConnectionLost())
        self.assertEqual(self.received(), [b"last words"])
        self.assert_closed(CloseCode.INTERNAL_ERROR, "ConnectionLost")

    def test_a_target_that_ends_first_and_then_cuts_is_told(self) -> None:
        for size in (1, 200_000):  # taken at once; and more than it takes
            self.setUp()
            self.begin()
            self.link.readConnectionLost()
            self.assertEqual(self.received(), [b""])
            self.send(b"x" * size)
            self.target.lose(ConnectionLost())
            self.received()
            self.assert_closed(CloseCode.INTERNAL_ERROR, "ConnectionLost")

    def test_a_target_that_closes_ends_both_ways_once_the_caller_ends(self) -> None:
        self.begin()
        self.target.lose(ConnectionDone())
        self.assertEqual(self.received(), [b""])
        self.send(b"nobody takes this", b"")
        self.received()
        self.assert_closed(CloseCode.NORMAL_CLOSURE)

    def test_a_callers_close_and_a_violation_cut_the_target(self) -> None:
        for wire, code in (
            (b"\x88\x80\0\0\0\0", CloseCode.NO_STATUS_RCVD),
            (b"\x82\x01x", CloseCode.PROTOCOL_ERROR),
            (b"\x81\x81\0\0\0\0x", CloseCode.UNSUPPORTED_DATA),
        ):
            self.setUp()
            self.begin()
            self.stream.write(wire + b"\x82\x81\0\0\0\0x")
            self.received()
            self.assert_closed(code)
            self.assertTrue(self.target.aborted)
            self.assertEqual(self.target.take(), b"")

    def test_pings_are_answered_among_the_bytes(self) -> None:
        self.begin()
        self.library.send_binary(b"a")
        self.library.send_ping(b"there?")
        self.library.send_binary(b"b")
        self.pass_on()
        self.assertEqual(self.target.take(), b"ab")
        self.library.receive_data(bytes(self.answer.body))
        self.assertEqual([(e.opcode, e.data) for e in self.events()], [(Opcode.PONG, b"there?")])

    def test_a_caller_that_only_pings_and_reads_nothing_fills_no_memory(self) -> None:
        self.begin()
        self.stream.pauseProducing()
        for _ in range(100):
            self.stream.write((b"\x89\xfd" + bytes(4) + b"x" * 125) * 500)
            self.pair.flush()
        waits = self.pair.agent.connection.streams[self.stream.stream_id].queued
        self.assertLess(waits, 1024 * 1024)
        self.stream.resumeProducing()
        self.pair.flush()
        self.library.receive_data(bytes(self.answer.body))
        self.assertEqual(self.events()[-1].data, b"x" * 125)
        self.send(b"on")
        self.assertEqual(self.target.take(), b"on")

    def test_what_fails_here_ends_the_call_and_the_targets_connection(self) -> None:
        self.begin()
        self.link.write = None  # type: ignore[assignment, method-assign]
        self.send(b"x")
        assert self.answer.reset is not None
        self.assertEqual(self.answer.reset.reason, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(self.target.aborted)
        self.assert_slots_free()

    def test_what_fails_on_the_way_back_cuts_the_target_and_tells_the_caller(self) -> None:
        self.begin()
        self.forward.target_sent = None  # type: ignore[assignment, method-assign]
        self.target_sends(b"x")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(self.target.aborted)
        self.received()
        self.assert_closed(CloseCode.INTERNAL_ERROR, "cut")


class PaceTests(PassageCase):
    def test_a_slow_target_holds_back_the_caller_and_gets_all(self) -> None:
        self.begin()
        for _ in range(100):
            self.send(b"x" * 60_000)
        self.assertLess(self.target.most_unread, 400_000)
        total = 0
        while taken := len(self.target.take()):
            total += taken
            self.pair.flush()
        self.assertEqual(total, 6_000_000)

    def test_a_slow_caller_holds_back_the_target_and_gets_all(self) -> None:
        self.begin()
        self.stream.pauseProducing()
        sent = 0
        while self.target.reading:
            self.target_sends(b"y" * 50_000)
            sent += 50_000
        self.assertLess(sent, 1_000_000)
        self.stream.resumeProducing()
        self.assertEqual(sum(map(len, self.received())), sent)
        self.assertTrue(self.target.reading)

    def test_a_read_and_its_heads_fit_a_frame_of_the_tunnel(self) -> None:
        self.begin()
        self.assertEqual(self.target.bufferSize, READ_SIZE)  # type: ignore[attr-defined]
        self.target_sends(bytes(READ_SIZE))
        self.assertLessEqual(len(self.answer.body), DATA_SIZE)
        self.assertGreater(len(self.answer.body), DATA_SIZE - 100)

    def test_only_a_connection_on_which_nothing_comes_is_closed(self) -> None:
        self.idle = 10.0
        self.begin()
        for _ in range(2):
            self.pair.clock.advance(9)
            self.send(b"x")
            self.pair.clock.advance(9)
            self.target_sends(b"y")
        self.pair.clock.advance(9.5)
        self.assertFalse(self.target.aborted)
        self.pair.clock.advance(0.5)
        self.assertEqual(self.received(), [b"y"] * 2)
        self.assert_closed(CloseCode.GOING_AWAY, "long time")
        self.assertTrue(self.target.aborted)
        self.assert_no_clock_runs()

    def test_nothing_is_read_from_the_target_before_there_is_somebody_to_tell(self) -> None:
        self.link.makeConnection(self.target)
        self.assertFalse(self.target.reading)
        self.target.lose(ConnectionLost())
        forward = Forward(self.pair.clock, self.link, 0)
        written: list[bytes] = []

        class Caller:
            def write(self, data: bytes) -> None:
                written.append(data)

            def pauseProducing(self) -> None: ...

            def resumeProducing(self) -> None: ...

        self.successResultOf(forward.begin(Caller()))
        self.assertEqual(written[0][2:4], (1011).to_bytes(2, "big"))
        forward.close()
        self.link.connectionLost(Failure(ConnectionDone()))
