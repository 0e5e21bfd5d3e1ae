"""What the gateway remembers, and the interface behind which it does.

A unit of work is a plain function on a :class:`Transaction`; a :class:`Store` runs it whole or not
at all, in a thread of its own. So a rule that spans several rows (a code works once) is written
once, for every database, and the command line uses the same functions without a reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from attrs import field, frozen

T = TypeVar("T")


class StoreError(Exception):
    """The store can't be used; the message says what is wrong with it and what to do."""


class NameTakenError(Exception):
    """A row of that name is there already."""


@frozen
class Group:
    """Interchangeable agents. ``allowed_networks``: CIDR texts; empty admits every address."""

    name: str
    allowed_networks: tuple[str, ...]
    created: float


@frozen
class Agent:
    """An agent, from the moment somebody spoke of it. Times are Unix seconds.

    :ivar serial: of the newest certificate, lower-case hex; None while it awaits its set-up.
    :ivar connected: as of ``last_seen``; stale while a gateway that was killed is not back.
    :ivar catalogue: MessagePack of the last :class:`workato_tunnel.frames.Catalogue`.
    """

    id: str
    group: str
    name: str
    created: float
    enabled: bool = True
    revoked: float | None = None
    serial: str | None = None
    certificate_expires: float | None = None
    connected: bool = False
    last_seen: float | None = None
    last_address: str | None = None
    catalogue: bytes | None = field(default=None, repr=False)


@frozen
class ActivationCodeRecord:
    """A code that was handed out. ``agent_id``: whom it sets up; None for a new agent."""

    digest: bytes = field(repr=False)
    group: str
    agent_id: str | None
    created: float
    created_by: str
    expires: float
    used_at: float | None = None


@frozen
class Certificate:
    """An agent certificate that the CA has issued."""

    serial: str
    agent_id: str
    issued: float
    not_after: float
    revoked: float | None = None


@frozen
class Token:
    """A bearer token. ``digest``: SHA-256 of its text; ``expires`` None: never."""

    id: str
    owner: str
    digest: bytes = field(repr=False)
    scopes: tuple[str, ...]
    created: float
    expires: float | None = None
    revoked: float | None = None
    last_used: float | None = None


@frozen
class AuditEntry:
    """Who did what. ``seq`` is 0 until it is stored."""

    at: float
    actor: str
    address: str
    action: str
    subject: str
    detail: Mapping[str, object] = field(factory=dict)
    seq: int = 0


@frozen
class Attendance:
    """What was last seen of an agent. ``address`` and ``catalogue`` None stay as they are known."""

    agent_id: str
    at: float
    connected: bool
    address: str | None = None
    catalogue: bytes | None = None


class Kind(StrEnum):
    """What a change concerns."""

    GROUP = "group"
    AGENT = "agent"
    TOKEN = "token"  # noqa: S105 - a kind of row


@frozen
class Changes:
    """What was written after a given point, by any process.

    :ivar latest: the point to ask from next time.
    :ivar subjects: (kind, name or id); for an agent and a token its id.
    :ivar complete: False when the point lies so far back that rows are missing: look at everything.
    """

    latest: int
    subjects: frozenset[tuple[Kind, str]] = frozenset()
    complete: bool = True


class Transaction(Protocol):
    """The rows, inside a unit of work. Writers record what a running gateway must notice."""

    def groups(self) -> list[Group]: ...
    def group(self, name: str) -> Group | None: ...
    def add_group(self, group: Group) -> None:
        """Raises NameTakenError."""

    def set_allowed_networks(self, name: str, networks: Sequence[str]) -> None: ...
    def delete_group(self, name: str) -> None:
        """Its unused activation codes go with it; its agents must be revoked before."""

    def agents(self, group: str | None = None, *, revoked: bool = False) -> list[Agent]:
        """By group and name; with ``revoked`` those too."""

    def agent(self, agent_id: str) -> Agent | None: ...
    def agent_named(self, group: str, name: str) -> Agent | None:
        """The one of that name that is not revoked."""

    def add_agent(self, agent: Agent) -> None:
        """Raises NameTakenError."""

    def set_enabled(self, agent_id: str, enabled: bool) -> None: ...
    def revoke_agent(self, agent_id: str, at: float) -> None:
        """For good, with its certificates and unused codes."""

    def record_attendance(self, seen: Sequence[Attendance]) -> None:
        """Not a change: nobody has to react to it."""

    def forget_attendance(self) -> None:
        """Nobody is connected. Not a change either."""

    def add_code(self, code: ActivationCodeRecord) -> None: ...
    def code(self, digest: bytes) -> ActivationCodeRecord | None: ...
    def use_code(self, digest: bytes, at: float) -> bool:
        """Mark as used. False when another was first."""

    def delete_codes_expired_before(self, at: float) -> None: ...

    def add_certificate(self, certificate: Certificate) -> None:
        """Also makes it the newest of its agent."""

    def certificate(self, serial: str) -> Certificate | None: ...
    def certificates_issued_since(self, agent_id: str, at: float) -> int: ...
    def revoke_certificates(self, agent_id: str, at: float) -> None: ...
    def delete_certificates_expired_before(self, at: float) -> None: ...

    def tokens(self) -> list[Token]: ...
    def token(self, token_id: str) -> Token | None: ...
    def add_token(self, token: Token) -> None: ...
    def revoke_token(self, token_id: str, at: float) -> None: ...
    def record_token_use(self, used: Mapping[str, float]) -> None:
        """Not a change."""

    def add_audit(self, entry: AuditEntry) -> None: ...
    def audit(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Newest first; ``before``: only those with a smaller ``seq``."""

    def audit_after(self, seq: int, *, limit: int) -> list[AuditEntry]:
        """Oldest first: those with a larger ``seq``."""

    def delete_audit_before(self, at: float) -> None: ...

    def changes_after(self, point: int | None) -> Changes:
        """What changed since; with None only the point to begin from."""


class Store(Protocol):
    """Runs units of work, one after another.

    A unit that was begun is finished, even when its Deferred is cancelled; one that still waits in
    the queue is dropped. Raises Problem ``overloaded`` when too many wait, StoreError when the
    database fails; an exception of the unit itself rolls it back and comes out as it is.
    """

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """A consistent view; writing in it is an error."""
        ...

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Whole and durable, or not at all."""
        ...

    async def close(self) -> None:
        """Finish what was begun, then let go of the database. Later calls raise StoreError."""
        ...
