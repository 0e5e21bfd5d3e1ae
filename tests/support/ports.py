"""Free ports outside the ephemeral range: a client that polls one can't connect to itself."""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 12_000, 31_000


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    for _attempt in range(200):
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found below the ephemeral range")
