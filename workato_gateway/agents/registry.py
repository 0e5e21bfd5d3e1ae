"""Who is connected: the live sessions of the gateway's agents.

A session stays here while a lost socket may still be replaced; ``connected`` tells whether a call
sent now would reach the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field
from twisted.logger import Logger

from workato_tunnel.errors import ErrorCode
from workato_tunnel.frames import Catalogue, Open
from workato_tunnel.tx.session import Session
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport


@define(eq=False)
class LiveAgent:
    """An agent's session, with who the agent is.

    :ivar address: the peer's IP address and port on the latest socket.
    :ivar since: when the session began, Unix seconds.
    :ivar certificate_serial: of the certificate that the latest socket showed.
    """

    agent_id: str
    name: str
    group: str
    session: Session
    address: str = ""
    since: float = 0.0
    certificate_serial: str = ""
    round_trip: Callable[[], float | None] = field(default=lambda: None)
    _offered: frozenset[tuple[str, str]] = field(default=frozenset(), init=False)

    @property
    def catalogue(self) -> Catalogue:
        """What the agent offers and runs on."""
        return self.session.catalogue

    @property
    def connected(self) -> bool:
        """Whether a call sent now would reach the agent."""
        return self.session.available

    @property
    def streams(self) -> int:
        """Calls in flight."""
        return self.session.streams

    def catalogue_changed(self, catalogue: Catalogue) -> None:
        """Take a new catalogue in."""
        self._offered = frozenset((each.service, each.name) for each in catalogue.profiles)

    def offers(self, service: str, profile: str) -> bool:
        """Whether the agent serves that profile."""
        return (service, profile) in self._offered

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> StreamTransport:
        """Send a call; ``end``: it has no body. Raises StreamRefused, HeadTooLarge."""
        return self.session.open_stream(head, receiver, end=end)

    def terminate(self, code: str, message: str) -> None:
        """Cut the session for good."""
        self.session.terminate(code, message)


@define(eq=False)
class Registry:
    """All live agents. ``joined`` and ``left`` are told of each session's begin and end."""

    joined: Callable[[LiveAgent], None] = field(default=lambda _live: None)
    left: Callable[[LiveAgent], None] = field(default=lambda _live: None)
    duplicate_logins: int = 0
    _by_secret: dict[bytes, LiveAgent] = field(factory=dict, init=False)
    _by_group: dict[str, list[LiveAgent]] = field(factory=dict, init=False)
    _by_agent: dict[str, list[LiveAgent]] = field(factory=dict, init=False)

    _log = Logger()

    def __iter__(self) -> Iterator[LiveAgent]:
        return iter(list(self._by_secret.values()))

    def __len__(self) -> int:
        return len(self._by_secret)

    def group(self, group: str) -> list[LiveAgent]:
        """The live agents of a group, in the order of their sessions."""
        return self._by_group.get(group, [])

    def sessions_of(self, agent_id: str) -> list[LiveAgent]:
        """The sessions of one agent: more than one only around a reconnection, or with a copy."""
        return list(self._by_agent.get(agent_id, ()))

    def resumable(self, secret: bytes, agent_id: str) -> LiveAgent | None:
        """The session of that secret, if it is this agent's and has not ended."""
        live = self._by_secret.get(secret)
        if live is None or live.agent_id != agent_id or live.session.ended:
            return None
        return live

    def add(self, live: LiveAgent) -> None:
        """Enter a new session.

        An older session of the same agent without a socket has been given up by the agent: it ends
        now. One whose socket is alive stays: the same identity is in use twice, which is logged.
        """
        for other in self.sessions_of(live.agent_id):
            if other.session.connected:
                self.duplicate_logins += 1
                self._log.warn(
                    "Agent {name} of group {group} logged in from {address} while its session from"
                    " {other} is alive: is its identity folder in use on two machines?",
                    event="agent_duplicate_login",
                    name=live.name,
                    group=live.group,
                    address=live.address,
                    other=other.address,
                )
            else:
                other.terminate(ErrorCode.TUNNEL_LOST, "the agent began a new session")
        self._by_secret[live.session.secret] = live
        self._by_group.setdefault(live.group, []).append(live)
        self._by_agent.setdefault(live.agent_id, []).append(live)
        live.session.on_catalogue = live.catalogue_changed
        live.session.on_end = lambda: self._remove(live)
        self.joined(live)

    def terminate_agent(self, agent_id: str, code: str, message: str) -> int:
        """Cut all sessions of an agent; how many there were."""
        sessions = self.sessions_of(agent_id)
        for live in sessions:
            live.terminate(code, message)
        return len(sessions)

    def _remove(self, live: LiveAgent) -> None:
        del self._by_secret[live.session.secret]
        _take_out(self._by_group, live.group, live)
        _take_out(self._by_agent, live.agent_id, live)
        self.left(live)


def _take_out(index: dict[str, list[LiveAgent]], key: str, live: LiveAgent) -> None:
    entries = index[key]
    entries.remove(live)
    if not entries:
        del index[key]
