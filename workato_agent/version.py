"""The version of the distribution that this is."""

from __future__ import annotations

from importlib import metadata
from typing import Final


def _installed() -> str:
    try:
        return metadata.version("workato-agent")
    except metadata.PackageNotFoundError:
        return "unknown"


VERSION: Final = _installed()
"""As installed; ``unknown`` in a source tree that is not."""
