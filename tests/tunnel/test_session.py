"""A session over its sockets: cuts, holds, drains and ends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import GET, Pair, Recorder
from workato_tunnel.errors import (
    ErrorCode,
    LocalProtocolError,
    RemoteProtocolError,
    StreamRefused,
)
from workato_tunnel.frames import Catalogue, Head, Profile, Trailers
from workato_tunnel.settings import Settings
from workato_tunnel.testing import FrameFactory
from workato_tunnel.tx.testing import MemoryLink

make = FrameFactory()


class CutTests(SynchronousTestCase):
    def exchange(self, cut_after: int) -> int:
        """A call with bodies both ways, cut once; the messages that passed in all."""
        pair = Pair()
        call = Recorder()
        stream = pair.gateway.open_stream(GET, call)
        stream.write(b"question" * 5000)
        stream.half_close()
        messages = 0
        answered = False
        for _ in range(200):
            pair.clock.advance(0)
            if pair.calls and "end" in pair.calls[0].told and not answered:
                answered = True
                pair.answer(b"answer" * 40_000)
                pair.clock.advance(0)
            for source, sink, far in (
                (pair.gateway_link, pair.agent, pair.agent_link),
                (pair.agent_link, pair.gateway, pair.gateway_link),
            ):
                if messages == cut_after:
                    messages += 1
                    pair.cut()
                    pair.resume()
                    break
                if source.sent:
                    messages += 1
                    sink.message_received(far, source.take())
            if call.trailers is not None:
                break
            pair.clock.advance(0.1)
        self.assertEqual(pair.calls[0].data, b"question" * 5000)
        self.assertEqual(call.data, b"answer" * 40_000)
        self.assertEqual(pair.calls[0].told.count("end"), 1)
        pair.clock.advance(2)
        pair.flush()
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])
        return messages

    def test_a_cut_at_every_message_boundary_loses_nothing(self) -> None:
        total = self.exchange(-1)
        self.assertGreater(total, 6)
        for boundary in range(total + 1):
            self.exchange(boundary)

    def test_a_cut_while_messages_are_on_the_way_in_both_directions(self) -> None:
        pair = Pair()
        calls = [pair.call() for _ in range(5)]
        for index in range(5):
            pair.answer(bytes([index]) * 150_000, index)
        for _ in range(40):
            pair.step()
            pair.cut()
            pair.clock.advance(1)
            pair.resume()
            pair.step()
        pair.flush()
        for index, call in enumerate(calls):
            self.assertEqual(call.data, bytes([index]) * 150_000)
            self.assertEqual(call.told[-1], "finished")
        self.assertEqual(pair.agent.resumptions, 40)

    def test_what_is_said_while_the_socket_is_gone_is_said_when_it_is_back(self) -> None:
        pair = Pair()
        first, second, third = (pair.call(end=False) for _ in range(3))
        pair.cut()
        pair.answer(b"late", 0)
        second.stream.reset(ErrorCode.CANCELLED)
        third.stream.write(b"x" * 10)
        third.stream.half_close()
        pair.agent.announce(Catalogue(config_hash="a"))
        self.assertEqual([str(call) for call in pair.agent_link.sent], [])
        pair.clock.advance(30)
        pair.resume()
        pair.flush()
        self.assertEqual(first.told, ["head", "data", "finished"])
        self.assertEqual(pair.calls[1].told, ["reset"])
        self.assertEqual(pair.calls[2].told, ["data", "end"])
        self.assertEqual(pair.gateway.catalogue.config_hash, "a")

    def test_only_the_latest_catalogue_waits_for_a_socket(self) -> None:
        pair = Pair()
        pair.cut()
        big = tuple(Profile("http", f"profile-{n}") for n in range(1000))
        for turn in range(1000):
            pair.agent.announce(Catalogue(big, config_hash=str(turn)))
        self.assertLess(pair.agent.connection._out.control_size, 100_000)
        heard: list[str] = []
        pair.gateway.on_catalogue = lambda catalogue: heard.append(catalogue.config_hash)
        pair.resume()
        pair.flush()
        self.assertEqual(heard, ["999"])
        pair.agent.announce(Catalogue(config_hash="new"))
        pair.flush()
        self.assertEqual(heard, ["999", "new"])

    def test_a_session_that_is_never_taken_up_ends_with_tunnel_lost(self) -> None:
        pair = Pair(hold=20)
        ends: list[str] = []
        pair.gateway.on_end = lambda: ends.append(pair.gateway.end_code)
        call = pair.call(end=False)
        waiting = pair.gateway.drain()
        pair.cut()
        pair.clock.advance(19.9)
        self.assertEqual(call.told, [])
        self.assertNoResult(waiting)
        pair.clock.advance(0.2)
        self.assertEqual(call.told, ["reset"])
        assert call.reason is not None
        self.assertEqual(call.reason.reason, ErrorCode.TUNNEL_LOST)
        self.assertEqual(ends, [ErrorCode.TUNNEL_LOST])
        self.successResultOf(waiting)
        self.assertEqual(pair.calls[0].told, ["reset"])
        pair.calls[0].stream.release()
        self.assertEqual(pair.leftovers(), [])

    def test_without_a_hold_a_lost_socket_is_the_end(self) -> None:
        pair = Pair(hold=0)
        call = pair.call()
        pair.cut()
        self.assertEqual(call.told, ["reset"])
        self.assertTrue(pair.gateway.ended)
        self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_an_answer_that_has_come_whole_outlives_its_session(self) -> None:
        for end in ("expired", "terminated", "closed by the agent"):
            pair = Pair(hold=5)
            whole, part = pair.call(), pair.call()
            for call in (whole, part):
                call.stream.pauseProducing()
            pair.answer(b"w" * 70_000, 0)
            pair.calls[1].stream.send_head(Head(200))
            pair.calls[1].stream.write(b"p" * 70_000)
            pair.flush()
            if end == "expired":
                pair.cut()
                pair.clock.advance(6)
            elif end == "terminated":
                pair.gateway.terminate("revoked", "out")
                pair.flush()
            else:
                pair.agent.terminate("no_error", "stopping")
                pair.flush()
            self.assertTrue(pair.gateway.ended)
            self.assertEqual((whole.told, part.told), (["head"], ["head", "reset"]), end)
            whole.stream.resumeProducing()
            self.assertEqual(whole.data, b"w" * 70_000)
            self.assertEqual(whole.told[-1], "finished")
            pair.calls[1].stream.release()
            self.assertEqual(pair.leftovers(), [])


class SocketTests(SynchronousTestCase):
    def test_a_living_socket_is_superseded_and_its_late_words_are_ignored(self) -> None:
        pair = Pair()
        call = pair.call(end=False)
        old_agent, old_gateway = pair.agent_link, pair.gateway_link
        received = pair.agent.supersede(), pair.gateway.supersede()
        self.assertFalse(old_gateway.open)
        self.assertFalse(pair.gateway.available)
        pair.agent_link, pair.gateway_link = MemoryLink(), MemoryLink()
        pair.gateway.attach(pair.gateway_link, received[0])
        pair.agent.attach(pair.agent_link, received[1])
        pair.gateway.message_received(old_gateway, make.reset(1))
        pair.gateway.message_received(old_gateway, b"garbage")
        pair.gateway.link_lost(old_gateway)
        pair.gateway.link_closed(old_gateway, "late")
        pair.agent.link_lost(old_agent)
        self.assertTrue(pair.gateway.available)
        pair.answer(b"through the new one")
        pair.flush()
        self.assertEqual(call.told, ["head", "data", "finished"])

    def test_a_superseded_socket_whose_successor_never_comes_is_waited_for_and_no_longer(
        self,
    ) -> None:
        pair = Pair(hold=30)
        call = pair.call()
        pair.gateway.supersede()
        pair.clock.advance(31)
        self.assertEqual(call.told, ["reset"])
        self.assertTrue(pair.gateway.ended)

    def test_a_count_that_can_not_be_is_refused(self) -> None:
        pair = Pair()
        pair.call()
        pair.cut()
        with self.assertRaises(RemoteProtocolError):
            pair.gateway.attach(MemoryLink(), 99)
        self.assertFalse(pair.gateway.connected)
        pair.gateway.terminate(ErrorCode.TUNNEL_LOST, "impossible")
        with self.assertRaises(LocalProtocolError):
            pair.gateway.attach(MemoryLink(), 0)

    def test_a_session_that_ended_refuses_everything_quietly(self) -> None:
        pair = Pair()
        pair.call()
        pair.gateway.terminate("revoked", "out")
        pair.gateway.terminate("no_error", "again")
        self.assertEqual(pair.gateway.end_code, "revoked")
        pair.gateway.announce(Catalogue())
        self.successResultOf(pair.gateway.drain())
        with self.assertRaises(StreamRefused):
            pair.gateway.open_stream(GET, Recorder())
        pair.gateway.message_received(pair.gateway_link, make.open(2))
        pair.gateway.link_lost(pair.gateway_link)
        pair.flush()
        pair.calls[0].stream.release()
        self.assertEqual(pair.leftovers(), [])

    def test_terminating_while_the_socket_is_gone(self) -> None:
        pair = Pair()
        call = pair.call()
        pair.cut()
        pair.gateway.terminate("revoked", "out")
        self.assertEqual(call.told, ["reset"])
        pair.agent.terminate("no_error")
        pair.calls[0].stream.release()
        self.assertEqual(pair.leftovers(), [])

    def test_a_websocket_that_is_closed_is_the_end_at_the_other_side_too(self) -> None:
        pair = Pair()
        call = pair.call()
        done = pair.call()
        pair.answer(b"written just before", 1)
        pair.agent.terminate("draining", "the agent stops")
        pair.flush()
        self.assertEqual(done.told, ["head", "data", "finished"])
        self.assertEqual(call.told, ["reset"])
        assert call.reason is not None
        self.assertIn("the agent stops", call.reason.message)
        self.assertTrue(pair.gateway.ended)
        pair.calls[0].stream.release()
        self.assertEqual(pair.leftovers(), [])

    def test_a_peer_that_breaks_the_protocol_is_told_and_closed(self) -> None:
        pair = Pair()
        call = pair.call()
        pair.gateway.drain()
        pair.gateway.message_received(pair.gateway_link, b"\x7e" * 8)
        self.assertEqual(call.told, ["reset"])
        assert pair.gateway_link.closed_with is not None
        self.assertEqual(pair.gateway_link.closed_with[0], 1002)
        # Though it was draining already, the other side learns the code.
        told: list[str] = []
        pair.agent.on_goaway = lambda goaway: told.append(goaway.code)
        pair.flush()
        self.assertEqual(told, [ErrorCode.DRAINING, ErrorCode.PROTOCOL_ERROR])

    def test_acknowledgements_go_out_within_a_second_and_no_timer_stays(self) -> None:
        pair = Pair()
        pair.call()
        pair.answer(b"x")
        pair.flush()
        self.assertGreater(pair.agent.connection._out.retained, 0)
        pair.clock.advance(1)
        pair.flush()
        self.assertEqual(pair.agent.connection._out.retained, 0)
        self.assertEqual(pair.gateway.connection._out.retained, 0)
        pair.clock.advance(1)
        self.assertEqual(pair.clock.getDelayedCalls(), [])
        self.assertFalse(pair.step())


class DrainTests(SynchronousTestCase):
    def test_it_fires_when_both_directions_are_at_rest_and_not_before(self) -> None:
        pair = Pair(gateway_accept=lambda stream, head: renewals[-1].begun(stream))
        renewals = [Renewal()]
        call = pair.call()
        renewal = Recorder()
        renewal.stream = pair.agent.open_stream(GET, renewal)
        pair.flush()
        drained = pair.agent.drain()
        pair.flush()
        self.assertNoResult(drained)
        pair.answer(b"done")
        pair.flush()
        self.assertEqual(call.told[-1], "finished")
        self.assertNoResult(drained)
        renewals[0].stream.send_head(Head(200))
        renewals[0].stream.finish(Trailers())
        renewals[0].stream.release()
        pair.flush()
        self.successResultOf(drained)

    def test_it_fires_when_the_work_behind_a_cancelled_call_has_ended(self) -> None:
        pair = Pair()
        call = pair.call()
        call.stream.reset(ErrorCode.CANCELLED)
        pair.flush()
        drained = pair.agent.drain()
        pair.flush()
        pair.clock.advance(5)
        self.assertNoResult(drained)
        pair.calls[0].stream.release()
        pair.flush()
        self.successResultOf(drained)
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_it_waits_until_the_peer_has_the_end_of_every_answer(self) -> None:
        pair = Pair()
        call = pair.call()
        pair.answer(b"x" * 60_000)
        pair.clock.advance(0)
        drained = pair.agent.drain()
        pair.clock.advance(0)
        self.assertNoResult(drained)  # on the way; the socket may still be cut
        pair.cut()
        pair.clock.advance(1)
        self.assertNoResult(drained)
        pair.resume()
        pair.flush()
        self.successResultOf(drained)
        self.assertEqual(call.data, b"x" * 60_000)
        self.assertEqual(call.told[-1], "finished")

    def test_an_idle_one_is_drained_at_once_even_without_a_socket(self) -> None:
        pair = Pair()
        self.successResultOf(pair.agent.drain())
        pair = Pair()
        pair.cut()
        self.successResultOf(pair.agent.drain())

    def test_it_fires_without_a_socket_when_the_streams_end_here(self) -> None:
        pair = Pair()
        call = pair.call()
        pair.clock.advance(2)
        pair.flush()
        pair.cut()
        drained = pair.agent.drain()
        self.assertNoResult(drained)
        pair.gateway.terminate("no_error")
        self.assertEqual(call.told, ["reset"])
        pair.agent.terminate("no_error")
        self.successResultOf(drained)

    def test_it_can_be_cancelled(self) -> None:
        pair = Pair()
        pair.call()
        drained = pair.agent.drain()
        drained.addErrback(lambda _failure: None)
        drained.cancel()
        pair.answer()
        pair.flush()
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_a_draining_side_opens_none_and_refuses_those_that_cross(self) -> None:
        pair = Pair()
        kept = pair.call()
        pair.agent.drain()
        late = Recorder()
        pair.gateway.open_stream(GET, late, end=True)
        pair.flush()
        assert late.reason is not None
        self.assertEqual(late.reason.reason, ErrorCode.DRAINING)
        self.assertFalse(pair.gateway.available)
        with self.assertRaises(StreamRefused):
            pair.gateway.open_stream(GET, Recorder())
        pair.answer(b"in flight")
        pair.flush()
        self.assertEqual(kept.told[-1], "finished")


class Renewal(Recorder):
    """The gateway's end of a stream that the agent opened."""

    def begun(self, stream: object) -> Recorder:
        self.stream = stream
        return self


