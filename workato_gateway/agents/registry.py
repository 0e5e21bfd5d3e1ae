"""Who is connected: the live sessions of the gateway's agents (seam; the body follows)."""

from __future__ import annotations

from typing import Protocol

from workato_tunnel.frames import Catalogue, Open
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport


class LiveAgent(Protocol):
    """An agent with a session. It stays here while a lost socket may still come back."""

    agent_id: str
    name: str
    group: str
    catalogue: Catalogue
    connected: bool  # a socket is attached and the peer is not draining: a call would be answered
    streams: int  # calls in flight

    def offers(self, service: str, profile: str) -> bool: ...

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> StreamTransport:
        """``end``: the request has no body. Raises StreamRefused (draining, lost, no free slot)."""
        ...

    def terminate(self, code: str, message: str) -> None:
        """Cut the session for good (revoked, disabled)."""
        ...


class Registry(Protocol):
    """All live agents."""

    def group(self, group: str) -> list[LiveAgent]:
        """The live agents of a group, in no order."""
        ...
