"""What a target answers before it cuts an upload off.

A write that fails closes the transport's socket though the answer waits in the kernel; a duplicate
of the socket still gets at it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator


class LastWords:
    """The duplicate, for as long as an upload is under way."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def listen(self, handle: socket.socket) -> None:
        """From now on there is something to be cut off."""
        self._socket = handle.dup()

    def read(self, size: int) -> Iterator[bytes]:
        """What has come and not been read, in pieces of at most ``size`` bytes."""
        spare, self._socket = self._socket, None
        if spare is None:
            return
        with spare:
            while True:
                try:
                    data = spare.recv(size)
                except OSError:
                    return
                if not data:
                    return
                yield data

    def drop(self) -> None:
        """Nothing is to be waited for."""
        spare, self._socket = self._socket, None
        if spare is not None:
            spare.close()
