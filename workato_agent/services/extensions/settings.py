"""What an extension's profile is told by the config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen


@frozen
class ExtensionSettings:
    """One profile of the ``extensions`` section.

    :ivar controller: ``package.module.Class``, or the name of an entry point.
    :ivar settings: the extension's own; they may hold secrets.
    :ivar paths: folders to import from, before those of the agent's own Python.
    :ivar concurrency: calls at the same time.
    :ivar memory_limit: bytes of the process' own memory; 0: none.
    :ivar start_timeout: seconds to import and make the extension.
    """

    name: str
    controller: str
    settings: Mapping[str, object] = field(factory=dict, repr=False)
    paths: tuple[Path, ...] = ()
    concurrency: int = 1
    memory_limit: int = 0
    start_timeout: float = 30.0
