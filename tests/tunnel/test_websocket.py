"""RFC 6455 frames at the edge: whole, cut anywhere, fragmented, hostile."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import Producer
from tests.support.websockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    PlainClient,
    PlainServer,
    Wire,
    frame,
)
from workato_tunnel.settings import MAX_MESSAGE

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 65537, MAX_MESSAGE)


class FrameTests(SynchronousTestCase):
    def test_messages_of_every_length_form_arrive(self) -> None:
        for turn in (0, 1):
            for size in SIZES:
                wire = Wire()
                end, masked = wire.ends()[turn]
                payload = random.Random(size).randbytes(size)
                end.dataReceived(frame(BINARY, payload, masked=masked))
                self.assertEqual(end.messages, [payload], size)

    def test_what_is_sent_arrives_masked_by_the_agent_only(self) -> None:
        for size in SIZES:
            wire = Wire()
            payload = b"\x82" * size
            wire.server.send_message(payload)
            wire.client.send_message(payload)
            self.assertFalse(wire.server_side.written[1] & 0x80)
            self.assertTrue(wire.client_side.written[1] & 0x80)
            wire.flush()
            self.assertEqual(wire.server.messages, [payload])
            self.assertEqual(wire.client.messages, [payload])

    def test_frames_cut_at_every_byte(self) -> None:
        rng = random.Random(1)
        for turn in (0, 1):
            masked = bool(1 - turn)
            messages = [rng.randbytes(size) for size in (0, 5, 125, 126, 300)]
            data = b"".join(frame(BINARY, message, masked=masked) for message in messages)
            data = frame(PING, b"mid", masked=masked).join((data, data))
            for cut in range(len(data) + 1):
                wire = Wire()
                end, _ = wire.ends()[turn]
                end.dataReceived(data[:cut])
                end.dataReceived(data[cut:])
                self.assertEqual(end.messages, messages * 2, cut)

    def test_one_byte_at_a_time(self) -> None:
        for turn in (0, 1):
            wire = Wire()
            end, masked = wire.ends()[turn]
            payload = bytes(range(256)) * 300
            data = frame(BINARY, payload, masked=masked) + frame(BINARY, b"next", masked=masked)
            for index in range(len(data)):
                end.dataReceived(data[index : index + 1])
            self.assertEqual(end.messages, [payload, b"next"])

    def test_headers_of_other_frames_cut_at_every_byte(self) -> None:
        for turn in (0, 1):
            masked = bool(1 - turn)
            data = (
                frame(BINARY, b"a" * 200, masked=masked, fin=False)
                + frame(PING, b"between", masked=masked)
                + frame(CONTINUATION, b"b" * 70_000, masked=masked, fin=False)
                + frame(CONTINUATION, b"", masked=masked)
                + frame(BINARY, b"whole", masked=masked)
            )
            for cut in (*range(20), *range(200, 240), *range(len(data) - 30, len(data))):
                wire = Wire()
                end, _ = wire.ends()[turn]
                for piece in (data[:cut], data[cut:]):
                    if piece:
                        end.dataReceived(piece)
                self.assertEqual(end.messages, [b"a" * 200 + b"b" * 70_000, b"whole"], cut)

    def test_messages_right_behind_the_handshake(self) -> None:
        for cut in range(-40, 60):
            wire = Wire(handshake=False)
            wire.server.dataReceived(wire.client_side.take())
            wire.server.send_message(b"first")
            wire.server.send_message(b"s" * 300)
            data = wire.server_side.take()
            at = data.index(b"\r\n\r\n") + 4 + cut
            wire.client.dataReceived(data[:at])
            wire.client.dataReceived(data[at:])
            self.assertEqual(wire.client.messages, [b"first", b"s" * 300])

    def test_pings_are_answered_and_the_pong_tells_the_round_trip(self) -> None:
        wire = Wire()
        wire.server.dataReceived(frame(PING, b"are you there", masked=True))
        self.assertIn(b"are you there", wire.server_side.take())
        self.assertIsNone(wire.client.round_trip)
        wire.clock.advance(18.1)
        ping = wire.client_side.take()
        self.assertEqual(ping[0], 0x80 | PING)
        wire.client_side.written.clear()
        wire.server.dataReceived(ping)
        wire.clock.advance(0.25)
        wire.client.dataReceived(b"")
        wire.client.dataReceived(wire.server_side.take()[-10:])
        self.assertAlmostEqual(wire.client.round_trip, 0.25 + 18.1 - ping_age(wire), delta=6.1)
        wire.client.dataReceived(frame(PONG, b"unasked", masked=False))
        wire.lose()

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_any_valid_frames_cut_anywhere_are_what_autobahn_takes_them_for(
        self, data: st.DataObject
    ) -> None:
        to_server = data.draw(st.booleans())
        rng = random.Random(data.draw(st.integers(0, 2**32)))
        stream = valid_frames(rng, to_server)
        ours, plain = Wire(), Wire(PlainServer, PlainClient)
        mine = ours.server if to_server else ours.client
        theirs = plain.server if to_server else plain.client
        at = 0
        while at < len(stream):
            size = rng.choice((1, 2, 3, 7, 50, 1000, 16384, 100_000))
            for end in (mine, theirs):
                end.dataReceived(stream[at : at + size])
            at += size
        self.assertEqual(mine.messages, theirs.messages)
        self.assertEqual(mine.state, theirs.state)


def ping_age(wire: Wire) -> float:
    """When the client's ping was sent."""
    sent: float = wire.client._pinged_at
    return sent


