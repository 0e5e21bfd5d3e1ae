"""Two real sessions in memory, on a Clock: for synchronous tests of what lies above the wire."""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock

from workato_tunnel.connection import Role
from workato_tunnel.frames import Hello
from workato_tunnel.settings import Settings

from .session import Accept, Session


class MemoryLink:
    """One end of a socket that exists in memory. ``limit``: messages held before it pauses."""

    def __init__(self, limit: int = 4) -> None:
        self.sent: deque[bytes] = deque()
        self.open = True
        self.closed_with: tuple[int, str] | None = None
        self._limit = limit
        self._producer: IPushProducer | None = None

    def send_message(self, message: bytes) -> None:
        """Queue a message for the other end."""
        if self.open:
            self.sent.append(message)
            if self._producer is not None and len(self.sent) >= self._limit:
                self._producer.pauseProducing()

    def take(self) -> bytes:
        """The oldest message; the producer goes on once there is room."""
        message = self.sent.popleft()
        if self._producer is not None and not self.sent:
            self._producer.resumeProducing()
        return message

    def register(self, producer: IPushProducer) -> None:
        """Remember whom to pause."""
        self._producer = producer

    def close(self, code: int, reason: str) -> None:
        """Remember the close code; what was sent before is still delivered."""
        self.closed_with = (code, reason)
        self._stop()

    def abort(self) -> None:
        """Drop what is on the way."""
        self._stop()
        self.sent.clear()

    def _stop(self) -> None:
        self.open = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()


class MemoryPair:
    """An agent's and a gateway's session that talk through :class:`MemoryLink`."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        agent_accept: Accept | None = None,
        gateway_accept: Accept | None = None,
        agent_settings: Settings | None = None,
        gateway_settings: Settings | None = None,
        hold: float = 60.0,
    ) -> None:
        self.clock = clock or Clock()
        agent_settings = agent_settings or Settings()
        gateway_settings = gateway_settings or Settings()
        secret = b"memory" * 3
        self.agent = Session(
            Role.AGENT,
            self.clock,
            agent_settings,
            Hello(limits=gateway_settings.limits()),
            secret,
            hold=hold,
            accept=agent_accept,
        )
        self.gateway = Session(
            Role.GATEWAY,
            self.clock,
            gateway_settings,
            Hello(limits=agent_settings.limits()),
            secret,
            hold=hold,
            accept=gateway_accept,
        )
        self.connect()

    def connect(self) -> None:
        """Attach both to a new socket, for the first time."""
        self.agent_link = MemoryLink()
        self.gateway_link = MemoryLink()
        self.agent.attach(self.agent_link)
        self.gateway.attach(self.gateway_link)

    def cut(self) -> None:
        """The socket dies with all that is on the way."""
        for session, link in (
            (self.agent, self.agent_link),
            (self.gateway, self.gateway_link),
        ):
            link.abort()
            session.link_lost(link)

    def resume(self) -> None:
        """The agent dials again and both go on."""
        received = self.agent.supersede(), self.gateway.supersede()
        self.agent_link = MemoryLink()
        self.gateway_link = MemoryLink()
        self.agent.attach(self.agent_link, received[1])
        self.gateway.attach(self.gateway_link, received[0])

    def step(self) -> bool:
        """One reactor turn and one message each way; False when nothing moved.

        A socket that one side has closed is closed for the other one when all that was sent before
        has arrived.
        """
        self.clock.advance(0)
        moved = False
        for source, sink, far in (
            (self.agent_link, self.gateway, self.gateway_link),
            (self.gateway_link, self.agent, self.agent_link),
        ):
            if source.sent:
                moved = True
                sink.message_received(far, source.take())
            elif source.closed_with is not None and far.open:
                moved = True
                far.abort()
                sink.link_closed(far, source.closed_with[1])
        return moved

    def flush(self, turns: int = 100_000) -> None:
        """Let messages pass until neither side has any."""
        for _ in range(turns):
            if not self.step() and not self.step():
                return
        raise AssertionError("the sessions never come to rest")


def memory_pair(
    *, agent_accept: Accept | None = None, gateway_accept: Accept | None = None
) -> MemoryPair:
    """A connected pair with usual settings."""
    return MemoryPair(agent_accept=agent_accept, gateway_accept=gateway_accept)
