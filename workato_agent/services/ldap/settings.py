"""What an ldap profile is told by the config."""

from __future__ import annotations

from attrs import field, frozen

from ...config.distinguishednames import Name
from ..handshakes import TlsSettings


@frozen
class Server:
    """One of the servers that hold the same directory.

    :ivar secure: TLS from the first byte (``ldaps:``).
    """

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As in the config."""
        return f"{'ldaps' if self.secure else 'ldap'}://{self}"


@frozen
class LdapPolicy:
    """What the customer allows; None allows everything.

    :ivar bases: subtrees. Each is absolute.
    :ivar readable: attribute types in lower case that may be read, compared and searched by.
    :ivar writable: those that may be given a value.
    :ivar max_entries: of one search. ``max_bytes``: of its answer.
    """

    bases: tuple[Name, ...] | None = None
    readable: frozenset[str] | None = None
    writable: frozenset[str] | None = None
    max_entries: int | None = None
    max_bytes: int | None = None


@frozen
class LdapSettings:
    """One profile of the ``ldap`` section. Times in seconds.

    :ivar servers: in the order in which they are tried.
    :ivar username: a DN, or what else the directory takes; "" for an anonymous login.
    :ivar base: the subtree beyond which nothing can be reached; the empty name is the whole.
    :ivar starttls: ask for TLS on connections that begin without.
    :ivar connect_timeout: name, TCP, TLS and login of one server.
    :ivar max_connections: at a time; each serves one call.
    :ivar wait_timeout: how long a call waits for a free connection.
    :ivar idle_timeout: how long an unused connection is kept.
    :ivar page_size: entries that are asked for at once.
    """

    servers: tuple[Server, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    base: Name = field(factory=Name)
    starttls: bool = False
    tls: TlsSettings = field(factory=TlsSettings)
    connect_timeout: float = 30.0
    max_connections: int = 5
    wait_timeout: float = 10.0
    idle_timeout: float = 60.0
    page_size: int = 500
    policy: LdapPolicy = LdapPolicy()

    @property
    def secured(self) -> bool:
        """Whether nothing is ever said in the clear, whichever server answers."""
        return self.starttls or all(server.secure for server in self.servers)
