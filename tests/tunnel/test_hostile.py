"""A peer that breaks the rules: it loses its stream or its connection, and never more than that."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel import frames
from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import ErrorCode
from workato_tunnel.events import ConnectionFailed, StreamOpened, StreamTerminated
from workato_tunnel.frames import HEADER, FrameType, Limits, Open
from workato_tunnel.settings import MAX_MESSAGE, Settings
from workato_tunnel.testing import FrameFactory, connection_pair, split

make = FrameFactory()


def agent(settings: Settings | None = None) -> TunnelConnection:
    return TunnelConnection(Role.AGENT, settings or Settings(), Limits())


frame_soup = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda kind, flags, stream, payload: (
                HEADER.pack(kind, flags, len(payload), stream) + payload
            ),
            st.sampled_from([*FrameType, 0, 0x7F, 0xFF]),
            st.sampled_from([0, 1, 2, 3, 0x80, 0xFF]),
            st.integers(0, 9) | st.integers(0, 2**32 - 1),
            st.binary(max_size=40),
        ),
        st.integers(1, 9).map(make.open),
        st.builds(make.window, st.integers(0, 9), st.integers(0, 2**64 - 1)),
        st.builds(make.ack, st.integers(0, 2**64 - 1)),
        st.builds(make.reset, st.integers(1, 9)),
        st.builds(make.data, st.integers(1, 9), st.binary(max_size=20), st.integers(0, 3)),
    ),
    max_size=12,
).map(b"".join)


class HostileTests(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(st.lists(frame_soup, max_size=8), st.sampled_from(Role))
    def test_nothing_a_peer_sends_raises(self, messages: list[bytes], role: Role) -> None:
        connection = TunnelConnection(role, Settings(streams=3), Limits(streams=3))
        connection.open_stream(Open("http", "app"))
        for message in messages:
            events = connection.receive_message(message, 0.0)
            for event in events:
                if isinstance(event, StreamOpened):
                    self.assertIn(event.stream, connection._slots)
            while (out := connection.next_message()) is not None:
                self.assertLessEqual(len(out), MAX_MESSAGE)
            if connection.failed:
                self.assertEqual(connection.receive_message(b"more", 0.0), [])

    def fails(self, message: bytes, code: ErrorCode) -> None:
        connection = agent()
        event = connection.receive_message(message, 0.0)[-1]
        self.assertIsInstance(event, ConnectionFailed)
        self.assertEqual(event.code, code)  # type: ignore[attr-defined]
        out = connection.next_message()
        assert out is not None
        kind, _, _, payload = list(split(out))[-1]
        self.assertEqual(kind, FrameType.GOAWAY)
        self.assertEqual(frames.decode_map(frames.Goaway, payload).code, code)

    def test_messages_out_of_bounds_fail_the_connection(self) -> None:
        self.fails(b"", ErrorCode.FRAME_TOO_LARGE)
        self.fails(b"\0" * (MAX_MESSAGE + 1), ErrorCode.FRAME_TOO_LARGE)

    def test_truncated_frames_fail_the_connection(self) -> None:
        whole = make.open(1)
        for cut in range(8, len(whole)):
            self.fails(whole[:cut], ErrorCode.PROTOCOL_ERROR)
        self.fails(whole + b"\0\0", ErrorCode.PROTOCOL_ERROR)

    def test_stream_ids_out_of_order_fail_the_connection(self) -> None:
        self.fails(make.open(2), ErrorCode.PROTOCOL_ERROR)  # an agent's own kind
        self.fails(make.open(0), ErrorCode.PROTOCOL_ERROR)
        self.fails(make.open(2**31 + 1), ErrorCode.PROTOCOL_ERROR)
        self.fails(make.data(1, b"x"), ErrorCode.PROTOCOL_ERROR)
        connection = agent()
        connection.receive_message(make.open(5), 0.0)
        (event,) = connection.receive_message(make.open(3), 0.0)
        self.assertIsInstance(event, ConnectionFailed)

    def test_unknown_frames_are_skipped_only_where_marked(self) -> None:
        self.fails(frames.encode(0x7E, 0, b"x"), ErrorCode.PROTOCOL_ERROR)
        connection = agent()
        self.assertEqual(connection.receive_message(frames.encode(0x7E, 0, b"x", 0x80), 0.0), [])
        self.assertFalse(connection.failed)

    def test_a_second_hello_or_an_impossible_ack_fails_the_connection(self) -> None:
        self.fails(frames.encode(FrameType.HELLO, 0, b"\x80"), ErrorCode.PROTOCOL_ERROR)
        self.fails(make.ack(1), ErrorCode.PROTOCOL_ERROR)

    def test_a_catalogue_from_a_gateway_fails_the_connection(self) -> None:
        message = frames.encode_map(FrameType.CATALOGUE, 0, frames.Catalogue())
        self.fails(message, ErrorCode.PROTOCOL_ERROR)

    def stream_ends(self, *messages: bytes, code: ErrorCode) -> None:
        connection = agent(Settings(window=16 * 1024))
        connection.receive_message(make.open(1), 0.0)
        events = [e for m in messages for e in connection.receive_message(m, 0.0)]
        ended = [event for event in events if isinstance(event, StreamTerminated)]
        self.assertEqual([event.reason for event in ended], [code])
        self.assertFalse(connection.failed)
        # The connection serves the next stream as if nothing had been.
        (opened,) = connection.receive_message(make.open(3), 0.0)
        self.assertIsInstance(opened, StreamOpened)

    def test_a_violation_inside_a_stream_ends_that_stream_only(self) -> None:
        self.stream_ends(make.data(1, b""), code=ErrorCode.PROTOCOL_ERROR)
        self.stream_ends(make.head(1), code=ErrorCode.STREAM_CLOSED)
        self.stream_ends(make.trailers(1, 0), code=ErrorCode.STREAM_CLOSED)
        self.stream_ends(
            make.data(1, b"x", frames.END), make.data(1, b"y"), code=ErrorCode.STREAM_CLOSED
        )
        self.stream_ends(
            make.data(1, b"x" * 16 * 1024), make.data(1, b"y"), code=ErrorCode.FLOW_CONTROL_ERROR
        )
        self.stream_ends(
            frames.encode(FrameType.WINDOW, 1, b"short"), code=ErrorCode.PROTOCOL_ERROR
        )

    def test_trailers_that_count_other_bytes_end_the_stream_as_broken(self) -> None:
        gateway = TunnelConnection(Role.GATEWAY, Settings(), Limits())
        gateway.open_stream(Open("http", "app"), end=True)
        message = make.head(1) + make.data(1, b"123") + make.trailers(1, 4)
        events = gateway.receive_message(message, 0.0)
        self.assertIsInstance(events[-1], StreamTerminated)
        self.assertFalse(gateway.failed)

    def test_streams_beyond_the_limit_are_refused_and_cost_nothing(self) -> None:
        connection = agent(Settings(streams=4))
        for stream in range(1, 2001, 2):
            connection.receive_message(make.open(stream), 0.0)
            while connection.next_message() is not None:
                pass
        self.assertEqual(len(connection.streams), 4)
        self.assertEqual(connection.busy_slots, 4)
        self.assertFalse(connection.failed)

    def test_a_slot_is_taken_until_the_work_behind_a_reset_stream_has_ended(self) -> None:
        connection = agent(Settings(streams=2))
        for stream in (1, 3):
            connection.receive_message(make.open(stream) + make.reset(stream), 0.0)
        self.assertEqual(connection.streams, {})
        self.assertEqual(connection.receive_message(make.open(5), 0.0), [])
        connection.release(1)
        (event,) = connection.receive_message(make.open(7), 0.0)
        self.assertIsInstance(event, StreamOpened)

    def test_rapid_reset_is_slowed_down_without_ending_the_session(self) -> None:
        connection = agent(Settings(resets_burst=10, resets_per_second=5))
        opened = 0
        for stream in range(1, 101, 2):
            events = connection.receive_message(make.open(stream) + make.reset(stream), 0.0)
            opened += sum(isinstance(event, StreamOpened) for event in events)
            connection.release(stream)
        self.assertEqual(opened, 11)
        (event,) = connection.receive_message(make.open(201), 1.0)
        self.assertIsInstance(event, StreamOpened)

    def test_a_flood_whose_answers_are_not_read_ends_the_connection(self) -> None:
        connection = agent(Settings(streams=1, control_queue=64 * 1024))
        stream = 1
        tracemalloc.start()
        while not connection.failed and stream < 400_000:
            connection.receive_message(b"".join(make.open(stream + 2 * n) for n in range(100)), 0.0)
            stream += 200
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertTrue(connection.failed)
        self.assertLess(peak, 4 << 20)

    def test_ten_thousand_streams_opened_and_reset_leave_no_residue(self) -> None:
        agent_end, gateway_end = connection_pair(agent=Settings(resets_burst=100_000))
        for _ in range(10_000):
            stream = gateway_end.open_stream(Open("http", "app"))
            gateway_end.reset_stream(stream, ErrorCode.CANCELLED)
            while (message := gateway_end.next_message()) is not None:
                agent_end.receive_message(message, 0.0)
            agent_end.release(stream)
            agent_end.acknowledge()
            while (message := agent_end.next_message()) is not None:
                gateway_end.receive_message(message, 0.0)
        for end in (agent_end, gateway_end):
            self.assertEqual((end.streams, end.open_streams, end.busy_slots), ({}, 0, 0))
            self.assertLess(end._out.retained, 1024)
            self.assertEqual(bool(end._out._schedule), False)
