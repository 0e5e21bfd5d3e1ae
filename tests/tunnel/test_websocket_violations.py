"""What RFC 6455 forbids, and what is only endless: the socket goes, and no memory with it."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.websockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Wire,
    frame,
)
from workato_tunnel.settings import MAX_MESSAGE


def close_code(data: bytes) -> int:
    """The code of the close frame at the end of what a server wrote."""
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")


class ViolationTests(SynchronousTestCase):
    def closed_with(self, data: bytes, code: int, *, server: bool = True, cut: int = 0) -> Wire:
        """The end closes with ``code``, takes no message, and is gone soon, whatever follows."""
        wire = Wire()
        end, masked = wire.ends()[0 if server else 1]
        for piece in (data[:cut], data[cut:]):
            end.dataReceived(piece)
        self.assertEqual(end.messages, [])
        written = bytes(end.transport.written)
        if not masked:
            self.assertEqual(end.localCloseCode, code)
        else:
            self.assertEqual(close_code(written), code)
        for _ in range(3):
            end.dataReceived(frame(BINARY, b"and more", masked=masked))
            end.dataReceived(data)
        self.assertEqual(end.messages, [])
        wire.clock.advance(2.1)
        wire.clock.advance(0)
        self.assertTrue(end.transport.lost)
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])
        return wire

    def test_an_unmasked_frame_of_an_agent_and_a_masked_one_of_a_gateway(self) -> None:
        self.closed_with(frame(BINARY, b"naked", masked=False), 1002)
        self.closed_with(frame(BINARY, b"", masked=False), 1002)
        self.closed_with(frame(PING, b"naked", masked=False), 1002)
        self.closed_with(frame(BINARY, b"dressed", masked=True), 1002, server=False)

    def test_reserved_bits_and_opcodes(self) -> None:
        for rsv in (1, 2, 4, 7):
            self.closed_with(frame(BINARY, b"x" * 300, masked=True, rsv=rsv), 1002)
            self.closed_with(frame(PING, b"x", masked=True, rsv=rsv), 1002)
        for opcode in (3, 7, 0xB, 0xF):
            for cut in range(9):
                self.closed_with(frame(opcode, b"x" * 100, masked=True), 1002, cut=cut)

    def test_control_frames_that_are_long_or_fragmented(self) -> None:
        self.closed_with(frame(PING, b"x" * 126, masked=True), 1002)
        self.closed_with(frame(PING, b"x" * 5, masked=True, form=16), 1002)
        self.closed_with(frame(PING, b"x" * 5, masked=True, form=64), 1002)
        self.closed_with(frame(PING, b"x", masked=True, fin=False), 1002)
        self.closed_with(frame(CLOSE, b"x", masked=True), 1002)

    def test_lengths_that_are_not_minimal(self) -> None:
        for size in (0, 125):
            self.closed_with(frame(BINARY, b"x" * size, masked=True, form=16), 1002)
        for size in (0, 126, 65535):
            self.closed_with(frame(BINARY, b"x" * size, masked=True, form=64), 1002)

    def test_lengths_beyond_the_limit_are_refused_before_a_byte_is_kept(self) -> None:
        for length in (MAX_MESSAGE + 1, 1 << 31, 1 << 32, 1 << 62):
            wire = self.closed_with(frame(BINARY, b"some", masked=True, length=length), 1009)
            self.assertEqual((wire.server._held, wire.server.data), ([], b""))
            self.closed_with(frame(BINARY, b"", masked=False, length=length), 1009, server=False)
        for length in (1 << 63, (1 << 64) - 1):
            self.closed_with(frame(BINARY, b"some", masked=True, length=length), 1002)

    def test_fragments_that_add_up_beyond_the_limit(self) -> None:
        wire = Wire()
        piece = frame(CONTINUATION, bytes(30_000), masked=True, fin=False)
        wire.server.dataReceived(frame(BINARY, bytes(30_000), masked=True, fin=False))
        for _ in range(4):
            wire.server.dataReceived(piece)
        self.assertEqual(close_code(bytes(wire.server_side.written)), 1009)
        self.assertEqual(wire.server.messages, [])
        wire.lose()

    def test_fragments_out_of_order(self) -> None:
        self.closed_with(frame(CONTINUATION, b"x", masked=True), 1002)
        wire = Wire()
        wire.server.dataReceived(frame(BINARY, b"one", masked=True, fin=False))
        wire.server.dataReceived(frame(BINARY, b"two", masked=True))
        self.assertEqual(close_code(bytes(wire.server_side.written)), 1002)
        self.assertEqual(wire.server.messages, [])
        wire.lose()

    def test_text_is_refused(self) -> None:
        for text in (b"hello", b"\xff\xfe", b""):
            self.closed_with(frame(TEXT, text, masked=True), 1003)
            self.closed_with(frame(TEXT, text, masked=False), 1003, server=False)
        long = frame(TEXT, b"x" * 300, masked=True)
        for cut in range(10):
            self.closed_with(long, 1003, cut=cut)

    def test_what_follows_a_violation_takes_no_memory(self) -> None:
        wire = Wire()
        wire.server.dataReceived(frame(PING, b"", masked=True, length=1 << 40))
        more = bytes(1 << 16)
        tracemalloc.start()
        for _ in range(500):
            wire.server.dataReceived(more)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 1 << 20)
        wire.lose()

    def test_empty_fragments_without_end_take_no_memory(self) -> None:
        wire = Wire()
        wire.server.dataReceived(frame(BINARY, b"x", masked=True, fin=False))
        empty = frame(CONTINUATION, b"", masked=True, fin=False) * 500
        tracemalloc.start()
        for _ in range(100):
            wire.server.dataReceived(empty)
        now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(now, 64 * 1024)
        wire.server.dataReceived(frame(CONTINUATION, b"y", masked=True))
        self.assertEqual(wire.server.messages, [b"xy"])
        wire.lose()

    def test_a_handshake_without_end_is_given_up(self) -> None:
        for turn in (0, 1):
            wire = Wire(handshake=False)
            end, _ = wire.ends()[turn]
            for _ in range(40):
                end.dataReceived(b"X-Header: " + b"x" * 4000 + b"\r\n")
            self.assertTrue(end.transport.lost)
            self.assertLess(len(end.data), 70_000)
            wire.lose()

    def test_one_who_goes_on_after_the_end_takes_no_memory_and_is_dropped(self) -> None:
        for what in (frame(CLOSE, b"\x03\xe9", masked=True), b"GET / HTTP/1.1\r\n\r\n"):
            wire = Wire(handshake=what[0] != b"G"[0])
            wire.server_side.stubborn = True
            wire.server.dataReceived(what)
            self.assertEqual(wire.server.state, wire.server.STATE_CLOSED)
            for _ in range(100):
                wire.server.dataReceived(bytes(1000))
            self.assertLess(len(wire.server.data), 1000)
            wire.clock.advance(2.1)
            self.assertTrue(wire.server_side.aborted)
            wire.lose()
            self.assertEqual(wire.clock.getDelayedCalls(), [])

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
    def test_no_bytes_raise(self, pieces: list[bytes], to_server: bool) -> None:
        wire = Wire()
        end = wire.server if to_server else wire.client
        for piece in pieces:
            end.dataReceived(piece)
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])
