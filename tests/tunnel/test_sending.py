"""How DATA is cut into frames and messages, and what may be under way: credit, long windows, and
sessions that nothing is kept for."""

from __future__ import annotations

import random
from collections import deque

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import Pair, Producer, Recorder
from workato_tunnel.connection import TunnelConnection
from workato_tunnel.events import ConnectionFailed, DataReceived, Event, StreamFinished
from workato_tunnel.frames import BLOCKED, FrameType, Head, Open, Trailers
from workato_tunnel.settings import (
    DATA_SIZE,
    LONG_STREAM,
    LONG_WINDOW,
    MAX_MESSAGE,
    PACK_SIZE,
    Settings,
)
from workato_tunnel.testing import FrameFactory, connection_pair, pump, split
from workato_tunnel.windows import CreditBudget

GET = Open("http", "app")
KIB = 1024
NOISE = random.Random(7).randbytes(1 << 20)
make = FrameFactory()


def some(size: int, start: int = 0) -> bytes:
    """That many bytes that look like no others."""
    start %= len(NOISE) - size
    return NOISE[start : start + size]


def data_of(events: list[Event], stream: int) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, DataReceived) and e.stream == stream)


def answering(window: int, **options: bool) -> tuple[TunnelConnection, TunnelConnection, int]:
    """An agent, a gateway with that window, and a stream whose HEAD has come."""
    agent, gateway = connection_pair(
        agent=Settings(**options), gateway=Settings(window=window, **options)
    )
    stream = gateway.open_stream(GET, end=True)
    pump(agent, gateway)
    agent.send_head(stream, Head(200))
    pump(agent, gateway)
    return agent, gateway, stream


def messages_of(connection: TunnelConnection) -> list[bytes]:
    return list(iter(connection.next_message, None))