class BoundTests(SynchronousTestCase):
    def test_a_peer_that_reads_and_never_acknowledges_is_cut_in_time(self) -> None:
        small = Settings(streams=1, retained=128 * 1024, control_queue=64 * 1024)
        pair = Pair(agent_settings=small)
        link = pair.agent_link
        stream = 1
        while link.open and stream < 200_000:
            pair.agent.message_received(
                link, b"".join(make.open(stream + 2 * step) for step in range(50))
            )
            stream += 100
            pair.clock.advance(0)
            while link.sent:
                link.take()
        self.assertTrue(pair.agent.ended)
        self.assertLess(pair.agent.connection._out.retained, 2 << 20)

    def test_resets_that_the_peer_provokes_are_limited_like_its_own(self) -> None:
        pair = Pair(agent_settings=Settings(resets_burst=10, resets_per_second=1))
        pair.next_call = Releasing
        for stream in range(1, 201, 2):
            pair.agent.message_received(pair.agent_link, make.open(stream) + make.data(stream, b""))
            for call in pair.calls:
                call.stream.release()
            pair.clock.advance(0)
            pair.agent_link.sent.clear()
        self.assertLessEqual(len(pair.calls), 12)

    def test_credit_that_a_complete_answer_still_holds_is_not_given_out_again(self) -> None:
        settings = Settings(streams=1, window=64 * 1024, budget=1 << 20)
        pair = Pair(gateway_settings=settings)
        for _ in range(20):
            call = pair.call()
            far = pair.calls[-1].stream
            far.send_head(Head(200))
            # The window grows while the consumer keeps up; then it stands still.
            for _ in range(100):
                far.write(bytes(200_000))
                pair.flush()
                if len(call.data) > 1_500_000:
                    break
            call.stream.pauseProducing()
            far.write(bytes(2 << 20))
            pair.flush()
            extra = pair.gateway.connection._extra
            held = sum(
                len(chunk)
                for stream in pair.gateway._streams.values()
                for chunk in stream._inbox or ()
                if isinstance(chunk, bytes)
            )
            ours = len(pair.gateway._streams) * settings.window
            self.assertLessEqual(held, settings.budget + ours)
            far.reset("cancelled")
            far.release()
            pair.flush()
            self.assertEqual(extra.left, settings.budget - settings.window)

    def test_ten_thousand_calls_leave_nothing_behind(self) -> None:
        pair = Pair()
        for turn in range(2000):
            calls = [pair.call() for _ in range(5)]
            if turn % 5 == 0:
                calls[0].stream.reset(ErrorCode.CANCELLED)
                pair.flush()
            for recorder in pair.calls:
                stream = recorder.stream
                if not stream.closed:
                    stream.send_head(Head(200))
                    stream.finish(Trailers())
                stream.release()
            pair.calls.clear()
            pair.flush()
        pair.clock.advance(2)
        pair.flush()
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])
        for session in (pair.agent, pair.gateway):
            self.assertEqual(session.connection._out.retained, 0)


class Releasing(Recorder):
    """Ends its work as soon as it is told to."""

    def reset_received(self, reason: object) -> None:
        self.stream.release()