def valid_frames(rng: random.Random, masked: bool) -> bytes:
    """A valid sequence of data and control frames, perhaps with a close at its end."""
    parts: list[bytes] = []

    def control() -> None:
        while rng.random() < 0.3:
            kind = rng.choice((PING, PONG))
            parts.append(frame(kind, rng.randbytes(rng.randint(0, 125)), masked=masked))

    for _ in range(rng.randint(1, 12)):
        control()
        payload = rng.randbytes(rng.choice((0, 1, 60, 125, 126, 5000, 65535, 65536, 90_000)))
        if rng.random() < 0.6:
            parts.append(frame(BINARY, payload, masked=masked))
            continue
        cuts = sorted(rng.randint(0, len(payload)) for _ in range(rng.randint(1, 5)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, piece in enumerate(pieces):
            opcode = CONTINUATION if index else BINARY
            last = index == len(pieces) - 1
            parts.append(frame(opcode, piece, masked=masked, fin=last))
            if not last:
                control()
    if rng.random() < 0.2:
        parts.append(frame(CLOSE, b"\x03\xe9bye", masked=masked))
        parts.append(frame(BINARY, b"after the end", masked=masked))
    return b"".join(parts)


class ClosingTests(SynchronousTestCase):
    def test_closing_with_data_in_flight_delivers_what_was_written_before(self) -> None:
        wire = Wire()
        wire.client.send_message(b"x" * 100_000)
        wire.server.send_message(b"on the way")
        wire.client.close(1001, "the agent stops")
        wire.server.send_message(b"also on the way")
        wire.client.send_message(b"too late")
        wire.flush()
        self.assertEqual(wire.server.messages, [b"x" * 100_000])
        self.assertEqual(wire.server.peer_closed, ["the agent stops"])
        self.assertEqual(wire.client.messages, [])
        self.assertEqual(wire.client.peer_closed, [])
        wire.clock.advance(0)
        assert wire.server.closed is not None
        self.assertEqual(wire.server.closed[:2], (True, 1001))
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_closing_while_half_a_frame_is_held(self) -> None:
        for turn in (0, 1):
            for cut in (1, 3, 200, 290):
                wire = Wire()
                end, masked = wire.ends()[turn]
                data = frame(BINARY, b"x" * 300, masked=masked)
                end.dataReceived(data[:cut])
                end.close(1001, "stopping")
                end.dataReceived(data[cut:] + frame(CLOSE, b"\x03\xe8", masked=masked))
                self.assertEqual(end.messages, [])
                self.assertTrue(end.wasClean)
                wire.lose()
                self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_a_message_that_makes_us_close_is_the_last_one(self) -> None:
        wire = Wire()
        taken: list[bytes] = []

        def take(message: bytes) -> None:
            taken.append(message)
            wire.server.close(1002, "no")

        wire.server.tunnel_message = take
        two = frame(BINARY, b"one", masked=True) + frame(BINARY, b"two", masked=True)
        wire.server.dataReceived(two + frame(BINARY, b"fragment", masked=True, fin=False))
        wire.server.dataReceived(frame(CONTINUATION, b"ed", masked=True))
        self.assertEqual(taken, [b"one"])
        wire.lose()

    def test_closing_stops_the_sessions_producer_whoever_closes(self) -> None:
        for how in ("we", "the peer", "abort", "lost", "violation"):
            wire = Wire()
            producer = Producer()
            wire.server.register(producer)
            if how == "we":
                wire.server.close(1001, "")
            elif how == "the peer":
                wire.server.dataReceived(frame(CLOSE, b"\x03\xe9", masked=True))
            elif how == "abort":
                wire.server.abort()
            elif how == "violation":
                wire.server.dataReceived(frame(TEXT, b"x", masked=True))
            else:
                wire.server_side._lose(ConnectionError())
                wire.clock.advance(0)
            self.assertEqual(producer.told, ["stop"], how)
            late = Producer()
            if how != "abort":
                wire.server.register(late)
                self.assertEqual(late.told, ["stop"], how)
            wire.lose()

    def test_a_peer_that_does_not_answer_a_close_is_dropped_and_no_timer_stays(self) -> None:
        wire = Wire()
        wire.server.close(1001, "")
        wire.clock.advance(2.1)
        self.assertTrue(wire.server_side.aborted)
        wire.lose()
        wire = Wire()
        wire.server.close(1001, "")
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])