class CuttingTests(SynchronousTestCase):
    def test_a_chunk_a_little_longer_than_a_frame_goes_in_one_message(self) -> None:
        for size in (1, DATA_SIZE - 1, DATA_SIZE, DATA_SIZE + 1, 65_536, 66_000, DATA_SIZE + 1024):
            agent, gateway, stream = answering(256 * KIB)
            agent.send_data(stream, some(size))
            messages = messages_of(agent)
            self.assertEqual(len(messages), 1, size)
            self.assertLessEqual(len(messages[0]), MAX_MESSAGE)
            events = gateway.receive_message(messages[0], 0.0)
            self.assertEqual(data_of(events, stream), some(size))

    def test_more_than_a_little_goes_in_the_next_message(self) -> None:
        agent, _, stream = answering(256 * KIB)
        agent.send_data(stream, some(DATA_SIZE + 1025))
        self.assertEqual([len(message) for message in messages_of(agent)], [PACK_SIZE, 1025 + 8])

    def test_a_head_in_front_of_a_chunk_makes_no_second_message(self) -> None:
        agent, gateway = connection_pair()
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(stream, Head(200, (("content-type", "x" * 500),)))
        agent.send_data(stream, some(65_536))
        agent.send_trailers(stream, Trailers())
        (message,) = messages_of(agent)
        events = gateway.receive_message(message, 0.0)
        self.assertEqual(data_of(events, stream), some(65_536))
        self.assertIsInstance(events[-1], StreamFinished)

    def test_chunks_that_use_up_the_credit_cost_one_message_each(self) -> None:
        agent, gateway, stream = answering(128 * KIB)
        for turn in range(2):
            agent.send_data(stream, some(65_536, turn))
            (message,) = messages_of(agent)
            frames = list(split(message))
            self.assertEqual(b"".join(payload for *_, payload in frames), some(65_536, turn))
        self.assertEqual(frames[-1][1], BLOCKED)
        agent.send_data(stream, b"x")
        self.assertEqual(messages_of(agent), [])
        self.assertEqual(gateway.streams[stream].receive.granted, 128 * KIB)

    def test_a_remainder_never_goes_beyond_the_credit(self) -> None:
        for beyond in (0, 1, 7, 8, 9, 500):
            agent, _, stream = answering(65_536)
            agent.send_data(stream, some(65_536 + beyond))
            frames = [frame for message in messages_of(agent) for frame in split(message)]
            self.assertEqual(sum(len(payload) for *_, payload in frames), 65_536)
            flags = [flag for _, flag, _, _ in frames]
            self.assertEqual(flags, [0] * (len(flags) - 1) + [BLOCKED])

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from((16 * KIB, 16 * KIB + 1, 64 * KIB, DATA_SIZE, 100_001, 128 * KIB)),
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from((1, 9, 1024, 16_384, DATA_SIZE, DATA_SIZE + 1, 65_536, 66_553)),
            ),
            max_size=25,
        ),
        st.randoms(use_true_random=False),
    )
    @example(64 * KIB, [(0, 65_536)] * 9, random.Random(1))
    @example(16 * KIB, [(0, DATA_SIZE + 1), (1, 66_553), (2, 1)] * 3, random.Random(2))
    def test_credit_and_the_size_of_messages_are_kept_and_each_byte_arrives(
        self, window: int, writes: list[tuple[int, int]], chance: random.Random
    ) -> None:
        agent, gateway = connection_pair(gateway=Settings(window=window))
        streams = [gateway.open_stream(GET, end=True) for _ in range(3)]
        pump(agent, gateway)
        wanted = dict.fromkeys(streams, b"")
        for stream in streams:
            agent.send_head(stream, Head(200))
        granted, sent = dict.fromkeys(streams, window), dict.fromkeys(streams, 0)
        arrived, taken = dict.fromkeys(streams, b""), dict.fromkeys(streams, 0)
        finished: set[int] = set()
        waiting = deque(writes)
        ending = list(streams)
        for _ in range(5000):
            if waiting and chance.random() < 0.5:
                index, size = waiting.popleft()
                wanted[streams[index]] += some(size, len(wanted[streams[index]]) + index)
                agent.send_data(streams[index], wanted[streams[index]][-size:])
            elif not waiting and ending:
                agent.send_trailers(ending.pop(), Trailers())
            message = agent.next_message()
            if message is not None:
                self.assertLessEqual(len(message), MAX_MESSAGE)
                for kind, _, stream, payload in split(message):
                    if kind == FrameType.DATA:
                        sent[stream] += len(payload)
                        self.assertLessEqual(sent[stream], granted[stream])
                events = gateway.receive_message(message, 0.0)
                for stream in streams:
                    arrived[stream] += data_of(events, stream)
                finished |= {e.stream for e in events if isinstance(e, StreamFinished)}
            for stream in streams:
                left = len(arrived[stream]) - taken[stream]
                size = chance.choice((0, left // 2, left))
                taken[stream] += size
                gateway.consumed(stream, size)
            message = gateway.next_message()
            if message is not None:
                for kind, _, stream, payload in split(message):
                    if kind == FrameType.WINDOW:
                        granted[stream] = int.from_bytes(payload, "big")
                agent.receive_message(message, 0.0)
            if len(finished) == 3:
                break
        self.assertEqual(finished, set(streams))
        self.assertEqual(arrived, wanted)


class LongStreamTests(SynchronousTestCase):
    def keep_up(
        self, agent: TunnelConnection, gateway: TunnelConnection, stream: int, size: int
    ) -> None:
        """Send and take that many bytes, piece by piece, the sender never waiting."""
        for _ in range(size // (16 * KIB)):
            agent.send_data(stream, bytes(16 * KIB))
            pump(agent, gateway)
            gateway.consumed(stream, 16 * KIB)
            pump(agent, gateway)

    def test_a_long_stream_whose_consumer_keeps_up_gets_a_long_window(self) -> None:
        agent, gateway, stream = answering(128 * KIB)
        window = gateway.streams[stream].receive
        self.keep_up(agent, gateway, stream, LONG_STREAM - 16 * KIB)
        self.assertEqual(window.size, 128 * KIB)
        self.keep_up(agent, gateway, stream, LONG_STREAM)
        self.assertEqual(window.size, LONG_WINDOW)
        self.assertGreater(agent.streams[stream].send.credit(), LONG_WINDOW // 2)

    def test_a_consumer_that_lags_behind_gets_none(self) -> None:
        agent, gateway, stream = answering(128 * KIB)
        agent.send_data(stream, bytes(16 * KIB))
        pump(agent, gateway)
        self.keep_up(agent, gateway, stream, 4 * LONG_STREAM)
        window = gateway.streams[stream].receive
        self.assertEqual((window.size, window.extra), (128 * KIB, 0))
        gateway.consumed(stream, 16 * KIB)
        self.assertGreater(window.extra, 0)

    def test_it_takes_no_more_than_the_budgets_hold_and_comes_back_at_the_end(self) -> None:
        for own, shared, reached in (
            (0, LONG_WINDOW, 128 * KIB),
            (LONG_WINDOW, 0, 128 * KIB),
            (128 * KIB, LONG_WINDOW, 256 * KIB),
            (LONG_WINDOW, 128 * KIB, 256 * KIB),
            (LONG_WINDOW, LONG_WINDOW, LONG_WINDOW),
        ):
            agent, gateway, stream = answering(128 * KIB)
            gateway._extra._own, gateway._extra._shared = CreditBudget(own), CreditBudget(shared)
            self.keep_up(agent, gateway, stream, 2 * LONG_STREAM)
            self.assertEqual(gateway.streams[stream].receive.size, reached)
            self.assertEqual(gateway._extra.left, own - (reached - 128 * KIB))
            agent.send_trailers(stream, Trailers())
            pump(agent, gateway)
            self.assertEqual((gateway._extra.left, gateway._extra._shared.left), (own, shared))

    def test_it_comes_back_when_the_stream_is_reset(self) -> None:
        agent, gateway, stream = answering(128 * KIB)
        budget = gateway._extra.left
        self.keep_up(agent, gateway, stream, 2 * LONG_STREAM)
        self.assertLess(gateway._extra.left, budget)
        agent.reset_stream(stream, "cancelled")
        pump(agent, gateway)
        self.assertEqual(gateway._extra.left, budget)

    def test_it_is_no_wider_than_the_widest_window(self) -> None:
        agent, gateway = connection_pair(gateway=Settings(max_window=200 * KIB))
        stream = gateway.open_stream(GET, end=True)
        pump(agent, gateway)
        agent.send_head(stream, Head(200))
        self.keep_up(agent, gateway, stream, 2 * LONG_STREAM)
        self.assertEqual(gateway.streams[stream].receive.size, 200 * KIB)


class NotResumableTests(SynchronousTestCase):
    def test_nothing_is_kept_and_nothing_waits_for_acknowledgement(self) -> None:
        agent, _, stream = answering(16 << 20, resumable=False)
        agent.send_data(stream, bytes(16 << 20))
        before = agent._out._sent.count
        sent = sum(map(len, messages_of(agent)))
        self.assertGreater(sent, 16 << 20)
        self.assertEqual(agent._out.retained, 0)
        self.assertEqual(list(agent._out._sent.unacknowledged()), [])
        self.assertGreater(agent._out._sent.count, before + 200)

    def test_acknowledgements_are_still_checked(self) -> None:
        agent, _, stream = answering(128 * KIB, resumable=False)
        agent.send_data(stream, b"x")
        messages_of(agent)
        count = agent._out._sent.count
        self.assertEqual(agent.receive_message(make.ack(count), 0.0), [])
        for wrong in (count + 1, count - 1):
            agent.failed = False
            (event,) = agent.receive_message(make.ack(wrong), 0.0)
            self.assertIsInstance(event, ConnectionFailed)

    def test_the_end_of_a_stream_still_waits_for_its_acknowledgement(self) -> None:
        agent, gateway, stream = answering(128 * KIB, resumable=False)
        agent.send_trailers(stream, Trailers())
        agent.release(stream)
        pump(agent, gateway)
        self.assertFalse(agent.at_rest)
        gateway.acknowledge()
        pump(agent, gateway)
        self.assertTrue(agent.at_rest)


class WriteNowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.call = self.pair.call()
        self.stream = self.pair.calls[0].stream
        self.stream.send_head(Head(200))
        self.pair.flush()

    def arrive(self) -> None:
        """What has been sent comes to the gateway, without a turn of the agent's reactor."""
        while self.pair.agent_link.sent:
            self.pair.gateway.message_received(self.pair.gateway_link, self.pair.agent_link.take())

    def test_it_has_left_when_the_call_returns(self) -> None:
        self.stream.write(b"later")
        self.arrive()
        self.assertEqual(self.call.data, b"")
        self.stream.write_now(b" now")
        self.arrive()
        self.assertEqual(self.call.data, b"later now")

    def test_mixed_with_write_the_order_stays(self) -> None:
        wanted = b""
        for turn in range(200):
            piece = b"%d," % turn * (turn % 7 * 40)
            (self.stream.write if turn % 3 else self.stream.write_now)(piece)
            wanted += piece
        self.pair.flush()
        self.assertEqual(self.call.data, wanted)

    def test_while_a_message_is_taken_in_it_leaves_with_the_answers_to_it(self) -> None:
        sent_within: list[int] = []

        def answer() -> None:
            stream = self.pair.calls[-1].stream
            stream.write_now(b"one ")
            stream.write_now(b"two")
            sent_within.append(len(self.pair.agent_link.sent))

        self.pair.next_call = lambda: Recorder(data=answer)
        call = self.pair.call(end=False)
        self.pair.calls[-1].stream.send_head(Head(200))
        self.pair.flush()
        call.stream.write_now(b"?")
        self.pair.agent.message_received(self.pair.agent_link, self.pair.gateway_link.take())
        self.assertEqual(sent_within, [0])
        self.assertEqual(len(self.pair.agent_link.sent), 1)
        self.arrive()
        self.assertEqual(call.data, b"one two")

    def test_without_a_socket_it_waits_and_after_the_end_it_is_dropped(self) -> None:
        self.pair.cut()
        self.stream.write_now(b"kept")
        self.pair.resume()
        self.pair.flush()
        self.assertEqual(self.call.data, b"kept")
        self.stream.finish(Trailers())
        self.stream.write_now(b"late")
        self.pair.flush()
        self.assertEqual(self.call.data, b"kept")
        self.assertEqual(self.call.told[-1], "finished")

    def test_a_producer_that_writes_now_is_still_paused_and_resumed(self) -> None:
        producer = Producer()
        self.stream.registerProducer(producer, True)
        self.call.stream.pauseProducing()
        while "pause" not in producer.told:
            self.stream.write_now(bytes(32 * KIB))
            self.arrive()
        self.assertEqual(producer.told, ["pause"])
        self.call.stream.resumeProducing()
        self.pair.flush()
        self.assertEqual(producer.told, ["pause", "resume"])
