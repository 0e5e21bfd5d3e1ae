"""What a long-running process sets for itself, on either side."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


def become_owner_of(folder: Path) -> None:
    """Where root works in a folder that is another user's: be that user, for good.

    What a command makes there then belongs to the service that is to read it, and root writes
    nowhere where another could have laid a link. Root's own folder, or a missing one, changes
    nothing.
    """
    if os.name != "posix" or os.geteuid() != 0 or not folder.is_dir():
        return
    owner = folder.stat()
    if owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


@contextmanager
def acting_as(uid: int | None, gid: int | None) -> Iterator[None]:
    """Where root will be another user later (twistd's ``--uid``, ``--gid``): be it for a while, so
    that what is read and made meanwhile is what that user may read, and belongs to it.
    """
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    before = os.getegid()
    os.setegid(before if gid is None else gid)
    os.seteuid(0 if uid is None else uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before)
