"""Ends of streams over a MemoryPair that write down what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workato_tunnel.errors import StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.tx.stream import TunnelStream
from workato_tunnel.tx.testing import MemoryPair

GET = Open("http", "app")


class Recorder:
    """A receiver. ``told`` lists the calls in order; ``on`` maps a call's name to what it does."""

    def __init__(self, **on: Callable[[], object]) -> None:
        self.told: list[str] = []
        self.data = b""
        self.head: Head | None = None
        self.trailers: Trailers | None = None
        self.reason: StreamReset | None = None
        self.on = on
        self.stream: Any = None

    def _tell(self, name: str) -> None:
        self.told.append(name)
        act = self.on.get(name)
        if act is not None:
            act()

    def head_received(self, head: Head) -> None:
        self.head = head
        self._tell("head")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._tell("data")

    def end_received(self) -> None:
        self._tell("end")

    def finished(self, trailers: Trailers) -> None:
        self.trailers = trailers
        self._tell("finished")

    def reset_received(self, reason: StreamReset) -> None:
        self.reason = reason
        self._tell("reset")


class Producer:
    """A push producer that counts."""

    def __init__(self, **on: Callable[[], object]) -> None:
        self.told: list[str] = []
        self.on = on

    def _tell(self, name: str) -> None:
        self.told.append(name)
        act = self.on.get(name)
        if act is not None:
            act()

    def pauseProducing(self) -> None:
        self._tell("pause")

    def resumeProducing(self) -> None:
        self._tell("resume")

    def stopProducing(self) -> None:
        self._tell("stop")


class Pair(MemoryPair):
    """A pair whose agent writes down each stream; ``calls`` holds the agent's ends."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[Recorder] = []
        self.next_call = Recorder
        options.setdefault("agent_accept", self._accept)
        super().__init__(**options)

    def _accept(self, stream: Any, head: Open) -> Recorder:
        recorder = self.next_call()
        recorder.stream = stream
        self.calls.append(recorder)
        return recorder

    def call(self, recorder: Recorder | None = None, *, end: bool = True) -> Recorder:
        """Open a stream on the gateway and let it arrive."""
        recorder = recorder or Recorder()
        recorder.stream = self.gateway.open_stream(GET, recorder, end=end)
        self.flush()
        return recorder

    def answer(self, body: bytes = b"", index: int = -1) -> None:
        """Answer the latest call that arrived (without letting the answer travel)."""
        stream = self.calls[index].stream
        stream.send_head(Head(200))
        stream.write(body)
        stream.finish(Trailers())
        stream.release()

    def leftovers(self) -> list[object]:
        """What a session holds that nothing needs any more."""
        left: list[object] = [str(call) for call in self.clock.getDelayedCalls()]
        for session in (self.agent, self.gateway):
            left += session._streams.values()
            left += session.connection.streams.values()
            left += session.connection._slots
            left += session.connection._extra._undelivered
            left += session._at_rest
        return left


def stream_of(recorder: Recorder) -> TunnelStream:
    """The stream behind a recorder, as its class."""
    assert isinstance(recorder.stream, TunnelStream)
    return recorder.stream
