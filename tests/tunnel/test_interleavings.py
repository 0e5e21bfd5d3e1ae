"""Two connections under random interleavings, cuts and resumptions.

Whatever the order of events: on each stream the bytes arrive once, in order; no window is overrun;
when both sides have had their say, nothing waits for ever and nothing is left behind.
"""

from __future__ import annotations

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import StreamRefused
from workato_tunnel.events import (
    ConnectionFailed,
    DataEnded,
    DataReceived,
    Event,
    HeadReceived,
    StreamFinished,
    StreamOpened,
    StreamTerminated,
)
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.settings import Settings

SETTINGS = Settings(
    streams=5,
    window=16 * 1024,
    max_window=64 * 1024,
    budget=160 * 1024,
    retained=96 * 1024,
    ack_frames=5,
    ack_bytes=24 * 1024,
    high_water=32 * 1024,
    low_water=8 * 1024,
)


_PATTERN = bytes(index * 7 % 251 for index in range(251))


def pattern(stream: int, direction: str, start: int, size: int) -> bytes:
    """The bytes at an offset of a stream's direction: any shift or mix-up changes them."""
    shift = (stream * 2 + (direction == "answer")) * 31 + start
    first = shift % len(_PATTERN)
    return (_PATTERN * (size // len(_PATTERN) + 2))[first : first + size]


class Flow:
    """One direction of a stream: what was sent and what came."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = False
        self.received = 0
        self.unconsumed = 0
        self.end_received = False


class Call:
    """A stream as the model knows it."""

    def __init__(self, stream: int, opener: int) -> None:
        self.stream = stream
        self.opener = opener
        self.flows = {opener: Flow(), 1 - opener: Flow()}
        self.accepted = False
        self.head_sent = False
        self.head_received = False
        self.answered = False
        self.finished = False
        self.reset = False
        self.released = False


STEPS = {
    "open_stream": 3,
    "write": 12,
    "end": 2,
    "answer": 4,
    "finish": 2,
    "reset": 1,
    "consume": 10,
    "release": 3,
    "send": 14,
    "deliver": 14,
    "acknowledge": 2,
    "cut": 1,
    "resume": 3,
}
"""What may happen, and how often in proportion."""


class Interleavings:
    """Two connections, the calls as a model knows them, and what the network carries."""

    def __init__(self, seed: int) -> None:
        limits = SETTINGS.limits()
        self.random = random.Random(seed)
        self.ends = [
            TunnelConnection(Role.AGENT, SETTINGS, limits),
            TunnelConnection(Role.GATEWAY, SETTINGS, limits),
        ]
        self.wires: list[deque[bytes]] = [deque(), deque()]
        self.calls: dict[int, Call] = {}
        self.now = 0.0
        self.up = True
        self.seen: set[str] = set()

    def run(self, steps: int) -> None:
        names, weights = list(STEPS), list(STEPS.values())
        for name in self.random.choices(names, weights, k=steps):
            getattr(self, name)()
            self.grants_never_exceed_the_budget()
        self.finish_everything()

    def _pick(self, ready: list[Call]) -> Call | None:
        return self.random.choice(ready) if ready else None

    # -- what the application does -------------------------------------------------------------

    def open_stream(self) -> None:
        side, end = self.random.randrange(2), self.random.random() < 0.4
        try:
            stream = self.ends[side].open_stream(Open("http", "app", path="x" * 50), end)
        except StreamRefused:
            return
        assert stream not in self.calls
        call = self.calls[stream] = Call(stream, side)
        call.flows[side].ended = end

    def _writable(self, side: int) -> list[Call]:
        ready = []
        for call in self.calls.values():
            if call.reset or call.finished or call.flows[side].ended:
                continue
            if side == call.opener or (call.head_sent and not call.answered):
                ready.append(call)
        return [call for call in ready if call.stream in self.ends[side].streams]

    def write(self) -> None:
        side = self.random.randrange(2)
        call = self._pick(self._writable(side))
        if call is not None:
            flow = call.flows[side]
            size = self.random.choice((1, 300, 8 * 1024, 16 * 1024, 50_000))
            direction = "request" if side == call.opener else "answer"
            self.ends[side].send_data(call.stream, pattern(call.stream, direction, flow.sent, size))
            flow.sent += size

    def end(self) -> None:
        side = self.random.randrange(2)
        call = self._pick(self._writable(side))
        if call is not None:
            self.ends[side].send_end(call.stream)
            call.flows[side].ended = True

    def _accepted(self) -> list[Call]:
        return [
            call
            for call in self.calls.values()
            if call.accepted
            and not call.reset
            and not call.answered
            and call.stream in self.ends[1 - call.opener].streams
        ]

    def answer(self) -> None:
        call = self._pick([call for call in self._accepted() if not call.head_sent])
        if call is not None:
            self.ends[1 - call.opener].send_head(call.stream, Head(200))
            call.head_sent = True

    def finish(self) -> None:
        call = self._pick([call for call in self._accepted() if call.head_sent])
        if call is not None:
            self.ends[1 - call.opener].send_trailers(call.stream, Trailers(rows=call.stream))
            call.answered = True
            call.flows[1 - call.opener].ended = True

    def reset(self) -> None:
        side = self.random.randrange(2)
        open_here = self.ends[side].streams
        call = self._pick([call for call in self.calls.values() if call.stream in open_here])
        if call is not None:
            self.ends[side].reset_stream(call.stream, "cancelled", "enough")
            call.reset = True

    def consume(self) -> None:
        side = self.random.randrange(2)
        call = self._pick([c for c in self.calls.values() if c.flows[1 - side].unconsumed])
        if call is not None:
            flow = call.flows[1 - side]
            size = max(1, int(flow.unconsumed * self.random.choice((0.1, 0.5, 1.0, 1.0))))
            self.ends[side].consumed(call.stream, size)
            flow.unconsumed -= size

    def release(self) -> None:
        call = self._pick(
            [
                call
                for call in self.calls.values()
                if call.accepted and not call.released and (call.answered or call.reset)
            ]
        )
        if call is not None:
            self.ends[1 - call.opener].release(call.stream)
            call.released = True

    # -- what the network does -----------------------------------------------------------------

    def send(self) -> None:
        side = self.random.randrange(2)
        for _ in range(self.random.randint(1, 6) if self.up else 0):
            message = self.ends[side].next_message()
            if message is None:
                break
            self.wires[side].append(message)
        self.ends[side].take_drained()

    def deliver(self) -> None:
        side = self.random.randrange(2)
        wire = self.wires[1 - side]
        for _ in range(min(self.random.randint(1, 6), len(wire))):
            self._take(side, wire.popleft())

    def acknowledge(self) -> None:
        self.ends[self.random.randrange(2)].acknowledge()

    def cut(self) -> None:
        if self.up:
            self.up = False
            for wire, end in zip(self.wires, self.ends, strict=True):
                wire.clear()
                end.suspend()

    def resume(self) -> None:
        if not self.up:
            received = [end.received_count for end in self.ends]
            self.ends[0].resume(received[1])
            self.ends[1].resume(received[0])
            self.up = True
            self.seen.add("resumed")

    # -- what must hold ------------------------------------------------------------------------

    def _take(self, side: int, message: bytes) -> None:
        self.now += 0.001
        for event in self.ends[side].receive_message(message, self.now):
            self._check(side, event)

    def _check(self, side: int, event: Event) -> None:
        assert not isinstance(event, ConnectionFailed), event
        self.seen.add(type(event).__name__)
        stream = event.stream  # type: ignore[attr-defined]
        call = self.calls[stream]
        flow = call.flows[1 - side]
        match event:
            case StreamOpened(end=end):
                assert not call.accepted
                call.accepted = True
                flow.end_received = end
            case DataReceived(data=data):
                direction = "answer" if side == call.opener else "request"
                assert not flow.end_received
                assert data == pattern(stream, direction, flow.received, len(data))
                flow.received += len(data)
                flow.unconsumed += len(data)
                assert flow.unconsumed <= SETTINGS.max_window
            case DataEnded():
                assert not flow.end_received
                assert flow.received == flow.sent
                flow.end_received = True
            case HeadReceived():
                assert not call.head_received
                call.head_received = True
            case StreamFinished(trailers=trailers):
                assert not call.finished
                assert trailers.rows == stream
                assert flow.received == flow.sent == trailers.bytes
                call.finished = True
            case StreamTerminated(reason=reason):
                # Cancelled by the other side's application, or refused for want of a slot.
                assert reason in {"cancelled", "refused"}, event
                assert call.reset or reason == "refused"
                call.reset = True

    def grants_never_exceed_the_budget(self) -> None:
        for end in self.ends:
            size = sum(stream.receive.size for stream in end.streams.values())
            # The peer's slots are reserved; our own streams' first windows come on top.
            ours = sum(1 for stream in end.streams.values() if stream.ours)
            assert size <= SETTINGS.budget + ours * SETTINGS.window
            assert end.busy_slots <= SETTINGS.streams

    def finish_everything(self) -> None:  # noqa: C901 - one story
        """Let everything run out: whoever can still speak finishes; nothing may be stuck."""
        self.resume()
        for side, wire in enumerate(self.wires):
            while wire:
                self._take(1 - side, wire.popleft())
        for _ in range(4000):
            progress = False
            for call in list(self.calls.values()):
                for side in (0, 1):
                    flow = call.flows[1 - side]
                    if flow.unconsumed:
                        self.ends[side].consumed(call.stream, flow.unconsumed)
                        flow.unconsumed = 0
                if call in self._accepted():
                    if not call.head_sent:
                        self.ends[1 - call.opener].send_head(call.stream, Head(200))
                        call.head_sent = True
                    self.ends[1 - call.opener].send_trailers(
                        call.stream, Trailers(rows=call.stream)
                    )
                    call.answered = True
            for side in (0, 1):
                self.ends[side].acknowledge()
                message = self.ends[side].next_message()
                if message is not None:
                    progress = True
                    self._take(1 - side, message)
            if not progress:
                break
        for call in self.calls.values():
            if call.accepted and not call.released:
                self.ends[1 - call.opener].release(call.stream)
        for end in self.ends:
            assert not end.streams, f"{end.role} waits for ever: {end.streams}"
            assert end.busy_slots == 0
            assert end.open_streams == 0
            assert end._extra.left == SETTINGS.budget - SETTINGS.streams * SETTINGS.window
            assert end._out.retained < 2048
        assert all(call.finished or call.reset for call in self.calls.values())


class InterleavingTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32))
    def test_no_byte_is_lost_doubled_or_reordered_and_nothing_is_stuck(self, seed: int) -> None:
        Interleavings(seed).run(400)

    def test_the_model_really_gets_around(self) -> None:
        seen: set[str] = set()
        for seed in range(5):
            model = Interleavings(seed)
            names, weights = list(STEPS), list(STEPS.values())
            for name in model.random.choices(names, weights, k=400):
                getattr(model, name)()
            seen |= model.seen
            seen |= {"widened" for end in model.ends if end._extra.left < 80 * 1024}
        events = {StreamOpened, HeadReceived, DataReceived, DataEnded, StreamFinished}
        wanted = {event.__name__ for event in events} | {"StreamTerminated", "resumed", "widened"}
        self.assertEqual(wanted - seen, set())
