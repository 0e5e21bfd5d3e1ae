"""Agents in memory for tests of the gateway: the seams of ``agents/registry.py`` and
``workato_tunnel/tx/transport.py`` without a tunnel between.

What the agent's side does is told by the test, through the :class:`MemoryStream` of each call.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer

from workato_tunnel.errors import ErrorCode, StreamRefused, StreamReset
from workato_tunnel.frames import Catalogue, Head, Headers, Open, Profile, Trailers
from workato_tunnel.tx.transport import StreamReceiver

HIGH = 128 * 1024
LOW = 64 * 1024


@define(eq=False)
class MemoryStream:
    """The gateway's end of a stream, and what an agent would do at the other end (``agent_…``).

    :ivar credit: body bytes that the agent will still take; None: any number.
    :ivar most_queued: the largest number of body bytes that ever waited for credit.
    :ivar reset_code: why the gateway ended the stream, if it did.
    """

    stream_id: int
    head: Open
    receiver: StreamReceiver
    ended: bool
    agent: MemoryAgent
    credit: int | None = None
    closed: bool = False
    request_ended: bool = False
    body: bytearray = field(factory=bytearray)
    reset_code: str | None = None
    most_queued: int = 0
    paused: bool = False
    most_held: int = 0
    _queue: bytearray = field(factory=bytearray)
    _held: list[bytes] = field(factory=list)
    _finish: Trailers | None = None
    _producer: IPushProducer | None = None
    _producer_paused: bool = False

    def send_head(self, head: Head) -> None:
        """The opener sends no HEAD."""
        raise AssertionError("the gateway's end never sends a HEAD")

    def finish(self, trailers: Trailers) -> None:
        """The opener sends no TRAILERS."""
        raise AssertionError("the gateway's end never sends TRAILERS")

    def write(self, data: bytes) -> None:
        """StreamTransport."""
        if self.closed:
            return
        assert not self.ended, "DATA after the end"
        self._queue += data
        self._move()

    def half_close(self) -> None:
        """StreamTransport."""
        if not self.closed:
            assert not self.ended, "ended twice"
            self.ended = True

    def reset(self, code: str, message: str = "", detail: str = "") -> None:
        """StreamTransport."""
        if not self.closed:
            self.reset_code = str(code)
            self._close()

    def release(self) -> None:
        """StreamTransport."""

    def writable(self) -> Deferred[None]:
        """StreamTransport."""
        raise AssertionError("the gateway uses producers")

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """StreamTransport."""
        assert streaming
        assert self._producer is None
        self._producer = IPushProducer(producer)
        self._producer_paused = False
        self._pace()

    def unregisterProducer(self) -> None:
        """StreamTransport."""
        self._producer = None

    def pauseProducing(self) -> None:
        """StreamTransport."""
        self.paused = True

    def resumeProducing(self) -> None:
        """StreamTransport."""
        self.paused = False
        while self._held and not self.paused and not self.closed:
            self.receiver.data_received(self._held.pop(0))
        if self._finish is not None and not self._held and not self.closed and not self.paused:
            self._finished(self._finish)

    def stopProducing(self) -> None:
        """StreamTransport."""
        self.reset(ErrorCode.CANCELLED)

    # The agent's end

    def agent_grants(self, credit: int | None) -> None:
        """Take that many more bytes of the body; None: all there will be."""
        self.credit = None if credit is None or self.credit is None else self.credit + credit
        self._move()

    def agent_answers(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """A whole answer."""
        self.agent_begins(status, headers)
        if body:
            self.agent_sends(body)
        self.agent_finishes()

    def agent_begins(self, status: int, headers: Headers = ()) -> None:
        """HEAD."""
        if not self.closed:
            self.receiver.head_received(Head(status, headers))

    def agent_sends(self, data: bytes) -> None:
        """DATA: waits here while the gateway has paused the stream."""
        if self.closed:
            return
        if self.paused or self._held:
            self._held.append(data)
            self.most_held = max(self.most_held, sum(map(len, self._held)))
        else:
            self.receiver.data_received(data)

    def agent_finishes(self) -> None:
        """TRAILERS."""
        if self.closed:
            return
        if self._held:
            self._finish = Trailers()
        else:
            self._finished(Trailers())

    def agent_resets(
        self, reason: str, message: str = "", detail: str = "", *, remote: bool = True
    ) -> None:
        """RESET, or (not remote) the session's loss."""
        if not self.closed:
            self._close()
            self.receiver.reset_received(StreamReset(reason, message, detail, remote=remote))

    def _finished(self, trailers: Trailers) -> None:
        self._close()
        self.receiver.finished(trailers)

    def _close(self) -> None:
        self.closed = True
        self._producer = None
        self.agent.streams -= 1

    def _move(self) -> None:
        taken = len(self._queue) if self.credit is None else min(self.credit, len(self._queue))
        self.body += self._queue[:taken]
        del self._queue[:taken]
        if self.credit is not None:
            self.credit -= taken
        self.most_queued = max(self.most_queued, len(self._queue))
        self._pace()

    def _pace(self) -> None:
        if self._producer is None:
            return
        if len(self._queue) > HIGH and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()
        elif len(self._queue) < LOW and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()


@define(eq=False)
class MemoryAgent:
    """A connected agent that offers what it is told to.

    :ivar refusal: raised instead of opening a stream, when set.
    :ivar credit: what each new stream begins with.
    :ivar opened: every stream so far, oldest first.
    :ivar on_open: told of each new stream, before ``open_stream`` returns.
    """

    name: str = "agent-1"
    group: str = "sales"
    profiles: tuple[tuple[str, str], ...] = (("http", "crm"), ("database", "erp"))
    connected: bool = True
    streams: int = 0
    refusal: StreamRefused | None = None
    credit: int | None = None
    opened: list[MemoryStream] = field(factory=list)
    on_open: Callable[[MemoryStream], None] | None = None
    keep: bool = True
    catalogue: Catalogue = field(init=False)
    agent_id: str = field(init=False)
    terminated: str | None = None
    ping: float | None = 0.002

    def __attrs_post_init__(self) -> None:
        self.agent_id = f"id-of-{self.name}"
        self.catalogue = Catalogue(
            profiles=tuple(Profile(service, name) for service, name in self.profiles)
        )

    @property
    def round_trip(self) -> Callable[[], float | None]:
        """LiveAgent."""
        return lambda: self.ping

    def offers(self, service: str, profile: str) -> bool:
        """LiveAgent."""
        return (service, profile) in self.profiles

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> MemoryStream:
        """LiveAgent."""
        if self.refusal is not None:
            raise self.refusal
        self.streams += 1
        stream = MemoryStream(
            2 * len(self.opened) + 1, head, receiver, end, self, credit=self.credit
        )
        if self.keep:
            self.opened.append(stream)
        if self.on_open is not None:
            self.on_open(stream)
        return stream

    def terminate(self, code: str, message: str) -> None:
        """LiveAgent."""
        self.terminated = code


@define(eq=False)
class MemoryRegistry:
    """All agents of a test."""

    agents: list[MemoryAgent] = field(factory=list)

    def group(self, group: str) -> list[MemoryAgent]:
        """Registry."""
        return [agent for agent in self.agents if agent.group == group]
