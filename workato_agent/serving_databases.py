"""The services of database profiles, loaded when there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from .config.database import DatabaseProfile
from .services.base import ProfileService


@frozen
class DatabaseContext:
    """What database services need beside their own profile.

    :ivar agent: the agent's name, with which the ids of its sessions begin.
    :ivar classpath: where Java finds drivers.
    """

    agent: str = ""
    classpath: tuple[Path, ...] = ()


def database_service(
    reactor: Any, context: DatabaseContext, profile: DatabaseProfile
) -> ProfileService:
    """The service of one profile. Raises ValueError, whose text is for the operator."""
    # Not every agent has databases, and what serves them is a tenth of an agent's memory.
    from . import serving_adapters  # noqa: PLC0415

    return serving_adapters.database_service(reactor, context, profile)
