"""The ends of streams: pausing, producers, re-entrance, and code that fails."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from tests.support.sessions import GET, Pair, Producer, Recorder, stream_of
from workato_tunnel.errors import ErrorCode, StreamRefused, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.settings import Settings
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

KIB = 1024


class PausedTests(SynchronousTestCase):
    def test_data_end_and_trailers_wait_in_order(self) -> None:
        pair = Pair()
        call = pair.call(end=False)
        far = pair.calls[0]
        call.stream.pauseProducing()
        far.stream.pauseProducing()
        call.stream.write(b"request")
        call.stream.half_close()
        far.stream.send_head(Head(200))
        for chunk in (b"one ", b"two"):
            far.stream.write(chunk)
            pair.flush()
        far.stream.half_close()
        pair.flush()
        far.stream.resumeProducing()
        far.stream.finish(Trailers())
        far.stream.release()
        pair.flush()
        self.assertEqual(far.told, ["data", "end"])
        self.assertEqual(call.told, ["head"])
        call.stream.resumeProducing()
        self.assertEqual(call.told, ["head", "data", "end", "finished"])
        self.assertEqual(call.data, b"one two")
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_pausing_inside_data_received_holds_the_rest(self) -> None:
        pair = Pair()
        call = Recorder()
        call.on["data"] = lambda: stream_of(call).pauseProducing()
        pair.call(call)
        pair.answer(b"x" * 100_000)
        pair.flush()
        steps = 0
        while call.trailers is None:
            steps += 1
            self.assertEqual(call.told.count("data"), steps)
            call.stream.resumeProducing()
        self.assertEqual(len(call.data), 100_000)
        self.assertGreater(steps, 1)

    def test_resuming_inside_data_received_neither_nests_nor_reorders(self) -> None:
        depth = deepest = 0

        def flicker() -> None:
            nonlocal depth, deepest
            depth += 1
            deepest = max(deepest, depth)
            call.stream.pauseProducing()
            call.stream.resumeProducing()
            depth -= 1

        pair = Pair(gateway_settings=Settings(window=8 << 20))
        call = pair.call(Recorder(data=flicker))
        call.stream.pauseProducing()
        pair.answer(bytes(range(256)) * 16 * KIB)
        pair.flush()
        call.stream.resumeProducing()
        self.assertEqual(deepest, 1)
        self.assertEqual(call.data, bytes(range(256)) * 16 * KIB)
        self.assertEqual(call.told[-1], "finished")

    def test_a_reset_while_paused_comes_at_once_and_drops_what_waited(self) -> None:
        pair = Pair()
        call = pair.call()
        call.stream.pauseProducing()
        far = pair.calls[0].stream
        far.send_head(Head(200))
        far.write(b"never taken")
        pair.flush()
        far.reset("query_failed", "no such table", "detail")
        far.release()
        pair.flush()
        self.assertEqual(call.told, ["head", "reset"])
        assert call.reason is not None
        self.assertEqual(
            (call.reason.reason, call.reason.message, call.reason.detail, call.reason.remote),
            ("query_failed", "no such table", "detail", True),
        )
        call.stream.resumeProducing()
        self.assertEqual(call.data, b"")
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_one_byte_chunks_that_wait_take_little_more_than_their_bytes(self) -> None:
        pair = Pair()
        call = pair.call()
        call.stream.pauseProducing()
        pair.calls[0].stream.send_head(Head(200))
        for index in range(20_000):
            call.stream.incoming_data(bytes((index % 251,)))
        self.assertLess(len(call.stream._inbox), 50)
        call.stream.resumeProducing()
        self.assertEqual(call.data, bytes(index % 251 for index in range(20_000)))

    def test_a_paused_stream_stops_itself_only(self) -> None:
        pair = Pair()
        slow = pair.call()
        slow.stream.pauseProducing()
        pair.answer(b"x" * (4 << 20))
        pair.flush()
        held = sum(len(chunk) for chunk in slow.stream._inbox)
        self.assertLessEqual(held, Settings().window)
        quick = pair.call()
        pair.answer(b"y" * (1 << 20))
        pair.flush()
        self.assertEqual(len(quick.data), 1 << 20)
        slow.stream.resumeProducing()
        pair.flush()
        self.assertEqual(len(slow.data), 4 << 20)

    def test_who_is_given_a_complete_answer_slowly_may_go_on_writing_its_request(self) -> None:
        # The answer has come whole while its reader stands still: writes go nowhere, quietly.
        pair = Pair()
        call = pair.call(end=False)
        producer = Producer()
        call.stream.registerProducer(producer, True)
        call.stream.pauseProducing()
        while "pause" not in producer.told:
            call.stream.write(bytes(64 * KIB))
        waiting = call.stream.writable()
        pair.answer(b"early")
        pair.flush()
        self.successResultOf(waiting)
        self.assertEqual(producer.told, ["pause", "resume"])
        call.stream.write(b"more")
        self.successResultOf(call.stream.writable())
        call.stream.half_close()
        call.stream.resumeProducing()
        self.assertEqual(call.told, ["head", "data", "finished"])
        self.assertEqual(producer.told, ["pause", "resume", "stop"])


class SameMessageTests(SynchronousTestCase):
    """The stream may have ended in the very message whose first frames are being told of."""

    def one_message(self, **on: object) -> tuple[Pair, Recorder]:
        pair = Pair()
        stream = None

        def accept(transport: StreamTransport, head: Open) -> StreamReceiver:
            nonlocal stream
            stream = transport
            transport.send_head(Head(200))
            recorder.stream = transport
            return recorder

        def busy() -> None:
            assert stream is not None
            stream.write(b"echo")
            stream.half_close()
            self.successResultOf(stream.writable())

        recorder = Recorder(data=busy)
        pair = Pair(agent_accept=accept)
        call = Recorder()
        near = pair.gateway.open_stream(GET, call)
        near.write(b"some data")
        pair.gateway._outbound.send()  # type: ignore[union-attr]
        first = pair.gateway_link.take()
        near.reset(ErrorCode.CANCELLED, "the caller has left")
        pair.gateway._outbound.send()  # type: ignore[union-attr]
        second = pair.gateway_link.take()
        pair.agent.message_received(pair.agent_link, first + second)
        return pair, recorder

    def test_opened_written_and_reset_in_one_message(self) -> None:
        pair, recorder = self.one_message()
        self.assertEqual(recorder.told, ["data", "reset"])
        recorder.stream.release()
        pair.flush()
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])


class ReentranceTests(SynchronousTestCase):
    def test_each_callback_may_reset_its_stream(self) -> None:
        for name in ("head", "data", "end", "finished"):
            pair = Pair()
            call = Recorder()
            call.on[name] = lambda call=call: call.stream.reset(ErrorCode.CANCELLED, "enough")
            pair.call(call)
            far = pair.calls[0].stream
            far.send_head(Head(200))
            far.write(b"x")
            far.half_close()
            far.finish(Trailers())
            far.release()
            pair.flush()
            if name == "end":
                self.assertEqual(call.told, ["head", "data", "finished"])
            else:
                self.assertEqual(call.told[-1], name)
            pair.clock.advance(2)
            self.assertEqual(pair.leftovers(), [], name)

    def test_each_callback_may_open_write_and_pause(self) -> None:
        for name in ("head", "data", "finished", "reset"):
            pair = Pair()
            inner = Recorder()
            call = Recorder()

            def act(pair: Pair = pair, inner: Recorder = inner, call: Recorder = call) -> None:
                if inner.stream is None:
                    inner.stream = pair.gateway.open_stream(GET, inner)
                    inner.stream.write(b"inner")
                    inner.stream.half_close()
                call.stream.pauseProducing()
                call.stream.resumeProducing()
                call.stream.write(b"x")

            call.on[name] = act
            pair.call(call, end=False)
            if name == "reset":
                pair.calls[0].stream.reset("conflict")
                pair.calls[0].stream.release()
            else:
                pair.answer(b"body")
            pair.flush()
            self.assertIn(name, call.told)
            pair.answer(b"", index=1)
            pair.flush()
            self.assertEqual(pair.calls[1].data, b"inner", name)
            self.assertEqual(inner.told, ["head", "finished"], name)

    def test_each_callback_may_end_the_session(self) -> None:
        for name in ("head", "data", "end", "finished", "reset"):
            pair = Pair()
            ends: list[int] = []
            pair.gateway.on_end = lambda ends=ends: ends.append(1)
            other = pair.call()
            call = Recorder()
            call.on[name] = lambda pair=pair: pair.gateway.terminate("revoked", "out")
            pair.call(call)
            far = pair.calls[1].stream
            far.send_head(Head(200))
            far.write(b"x")
            far.half_close()
            pair.flush()
            if name == "reset":
                far.reset("conflict")
            else:
                far.finish(Trailers())
            far.release()
            pair.flush()
            self.assertTrue(pair.gateway.ended, name)
            self.assertEqual(ends, [1], name)
            self.assertEqual(other.told[-1], "reset", name)
            self.assertEqual(pair.gateway_link.closed_with, (1001, "out"))
            self.assertTrue(pair.agent.ended)
            pair.calls[0].stream.release()
            self.assertEqual(pair.leftovers(), [], name)

    def test_accept_may_end_the_session_and_is_told_of_it_afterwards(self) -> None:
        def accept(stream: StreamTransport, head: Open) -> StreamReceiver:
            pair.agent.terminate(ErrorCode.DRAINING, "in accept")
            recorder.stream = stream
            return recorder

        recorder = Recorder()
        pair = Pair(agent_accept=accept)
        calls = [Recorder(), Recorder()]
        for call in calls:
            pair.gateway.open_stream(GET, call, end=True)
        pair.flush()
        self.assertEqual(recorder.told, ["reset"])
        self.assertEqual([call.told for call in calls], [["reset"], ["reset"]])
        recorder.stream.release()
        self.assertEqual(len(pair.agent.connection._slots), 1)

    def test_a_producer_may_write_while_resumed_and_leave_while_paused(self) -> None:
        pair = Pair()
        pair.call()
        far = pair.calls[0].stream
        far.send_head(Head(200))
        rounds = 0

        def more() -> None:
            nonlocal rounds
            rounds += 1
            if rounds < 30:
                far.write(bytes(200 * KIB))
            else:
                far.unregisterProducer()
                far.finish(Trailers())
                far.release()

        producer = Producer(resume=more)
        far.registerProducer(producer, True)
        far.write(bytes(200 * KIB))
        self.assertEqual(producer.told, ["pause"])
        pair.flush()
        self.assertEqual(rounds, 30)
        self.assertEqual(producer.told, ["pause", "resume"] * 30)

    def test_a_producer_that_unregisters_when_paused_is_left_alone(self) -> None:
        pair = Pair()
        pair.call()
        far = pair.calls[0].stream
        far.send_head(Head(200))
        producer = Producer(pause=far.unregisterProducer)
        far.registerProducer(producer, True)
        far.write(bytes(200 * KIB))
        pair.flush()
        self.assertEqual(producer.told, ["pause"])
        far.registerProducer(Producer(), True)
        with self.assertRaises(RuntimeError):
            far.registerProducer(Producer(), True)
        with self.assertRaises(ValueError):
            far.registerProducer(Producer(), False)

    def test_writers_that_fill_the_stream_again_keep_its_producer_paused(self) -> None:
        pair = Pair()
        pair.call()
        far = pair.calls[0].stream
        far.send_head(Head(200))
        producer = Producer()
        far.registerProducer(producer, True)
        far.write(bytes(200 * KIB))
        far.writable().addCallback(lambda _none: far.write(bytes(200 * KIB)))
        pair.flush()
        self.assertEqual(producer.told, ["pause", "resume"])

    def test_a_producer_is_stopped_whatever_ends_the_stream(self) -> None:
        for code in ("cancelled", "stream_closed", "conflict"):
            pair = Pair()
            call = pair.call(end=False)
            producer = Producer()
            call.stream.registerProducer(producer, True)
            pair.calls[0].stream.reset(code)
            pair.flush()
            self.assertEqual(producer.told, ["stop"], code)
            late = Producer()
            call.stream.registerProducer(late, True)
            self.assertEqual(late.told, ["stop"])


class WritableTests(SynchronousTestCase):
    def full(self) -> tuple[Pair, StreamTransport, Recorder]:
        pair = Pair()
        call = pair.call()
        far: StreamTransport = pair.calls[0].stream
        far.send_head(Head(200))
        far.write(bytes(300 * KIB))
        return pair, far, call

    def test_it_fires_below_the_mark_and_can_be_cancelled(self) -> None:
        pair, far, _ = self.full()
        first, second, third = (far.writable() for _ in range(3))
        first.addCallback(lambda _none: third.cancel())
        second.cancel()
        self.failureResultOf(second, CancelledError)
        pair.flush()
        self.successResultOf(first)
        self.failureResultOf(third, CancelledError)
        self.successResultOf(far.writable())

    def test_it_fails_when_the_stream_ends(self) -> None:
        for end in ("reset", "lost", "mine", "finish"):
            pair, far, call = self.full()
            waiting = far.writable()
            if end == "reset":
                call.stream.reset(ErrorCode.CANCELLED)
                pair.flush()
            elif end == "lost":
                pair.agent.terminate("no_error")
            elif end == "mine":
                far.reset(ErrorCode.INTERNAL_ERROR)
            else:
                far.finish(Trailers())
            self.failureResultOf(waiting, StreamReset)
            self.failureResultOf(far.writable(), StreamReset)


class FaultTests(SynchronousTestCase):
    """Code at a stream's end that raises ends that stream, with a line in the log, and no other."""

    def fails(self) -> None:
        raise ZeroDivisionError

    def logged(self, count: int = 1) -> None:
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), count)

    def test_a_receiver_that_raises_is_reset_and_told(self) -> None:
        for name in ("head", "data", "finished"):
            pair = Pair()
            good = [pair.call(), pair.call()]
            bad = pair.call(Recorder(**{name: self.fails}))
            good.append(pair.call())
            for index in range(4):
                pair.answer(b"body", index)
            pair.flush()
            for call in good:
                self.assertEqual(call.told, ["head", "data", "finished"])
            self.assertEqual(bad.told[-1], "finished" if name == "finished" else "reset")
            self.logged()
            self.assertTrue(pair.gateway.connected)
            pair.clock.advance(2)
            self.assertEqual(pair.leftovers(), [], name)

    def test_one_that_raises_when_told_of_its_end_gives_its_slot_back(self) -> None:
        pair = Pair()
        pair.next_call = lambda: Recorder(data=self.fails, reset=self.fails)
        call = pair.call(end=False)
        call.stream.write(b"x")
        pair.flush()
        self.assertEqual(call.told, ["reset"])
        assert call.reason is not None
        self.assertEqual(call.reason.reason, ErrorCode.INTERNAL_ERROR)
        self.logged(2)
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_accept_that_raises_refuses_the_stream_and_keeps_no_slot(self) -> None:
        def accept(stream: StreamTransport, head: Open) -> StreamReceiver:
            raise ZeroDivisionError

        pair = Pair(agent_accept=accept)
        calls = [pair.call() for _ in range(3)]
        self.assertEqual([call.told for call in calls], [["reset"]] * 3)
        self.logged(3)
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])

    def test_a_producer_that_raises_ends_its_stream_only(self) -> None:
        for name in ("pause", "resume"):
            pair = Pair()
            call, other = pair.call(), pair.call()
            far = pair.calls[0].stream
            far.send_head(Head(200))
            far.registerProducer(Producer(**{name: self.fails}), True)
            far.write(bytes(300 * KIB))
            pair.flush()
            far.release()
            pair.answer(b"fine")
            pair.flush()
            self.assertEqual(call.told[-1], "reset", name)
            self.assertEqual(other.told[-1], "finished", name)
            self.logged()
            pair.clock.advance(2)
            self.assertEqual(pair.leftovers(), [], name)

    def test_an_owner_that_raises_does_not_disturb_the_streams(self) -> None:
        pair = Pair()
        pair.agent.on_goaway = lambda _goaway: self.fails()
        pair.agent.on_end = self.fails
        call = pair.call()
        pair.gateway.drain()
        pair.flush()
        pair.answer(b"x")
        pair.flush()
        self.assertEqual(call.told[-1], "finished")
        pair.agent.terminate("no_error")
        self.logged(2)

    def test_text_that_utf8_can_not_say_is_sent_as_far_as_it_can(self) -> None:
        pair = Pair()
        call = pair.call()
        far = pair.calls[0].stream
        far.reset("not_found", "no file \udcff" + "x" * 5000, "caf\udce9" * 9000)
        far.release()
        pair.flush()
        assert call.reason is not None
        self.assertTrue(call.reason.message.startswith("no file ?xxx"))
        self.assertTrue(call.reason.detail.startswith("caf?caf?"))

    def test_a_reset_fits_the_smallest_limit_that_a_peer_may_have(self) -> None:
        pair = Pair(gateway_settings=Settings(map_size=1024))
        call = pair.call()
        pair.calls[0].stream.reset("é" * 90, "\N{GRINNING FACE}" * 2000, "\N{GRINNING FACE}" * 9000)
        pair.agent._outbound.send()  # type: ignore[union-attr]
        self.assertLessEqual(len(pair.agent_link.sent[-1]), 1024 + 8)
        pair.flush()
        self.assertEqual(call.told, ["reset"])


class RefusalTests(SynchronousTestCase):
    def test_no_stream_is_opened_without_a_socket_or_after_the_end(self) -> None:
        pair = Pair()
        pair.cut()
        self.assertFalse(pair.gateway.available)
        with self.assertRaises(StreamRefused) as caught:
            pair.gateway.open_stream(GET, Recorder())
        self.assertEqual(caught.exception.code, ErrorCode.TUNNEL_LOST)
        pair.resume()
        pair.call()
        pair.gateway.terminate("no_error")
        with self.assertRaises(StreamRefused):
            pair.gateway.open_stream(GET, Recorder())

    def test_a_side_that_takes_none_refuses(self) -> None:
        pair = Pair()
        recorder = Recorder()
        pair.agent.open_stream(GET, recorder)
        pair.flush()
        assert recorder.reason is not None
        self.assertEqual(recorder.reason.reason, ErrorCode.REFUSED)
        pair.clock.advance(2)
        self.assertEqual(pair.leftovers(), [])
