"""Files of JSON lines in which each line seals the one before (``docs/configuration.md``, "Audit").

A line ends in ``,"prev":"…","hash":"…"}``. ``hash`` is the SHA-256 of the line's own bytes before
``,"hash":``; ``prev`` is the hash of the line before, 64 zeros for the first of all. The chain goes
on over rotated files, named by the number of their first line, and over restarts.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from attrs import Factory, define, frozen

from .system import (
    ON_WINDOWS,
    PRIVATE,
    lock_alone,
    make_private,
    sync_content,
    sync_folder,
)

GENESIS: Final = "0" * 64
_TAIL: Final = 1024 * 1024
_LINE: Final = re.compile(rb'(\{.*,"prev":"([0-9a-f]{64})"),"hash":"([0-9a-f]{64})"\}', re.DOTALL)
_ROTATED: Final = re.compile(r"(.+)\.(\d{12,})")


class ChainError(Exception):
    """The files can't be used; the message says which and why."""


class Record(msgspec.Struct, tag_field="kind", omit_defaults=False):
    """A line before it is sealed. ``seq`` counts lines from 1, ``time`` is ISO 8601 in UTC."""

    seq: int
    time: str


class Start(Record, tag="start"):
    """The agent began to write."""

    version: str
    pid: int


class Stop(Record, tag="stop"):
    """The agent ended in an orderly way."""


class Torn(Record, tag="torn"):
    """What a crash left after the last whole line was moved to ``file``."""

    file: str
    bytes: int
    sha256: str


class Missing(Record, tag="missing"):
    """``file`` was removed or cut while it was being written; it had ``bytes`` bytes."""

    file: str
    bytes: int


class Unrecorded(Record, tag="unrecorded"):
    """So many calls were refused, and not served, while the disk took no lines."""

    calls: int


class Call(Record, tag="call"):
    """One call. ``verdict``: ``allowed``, ``denied`` by policy, ``unroutable``."""

    caller: str
    trace: str
    request_id: str
    service: str
    profile: str
    operation: str
    verdict: str
    code: str
    rows: int | None
    bytes_in: int
    bytes_out: int
    duration_ms: float


class _Position(msgspec.Struct):
    """What every line has, whatever its kind."""

    seq: int
    kind: str
    time: str


@frozen
class Sealed:
    """A line that was read back and whose own hash is right."""

    seq: int
    kind: str
    time: str
    prev: str
    hash: str


_encode = msgspec.json.Encoder().encode
_decode_position = msgspec.json.Decoder(_Position).decode


def timestamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def seal(record: Record, prev: str) -> tuple[bytes, str]:
    """A record's line, with its newline, and the line's hash."""
    covered = b'%b,"prev":"%b"' % (_encode(record)[:-1], prev.encode())
    digest = hashlib.sha256(covered).hexdigest()
    return b'%b,"hash":"%b"}\n' % (covered, digest.encode()), digest


