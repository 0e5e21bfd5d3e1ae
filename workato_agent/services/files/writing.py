"""A file on its way in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from attrs import define, field
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ...requests import Body
from .confinement import Names, shown
from .failures import problem_of
from .filesystem import Facts, PendingFile
from .threads import ThreadCall, Threads
from .transfers import Transfers

if TYPE_CHECKING:
    from hashlib import _Hash

log = Logger()

F = TypeVar("F", bound=PendingFile)
T = TypeVar("T")

MAX_CHUNKS: Final = 1024
_ALGORITHMS: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_MEMBER: Final = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):[ \t]*")


@define
class ExpectedDigest:
    """What the caller says the content's digest is (RFC 9530)."""

    algorithm: str
    value: bytes
    _hash: _Hash = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._hash = _ALGORITHMS[self.algorithm]()

    def update(self, blocks: Sequence[bytes]) -> None:
        """Take more of the content in."""
        for block in blocks:
            self._hash.update(block)

    def check(self) -> None:
        """Raises Problem ``bad_request`` where the content is another."""
        actual = self._hash.digest()
        if not hmac.compare_digest(actual, self.value):
            raise Problem(
                "bad_request",
                f"the body's {self.algorithm} is {base64.b64encode(actual).decode()}, "
                f"not {base64.b64encode(self.value).decode()} as Content-Digest says; "
                "nothing was written",
                hint="The body was damaged on its way, or Content-Digest is of another content.",
                extra={"field": "content-digest"},
            )


def expected_digest(value: str | None) -> ExpectedDigest | None:
    """The strongest digest of a Content-Digest field that we know; None without one.

    Raises Problem ``bad_request`` for a malformed field. Unknown algorithms are ignored, as
    RFC 9530 allows.
    """
    if value is None:
        return None
    found: dict[str, bytes] = {}
    for member in value.split(","):
        match = _MEMBER.fullmatch(member)
        try:
            if match is None:
                raise ValueError
            found[match[1]] = base64.b64decode(match[2], validate=True)
        except (ValueError, binascii.Error):
            raise Problem(
                "bad_request",
                f"Content-Digest is malformed: {value[:200]!r}",
                hint="Send Content-Digest: sha-256=:BASE64: (RFC 9530).",
                extra={"field": "content-digest"},
            ) from None
    known = [name for name in ("sha-512", "sha-256") if name in found]
    return ExpectedDigest(known[0], found[known[0]]) if known else None


class Abandoned(Exception):
    """The caller left just before the file would have taken its place."""


@define
class Receiving(Generic[F, T]):
    """Takes a body into a pending file, one block being written while the next is gathered.

    :ivar length: Content-Length, where the caller sent one.
    :ivar limit: the policy's ``max_bytes``.
    :ivar begun: how many bytes of the file have come before this body.
    :ivar approve: the last word before the file takes its place (``PendingFile.commit``).
    """

    threads: Threads
    transfers: Transfers
    pending: F
    path: Names
    length: int | None
    limit: int | None
    digest: ExpectedDigest | None
    approve: Callable[[Facts | None], None]
    begun: int = 0
    stop: Event = field(factory=Event)
    rest: list[bytes] = field(factory=list)
    _writing: ThreadCall[None] | None = None

    async def receive(self, body: Body) -> T:
        """Write the whole body and do with it what :meth:`thd_finish` does.

        Whatever ends it early (the caller leaves, a cancel, an error) ends in :meth:`thd_abandon`.
        """
        self.transfers.begin()
        finished = False
        try:
            await self._gather(body)
            call = self.threads.start_stoppable(self.stop, self.thd_finish)
            result = await call.result()
            finished = True
            return result
        finally:
            self.transfers.end()
            if not finished:
                await self._abandon()

    def thd_finish(self) -> T:
        """Write the rest, and end what has arrived whole."""
        raise NotImplementedError

    def thd_abandon(self) -> None:
        """End what did not arrive whole."""
        raise NotImplementedError

    async def _abandon(self) -> None:
        if self._writing is not None:
            await self._writing.ended()
        call = self.threads.start(self.thd_abandon)
        await call.ended()
        if call.failure is not None:
            log.failure(
                "the upload to {path} did not end as it should have",
                event="upload_end_broke",
                failure=call.failure,
                path=shown(self.path),
            )

    async def _gather(self, body: Body) -> None:
        """Write all but the rest."""
        gathered = total = 0
        async for chunk in body:
            if self.limit is not None and self.begun + total + len(chunk) > self.limit:
                raise too_large(self.limit)
            total += len(chunk)
            self.rest.append(chunk)
            gathered += len(chunk)
            if gathered >= self.transfers.block() or len(self.rest) == MAX_CHUNKS:
                await self._written()
                self._writing = self.threads.start(self.thd_write, self.rest)
                self.rest, gathered = [], 0
        if self.length is not None and total != self.length:
            raise Problem(
                "bad_request",
                f"the body has {total} bytes where Content-Length says {self.length}",
                hint="Send the whole body.",
            )
        await self._written()

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing.result()
            self._writing = None

    def thd_write(self, chunks: Sequence[bytes]) -> None:
        """Append one block."""
        if self.digest is not None:
            self.digest.update(chunks)
        try:
            self.pending.write(chunks)
        except OSError as error:
            raise problem_of(error, self.path, "writing") from error

    def thd_commit(self) -> tuple[Facts, bool]:
        """Put the file in its place."""
        try:
            return self.pending.commit(self._last_word)
        except OSError as error:
            raise problem_of(error, self.path, "writing") from error

    def _last_word(self, existing: Facts | None) -> None:
        if self.stop.is_set():
            raise Abandoned
        self.approve(existing)


class Upload(Receiving[PendingFile, tuple[Facts, bool]]):
    """A whole body for a file: it takes its place, or nothing is left."""

    def thd_finish(self) -> tuple[Facts, bool]:
        """Append the rest, check and commit: what is there then, and whether it is new."""
        if self.rest:
            self.thd_write(self.rest)
        if self.digest is not None:
            self.digest.check()
        return self.thd_commit()

    def thd_abandon(self) -> None:
        """Remove the temporary file."""
        self.pending.discard()


def too_large(limit: int) -> Problem:
    """The problem of a body beyond the policy's limit."""
    return Problem(
        "payload_too_large",
        f"the policy's max_bytes takes bodies of at most {limit} bytes",
        hint="The agent's configuration sets 'max_bytes' for this profile; "
        "its owner can change it.",
        extra={"rule": "max_bytes", "limit": limit},
    )
