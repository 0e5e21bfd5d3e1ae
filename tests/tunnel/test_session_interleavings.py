"""Two sessions under random pauses, writes, resets, cuts and closings.

As for the connections below them: bytes arrive once and in order, each end of a stream is told of
its end once and of nothing after it, and when all have had their say nothing is left.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import GET, Pair
from tests.tunnel.test_interleavings import SETTINGS, pattern
from workato_tunnel.errors import StreamRefused, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.tx.transport import StreamTransport


class End:
    """One end of a call: what it wrote, and what it was told, checked as it comes.

    An assertion that fails in here ends its stream only, as any error does: ``faults`` keeps it.
    """

    def __init__(self, opener: bool, faults: list[str]) -> None:
        self.opener = opener
        self.faults = faults
        self.stream: Any = None
        self.written = 0
        self.received = 0
        self.write_ended = False
        self.told_end = False
        self.over = False
        self.complete = False
        self.paused = False
        self.head_out = False
        self.heads = 0
        self.asked = 0
        self.answered = 0

    def write(self, size: int) -> None:
        direction = "request" if self.opener else "answer"
        self.stream.write(pattern(self.stream.stream_id, direction, self.written, size))
        self.written += size

    def pause(self) -> None:
        self.paused = True
        self.stream.pauseProducing()

    def resume(self) -> None:
        self.paused = False
        self.stream.resumeProducing()

    def wait(self) -> None:
        def answered(_result: object) -> None:
            self.answered += 1

        self.asked += 1
        self.stream.writable().addBoth(answered)

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults.append(f"{self.stream}: {what}")

    # StreamReceiver

    def head_received(self, head: Head) -> None:
        self.heads += 1
        self.check(self.opener and self.heads == 1 and not self.over, "head")

    def data_received(self, data: bytes) -> None:
        self.check(not (self.over or self.paused or self.told_end), "data out of turn")
        direction = "answer" if self.opener else "request"
        expected = pattern(self.stream.stream_id, direction, self.received, len(data))
        self.check(data == expected, "other bytes")
        self.received += len(data)

    def end_received(self) -> None:
        self.check(not (self.over or self.paused or self.told_end), "end out of turn")
        self.told_end = True

    def finished(self, trailers: Trailers) -> None:
        self.check(self.opener and not self.over and not self.paused, "finished out of turn")
        self.check(trailers.bytes == self.received, "other size")
        self.over = self.complete = True

    def reset_received(self, reason: StreamReset) -> None:
        self.check(not self.over, "reset after the end")
        self.check(reason.reason in {"cancelled", "refused", "draining"}, f"reset: {reason}")
        self.over = True
        if not self.opener:
            self.stream.release()


STEPS = {
    "open_stream": 3,
    "write": 12,
    "half_close": 2,
    "head": 4,
    "finish": 2,
    "reset": 1,
    "pause": 2,
    "resume": 4,
    "wait": 3,
    "pass_messages": 20,
    "cut": 1,
    "take_up": 2,
}
"""What may happen, and how often in proportion."""


class Sessions:
    """A pair of sessions, and what holds the ends of its streams."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ends: list[End] = []
        self.faults: list[str] = []
        self.pair = Pair(
            clock=Clock(),
            agent_accept=self._accept,
            gateway_accept=self._accept,
            agent_settings=SETTINGS,
            gateway_settings=SETTINGS,
            hold=60,
        )
        self.up = True

    def run(self, steps: int) -> None:
        names, weights = list(STEPS), list(STEPS.values())
        for name in self.random.choices(names, weights, k=steps):
            getattr(self, name)()
            assert not self.faults, self.faults
        self.finish_everything()

    def _accept(self, stream: StreamTransport, head: Open) -> End:
        end = End(False, self.faults)
        end.stream = stream
        self.ends.append(end)
        return end

    def _live(self) -> list[End]:
        return [end for end in self.ends if not end.over and not end.stream.closed]

    def _pick(self, ready: list[End]) -> End | None:
        return self.random.choice(ready) if ready else None

    # -- the ends ------------------------------------------------------------------------------

    def open_stream(self) -> None:
        session = self.random.choice((self.pair.gateway, self.pair.agent))
        call = End(True, self.faults)
        bodyless = self.random.random() < 0.4
        try:
            call.stream = session.open_stream(GET, call, end=bodyless)
        except StreamRefused:
            return
        call.write_ended = bodyless
        self.ends.append(call)

    def write(self) -> None:
        end = self._pick(
            [e for e in self._live() if not e.write_ended and (e.opener or e.head_out)]
        )
        if end is not None:
            end.write(self.random.choice((1, 300, 8 * 1024, 16 * 1024, 60_000)))

    def half_close(self) -> None:
        end = self._pick([e for e in self._live() if not e.write_ended and e.opener])
        if end is not None:
            end.write_ended = True
            end.stream.half_close()

    def head(self) -> None:
        end = self._pick([e for e in self._live() if not e.opener and not e.head_out])
        if end is not None:
            end.head_out = True
            end.stream.send_head(Head(200))

    def finish(self) -> None:
        end = self._pick([e for e in self._live() if not e.opener and e.head_out])
        if end is not None:
            end.over = True
            end.stream.finish(Trailers())
            end.stream.release()

    def reset(self) -> None:
        end = self._pick(self._live())
        if end is not None:
            end.over = True
            end.stream.reset("cancelled", "enough")
            if not end.opener:
                end.stream.release()

    def pause(self) -> None:
        end = self._pick(self._live())
        if end is not None:
            end.pause()

    def resume(self) -> None:
        end = self._pick([e for e in self._live() if e.paused])
        if end is not None:
            end.resume()

    def wait(self) -> None:
        end = self._pick(self._live())
        if end is not None:
            end.wait()

    # -- the network ---------------------------------------------------------------------------

    def pass_messages(self) -> None:
        self.pair.clock.advance(self.random.choice((0.0, 0.0, 0.0, 0.3, 1.0)))
        for _ in range(self.random.randint(1, 4)):
            self.pair.step()

    def cut(self) -> None:
        if self.up:
            self.up = False
            self.pair.cut()

    def take_up(self) -> None:
        """Also in the place of a socket that seemed alive."""
        if not self.up or self.random.random() < 0.2:
            self.up = True
            self.pair.resume()

    # -- the end -------------------------------------------------------------------------------

    def finish_everything(self) -> None:
        pair = self.pair
        if not self.up:
            pair.resume()
        for end in self._live():
            end.resume()
        for _ in range(3):
            pair.flush()
            pair.clock.advance(1)  # what is kept for a new socket is acknowledged
        for end in self.ends:
            assert end.asked == end.answered, "a writer waits although everybody reads"
        drained = [pair.agent.drain(), pair.gateway.drain()]
        for _ in range(500):
            for end in list(self._live()):
                end.resume()
                if not end.opener and not end.stream.closed:
                    if not end.head_out:
                        end.head_out = True
                        end.stream.send_head(Head(200))
                    end.over = True
                    end.stream.finish(Trailers())
                    end.stream.release()
            pair.flush()
            if not self._live():
                break
            pair.clock.advance(1)
        assert not self._live()
        for each in drained:
            assert each.called, "a drain never ends"
        pair.clock.advance(1)
        pair.flush()
        pair.clock.advance(1)
        assert not self.faults, self.faults
        assert pair.leftovers() == []
        acceptors = {end.stream.stream_id: end for end in self.ends if not end.opener}
        for end in self.ends:
            assert end.asked == end.answered, "a writer waits for ever"
            if end.complete:
                assert end.received == acceptors[end.stream.stream_id].written
        for session in (pair.agent, pair.gateway):
            connection = session.connection
            assert connection._out.retained == 0
            assert connection._extra.left == SETTINGS.budget - SETTINGS.streams * SETTINGS.window
            session.terminate("no_error")
        pair.flush()
        assert pair.clock.getDelayedCalls() == []


class SessionInterleavingTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32))
    def test_ends_are_told_everything_in_order_and_nothing_is_left(self, seed: int) -> None:
        Sessions(seed).run(400)