def unseal(line: bytes) -> Sealed:
    """Read a line (without newline) back. Raises ValueError that says what is wrong with it."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("is not a line of an audit log")
    if hashlib.sha256(match[1]).hexdigest().encode() != match[3]:
        raise ValueError("was changed: its hash does not fit its content")
    try:
        position = _decode_position(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"is not a record: {error}") from error
    return Sealed(position.seq, position.kind, position.time, match[2].decode(), match[3].decode())


def rotated_files(path: Path) -> list[Path]:
    """The full files that belong to an active one, oldest first."""
    found = []
    if path.parent.is_dir():
        for entry in path.parent.iterdir():
            match = _ROTATED.fullmatch(entry.name)
            if match is not None and match[1] == path.name:
                found.append((int(match[2]), entry))
    return [entry for _, entry in sorted(found)]


@define
class ChainFile:
    """The writing end. Blocking, for one thread; every method may raise OSError.

    After a failed :meth:`append` nothing of it is in the file, and it may be tried again.

    :ivar seq: number of the last line. ``head``: its hash.
    """

    path: Path
    max_size: int
    keep: int
    seq: int = 0
    head: str = GENESIS
    _fd: int = -1
    _lock: int = -1
    _size: int = 0
    _first: int = 1
    _dirty_end: bool = False
    _notes: list[Record] = Factory(list)

    def open(self, now: float) -> None:
        """Find the chain's end and go on from it. Raises ChainError, OSError.

        What a crash left behind the last whole line is moved to a file of its own and noted.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
        try:
            lock_alone(self._lock)
        except BlockingIOError as error:
            self.close()
            raise ChainError(f"{self.path} is being written by another agent") from error
        try:
            self._recover(now)
        except BaseException:
            self.close()
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Number, seal and write records as one write; a full file is rotated first."""
        seq, head = self.seq, self.head
        lines = []
        self._find_damage()
        for record in (*self._notes, *records):
            seq += 1
            record.seq = seq
            line, head = seal(record, head)
            lines.append(line)
        self._write(b"".join(lines))
        self.seq, self.head = seq, head
        self._notes.clear()

    def sync(self) -> None:
        """Force what was written to the disk."""
        sync_content(self._fd)

    def close(self) -> None:
        """Release the files. Idempotent."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def _find_damage(self) -> None:
        """Note it if somebody took the file away or cut it, and go on in what is there."""
        if self._fd < 0 or self._dirty_end:
            return
        ours = os.fstat(self._fd)
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            there = None
        same = there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        if same and ours.st_size == self._size:
            return
        self._notes.append(Missing(0, timestamp(time.time()), self.path.name, self._size))
        os.close(self._fd)
        self._fd = -1
        self._create()

    def _write(self, content: bytes) -> None:
        if self._fd < 0:
            self._create()
        if self._dirty_end:
            os.ftruncate(self._fd, self._size)
            self._dirty_end = False
        if self._size and self._size + len(content) > self.max_size:
            self._rotate()
        done = 0
        try:
            while done < len(content):
                done += os.write(self._fd, content[done:])
        except OSError:
            # A full disk takes part of a write: cut it off, now or before the next try.
            self._dirty_end = True
            os.ftruncate(self._fd, self._size)
            self._dirty_end = False
            raise
        self._size += done

    def _rotate(self) -> None:
        sync_content(self._fd)
        if ON_WINDOWS:
            # A file that is open can't be renamed there.
            self._close_file()
        self.path.rename(self.path.with_name(f"{self.path.name}.{self._first:012d}"))
        self._close_file()
        self._create()
        for surplus in rotated_files(self.path)[: -self.keep]:
            surplus.unlink()

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _create(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | PRIVATE, 0o600)
        make_private(self._fd)
        self._size = os.fstat(self._fd).st_size
        self._first = self.seq + 1
        sync_folder(self.path.parent)

    def _recover(self, now: float) -> None:
        last, torn = _end_of(self.path)
        earlier = rotated_files(self.path)
        if last is None and earlier:
            last, _ = _end_of(earlier[-1])
        if last is not None:
            self.seq, self.head = last.seq, last.hash
        # The note's number is in the name, so a crash before it is written only delays it.
        aside = self.path.with_name(f"{self.path.name}.torn-{self.seq + 1:012d}")
        if torn:
            self._set_aside(aside, torn)
        self._create()
        if self._size:
            self._first = _first_number(self.path)
        if aside.exists():
            digest = hashlib.sha256()
            size = 0
            with aside.open("rb") as stream:
                while chunk := stream.read(_TAIL):
                    digest.update(chunk)
                    size += len(chunk)
            self.append([Torn(0, timestamp(now), aside.name, size, digest.hexdigest())])

    def _set_aside(self, aside: Path, torn: int) -> None:
        """Move the file's last ``torn`` bytes, or all of it, to a file of their own."""
        size = self.path.stat().st_size
        if torn == size:
            self.path.rename(aside)
            return
        with self.path.open("rb+") as stream:
            stream.seek(size - torn)
            rest = stream.read()
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | PRIVATE, 0o600)
            with os.fdopen(fd, "wb") as copy:
                copy.write(rest)
                copy.flush()
                os.fsync(fd)
            stream.truncate(size - torn)
            os.fsync(stream.fileno())


def _first_number(path: Path) -> int:
    """The number of a file's first line, counted back from its first readable one."""
    with path.open("rb") as stream:
        for index, line in enumerate(stream):
            try:
                return max(1, unseal(line.rstrip(b"\n")).seq - index)
            except ValueError:
                continue
    return 1


def _end_of(path: Path) -> tuple[Sealed | None, int]:
    """The last line of a file that is whole, and how many bytes follow it."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL)
            stream.seek(start)
            tail = stream.read()
    except FileNotFoundError:
        return None, 0
    end = len(tail)
    while (newline := tail.rfind(b"\n", 0, end)) >= 0:
        begin = tail.rfind(b"\n", 0, newline) + 1
        try:
            return unseal(tail[begin:newline]), len(tail) - newline - 1
        except ValueError:
            end = newline
    return None, size
