"""The short way of binary messages, beside the library's own."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, SEND_EOF, SERVER, Protocol, Side, State

from tests.support.websockets import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from workato_tunnel.binary import LARGEST, BinaryMessages

SIZES = st.sampled_from((0, 1, 2, 3, 5, 60, 124, 125, 126, 127, 300, 65535, 65536, 70_000))


def protocol(side: Side) -> Protocol:
    return Protocol(side, state=State.OPEN, max_size=LARGEST)


def read(side: Side, sent: bytes) -> list[tuple[int, bytes]]:
    """What a side has sent, without its masks."""
    library = protocol(CLIENT if side is SERVER else SERVER)
    library.receive_data(sent)
    events = library.events_received()
    return [(event.opcode, bytes(event.data)) for event in events if isinstance(event, Frame)]


Outcome = tuple[list[bytes], list[tuple[int, bytes]], bool]
"""Bytes between ends, what was sent, whether the WebSocket is open."""


def by_the_library(side: Side, wires: list[bytes]) -> Outcome:
    """What the library alone makes of it, told of each piece at once."""
    library = protocol(side)
    runs = [b""]
    refused = False
    for wire in wires:
        library.receive_data(wire)
        for event in library.events_received():
            if not isinstance(event, Frame) or refused:
                continue
            if event.opcode is Opcode.TEXT:
                refused = True
                library.fail(CloseCode.UNSUPPORTED_DATA, "bytes go in binary messages")
            elif event.opcode is Opcode.BINARY or event.opcode is Opcode.CONT:
                if event.data:
                    runs[-1] += bytes(event.data)
                elif event.fin and event.opcode is Opcode.BINARY:
                    runs.append(b"")
    sent = b"".join(piece for piece in library.data_to_send() if piece is not SEND_EOF)
    return runs, read(side, sent), library.state is State.OPEN


def by_the_short_way(side: Side, pieces: list[bytes]) -> Outcome:
    messages = BinaryMessages(protocol(side))
    runs, sent = [b""], b""
    for piece in pieces:
        for received in messages.receive(piece):
            if received:
                runs[-1] += received
            else:
                runs.append(b"")
        if messages.answer_due:
            sent += messages.answers()
    return runs, read(side, sent), messages.open


@st.composite
def frames(draw: st.DrawFn, masked: bool) -> bytes:
    """A frame: mostly one as it should be."""
    kind = draw(st.sampled_from(("binary",) * 6 + ("fragments", "ping", "hostile", "close")))
    payload = draw(st.binary(min_size=1, max_size=8)) * (draw(SIZES) // 4)
    if kind == "binary":
        return frame(BINARY, payload, masked=masked)
    if kind == "fragments":
        middle = frame(PING, b"in between", masked=masked) if draw(st.booleans()) else b""
        return (
            frame(BINARY, payload[:7], masked=masked, fin=False)
            + middle
            + frame(CONTINUATION, b"", masked=masked, fin=False)
            + frame(CONTINUATION, payload[7:], masked=masked)
        )
    if kind == "ping":
        return frame(draw(st.sampled_from((PING, PONG))), payload[:125], masked=masked)
    if kind == "close":
        return frame(CLOSE, draw(st.sampled_from((b"", b"\x03\xe8", b"\x03"))), masked=masked)
    return draw(
        st.sampled_from(
            (
                frame(BINARY, payload, masked=not masked),
                frame(BINARY, payload, masked=masked, rsv=draw(st.integers(1, 7))),
                frame(draw(st.sampled_from((3, 7, 0xB, 0xF))), payload, masked=masked),
                frame(CONTINUATION, payload, masked=masked),
                frame(BINARY, payload[:3], masked=masked, fin=False)
                + frame(BINARY, payload, masked=masked),
                frame(TEXT, b"text", masked=masked),
                frame(TEXT, b"te", masked=masked, fin=False),
                frame(PING, b"x" * 126, masked=masked),
                frame(PING, b"x", masked=masked, fin=False),
                frame(BINARY, b"", masked=masked, form=64, length=LARGEST + 1),
                frame(BINARY, b"", masked=masked, form=64, length=1 << 63),
                frame(BINARY, payload[:100], masked=masked, form=64),
                frame(CLOSE, b"\x03\xe8\xff\xfe", masked=masked),
                frame(CLOSE, b"\x03\xed", masked=masked),
            )
        )
    )


class EquivalenceTests(SynchronousTestCase):
    def check(self, side: Side, wires: list[bytes], cuts: list[int]) -> None:
        wire = b"".join(wires)
        places = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
        pieces = [wire[a:b] for a, b in pairwise(places)]
        self.assertEqual(by_the_short_way(side, pieces), by_the_library(side, wires))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(frames(masked=True), max_size=6), st.lists(st.integers(0, 1 << 20), max_size=9))
    @example([frame(BINARY, b"abcdefg", masked=True)] * 3, list(range(40)))
    @example([frame(BINARY, b"", masked=True), frame(CLOSE, b"", masked=True)], [1, 3])
    def test_a_server_gets_the_same_bytes_however_they_are_cut(
        self, wires: list[bytes], cuts: list[int]
    ) -> None:
        self.check(SERVER, wires, cuts)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(frames(masked=False), max_size=6), st.lists(st.integers(0, 1 << 20), max_size=9)
    )
    @example([frame(BINARY, b"x" * 70_000, masked=False)] * 2, [1, 9, 11, 70_011, 70_012])
    def test_a_client_gets_the_same_bytes_however_they_are_cut(
        self, wires: list[bytes], cuts: list[int]
    ) -> None:
        self.check(CLIENT, wires, cuts)

    def test_byte_by_byte_each_kind_of_frame_is_the_same(self) -> None:
        wires = (
            frame(BINARY, b"a" * 130, masked=True),
            frame(PING, b"p", masked=True),
            frame(BINARY, b"b" * 5, masked=True, fin=False),
            frame(PONG, b"", masked=True),
            frame(CONTINUATION, b"c", masked=True),
            frame(BINARY, b"", masked=True),
            frame(CLOSE, b"\x03\xe8bye", masked=True),
            frame(BINARY, b"late", masked=True),
        )
        wire = b"".join(wires)
        self.check(SERVER, [wire], list(range(len(wire))))


class MessageTests(SynchronousTestCase):
    def test_what_one_side_makes_the_library_of_the_other_reads(self) -> None:
        for side, other in ((SERVER, CLIENT), (CLIENT, SERVER)):
            messages = BinaryMessages(protocol(side))
            for size in (0, 1, 125, 126, 65535, 65536, 100_000):
                data = bytes(range(256)) * (size // 256 + 1)
                runs, _, is_open = by_the_library(other, [messages.message(data[:size])])
                self.assertEqual(runs, [data[:size]] if size else [b"", b""])
                self.assertTrue(is_open)

    def test_each_message_of_a_client_has_a_mask_of_its_own(self) -> None:
        messages = BinaryMessages(protocol(CLIENT))
        masks = {messages.message(b"x")[2:6] for _ in range(3000)}
        self.assertGreater(len(masks), 2990)
        self.assertNotEqual(BinaryMessages(protocol(CLIENT)).message(b"x")[2:6], min(masks))

    def test_small_messages_are_read_in_one_piece_up_to_the_end(self) -> None:
        one, end = frame(BINARY, b"x", masked=True), frame(BINARY, b"", masked=True)
        for wire, read in (
            (one, (b"x", False)),
            (one * 9000, (b"x" * 9000, False)),
            (one * 2 + end + one, (b"xx", True)),
            (end, (b"", True)),
            (one[:6], (b"", False)),
        ):
            self.assertEqual(BinaryMessages(protocol(SERVER)).read(wire), read)

    def test_a_long_message_is_handed_on_as_it_comes(self) -> None:
        messages = BinaryMessages(protocol(SERVER))
        wire = frame(BINARY, bytes(4 * 1024 * 1024), masked=True)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        total = 0
        for start in range(0, len(wire), 65536):
            total += sum(map(len, messages.receive(wire[start : start + 65536])))
        self.assertEqual(total, 4 * 1024 * 1024)
        self.assertLess(tracemalloc.get_traced_memory()[1] - before, 1024 * 1024)

    def test_the_head_of_a_message_that_is_too_long_is_enough_to_refuse_it(self) -> None:
        messages = BinaryMessages(protocol(SERVER))
        head = frame(BINARY, b"", masked=True, form=64, length=LARGEST + 1)[:10]
        self.assertEqual(messages.receive(head), [])
        self.assertFalse(messages.open)
        self.assertEqual(messages.answers()[2:4], (1009).to_bytes(2, "big"))
        self.assertEqual(messages.receive(bytes(100)), [])

    def test_a_close_of_our_own_ends_what_is_handed_on(self) -> None:
        messages = BinaryMessages(protocol(SERVER))
        messages.close(CloseCode.GOING_AWAY, "late")
        self.assertEqual(messages.answers(), b"\x88\x06\x03\xe9late")
        messages.close(CloseCode.NORMAL_CLOSURE)
        self.assertEqual(messages.answers(), b"")
        self.assertEqual(messages.receive(frame(BINARY, b"x", masked=True)), [])
