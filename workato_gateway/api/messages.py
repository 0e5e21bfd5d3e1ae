"""What an administrative resource sees: whole, small requests and answers.

Relayed calls never pass here; they stream (``agents/calls.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from attrs import frozen

from ..identity.tokens import Caller


@frozen
class AdminRequest:
    """One request to a resource of the gateway itself.

    :ivar path: decoded segments after ``/v1``, as ``("groups", "sales", "agents")``.
    :ivar query: decoded pairs.
    :ivar body: at most 1 MiB, whole.
    :ivar peer: the caller's IP address.
    """

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    body: bytes
    caller: Caller
    request_id: str
    peer: str


@frozen
class AdminResponse:
    """The answer: ``content`` is encoded as JSON unless it is bytes already."""

    status: int
    content: object = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """The encoded body; empty where there is no content."""
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        return msgspec.json.encode(self.content)


AdminResource = Callable[[AdminRequest], Awaitable[AdminResponse]]
