"""Callers that break the rules of a bundle, take nothing, or send their bytes in odd pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode
from websockets.protocol import CLIENT, Protocol, State

from tests.agent.test_tcp_bundle import CALLER, BundleCase, Connection
from workato_agent.services.tcp.bundle import SETTINGS
from workato_agent.services.tcp.service import BUNDLED
from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.frames import Catalogue, FrameType, Hello, Limits, Open, encode, encode_map
from workato_tunnel.handshake import encode_hello
from workato_tunnel.settings import MAX_MESSAGE
from workato_tunnel.testing import FrameFactory

FRAMES = FrameFactory()


class ViolationTests(BundleCase):
    def test_what_is_no_hello_closes_the_websocket(self) -> None:
        for message in (
            b"",
            b"x",
            b"\xff" * 100,
            bytes(5000),
            FRAMES.open(1),
            encode(FrameType.HELLO, 0, b"\xc1"),
            encode(FrameType.HELLO, 0, b"\x81\xa8software\xa1\xff"),
            encode_hello(Hello(versions=(9,))),
            encode_hello(Hello(limits=Limits(window=0))),
            encode_hello(Hello()) + FRAMES.open(1),
        ):
            self.setUp()
            self.begin(hello=False)
            self.send(message)
            self.assert_closed(CloseCode.PROTOCOL_ERROR)
            self.assertEqual(self.targets, [])

    def test_what_comes_behind_a_bad_hello_is_not_looked_at(self) -> None:
        self.begin(hello=False)
        self.library.send_binary(b"bad")
        self.library.send_binary(encode_hello(Hello()))
        self.library.send_binary(FRAMES.open(1))
        self.write(b"".join(self.library.data_to_send()))
        self.assert_closed(CloseCode.PROTOCOL_ERROR)
        self.assertEqual(len(self.observed.began), 1)

    def test_a_violation_inside_ends_all_and_says_so(self) -> None:
        for message in (
            FRAMES.data(7, b"x"),
            FRAMES.open(2),
            FRAMES.open(1),
            FRAMES.ack(10**9),
            FRAMES.data(1, b"x")[:-1],
            encode_hello(Hello()),
            encode_map(FrameType.CATALOGUE, 0, Catalogue()),
            encode(0x7F, 0, b""),
            b"",
        ):
            self.setUp()
            self.begin()
            self.connect()
            self.connect()
            self.send(message)
            self.assert_closed(CloseCode.PROTOCOL_ERROR)
            self.assertEqual(len(self.goaways), 1)
            self.assertEqual(len(self.observed.ends), 3)

    def test_a_violation_in_a_stream_ends_that_one_alone(self) -> None:
        self.begin()
        (one, first), (two, _) = self.connect(), self.connect()
        self.send(FRAMES.data(one, b""))
        self.exchange()
        assert first.reset is not None
        self.assertTrue(self.targets[0].transport.aborted)
        self.say(two, b"on")
        self.assertEqual(self.targets[1].takes(), b"on")

    def test_an_open_that_can_not_be_read_is_refused_and_the_others_go_on(self) -> None:
        self.begin()
        one, _ = self.connect()
        stream = self.connection.open_stream(Open(""))
        self.connections[stream] = Connection()
        self.connection.next_message()
        self.send(encode(FrameType.OPEN, stream, b"\xc1"))
        self.say(one, b"on")
        self.assertIsNotNone(self.connections[stream].reset)
        self.assertEqual(self.targets[0].takes(), b"on")
        self.assertEqual(len(self.observed.began), 2)

    def test_messages_that_websocket_forbids_here_end_all(self) -> None:
        for wire, code in (
            (b"\x81\x81\0\0\0\0x", CloseCode.UNSUPPORTED_DATA),
            (b"\x82\x01x", CloseCode.PROTOCOL_ERROR),
            (
                b"\x82\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big") + bytes(4),
                CloseCode.MESSAGE_TOO_BIG,
            ),
            (
                b"\x02\xff"
                + MAX_MESSAGE.to_bytes(8, "big")
                + bytes(4 + MAX_MESSAGE)
                + b"\x80\x81"
                + bytes(5),
                CloseCode.MESSAGE_TOO_BIG,
            ),
        ):
            self.setUp()
            self.begin()
            self.connect()
            self.write(wire + b"\x82\x81\0\0\0\0x")
            self.assert_closed(code)

    def test_a_message_of_the_largest_size_is_taken_in_pieces_too(self) -> None:
        self.begin()
        stream, _ = self.connect()
        message = FRAMES.data(stream, b"x" * 60_000) + FRAMES.data(stream, b"y" * 60_000)
        cut = 60_100
        first = b"\x02\xfe" + cut.to_bytes(2, "big") + bytes(4) + message[:cut]
        rest = message[cut:]
        self.write(first + b"\x80\xfe" + len(rest).to_bytes(2, "big") + bytes(4) + rest)
        self.assertEqual(self.targets[0].takes(), b"x" * 60_000 + b"y" * 60_000)

    def test_pings_are_answered_among_the_messages(self) -> None:
        self.begin()
        self.library.send_ping(b"there?")
        stream, _ = self.connect()
        self.say(stream, b"x")
        self.assertEqual(self.targets[0].takes(), b"x")
        self.assertEqual(self.pongs, [b"there?"])

    def test_a_caller_that_only_pings_and_reads_nothing_fills_no_memory(self) -> None:
        self.begin()
        self.stream.pauseProducing()
        ping = b"\x89\xfd" + bytes(4) + b"x" * 125
        for _ in range(100):
            self.write(ping * 500)
        waits = self.pair.agent.connection.streams[self.stream.stream_id].queued
        self.assertLess(waits, 1024 * 1024)
        self.stream.resumeProducing()
        self.exchange()
        self.assertEqual(self.pongs[-1], b"x" * 125)
        self.connect()
        self.assertEqual(len(self.targets), 1)


class PaceTests(BundleCase):
    def test_a_caller_that_takes_nothing_stops_what_is_read_from_targets(self) -> None:
        self.begin()
        connections = [self.connect()[1] for _ in range(3)]
        self.stream.pauseProducing()
        sent = [0, 0, 0]
        for at, target in enumerate(self.targets):
            while target.transport.reading:
                target.sends(b"y" * 50_000)
                self.pair.flush()
                sent[at] += 50_000
                self.assertLess(sent[at], 1_000_000)
        self.stream.resumeProducing()
        self.exchange()
        self.assertEqual([len(each.body) for each in connections], sent)
        self.assertTrue(all(target.transport.reading for target in self.targets))

    def test_a_caller_that_leaves_while_much_waits_leaves_nothing_behind(self) -> None:
        self.begin()
        self.connect()
        self.stream.pauseProducing()
        while self.targets[0].transport.reading:
            self.targets[0].sends(b"y" * 50_000)
            self.pair.flush()
        self.stream.reset("cancelled")
        self.assert_all_over()

    def test_a_target_that_takes_nothing_holds_its_own_connection_only(self) -> None:
        self.begin()
        (one, _), (two, _) = self.connect(), self.connect()
        for _ in range(50):
            self.say(one, b"x" * 60_000)
        slow = self.targets[0]
        self.assertLess(slow.transport.most_unread, 400_000)
        self.say(two, b"passes")
        self.assertEqual(self.targets[1].takes(), b"passes")
        total = 0
        while taken := len(slow.takes()):
            total += taken
            self.exchange()
        self.assertEqual(total, 50 * 60_000)

    def connect_fast(self) -> int:
        """A connection whose target takes all that comes."""
        one, _ = self.connect()
        for _ in range(40):
            self.say(one, b"x" * 200_000)
            while self.targets[0].takes():
                self.exchange()
        return one

    def test_memory_that_was_promised_for_a_fast_connection_comes_back(self) -> None:
        self.begin()
        one = self.connect_fast()
        self.assertLess(self.service._bundled.left, BUNDLED)
        self.targets[0].ends()
        self.say(one, b"", end=True)
        self.assertEqual(self.service._bundled.left, BUNDLED)

    def test_memory_that_was_promised_comes_back_from_a_caller_that_is_lost(self) -> None:
        self.begin()
        one = self.connect_fast()
        self.say(one, b"x" * 500_000)
        self.assertLess(self.service._bundled.left, BUNDLED)
        self.stream.reset("cancelled")
        self.assert_all_over()


def _callers_bytes() -> bytes:
    """A caller's side of three connections, in messages of several kinds."""
    library = Protocol(CLIENT, state=State.OPEN)
    caller = TunnelConnection(Role.GATEWAY, CALLER, SETTINGS.limits())
    library.send_binary(encode_hello(Hello(limits=CALLER.limits(), hold=0)))
    streams = [caller.open_stream(Open("", method="CONNECT")) for _ in range(3)]
    for turn, stream in enumerate(streams):
        caller.send_data(stream, b"first %d" % stream)
        message = caller.next_message()
        assert message is not None
        if turn == 1:
            library.send_ping(b"ping")
            library.send_binary(message[:10], fin=False)
            library.send_continuation(message[10:], fin=True)
        else:
            library.send_binary(message)
    caller.send_data(streams[0], b"z" * 3000)
    caller.send_end(streams[0])
    caller.reset_stream(streams[1], "cancelled")
    message = caller.next_message()
    assert message is not None
    library.send_binary(message)
    return b"".join(library.data_to_send())


