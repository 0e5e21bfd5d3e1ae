"""A file on its way out."""

from __future__ import annotations

from workato_tunnel.problems import Problem

from .confinement import Names, shown
from .failures import problem_of
from .filesystem import OpenFile
from .ranges import Span
from .threads import ThreadCall, Threads
from .transfers import SMALLEST_BLOCK, Transfers


class FileBody:
    """The bytes of a span as an async iterator, one block read ahead of the consumer.

    It owns the file: closed at the span's end, at an error and by ``aclose``, always after the read
    that is under way. Raises Problem ``conflict`` when the file has become shorter: what was
    promised by Content-Length can't be kept, and a cut body must not look complete.
    """

    def __init__(
        self, threads: Threads, transfers: Transfers, file: OpenFile, path: Names, span: Span
    ) -> None:
        self._threads = threads
        self._transfers = transfers
        self._file: OpenFile | None = file
        self._path = path
        self._at = span.start
        self._end = span.start + span.length
        self._next_size = SMALLEST_BLOCK * 2
        self._ahead: ThreadCall[bytes] | None = None
        transfers.begin()

    def __aiter__(self) -> FileBody:
        return self

    async def __anext__(self) -> bytes:
        if self._ahead is None:
            self._read_on()
        call = self._ahead
        if call is None:
            await self.aclose()
            raise StopAsyncIteration
        try:
            block = await call.result()
        except BaseException:
            await self.aclose()
            raise
        self._ahead = None
        self._read_on()
        return block

    def _read_on(self) -> None:
        """Start to read the next block, where there is one."""
        if self._file is None or self._at >= self._end:
            return
        size = min(self._next_size, self._transfers.block(), self._end - self._at)
        self._next_size *= 2
        last = self._at + size == self._end
        self._ahead = self._threads.start(thd_read, self._file, self._path, self._at, size, last)
        self._at += size

    async def aclose(self) -> None:
        """Close the file once the read under way has ended. Idempotent."""
        if self._file is None:
            return
        file, self._file = self._file, None
        self._transfers.end()
        if self._ahead is not None:
            await self._ahead.ended()
            self._ahead = None
        await self._threads.start(file.close).ended()


def thd_read(file: OpenFile, path: Names, offset: int, size: int, last: bool) -> bytes:
    """One whole block; the last one closes the file."""
    try:
        block = file.read(offset, size)
    except OSError as error:
        raise problem_of(error, path, "reading") from error
    if len(block) < size:
        raise shrunk(path, offset + len(block))
    if last:
        file.close()
    return block


def shrunk(path: Names, size: int) -> Problem:
    """The problem of a file that became shorter while it was being read."""
    return Problem(
        "conflict",
        f"reading {shown(path)}: the file was cut to {size} bytes meanwhile",
        hint="Another program is writing it; read it again when that is done.",
    )
