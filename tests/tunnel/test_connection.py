"""What a connection does for well-behaved peers: credit, turns, retention, draining."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import Pair, Recorder
from workato_tunnel.connection import TunnelConnection
from workato_tunnel.errors import ErrorCode, HeadTooLarge, LocalProtocolError, StreamRefused
from workato_tunnel.events import (
    DataReceived,
    Event,
    GoawayReceived,
    StreamFinished,
    StreamOpened,
    StreamTerminated,
)
from workato_tunnel.frames import FrameType, Head, Open, Trailers
from workato_tunnel.settings import MAX_MESSAGE, PACK_SIZE, Settings
from workato_tunnel.testing import connection_pair, pump, split
from workato_tunnel.windows import CreditBudget

GET = Open("http", "app")


def received(events: list[Event], stream: int) -> int:
    return sum(len(e.data) for e in events if isinstance(e, DataReceived) and e.stream == stream)


class CreditTests(SynchronousTestCase):
    def answer(
        self, agent: TunnelConnection, gateway: TunnelConnection, size: int
    ) -> tuple[int, list[Event]]:
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(stream, Head(200))
        agent.send_data(stream, b"x" * size)
        agent.send_trailers(stream, Trailers())
        return stream, pump(agent, gateway)[1]

    def test_a_sender_stops_where_the_credit_ends_and_goes_on_with_more(self) -> None:
        agent, gateway = connection_pair(gateway=Settings(window=32 * 1024))
        stream, events = self.answer(agent, gateway, 100_000)
        self.assertEqual(received(events, stream), 32 * 1024)
        gateway.consumed(stream, 32 * 1024)
        events = pump(agent, gateway)[1]
        # The sender was starved and all was consumed: the window has doubled.
        self.assertEqual(received(events, stream), 64 * 1024)
        gateway.consumed(stream, 64 * 1024)
        self.assertIsInstance(pump(agent, gateway)[1][-1], StreamFinished)

    def test_a_slow_consumer_never_gets_a_wider_window(self) -> None:
        agent, gateway = connection_pair(gateway=Settings(window=32 * 1024))
        stream, _ = self.answer(agent, gateway, 10_000_000)
        for _ in range(200):
            gateway.consumed(stream, 8 * 1024)
            pump(agent, gateway)
            self.assertEqual(gateway.streams[stream].receive.size, 32 * 1024)

    def test_widening_stops_at_the_budget_and_is_given_back(self) -> None:
        shared = CreditBudget(1 << 20)
        settings = Settings(streams=4, window=32 * 1024, budget=4 * 32 * 1024 + 64 * 1024)
        agent, gateway = connection_pair(gateway=settings)
        gateway._extra._shared = shared
        stream, events = self.answer(agent, gateway, 3_000_000)
        while not any(isinstance(event, StreamFinished) for event in events):
            waiting = received(events, stream)
            gateway.consumed(stream, waiting)
            events = pump(agent, gateway)[1]
            if stream in gateway.streams:
                self.assertLessEqual(gateway.streams[stream].receive.size, 96 * 1024)
        # The last bytes still wait for their consumer: their memory is not free yet.
        self.assertLess(gateway._extra.left, 64 * 1024)
        gateway.consumed(stream, received(events, stream))
        self.assertEqual(gateway._extra.left, 64 * 1024)
        self.assertEqual(shared.left, 1 << 20)

    def test_a_stalled_stream_does_not_stop_the_others(self) -> None:
        agent, gateway = connection_pair()
        stalled, _ = self.answer(agent, gateway, 1_000_000)
        for _ in range(5):
            _, events = self.answer(agent, gateway, 1000)
            self.assertIsInstance(events[-1], StreamFinished)
        self.assertIn(stalled, gateway.streams)


class LongFatPathTests(SynchronousTestCase):
    def bytes_in_flight(self, chunk: int) -> int:
        """What one stream has under way at once, after a while, on a path of long round trips."""
        pair = Pair()
        taken = 0

        def take() -> None:
            nonlocal taken
            taken += len(call.data)
            call.data = b""

        call = pair.call(Recorder(data=take))
        stream = pair.calls[0].stream
        stream.send_head(Head(200))
        best = 0
        for _ in range(20):
            # A round trip: all that the sender may send, then all that the receiver says to it.
            before = taken
            moving = True
            while moving:
                while not stream._congested():
                    stream.write(bytes(chunk))
                pair.clock.advance(0)
                moving = bool(pair.agent_link.sent)
                while pair.agent_link.sent:
                    pair.gateway.message_received(pair.gateway_link, pair.agent_link.take())
            best = max(best, taken - before)
            if best > 4 << 20:
                break
            while pair.gateway_link.sent:
                pair.agent.message_received(pair.agent_link, pair.gateway_link.take())
        return best

    def test_the_window_grows_whatever_the_size_of_the_writers_chunks(self) -> None:
        for chunk in (16 * 1024, 32 * 1024, 60_000, 64 * 1024, 128 * 1024, 256 * 1024, 1 << 20):
            self.assertGreater(self.bytes_in_flight(chunk), 4 << 20, chunk)


class TurnTests(SynchronousTestCase):
    def test_control_frames_and_short_answers_pass_bulk_data(self) -> None:
        agent, gateway = connection_pair(gateway=Settings(window=8 << 20))
        agent.peer = Settings(window=8 << 20).limits()
        bulk = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(bulk, Head(200))
        agent.send_data(bulk, bytes(4 << 20))
        for _ in range(4):
            agent.next_message()
        short = gateway.open_stream(GET, end=True)
        message = gateway.next_message()
        assert message is not None
        agent.receive_message(message, 0.0)
        agent.send_head(short, Head(200))
        agent.send_data(short, b"quick")
        agent.send_trailers(short, Trailers())
        message = agent.next_message()
        assert message is not None
        first = [(kind, stream) for kind, _, stream, _ in split(message)][:3]
        self.assertEqual(
            first,
            [(FrameType.HEAD, short), (FrameType.DATA, short), (FrameType.TRAILERS, short)],
        )

    def test_bulk_streams_share_evenly(self) -> None:
        agent, gateway = connection_pair()
        gateway_window = Settings(window=8 << 20)
        agent.peer = gateway_window.limits()
        streams = [gateway.open_stream(GET, end=True) for _ in range(3)]
        pump(agent, gateway)
        for stream in streams:
            agent.send_head(stream, Head(200))
            agent.send_data(stream, bytes(2 << 20))
        sent = dict.fromkeys(streams, 0)
        for _ in range(40):
            for kind, _, stream, payload in split(agent.next_message() or b""):
                if kind == FrameType.DATA:
                    sent[stream] += len(payload)
        self.assertLess(max(sent.values()) - min(sent.values()), 64 * 1024)

    def test_messages_stay_within_the_packing_limit(self) -> None:
        agent, gateway = connection_pair(gateway=Settings(window=1 << 20))
        agent.peer = Settings(window=1 << 20).limits()
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(stream, Head(200))
        for _ in range(1000):
            agent.send_data(stream, b"row" * 100)
        sizes = []
        while (message := agent.next_message()) is not None:
            sizes.append(len(message))
        self.assertLess(max(sizes), PACK_SIZE + 40_000)
        self.assertLess(len(sizes), 8)


class RetentionTests(SynchronousTestCase):
    def test_data_stops_at_the_retention_limit_until_acknowledged(self) -> None:
        settings = Settings(retained=256 * 1024)
        agent, gateway = connection_pair(agent=settings)
        agent.peer = Settings(window=16 << 20).limits()
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(stream, Head(200))
        agent.send_data(stream, bytes(1 << 20))
        sent = 0
        while (message := agent.next_message()) is not None:
            sent += len(message)
        self.assertLess(sent, 256 * 1024 + 2 * PACK_SIZE)
        gateway._received.count = agent._out._sent.count
        gateway.acknowledge()
        ack = gateway.next_message()
        assert ack is not None
        agent.receive_message(ack, 0.0)
        self.assertIsNotNone(agent.next_message())

    def test_an_ack_counts_in_the_size_of_its_message(self) -> None:
        agent, gateway = connection_pair(agent=Settings(map_size=0xFFFF))
        agent.send_data(gateway_stream(agent, gateway), b"")
        for size in (64_900, 65_330):
            gateway.open_stream(Open("http", "app", path="x" * (size - 16)))
        while (message := agent.next_message()) is not None:
            gateway.receive_message(message, 0.0)
        gateway._out.ack_due = True
        message = gateway.next_message()
        assert message is not None
        self.assertLessEqual(len(message), MAX_MESSAGE)

    def test_whoever_heard_goaway_acknowledges_at_once(self) -> None:
        agent, gateway = connection_pair()
        stream = gateway_stream(agent, gateway)
        agent.send_trailers(stream, Trailers())
        pump(agent, gateway)
        agent.release(stream)
        self.assertFalse(agent.at_rest)
        agent.go_away(ErrorCode.DRAINING)
        pump(agent, gateway)
        self.assertTrue(agent.at_rest)


def gateway_stream(agent: TunnelConnection, gateway: TunnelConnection) -> int:
    """A stream whose answer has begun."""
    stream = gateway.open_stream(GET, end=True)
    pump(agent, gateway)
    agent.send_head(stream, Head(200))
    return stream


class OpeningTests(SynchronousTestCase):
    def test_a_peer_without_free_streams_is_not_asked(self) -> None:
        _, gateway = connection_pair(agent=Settings(streams=2))
        gateway.open_stream(GET)
        gateway.open_stream(GET)
        with self.assertRaises(StreamRefused) as caught:
            gateway.open_stream(GET)
        self.assertEqual(caught.exception.code, ErrorCode.OVERLOADED)

    def test_a_head_past_the_peers_limit_is_not_sent(self) -> None:
        agent, gateway = connection_pair(agent=Settings(map_size=2048))
        with self.assertRaises(HeadTooLarge):
            gateway.open_stream(Open("http", "app", path="x" * 2048))
        self.assertEqual(gateway.open_streams, 0)
        self.assertIsNone(gateway.next_message())
        del agent

    def test_a_draining_side_refuses_new_streams_and_finishes_the_open_ones(self) -> None:
        agent, gateway = connection_pair()
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        late = gateway.open_stream(GET, end=True)
        agent.go_away(ErrorCode.DRAINING, "stopping")
        agent.send_head(stream, Head(200))
        agent.send_trailers(stream, Trailers())
        told = pump(agent, gateway)[1]
        kinds = [type(event) for event in told]
        self.assertIn(GoawayReceived, kinds)
        self.assertIn(StreamFinished, kinds)
        (refused,) = (event for event in told if isinstance(event, StreamTerminated))
        self.assertEqual((refused.stream, refused.reason), (late, ErrorCode.DRAINING))
        with self.assertRaises(StreamRefused):
            gateway.open_stream(GET)

    def test_what_the_state_forbids_is_our_own_fault(self) -> None:
        agent, gateway = connection_pair()
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        for wrong in (
            lambda: gateway.send_data(stream, b"after END"),
            lambda: agent.send_data(stream, b"before HEAD"),
            lambda: agent.send_trailers(stream, Trailers()),
            lambda: agent.send_head(99, Head(200)),
        ):
            with self.assertRaises(LocalProtocolError):
                wrong()
        agent.send_head(stream, Head(200))
        with self.assertRaises(LocalProtocolError):
            agent.send_head(stream, Head(200))

    def test_both_sides_can_open_streams(self) -> None:
        agent, gateway = connection_pair()
        self.assertEqual([agent.open_stream(GET), agent.open_stream(GET)], [2, 4])
        self.assertEqual([gateway.open_stream(GET), gateway.open_stream(GET)], [1, 3])
        told = pump(agent, gateway)
        self.assertEqual([e.stream for e in told[0] if isinstance(e, StreamOpened)], [1, 3])
        self.assertEqual([e.stream for e in told[1] if isinstance(e, StreamOpened)], [2, 4])
