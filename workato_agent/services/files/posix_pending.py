"""Files that are being written beside their place: hidden until they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Final

from .filesystem import Facts, OffsetBeyond
from .leftovers import create_temporary, open_kept
from .posix_changes import facts_of, link_into, require_file, sync_folder
from .walk import Place

_MAX_VECTOR: Final = 1024


class LocalPendingFile:
    """A hidden file beside its place. Takes over the place and closes it."""

    def __init__(self, place: Place, turn: threading.Lock) -> None:
        self.names = place.names
        self._place = place
        self._turn = turn
        self._mode = 0o666  # less the umask; a file that is replaced hands on its own
        self._owner = (-1, -1)
        self._hidden = True
        self.existing = self._look()
        self._name, self._file = self._open()

    def _open(self) -> tuple[bytes, int]:
        """The hidden file's name and descriptor."""
        self._name, self._file = create_temporary(self._place.folder, self._mode)
        try:
            if self.existing is not None:
                self._take_over()
        except BaseException:
            self.discard()
            raise
        return self._name, self._file

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append all of them."""
        for first in range(0, len(blocks), _MAX_VECTOR):
            self._write_some(blocks[first : first + _MAX_VECTOR])

    def _write_some(self, blocks: Sequence[bytes]) -> None:
        written = os.writev(self._file, blocks)
        if written == sum(map(len, blocks)):
            return
        rest = memoryview(b"".join(blocks))[written:]
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """Sync, put in place, sync the folder."""
        os.fsync(self._file)
        with self._turn:
            existing = self._look()
            approve(existing)
            if existing is not None or not link_into(self._place.folder, self._name, self._place):
                existing = self._look()
                approve(existing)
                self._rename()
        self._hidden = False
        facts = facts_of(os.fstat(self._file))
        sync_folder(self._place, self._file)
        self._close()
        return facts, existing is None

    def discard(self) -> None:
        """Remove the hidden file, unless it has found its place."""
        if self._file < 0:
            return
        try:
            if self._hidden:
                # Gone already where somebody has removed the folder with all that was in it.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=self._place.folder)
        finally:
            self._close()

    def _look(self) -> Facts | None:
        """What is in the place now, and that it may be replaced."""
        place = self._place
        try:
            status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        facts = facts_of(status)
        require_file(facts)
        if not os.access(place.name, os.W_OK, dir_fd=place.folder, effective_ids=True):
            if os.statvfs(place.folder).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            raise PermissionError(errno.EACCES, "the file is not writable")
        self._mode = stat.S_IMODE(status.st_mode) & 0o777
        self._owner = (status.st_uid, status.st_gid)
        return facts

    def _take_over(self) -> None:
        """Give the new file the mode of the one it replaces and, where we may, its owner."""
        status = os.fstat(self._file)
        if (status.st_uid, status.st_gid) != self._owner:
            with contextlib.suppress(PermissionError):
                os.fchown(self._file, *self._owner)
        os.fchmod(self._file, self._mode)

    def _rename(self) -> None:
        folder = self._place.folder
        os.rename(self._name, self._place.name, src_dir_fd=folder, dst_dir_fd=folder)

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)
        self._place.close()


class LocalKeptFile(LocalPendingFile):
    """A hidden file that outlives its call: what has arrived stays until all has.

    :param name: of the hidden file.
    :param offset: where the writing goes on; what lies behind is dropped.
    :param forget: called when the file has found its place or is gone.

    Raises :class:`.filesystem.OffsetBeyond`.
    """

    def __init__(
        self,
        place: Place,
        turn: threading.Lock,
        name: bytes,
        offset: int,
        forget: Callable[[], object],
    ) -> None:
        self._kept = name
        self._offset = offset
        self._forget = forget
        super().__init__(place, turn)

    def _open(self) -> tuple[bytes, int]:
        folder = self._place.folder
        try:
            file = open_kept(folder, self._kept, self._mode, create=not self._offset)
        except FileNotFoundError as error:
            if not self._offset:
                raise
            raise OffsetBeyond(0) from error
        try:
            size = os.fstat(file).st_size
            if self._offset > size:
                raise OffsetBeyond(size)
            if self._offset < size:
                os.ftruncate(file, self._offset)
            os.lseek(file, self._offset, os.SEEK_SET)
        except BaseException:
            os.close(file)
            raise
        return self._kept, file

    def read(self, offset: int, size: int) -> bytes:
        """What has been written, fewer bytes only where it ends."""
        return os.pread(self._file, size, offset)

    def keep(self) -> int:
        """Make what has arrived durable and leave it; its size. Idempotent: then 0."""
        if self._file < 0:
            return 0
        try:
            os.fsync(self._file)
            sync_folder(self._place, self._file)
            return os.fstat(self._file).st_size
        finally:
            self._close()

    def commit(self, approve: Callable[[Facts | None], None]) -> tuple[Facts, bool]:
        """As of any file that is written; what prevents it leaves the upload as it is."""
        if self.existing is not None:
            self._take_over()
        written = super().commit(approve)
        self._forget()
        return written

    def discard(self) -> None:
        """Remove the hidden file, unless it has found its place or is left."""
        if self._file >= 0:
            super().discard()
            self._forget()
