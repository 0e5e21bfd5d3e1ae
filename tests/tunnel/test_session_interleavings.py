"""Two sessions under random pauses, writes, resets, cuts and closings.

As for the connections below them: bytes arrive once and in order, each end of a stream is told of
its end once and of nothing after it, and when all have had their say nothing is left.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
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


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
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

    def _accept(self, stream: StreamTransport, head: Open) -> End:
        end = End(False, self.faults)
        end.stream = stream
        self.ends.append(end)
        return end

    def _live(self) -> list[End]:
        return [end for end in self.ends if not end.over and not end.stream.closed]

    # -- the ends ------------------------------------------------------------------------------

    @rule(gateway=st.booleans(), end=st.booleans())
    def open_stream(self, gateway: bool, end: bool) -> None:
        session = self.pair.gateway if gateway else self.pair.agent
        call = End(True, self.faults)
        try:
            call.stream = session.open_stream(GET, call, end=end)
        except StreamRefused:
            return
        call.write_ended = end
        self.ends.append(call)

    @rule(pick=st.integers(0), size=st.integers(1, 60_000))
    def write(self, pick: int, size: int) -> None:
        ready = [e for e in self._live() if not e.write_ended and (e.opener or e.head_out)]
        if ready:
            ready[pick % len(ready)].write(size)

    @rule(pick=st.integers(0))
    def half_close(self, pick: int) -> None:
        ready = [e for e in self._live() if not e.write_ended and e.opener]
        if ready:
            end = ready[pick % len(ready)]
            end.write_ended = True
            end.stream.half_close()

    @rule(pick=st.integers(0))
    def head(self, pick: int) -> None:
        ready = [e for e in self._live() if not e.opener and not e.head_out]
        if ready:
            end = ready[pick % len(ready)]
            end.head_out = True
            end.stream.send_head(Head(200))

    @rule(pick=st.integers(0))
    def finish(self, pick: int) -> None:
        ready = [e for e in self._live() if not e.opener and e.head_out]
        if ready:
            end = ready[pick % len(ready)]
            end.over = True
            end.stream.finish(Trailers())
            end.stream.release()

    @rule(pick=st.integers(0))
    def reset(self, pick: int) -> None:
        ready = self._live()
        if ready:
            end = ready[pick % len(ready)]
            end.over = True
            end.stream.reset("cancelled", "enough")
            if not end.opener:
                end.stream.release()

    @rule(pick=st.integers(0), how=st.sampled_from(["pause", "resume", "wait"]))
    def flow(self, pick: int, how: str) -> None:
        ready = self._live()
        if ready:
            getattr(ready[pick % len(ready)], how)()

    # -- the network ---------------------------------------------------------------------------

    @rule(steps=st.integers(1, 5), seconds=st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    def pass_messages(self, steps: int, seconds: float) -> None:
        self.pair.clock.advance(seconds)
        for _ in range(steps):
            self.pair.step()

    @precondition(lambda self: self.up)
    @rule()
    def cut(self) -> None:
        self.up = False
        self.pair.cut()

    @rule()
    def resume(self) -> None:
        """Also of a socket that seemed alive."""
        self.up = True
        self.pair.resume()

    @invariant()
    def nothing_was_told_out_of_turn(self) -> None:
        assert not self.faults, self.faults

    # -- the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        pair = self.pair
        if not self.up:
            pair.resume()
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
    def test_the_ends_of_streams_are_told_all_in_order_and_nothing_is_left(self) -> None:
        run_state_machine_as_test(
            Sessions,
            settings=settings(
                max_examples=120,
                stateful_step_count=60,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
