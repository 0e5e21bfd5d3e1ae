"""Profiles of the ``tcp`` section."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .fields import Port, PositiveSeconds, Seconds, Text
from .policies import Policy
from .profiles import ProfileConfig


class TcpPolicy(Policy):
    """Policy of a TCP target."""

    known_operations: ClassVar[tuple[str, ...]] = ("connect",)


class TcpProfile(ProfileConfig):
    """One host and port. Callers speak its protocol themselves, and log in themselves.

    :ivar timeout: seconds to connect.
    :ivar idle_timeout: seconds after which a connection on which nothing comes is closed; 0: never.
    """

    service: ClassVar[str] = "tcp"

    host: Text
    port: Port
    timeout: PositiveSeconds = 10
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    idle_timeout: Seconds = 0
    policy: TcpPolicy = TcpPolicy()
