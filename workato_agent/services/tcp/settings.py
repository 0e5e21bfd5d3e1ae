"""What a tcp profile is told by the config."""

from __future__ import annotations

from attrs import frozen


@frozen
class TcpSettings:
    """One profile of the ``tcp`` section. Times in seconds.

    :ivar max_connections: that callers may have at the same time.
    :ivar idle_timeout: a connection on which nothing comes either way is closed; 0: never.
    """

    host: str
    port: int
    connect_timeout: float = 10.0
    max_connections: int = 100
    idle_timeout: float = 0.0
