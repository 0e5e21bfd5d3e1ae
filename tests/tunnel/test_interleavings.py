"""Two connections under random interleavings, cuts and resumptions.

Whatever the order of events: on each stream the bytes arrive once, in order; no window is overrun;
when both sides have had their say, nothing waits for ever and nothing is left behind.
"""

from __future__ import annotations

import random
from collections import deque

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
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


def pattern(stream: int, direction: str, start: int, size: int) -> bytes:
    """The bytes at an offset of a stream's direction: any shift or mix-up changes them."""
    seed = random.Random(f"{stream}{direction}").randrange(251)
    return bytes((seed + offset * 7) % 251 for offset in range(start, start + size))


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


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        limits = SETTINGS.limits()
        self.ends = [
            TunnelConnection(Role.AGENT, SETTINGS, limits),
            TunnelConnection(Role.GATEWAY, SETTINGS, limits),
        ]
        self.wires: list[deque[bytes]] = [deque(), deque()]
        self.calls: dict[int, Call] = {}
        self.now = 0.0
        self.up = True

    # -- what the application does -------------------------------------------------------------

    @rule(side=st.integers(0, 1), end=st.booleans())
    def open_stream(self, side: int, end: bool) -> None:
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

    @rule(side=st.integers(0, 1), pick=st.integers(0), size=st.integers(1, 50_000))
    def write(self, side: int, pick: int, size: int) -> None:
        ready = self._writable(side)
        if not ready:
            return
        call = ready[pick % len(ready)]
        flow = call.flows[side]
        direction = "request" if side == call.opener else "answer"
        self.ends[side].send_data(call.stream, pattern(call.stream, direction, flow.sent, size))
        flow.sent += size

    @rule(side=st.integers(0, 1), pick=st.integers(0))
    def end(self, side: int, pick: int) -> None:
        ready = self._writable(side)
        if ready:
            call = ready[pick % len(ready)]
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

    @rule(pick=st.integers(0))
    def answer(self, pick: int) -> None:
        ready = [call for call in self._accepted() if not call.head_sent]
        if ready:
            call = ready[pick % len(ready)]
            self.ends[1 - call.opener].send_head(call.stream, Head(200))
            call.head_sent = True

    @rule(pick=st.integers(0))
    def finish(self, pick: int) -> None:
        ready = [call for call in self._accepted() if call.head_sent]
        if ready:
            call = ready[pick % len(ready)]
            self.ends[1 - call.opener].send_trailers(call.stream, Trailers(rows=call.stream))
            call.answered = True
            call.flows[1 - call.opener].ended = True

    @rule(pick=st.integers(0), side=st.integers(0, 1))
    def reset(self, pick: int, side: int) -> None:
        ready = [call for call in self.calls.values() if call.stream in self.ends[side].streams]
        if ready:
            call = ready[pick % len(ready)]
            self.ends[side].reset_stream(call.stream, "cancelled", "enough")
            call.reset = True

    @rule(side=st.integers(0, 1), pick=st.integers(0), part=st.integers(1, 100))
    def consume(self, side: int, pick: int, part: int) -> None:
        ready = [call for call in self.calls.values() if call.flows[1 - side].unconsumed]
        if ready:
            call = ready[pick % len(ready)]
            flow = call.flows[1 - side]
            size = max(1, flow.unconsumed * part // 100)
            self.ends[side].consumed(call.stream, size)
            flow.unconsumed -= size

    @rule(pick=st.integers(0))
    def release(self, pick: int) -> None:
        ready = [
            call
            for call in self.calls.values()
            if call.accepted and not call.released and (call.answered or call.reset)
        ]
        if ready:
            call = ready[pick % len(ready)]
            self.ends[1 - call.opener].release(call.stream)
            call.released = True

    # -- what the network does -----------------------------------------------------------------

    @precondition(lambda self: self.up)
    @rule(side=st.integers(0, 1), messages=st.integers(1, 6))
    def send(self, side: int, messages: int) -> None:
        for _ in range(messages):
            message = self.ends[side].next_message()
            if message is None:
                break
            self.wires[side].append(message)
        self.ends[side].take_drained()

    @precondition(lambda self: self.up)
    @rule(side=st.integers(0, 1), messages=st.integers(1, 6))
    def deliver(self, side: int, messages: int) -> None:
        wire = self.wires[1 - side]
        for _ in range(min(messages, len(wire))):
            self._take(side, wire.popleft())

    @rule(side=st.integers(0, 1))
    def acknowledge(self, side: int) -> None:
        self.ends[side].acknowledge()

    @precondition(lambda self: self.up)
    @rule()
    def cut(self) -> None:
        self.up = False
        for wire, end in zip(self.wires, self.ends, strict=True):
            wire.clear()
            end.suspend()

    @precondition(lambda self: not self.up)
    @rule()
    def resume(self) -> None:
        received = [end.received_count for end in self.ends]
        self.ends[0].resume(received[1])
        self.ends[1].resume(received[0])
        self.up = True

    # -- what must hold ------------------------------------------------------------------------

    def _take(self, side: int, message: bytes) -> None:
        self.now += 0.001
        for event in self.ends[side].receive_message(message, self.now):
            self._check(side, event)

    def _check(self, side: int, event: Event) -> None:
        assert not isinstance(event, ConnectionFailed), event
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

    @invariant()
    def grants_never_exceed_the_budget(self) -> None:
        for end in self.ends:
            size = sum(stream.receive.size for stream in end.streams.values())
            # The peer's slots are reserved; our own streams' first windows come on top.
            ours = sum(1 for stream in end.streams.values() if stream.ours)
            assert size <= SETTINGS.budget + ours * SETTINGS.window
            assert end.busy_slots <= SETTINGS.streams

    def teardown(self) -> None:  # noqa: C901 - one story
        """Let everything run out: whoever can still speak finishes; nothing may be stuck."""
        if not self.up:
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
    def test_no_byte_is_lost_doubled_or_reordered_and_nothing_is_stuck(self) -> None:
        run_state_machine_as_test(
            Interleavings,
            settings=settings(
                max_examples=150,
                stateful_step_count=60,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
