"""Uploads in several calls: each part is kept until the last one puts the file in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from workato_tunnel.problems import Problem

from .confinement import Names, shown
from .failures import problem_of
from .filesystem import Facts, KeptFile, Stopped
from .writing import ExpectedDigest, Receiving, T

_BLOCK: Final = 512 * 1024

R = TypeVar("R")
Slot = tuple[bytes, Names]
"""The caller's key and the path: what tells one upload from another."""


def key_of(caller: str, upload: str) -> bytes:
    """What binds an upload to its caller and to the name that the caller gave it."""
    words = (caller.encode("utf-8", "surrogatepass"), upload.encode())
    return hashlib.sha256(b"".join(b"%d:%b" % (len(word), word) for word in words)).digest()


@define
class _KeptUpload(Receiving[KeptFile, T]):
    """A body that is kept as far as it came, whatever ends it."""

    _failed: bool = False

    def thd_abandon(self) -> None:
        """Keep what has arrived."""
        try:
            self.thd_write_rest()
        finally:
            self.pending.keep()

    def thd_write(self, chunks: Sequence[bytes]) -> None:
        """Append one block. After a failure none: there would be a gap."""
        if self._failed:
            return
        self._failed = True
        super().thd_write(chunks)
        self._failed = False

    def thd_write_rest(self) -> None:
        """Append what is not written yet."""
        rest, self.rest = self.rest, []
        if rest:
            self.thd_write(rest)


class Part(_KeptUpload[int]):
    """A part that others follow."""

    def thd_finish(self) -> int:
        """Keep it: how many bytes there are now, safe from a loss of power."""
        self.thd_write_rest()
        try:
            return self.pending.keep()
        except OSError as error:
            raise problem_of(error, self.path, "writing") from error


@define
class LastPart(_KeptUpload[tuple[Facts, bool]]):
    """The part that completes the file.

    :ivar whole: the digest of all parts together.
    """

    whole: ExpectedDigest | None = None

    def thd_finish(self) -> tuple[Facts, bool]:
        """Check the whole and commit it. Content that is not what was promised is not kept."""
        self.thd_write_rest()
        if self.whole is not None:
            self._thd_digest(self.whole)
            try:
                self.whole.check()
            except Problem:
                self.pending.discard()
                raise
        return self.thd_commit()

    def _thd_digest(self, whole: ExpectedDigest) -> None:
        offset = 0
        try:
            while block := self.pending.read(offset, _BLOCK):
                if self.stop.is_set():
                    raise Stopped
                whole.update([block])
                offset += len(block)
        except OSError as error:
            raise problem_of(error, self.path, "reading") from error


@define(eq=False)
class _Turn:
    work: Deferred[Any] | None = None
    overtaken: bool = False
    waiting: list[Deferred[None]] = field(factory=list)


@define
class Turns:
    """At most one call at work on an upload, the latest: the one before has lost its connection,
    though that may not be known here yet."""

    _turns: dict[Slot, _Turn] = field(factory=dict)

    async def take(self, slot: Slot, work: Callable[[], Coroutine[Deferred[Any], Any, R]]) -> R:
        """Do the work when a call that is at the same upload has been ended."""
        while (earlier := self._turns.get(slot)) is not None:
            ended: Deferred[None] = Deferred()
            earlier.waiting.append(ended)
            earlier.overtaken = True
            if earlier.work is not None:
                earlier.work.cancel()
            await ended
        turn = self._turns[slot] = _Turn()
        try:
            turn.work = Deferred.fromCoroutine(work())
            result: R = await turn.work
            return result
        except CancelledError:
            if not turn.overtaken:
                raise
            raise Problem(
                "conflict",
                f"{shown(slot[1])}: a later call has gone on with this upload",
                hint="Give each upload to one path an 'upload' of its own.",
            ) from None
        finally:
            del self._turns[slot]
            for ended in turn.waiting:
                ended.callback(None)