class LivenessTests(SynchronousTestCase):
    def test_a_silent_peer_is_dropped_ten_seconds_after_a_ping(self) -> None:
        wire = Wire()
        for _ in range(181):
            wire.clock.advance(0.1)
        pinged: Any = wire.server._pinged_at
        self.assertTrue(12 <= pinged <= 18.1)
        wire.clock.advance(pinged + 9.9 - wire.clock.seconds())
        self.assertFalse(wire.server_side.lost)
        wire.clock.advance(0.2)
        self.assertTrue(wire.server_side.aborted)
        wire.clock.advance(0)
        assert wire.server.closed is not None
        self.assertIn("nothing came for 10 s", str(wire.server.closed[2]))
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_bytes_of_a_long_frame_are_a_sign_of_life_and_our_own_are_not(self) -> None:
        wire = Wire()
        data = frame(BINARY, bytes(2000), masked=True)
        for index in range(1500):
            wire.clock.advance(0.1)
            wire.server.send_message(b"we speak")
            if index % 80 == 0:
                wire.server.dataReceived(data[index : index + 80])
        self.assertFalse(wire.server_side.lost)
        for _ in range(300):
            wire.clock.advance(0.1)
            wire.server.send_message(b"we speak")
        self.assertTrue(wire.server_side.lost)
        wire.lose()

    def test_fragments_are_a_sign_of_life_too(self) -> None:
        wire = Wire()
        wire.server.dataReceived(frame(BINARY, b"x", masked=True, fin=False))
        data = frame(CONTINUATION, bytes(10_000), masked=True, fin=False)
        for index in range(100):
            wire.clock.advance(1)
            wire.server.dataReceived(data[index * 10 : index * 10 + 10])
        self.assertFalse(wire.server_side.lost)
        wire.lose()

    def test_two_living_ends_go_on_and_do_not_ping_in_step(self) -> None:
        wires = [Wire() for _ in range(20)]
        for wire in wires:
            for _ in range(200):
                wire.clock.advance(1)
                wire.flush()
            self.assertFalse(wire.server_side.lost or wire.client_side.lost)
            self.assertIsNotNone(wire.server.round_trip)
            self.assertIsNotNone(wire.client.round_trip)
        self.assertGreater(len({wire.server._pinged_at for wire in wires}), 5)
        for wire in wires:
            wire.lose()
            self.assertEqual(wire.clock.getDelayedCalls(), [])


class CongestionTests(SynchronousTestCase):
    def test_the_sessions_producer_is_paused_and_resumed_with_the_transport(self) -> None:
        wire = Wire()
        producer = Producer()
        wire.server.register(producer)
        wire.server.send_message(bytes(140_000))
        self.assertEqual(producer.told, ["pause"])
        second = Producer()
        wire.server.register(second)
        self.assertEqual(second.told, ["pause"])
        wire.server_side.take()
        self.assertEqual(second.told, ["pause", "resume"])
        self.assertEqual(producer.told, ["pause"])
        wire.lose()

    def test_answers_to_pings_do_not_pile_up_before_a_peer_that_does_not_read(self) -> None:
        wire = Wire()
        ping = frame(PING, b"p" * 125, masked=True) * 100
        for _ in range(200):
            wire.server.dataReceived(ping)
        self.assertLess(len(wire.server_side.written), 128 * 1024 + 500)
        wire.server.dataReceived(frame(PING, b"the latest", masked=True))
        wire.server_side.take()
        self.assertIn(b"the latest", wire.server_side.take())
        wire.lose()
