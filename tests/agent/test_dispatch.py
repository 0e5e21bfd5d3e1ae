"""Calls through the dispatcher, over a real pair of sessions in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.calls import Answer, Ends, served
from workato_agent.calls import STUCK_AFTER, Call
from workato_agent.dispatch import Dispatcher
from workato_agent.requests import Request, Response
from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem
from workato_tunnel.tx.testing import MemoryPair
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

Serve = Callable[[Request], Awaitable[Response]]


class DispatcherCase(SynchronousTestCase):
    """A dispatcher behind a tunnel in memory; ``served`` is what profile http/app does."""

    def setUp(self) -> None:
        self.pair = MemoryPair(agent_accept=self.accept)
        self.observed = Ends()
        self.dispatcher = Dispatcher(self.pair.clock, {}, (self.observed,))

    def accept(self, stream: StreamTransport, head: Open) -> StreamReceiver:
        return self.dispatcher.accept(stream, head)

    def serve(self, serve: Serve) -> None:
        self.dispatcher.profiles = {"http": {"app": served(serve)}, "files": {}}

    def open(self, *, end: bool = True, **fields: object) -> tuple[StreamTransport, Answer]:
        values: dict[str, object] = {"service": "http", "profile": "app", "request_id": "r-1"}
        answer = Answer()
        head = Open(**(values | fields))  # type: ignore[arg-type]
        stream = self.pair.gateway.open_stream(head, answer, end=end)
        self.pair.flush()
        return stream, answer

    def call(self, **fields: object) -> Answer:
        return self.open(**fields)[1]

    def assert_slots_free(self) -> None:
        self.pair.flush()
        self.assertEqual(self.pair.agent.connection.busy_slots, 0)
        self.assertEqual(self.dispatcher.in_flight, 0)
        delayed = self.pair.clock.getDelayedCalls()
        pending = [each for each in delayed if isinstance(each.func.__self__, Call)]
        self.assertEqual(pending, [], "no deadline or watch outlives its call")


async def hello(request: Request) -> Response:
    return Response(200, (("content-type", "text/plain"),), b"hello")


class AnswerTests(DispatcherCase):
    def test_a_small_call_is_answered_without_a_turn_of_the_reactor(self) -> None:
        self.serve(hello)
        written: list[str] = []

        class Recorder:
            stream_id, closed = 1, False

            def __getattr__(self, name: str) -> Callable[..., None]:
                return lambda *_: written.append(name)

        self.dispatcher.accept(Recorder(), Open("http", "app"))  # type: ignore[arg-type]
        self.assertEqual(written, ["send_head", "write", "finish", "release"])

    def test_status_headers_body_and_rows_reach_the_caller(self) -> None:
        async def rows(request: Request) -> Response:
            request.usage.rows = 3
            return Response(201, (("x-a", "1"),), b"abc")

        self.serve(rows)
        answer = self.call()
        self.assertEqual((answer.status, bytes(answer.body)), (201, b"abc"))
        self.assertEqual((answer.header("x-a"), answer.header("content-length")), ("1", "3"))
        assert answer.trailers
        self.assertEqual((answer.trailers.rows, answer.trailers.bytes), (3, 3))
        self.assert_slots_free()

    def test_the_service_sees_the_request_as_it_came(self) -> None:
        seen: list[Request] = []

        async def look(request: Request) -> Response:
            seen.append(request)
            return Response(204)

        self.serve(look)
        self.pair.clock.advance(5)
        self.call(
            path="a%2Fb/c", query="x=1", headers=(("accept", "a"),), caller="me", timeout=2000
        )
        request = seen[0]
        self.assertEqual((request.path, request.query, request.caller), ("a%2Fb/c", "x=1", "me"))
        self.assertEqual((request.header("accept"), request.deadline), ("a", 7.0))

    def test_head_gets_the_length_and_no_body(self) -> None:
        self.serve(hello)
        answer = self.call(method="HEAD")
        self.assertEqual((answer.header("content-length"), bytes(answer.body)), ("5", b""))

    def test_head_of_a_streamed_answer_reads_nothing_of_it(self) -> None:
        closed: list[bool] = []

        class Source:
            def __aiter__(self) -> AsyncIterator[bytes]:
                raise AssertionError("read")

            async def aclose(self) -> None:
                closed.append(True)

        async def stream(request: Request) -> Response:
            return Response(200, (("content-length", "10"),), Source())  # type: ignore[arg-type]

        self.serve(stream)
        answer = self.call(method="HEAD")
        self.assertEqual((answer.header("content-length"), closed), ("10", [True]))
        self.assertIsNotNone(answer.trailers)

    def test_no_length_is_invented_where_http_forbids_it(self) -> None:
        async def nothing(request: Request) -> Response:
            return Response(204)

        self.serve(nothing)
        self.assertIsNone(self.call().header("content-length"))

    def test_a_request_body_is_read_while_it_comes(self) -> None:
        async def echo(request: Request) -> Response:
            return Response(200, (), await request.body.read(100))

        self.serve(echo)
        stream, answer = self.open(method="POST", end=False)
        stream.write(b"ping")
        stream.half_close()
        self.pair.flush()
        self.assertEqual(bytes(answer.body), b"ping")
        self.assertEqual((self.observed.ends[0].bytes_in, self.observed.ends[0].bytes_out), (4, 4))
        self.assert_slots_free()

    def test_an_early_answer_does_not_wait_for_the_request_body(self) -> None:
        self.serve(hello)
        stream, answer = self.open(method="POST", end=False)
        stream.write(b"x" * 5_000_000)
        self.pair.flush()
        self.assertEqual(bytes(answer.body), b"hello")
        self.assert_slots_free()


class StreamedAnswerTests(DispatcherCase):
    def test_chunks_of_any_size_arrive_in_order(self) -> None:
        chunks = [b"a", b"", b"b" * 300_000, b"c" * 70_000] + [b"d" * 100] * 5000

        async def produce() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        async def stream(request: Request) -> Response:
            return Response(200, (), produce())

        self.serve(stream)
        answer = self.call()
        self.assertEqual(bytes(answer.body), b"".join(chunks))
        assert answer.trailers
        self.assertEqual(answer.trailers.bytes, len(answer.body))
        self.assert_slots_free()

    def test_a_caller_who_stands_still_stops_the_source_and_no_one_else(self) -> None:
        taken = 0

        async def produce() -> AsyncIterator[bytes]:
            nonlocal taken
            for _ in range(1000):
                taken += 1
                yield b"x" * 65536

        async def serve(request: Request) -> Response:
            return Response(200, (), produce()) if request.path == "big" else await hello(request)

        self.serve(serve)
        answer = Answer()
        stream = self.pair.gateway.open_stream(Open("http", "app", path="big"), answer, end=True)
        stream.pauseProducing()
        self.pair.flush()
        self.assertLess(taken, 20)
        self.assertEqual(bytes(self.call().body), b"hello")
        stream.resumeProducing()
        self.pair.flush()
        self.assertEqual(len(answer.body), 1000 * 65536)
        self.assert_slots_free()

    def test_a_failure_after_the_head_is_told_behind_the_body(self) -> None:
        async def produce() -> AsyncIterator[bytes]:
            yield b"half"
            raise Problem("target_unreachable", "the disk went away" + "\udcff" * 5000)

        async def stream(request: Request) -> Response:
            return Response(200, (), produce())

        self.serve(stream)
        answer = self.call()
        assert answer.trailers
        self.assertEqual(bytes(answer.body), b"half")
        self.assertEqual(answer.trailers.code, "target_unreachable")
        self.assertTrue(answer.trailers.detail.startswith("the disk went away???"))
        self.assertIsNone(answer.reset)
        self.assertEqual(self.observed.ends[0].code, "target_unreachable")
        self.assert_slots_free()

    def test_the_source_is_closed_when_the_caller_leaves(self) -> None:
        closed: list[str] = []

        async def produce() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
            finally:
                closed.append("source")

        async def stream(request: Request) -> Response:
            return Response(200, (), produce())

        self.serve(stream)
        answer = Answer()
        stream_ = self.pair.gateway.open_stream(Open("http", "app"), answer, end=True)
        stream_.pauseProducing()
        self.pair.flush()
        self.assertEqual(closed, [])
        stream_.reset("cancelled")
        self.assert_slots_free()
        self.assertEqual(closed, ["source"])
        self.assertEqual(self.observed.ends[0].code, "cancelled")


class FailureTests(DispatcherCase):
    def assert_problem(self, answer: Answer, code: str, status: int) -> None:
        self.assertEqual((answer.document()["code"], answer.status), (code, status))
        self.assertEqual(answer.header("content-type"), "application/problem+json")
        self.assertEqual(answer.document()["request_id"], "r-1")
        self.assertEqual([end.code for end in self.observed.ends], [code])
        self.assert_slots_free()

    def test_an_unknown_service_is_named(self) -> None:
        self.serve(hello)
        self.assert_problem(self.call(service="nope"), "service_not_found", 404)

    def test_an_unknown_profile_is_named(self) -> None:
        self.serve(hello)
        answer = self.call(service="files")
        self.assertIn("'app'", str(answer.document()["detail"]))
        self.assert_problem(answer, "profile_not_found", 404)

    def test_an_unknown_operation_is_refused(self) -> None:
        self.serve(hello)
        self.assert_problem(self.call(method="DELETE"), "operation_not_found", 404)

    def test_what_the_policy_denies_never_reaches_the_service(self) -> None:
        async def never(request: Request) -> Response:
            raise AssertionError

        def deny(request: Request, operation: str) -> None:
            raise Problem(
                "policy_denied", f"{operation} is not allowed", extra={"rule": "operations"}
            )

        self.dispatcher.profiles = {"http": {"app": served(never, deny)}}
        answer = self.call()
        self.assertEqual(answer.document()["rule"], "operations")
        self.assert_problem(answer, "policy_denied", 403)
        self.assertTrue(self.observed.ends[0].denied)
        self.assertEqual(self.observed.ends[0].operation, "read")

    def test_a_problem_of_the_service_is_the_answer(self) -> None:
        async def refuse(request: Request) -> Response:
            raise Problem("overloaded", "busy", retry_after=3)

        self.serve(refuse)
        answer = self.call()
        self.assertEqual(answer.header("retry-after"), "3")
        self.assert_problem(answer, "overloaded", 429)

    def test_a_bug_is_logged_once_and_leaks_nothing(self) -> None:
        async def bug(request: Request) -> Response:
            raise KeyError("the password is hunter2")

        self.serve(bug)
        answer = self.call()
        self.assertNotIn(b"hunter2", bytes(answer.body))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assert_problem(answer, "internal_error", 500)

    def test_a_bug_in_the_middle_of_a_body_leaks_nothing_either(self) -> None:
        async def produce() -> AsyncIterator[bytes]:
            yield b"x"
            raise KeyError("hunter2")

        async def bug(request: Request) -> Response:
            return Response(200, (), produce())

        self.serve(bug)
        answer = self.call()
        assert answer.trailers
        self.assertEqual(answer.trailers.code, "internal_error")
        self.assertNotIn("hunter2", str(answer.trailers))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_service_that_exits_does_not_take_the_agent_along(self) -> None:
        async def leave(request: Request) -> Response:
            raise SystemExit(3)

        self.serve(leave)
        answer = self.call()
        assert answer.reset
        self.assertEqual(answer.reset.reason, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.serve(hello)
        self.assertEqual(self.call().status, 200)

    def test_header_fields_that_do_not_fit_are_an_error_and_not_a_dead_session(self) -> None:
        async def huge(request: Request) -> Response:
            return Response(200, (("x", "y" * 100_000),), b"")

        self.serve(huge)
        self.assert_problem(self.call(), "internal_error", 500)

    def test_a_problem_that_can_not_be_written_down_still_ends_the_call(self) -> None:
        async def odd(request: Request) -> Response:
            raise Problem("conflict", "odd", extra={"member": object()})

        self.serve(odd)
        answer = self.call()
        assert answer.reset
        self.assertEqual(answer.reset.reason, "internal_error")
        self.flushLoggedErrors(TypeError)
        self.assert_slots_free()

    def test_an_observer_that_fails_does_not_keep_the_record_from_the_next(self) -> None:
        class Broken(Ends):
            def call_ended(self, end: object) -> None:
                raise OSError("disk full")

        self.dispatcher.observers = (Broken(), self.observed)
        self.serve(hello)
        self.assertEqual(self.call().status, 200)
        self.assertEqual(len(self.observed.ends), 1)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_where_no_call_can_be_taken_none_begins(self) -> None:
        def admit() -> None:
            raise Problem("overloaded", "no room for the audit")

        self.dispatcher = Dispatcher(self.pair.clock, {}, (self.observed,), admit)
        self.serve(hello)
        answer = self.call()
        self.assertEqual((answer.status, self.observed.began), (429, []))
        self.assert_slots_free()


class CancellationTests(DispatcherCase):
    def setUp(self) -> None:
        super().setUp()
        self.log: list[str] = []
        self.waiting: Deferred[None] = Deferred(lambda _: self.log.append("stopped"))

    async def wait(self, request: Request) -> Response:
        try:
            await self.waiting
        except CancelledError:
            self.log.append("cancelled")
            raise
        return Response(200, (), b"done")

    async def stubborn(self, request: Request) -> Response:
        release: Deferred[None] = Deferred()
        self.release = release
        try:
            await self.waiting
        except CancelledError:
            await release
        return Response(200, (), b"too late")

    def test_work_that_ends_in_time_is_answered(self) -> None:
        self.serve(self.wait)
        answer = self.call(timeout=1000)
        self.pair.clock.advance(0.9)
        self.waiting.callback(None)
        self.pair.flush()
        self.assertEqual(bytes(answer.body), b"done")
        self.assert_slots_free()

    def test_the_deadline_stops_the_work_and_answers(self) -> None:
        self.serve(self.wait)
        answer = self.call(timeout=1000)
        self.pair.clock.advance(1)
        self.pair.flush()
        self.assertEqual((answer.status, answer.document()["code"]), (504, "deadline_exceeded"))
        self.assertEqual(self.log, ["stopped", "cancelled"])
        self.assertEqual([end.code for end in self.observed.ends], ["deadline_exceeded"])
        self.assert_slots_free()

    def test_the_deadline_in_the_middle_of_a_body_resets(self) -> None:
        async def produce() -> AsyncIterator[bytes]:
            yield b"x"
            await self.waiting

        async def stream(request: Request) -> Response:
            return Response(200, (), produce())

        self.serve(stream)
        answer = self.call(timeout=1000)
        self.pair.clock.advance(1)
        self.pair.flush()
        assert answer.reset
        self.assertEqual((answer.status, answer.reset.reason), (200, "deadline_exceeded"))
        self.assertEqual(self.log, ["stopped"])
        self.assert_slots_free()

    def test_a_timeout_of_zero_or_less_is_over_at_once(self) -> None:
        for timeout in (0, -5):
            self.waiting = Deferred()
            self.serve(self.wait)
            answer = self.call(timeout=timeout)
            self.assertEqual(answer.status, 504)
        self.assert_slots_free()

    def test_an_absurd_timeout_is_bounded_to_a_day(self) -> None:
        self.serve(self.wait)
        answer = self.call(timeout=2**62)
        self.pair.clock.advance(86_400)
        self.pair.flush()
        self.assertEqual(answer.status, 504)

    def test_a_caller_who_leaves_stops_the_work(self) -> None:
        self.serve(self.wait)
        stream, _ = self.open()
        stream.reset("cancelled", "the caller left")
        self.pair.flush()
        self.assertEqual(self.log, ["stopped", "cancelled"])
        self.assertEqual([end.code for end in self.observed.ends], ["cancelled"])
        self.assert_slots_free()

    def test_a_lost_session_stops_the_work(self) -> None:
        self.serve(self.wait)
        self.open()
        self.pair.agent.terminate("no_error", "over")
        self.assertEqual(self.log, ["stopped", "cancelled"])
        self.assertEqual([end.code for end in self.observed.ends], ["tunnel_lost"])

    def test_a_service_that_waits_for_a_body_is_cancelled_too(self) -> None:
        async def read(request: Request) -> Response:
            return Response(200, (), await request.body.read(10))

        self.serve(read)
        stream, _ = self.open(method="PUT", end=False)
        stream.reset("cancelled")
        self.assert_slots_free()
        self.assertEqual([end.code for end in self.observed.ends], ["cancelled"])

    def test_work_that_goes_on_keeps_its_slot_and_is_logged(self) -> None:
        self.serve(self.stubborn)
        answer = self.call(timeout=1000)
        self.pair.clock.advance(1)
        self.pair.flush()
        self.assertEqual(answer.status, 504)
        self.assertEqual(self.pair.agent.connection.busy_slots, 1)
        self.assertEqual(self.observed.ends, [])
        logged: list[str] = []
        self.patch(self.dispatcher, "log", _Recorder(logged))
        self.pair.clock.advance(STUCK_AFTER)
        self.assertEqual(len(logged), 1)
        self.release.callback(None)
        self.assert_slots_free()
        self.assertEqual([end.code for end in self.observed.ends], ["deadline_exceeded"])
        self.assertNotIn(b"too late", bytes(answer.body))

    def test_an_odd_error_after_cancellation_is_no_bug_to_report(self) -> None:
        async def odd(request: Request) -> Response:
            try:
                await self.waiting
            except CancelledError:
                raise ConnectionError("closed under me") from None
            raise AssertionError

        self.serve(odd)
        stream, _ = self.open()
        stream.reset("cancelled")
        self.assert_slots_free()

    def test_a_cancellation_nobody_asked_for_is_a_bug(self) -> None:
        self.serve(self.wait)
        answer = self.call()
        self.waiting.cancel()
        self.pair.flush()
        self.assertEqual(answer.document()["code"], "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)

    def test_drain_waits_for_the_calls_in_flight_and_refuses_new_ones(self) -> None:
        self.serve(self.wait)
        first = self.call()
        drained = self.dispatcher.drain()
        self.assertNoResult(drained)
        second = self.call()
        assert second.reset
        self.assertEqual(second.reset.reason, "draining")
        self.waiting.callback(None)
        self.successResultOf(drained)
        self.pair.flush()
        self.assertEqual(bytes(first.body), b"done")
        self.assertEqual(len(self.observed.ends), 1)
        self.assert_slots_free()

    def test_drain_of_an_idle_dispatcher_is_over_at_once(self) -> None:
        self.successResultOf(self.dispatcher.drain())

    def test_abort_cancels_the_rest_and_says_so(self) -> None:
        self.serve(self.wait)
        answer = self.call()
        drained = self.dispatcher.drain()
        self.dispatcher.abort()
        self.successResultOf(drained)
        self.pair.flush()
        self.assertEqual((answer.status, answer.document()["code"]), (502, "tunnel_lost"))
        self.assertEqual(self.log, ["stopped", "cancelled"])
        self.assert_slots_free()


class _Recorder:
    """A Logger that keeps its error messages."""

    def __init__(self, messages: list[str]) -> None:
        self._messages = messages

    def error(self, text: str, **fields: object) -> None:
        self._messages.append(text.format(**fields))

    def info(self, text: str, **fields: object) -> None:
        text.format(**fields)
