"""What a long-running process sets for itself, on either side."""

from __future__ import annotations

import gc
from typing import Final

try:
    import resource
except ImportError:  # not on Windows, which has no such limit
    resource = None  # type: ignore[assignment]

_ENOUGH: Final = 10_240
_THRESHOLDS: Final = (20_000, 20, 100)


def raise_file_limit() -> None:
    """As many files and sockets as the system allows without asking."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS says that there is no limit, and refuses to have it taken at its word.
        wanted = max(soft, _ENOUGH) if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def settle_heap() -> None:
    """Keep the garbage collector from going over all that there is at the start, again and again.

    Modules, classes and config are some hundred thousand objects that live as long as the process.
    A full collection that visits them stops every call for a tenth of a second: without this the
    99th percentile of a small call among 64 was three times as long, and a quarter of the calls
    was lost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
