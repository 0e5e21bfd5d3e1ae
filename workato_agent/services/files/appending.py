"""A body that is to go to a file's end: kept apart until it has arrived whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Final

from .changing import Changing
from .confinement import Names
from .filesystem import Facts, OpenFile

IN_MEMORY: Final = 1024 * 1024
"""A larger body waits in a temporary file that has no name."""

_BLOCK: Final = 512 * 1024


class PendingAppend:
    """A :class:`.filesystem.PendingFile` whose commit makes another file longer."""

    existing: Facts | None = None

    def __init__(self, changing: Changing, path: Names) -> None:
        self.names = path
        self._changing = changing
        self._body = SpooledTemporaryFile[bytes](IN_MEMORY)

    def write(self, blocks: Sequence[bytes]) -> None:
        """Take in more of the body."""
        self._body.writelines(blocks)

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """Append the whole body, and let go of it."""
        try:
            return self._changing.thd_append(self.names, self._blocks, approve)
        finally:
            self.discard()

    def discard(self) -> None:
        """Let go of the body. Idempotent."""
        self._body.close()

    def _blocks(self, _existing: OpenFile | None) -> Iterator[bytes]:
        self._body.seek(0)
        while block := self._body.read(_BLOCK):
            yield block
