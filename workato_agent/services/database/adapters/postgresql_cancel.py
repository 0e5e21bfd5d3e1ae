"""Cancel requests that don't stop the process while they wait.

psycopg2's own ``cancel()`` keeps the interpreter's lock for as long as libpq waits for the server,
which is for ever when it stands still. The same call of libpq is made here without the lock, in the
very library that psycopg2 has loaded.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

import psycopg2
from psycopg2 import _psycopg

_MESSAGE_SIZE: Final = 256


class CancelRequest:
    """A request for what runs on a connection; made where the connection can't be closed."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._libpq = _loaded_libpq()
        pointer = None if raw.closed or self._libpq is None else raw.pgconn_ptr
        self._cancel = self._libpq.PQgetCancel(pointer) if self._libpq and pointer else None

    def thd_send(self) -> None:
        """Send it and wait until the server has taken it; raises nothing."""
        if self._cancel is not None and self._libpq is not None:
            message = ctypes.create_string_buffer(_MESSAGE_SIZE)
            # When it fails, closing the connection is all that is left to do.
            self._libpq.PQcancel(self._cancel, message, _MESSAGE_SIZE)
            self._libpq.PQfreeCancel(self._cancel)
            self._cancel = None
        elif self._libpq is None and not self._raw.closed:
            try:
                self._raw.cancel()
            except psycopg2.Error:
                return


@cache
def _loaded_libpq() -> Any:
    """The functions of the libpq that psycopg2 is linked with; None where they can't be had.

    Asked for through psycopg2's own extension: an ODBC driver may have loaded another libpq, whose
    structures are not those of this one.
    """
    try:
        libpq = ctypes.CDLL(_psycopg.__file__)
        functions = libpq.PQgetCancel, libpq.PQcancel, libpq.PQfreeCancel
    except (OSError, AttributeError):
        return None
    get, send, free = functions
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    send.restype = ctypes.c_int
    send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    return libpq
