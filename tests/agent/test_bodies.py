"""Request bodies between a pushing stream and a pulling service."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.bodies import CHUNK, HIGH_WATER, StreamBody
from workato_agent.requests import BodyLost
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.problems import Problem
from workato_tunnel.tx.testing import MemoryPair, memory_pair
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport


class Accepted:
    """The accepting end of a stream: nothing but a body."""

    def __init__(self, stream: StreamTransport) -> None:
        self.stream = stream
        self.body = StreamBody(stream)
        self.data_received = self.body.data_received
        self.end_received = self.body.end_received

    def head_received(self, head: Head) -> None: ...

    def finished(self, trailers: Trailers) -> None: ...

    def reset_received(self, reason: Exception) -> None:
        self.body.lose(str(reason))


class Silent:
    """The opening end, which only sends."""

    def head_received(self, head: Head) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def end_received(self) -> None: ...

    def finished(self, trailers: Trailers) -> None: ...

    def reset_received(self, reason: Exception) -> None: ...


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.accepted: list[Accepted] = []

        def accept(stream: StreamTransport, head: Open) -> StreamReceiver:
            self.accepted.append(Accepted(stream))
            return self.accepted[-1]

        self.pair: MemoryPair = memory_pair(agent_accept=accept)
        self.sender = self.pair.gateway.open_stream(Open("files", "x", "PUT"), Silent())
        self.pair.flush()
        self.body = self.accepted[0].body

    def collect(self) -> Deferred[list[bytes]]:
        async def read() -> list[bytes]:
            return [chunk async for chunk in self.body]

        return Deferred.fromCoroutine(read())

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.sender.write(data)
        if end:
            self.sender.half_close()
        self.pair.flush()

    def test_chunks_arrive_as_they_come(self) -> None:
        reading = self.collect()
        self.send(b"one")
        self.send(b"two", end=True)
        self.assertEqual(self.successResultOf(reading), [b"one", b"two"])
        self.assertEqual(self.body.received, 6)

    def test_an_empty_body_ends_at_once(self) -> None:
        self.send(b"", end=True)
        self.assertEqual(self.successResultOf(self.collect()), [])

    def test_read_gives_the_whole_body(self) -> None:
        reading = Deferred.fromCoroutine(self.body.read(1_000_000))
        self.send(b"a" * 100_000)
        self.send(b"b" * 100_000, end=True)
        self.assertEqual(self.successResultOf(reading), b"a" * 100_000 + b"b" * 100_000)

    def test_read_refuses_a_body_past_its_limit_before_it_is_complete(self) -> None:
        reading = Deferred.fromCoroutine(self.body.read(10))
        self.send(b"12345678901")
        problem = self.failureResultOf(reading, Problem).value
        self.assertEqual((problem.code, problem.extra), ("payload_too_large", {"limit": 10}))

    def test_a_body_of_exactly_the_limit_is_read(self) -> None:
        self.send(b"1234567890", end=True)
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(self.body.read(10))), b"1234567890"
        )

    def test_what_nobody_reads_is_not_sent_for(self) -> None:
        self.send(b"x" * 20_000_000)
        self.assertLess(self.body.received, HIGH_WATER + CHUNK)

    def test_a_slow_reader_gets_everything(self) -> None:
        self.send(bytes(range(256)) * 20_000, end=True)
        received = bytearray()

        async def read() -> None:
            async for chunk in self.body:
                self.assertLessEqual(len(chunk), CHUNK)
                received.extend(chunk)
                pause: Deferred[None] = Deferred()
                self.pair.clock.callLater(1, pause.callback, None)
                await pause

        reading = Deferred.fromCoroutine(read())
        while not reading.called:
            self.pair.clock.advance(1)
            self.pair.flush()
        self.successResultOf(reading)
        self.assertEqual(bytes(received), bytes(range(256)) * 20_000)

    def test_discarding_lets_the_rest_come_and_go(self) -> None:
        self.send(b"x" * 1_000_000, end=True)
        self.body.discard()
        self.pair.flush()
        self.assertEqual(self.body.received, 1_000_000)

    def test_a_lost_body_never_looks_whole(self) -> None:
        reading = self.collect()
        self.send(b"half")
        self.sender.reset("cancelled", "the caller left")
        self.pair.flush()
        self.assertIn("the caller left", str(self.failureResultOf(reading, BodyLost).value))

    def test_a_body_that_was_complete_survives_the_caller(self) -> None:
        self.send(b"all of it", end=True)
        self.body.lose("gone")
        self.assertEqual(self.successResultOf(self.collect()), [b"all of it"])

    def test_two_readers_at_once_are_a_mistake_that_shows(self) -> None:
        first = self.collect()
        self.failureResultOf(self.collect(), RuntimeError)
        self.send(b"", end=True)
        self.successResultOf(first)

    def test_a_cancelled_read_can_be_followed_by_another(self) -> None:
        first = self.collect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.send(b"later", end=True)
        self.assertEqual(self.successResultOf(self.collect()), [b"later"])

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(max_size=200_000), max_size=8), st.booleans())
    def test_any_split_arrives_whole_and_in_order(self, parts: list[bytes], late: bool) -> None:
        self.setUp()
        reading = None if late else self.collect()
        for part in parts:
            self.sender.write(part)
        self.send(b"", end=True)
        reading = reading or self.collect()
        self.pair.flush()
        self.assertEqual(b"".join(self.successResultOf(reading)), b"".join(parts))