BYTES = _callers_bytes()


class PieceTests(BundleCase):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, len(BYTES)), max_size=40))
    def test_however_the_callers_bytes_are_cut_the_result_is_the_same(
        self, cuts: list[int]
    ) -> None:
        self.setUp()
        self.begin(hello=False)
        for _ in range(3):
            stream = self.connection.open_stream(Open(""))
            self.connections[stream] = Connection()
        self.connection.next_message()  # it is in BYTES
        edges = sorted({0, *cuts, len(BYTES)})
        for start, stop in pairwise(edges):
            self.write(BYTES[start:stop])
        self.exchange()
        sent = [bytes(target.takes()) for target in self.targets]
        self.assertEqual(sent, [b"first 1" + b"z" * 3000, b"first 3", b"first 5"])
        gone = [target.transport.gone for target in self.targets]
        self.assertEqual(gone, [False, True, False])
        self.assertTrue(self.targets[0].transport.half_closed)
        self.assertEqual(self.end_of("r-1.2").code, "cancelled")
        self.assertEqual(self.pongs, [b"ping"])
        self.assertEqual([self.connections[each].status for each in (1, 5)], [200, 200])
        self.stream.reset("cancelled")
        self.assert_all_over()

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, len(BYTES) - 1), st.binary(min_size=1, max_size=20))
    def test_bytes_that_are_damaged_on_the_way_never_break_more_than_the_bundle(
        self, at: int, damage: bytes
    ) -> None:
        self.setUp()
        self.begin(hello=False)
        self.write(BYTES[:at] + damage + BYTES[at + len(damage) :])
        self.stream.reset("cancelled")
        self.assert_all_over()
