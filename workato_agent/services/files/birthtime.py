"""When a file was made: Linux's ``statx(2)``, which Python lacks; elsewhere ``st_birthtime``."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_STATX_BTIME: Final = 0x800
_SIZE: Final = 256
_MASK: Final = struct.Struct("=I")
_BTIME: Final = struct.Struct("=qI")
_BTIME_AT: Final = 80

_statx = (
    getattr(ctypes.CDLL(None, use_errno=True), "statx", None) if sys.platform == "linux" else None
)


def created_ns(folder: int, name: bytes, status: os.stat_result) -> int | None:
    """Nanoseconds since 1970, or None where neither system nor file system knows.

    :param folder: descriptor that ``name`` is relative to; a link there is not followed.
    :param status: of the same name.
    """
    born: float | None = getattr(status, "st_birthtime", None)
    if born is not None:
        return int(born * 1_000_000_000)
    if _statx is None:
        return None
    answer = ctypes.create_string_buffer(_SIZE)
    if _statx(folder, name, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, answer):
        return None
    if not _MASK.unpack_from(answer)[0] & _STATX_BTIME:
        return None
    seconds: int
    nanoseconds: int
    seconds, nanoseconds = _BTIME.unpack_from(answer, _BTIME_AT)
    return seconds * 1_000_000_000 + nanoseconds
