"""Messages that are handed on whole, with the library as the other side."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from attrs import frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, SEND_EOF, SERVER, Protocol, Side, State

from tests.support.websockets import BINARY, CONTINUATION, frame
from workato_tunnel.binary import BinaryMessages

LIMIT = 70_000
SIZES = st.sampled_from((0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 1023, 1024, 65535, 65536, LIMIT))
SIDES = st.sampled_from((SERVER, CLIENT))


def library(side: Side, size: int = LIMIT) -> Protocol:
    return Protocol(side, state=State.OPEN, max_size=size)


def whole(side: Side, largest: int = LIMIT) -> BinaryMessages:
    return BinaryMessages(library(side, largest), whole=True, largest=largest)


def other(side: Side) -> Side:
    return CLIENT if side is SERVER else SERVER


def wire(protocol: Protocol) -> bytes:
    return b"".join(piece for piece in protocol.data_to_send() if piece is not SEND_EOF)


def close_code(side: Side, answers: bytes) -> int | None:
    """The code of the close that a side has answered with, as its peer reads it."""
    peer = library(other(side))
    peer.receive_data(answers)
    return None if peer.close_rcvd is None else int(peer.close_rcvd.code)


@frozen
class Message:
    """``cuts``: where its fragments begin, as parts of 100; ``pings``: after which of them."""

    data: bytes
    cuts: tuple[int, ...] = ()
    pings: frozenset[int] = frozenset()

    def send(self, peer: Protocol) -> list[bytes]:
        """Let the peer send it; the pings on the way."""
        places = [0, *sorted(cut * len(self.data) // 100 for cut in self.cuts), len(self.data)]
        pings = []
        for index, (start, stop) in enumerate(pairwise(places)):
            last = index == len(places) - 2
            if index:
                peer.send_continuation(self.data[start:stop], fin=last)
            else:
                peer.send_binary(self.data[start:stop], fin=last)
            if index in self.pings:
                pings.append(b"ping %d" % index)
                peer.send_ping(pings[-1])
        return pings


@st.composite
def sent(draw: st.DrawFn) -> Message:
    size = draw(SIZES)
    pattern = draw(st.binary(min_size=3, max_size=11))
    # Between fragments the library counts a ping as bytes of their message.
    pings = draw(st.frozensets(st.integers(0, 4), max_size=2)) if size < LIMIT else frozenset()
    return Message(
        (pattern * (size // len(pattern) + 1))[:size],
        tuple(draw(st.lists(st.integers(0, 100), max_size=4))),
        pings,
    )


CUTS = st.lists(st.integers(0, 1 << 20), max_size=9)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


class WholeMessageTests(SynchronousTestCase):
    @settings(max_examples=80, deadline=None)
    @given(SIDES, st.lists(sent(), max_size=5), CUTS)
    @example(SERVER, [Message(b"abcdefghi", (20, 20, 70), frozenset((0, 2)))], list(range(60)))
    @example(CLIENT, [Message(b""), Message(b"", (0, 0)), Message(b"x")], list(range(20)))
    @example(CLIENT, [Message(b"x" * LIMIT), Message(b"y" * LIMIT, (50,))], [5, 70_000])
    def test_each_message_of_the_library_comes_in_one_piece_and_each_ping_is_answered(
        self, side: Side, messages: list[Message], cuts: list[int]
    ) -> None:
        peer = library(other(side))
        pings = [ping for message in messages for ping in message.send(peer)]
        ours = whole(side)
        received, answers = [], b""
        for piece in in_pieces(wire(peer), cuts):
            received += ours.receive(piece)
            if ours.answer_due:
                answers += ours.answers()
        self.assertTrue(ours.open)
        self.assertEqual(list(map(len, received)), [len(message.data) for message in messages])
        self.assertEqual(b"".join(received) == b"".join(m.data for m in messages), True)
        peer.receive_data(answers)
        pongs = [event for event in peer.events_received() if isinstance(event, Frame)]
        self.assertEqual({event.opcode for event in pongs} - {Opcode.PONG}, set())
        self.assertEqual([bytes(event.data) for event in pongs], pings)

    @settings(max_examples=40, deadline=None)
    @given(SIDES, st.lists(SIZES, max_size=6), CUTS)
    def test_each_message_of_ours_is_one_frame_to_the_library(
        self, side: Side, sizes: list[int], cuts: list[int]
    ) -> None:
        ours, peer = whole(side), library(other(side))
        data = [(b"%d " % size * size)[:size] for size in sizes]
        for piece in in_pieces(b"".join(map(ours.message, data)), cuts):
            peer.receive_data(piece)
        frames = [event for event in peer.events_received() if isinstance(event, Frame)]
        self.assertEqual([bytes(event.data) for event in frames], data)
        self.assertTrue(all(event.fin and event.opcode is Opcode.BINARY for event in frames))
        self.assertIs(peer.state, State.OPEN)

    @settings(max_examples=60, deadline=None)
    @given(SIDES, st.integers(1, 300), st.lists(st.integers(0, 100), max_size=4), CUTS)
    @example(SERVER, 1, [], [])
    @example(CLIENT, 1, [100], [])
    def test_a_message_beyond_the_limit_is_refused_with_1009_and_what_came_before_is_kept(
        self, side: Side, beyond: int, fragments: list[int], cuts: list[int]
    ) -> None:
        peer = library(other(side))
        for message in (
            Message(b"x" * 300, (50,)),
            Message(bytes(300 + beyond), tuple(fragments)),
            Message(b"late"),
        ):
            message.send(peer)
        ours = whole(side, 300)
        received, answers = [], b""
        for piece in in_pieces(wire(peer), cuts):
            received += ours.receive(piece)
            answers += ours.answers()
        self.assertEqual(received, [b"x" * 300])
        self.assertFalse(ours.open)
        self.assertEqual(close_code(side, answers), CloseCode.MESSAGE_TOO_BIG)

    def test_a_short_message_is_refused_where_the_limit_is_shorter_still(self) -> None:
        for masked, side in ((True, SERVER), (False, CLIENT)):
            ours = whole(side, 100)
            self.assertEqual(ours.receive(frame(BINARY, bytes(100), masked=masked)), [bytes(100)])
            self.assertEqual(ours.receive(frame(BINARY, bytes(101), masked=masked)), [])
            self.assertFalse(ours.open)
            self.assertEqual(close_code(side, ours.answers()), CloseCode.MESSAGE_TOO_BIG)

    def test_a_broken_off_message_is_not_handed_on(self) -> None:
        ours = whole(SERVER)
        first = frame(BINARY, b"begun", masked=True, fin=False)
        self.assertEqual(ours.receive(first), [])
        self.assertEqual(ours.receive(frame(BINARY, b"another", masked=True)), [])
        self.assertFalse(ours.open)
        self.assertEqual(close_code(SERVER, ours.answers()), CloseCode.PROTOCOL_ERROR)
        self.assertEqual(ours.receive(frame(CONTINUATION, b"end", masked=True)), [])


class MemoryTests(SynchronousTestCase):
    def kept(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self.before

    def setUp(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.before = tracemalloc.get_traced_memory()[0]

    def test_a_message_in_the_smallest_fragments_takes_little_more_than_its_bytes(self) -> None:
        largest = 64 * 1024
        ours = whole(SERVER, largest)
        ours.receive(frame(BINARY, b"ab", masked=True, fin=False))
        fragment = frame(CONTINUATION, b"ab", masked=True, fin=False)
        for _ in range(largest // 2 - 1):
            self.assertEqual(ours.receive(fragment), [])
        self.assertTrue(ours.open)
        self.assertLess(self.kept(), 2 * largest)
        self.assertEqual(ours.receive(fragment), [])
        self.assertFalse(ours.open)
        self.assertEqual(close_code(SERVER, ours.answers()), CloseCode.MESSAGE_TOO_BIG)

    def test_a_frame_that_comes_in_the_smallest_pieces_takes_little_more_than_its_bytes(
        self,
    ) -> None:
        largest = 64 * 1024
        ours = whole(CLIENT, largest)
        data = bytes(range(256)) * 256
        wire = frame(BINARY, data, masked=False)
        for start in range(0, len(wire) - 2, 2):
            self.assertEqual(ours.receive(wire[start : start + 2]), [])
        self.assertLess(self.kept(), 2 * largest + len(wire) + len(data))
        self.assertEqual(ours.receive(wire[-2:]), [data])

    def test_nothing_of_a_message_is_kept_once_it_is_complete_or_refused(self) -> None:
        size = 4 * 1024 * 1024
        ours = whole(SERVER, size)
        begin = frame(BINARY, b"x", masked=True, fin=False)
        part = frame(CONTINUATION, bytes(size // 8), masked=True, fin=False)
        # Whatever comes last, the library keeps.
        for end in (frame(CONTINUATION, b"y", masked=True), frame(BINARY, b"y", masked=True)):
            before = self.kept()
            self.assertEqual(ours.receive(begin), [])
            for _ in range(6):
                self.assertEqual(ours.receive(part), [])
            self.assertGreater(self.kept() - before, size // 2)
            ours.receive(end)
            ours.answers()
            self.assertLess(self.kept() - before, size // 2)
        self.assertFalse(ours.open)
