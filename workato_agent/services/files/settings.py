"""What a files profile is told by the config."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import field, frozen

OPERATIONS: Final = (
    "test", "read", "write", "delete", "list", "stat", "append", "move", "copy", "folders", "csv",
    "watch",
)  # fmt: skip
"""Every operation of the service, in the order the catalogue shows them."""


@frozen
class FilesPolicy:
    """What the customer allows on a profile. The default allows everything below the base.

    :ivar operations: names of :data:`OPERATIONS`; None is all, and ``test`` is always among them.
        The dispatcher refuses the others; here they decide what the catalogue offers.
    :ivar patterns: a file must match one of these (``patterns.py``) to be seen, read, written or
        removed, under the name it was asked for and under the one its links lead to. Empty is all.
    :ivar max_bytes: the largest body that one call may read or write.
    """

    operations: tuple[str, ...] | None = None
    patterns: tuple[str, ...] = ()
    max_bytes: int | None = None


@frozen
class FilesSettings:
    """One profile of the ``files`` section.

    :ivar base: the absolute folder that nothing leaves. It may itself be a symbolic link.
    """

    base: Path
    policy: FilesPolicy = field(factory=FilesPolicy)
