"""Versions and limits: what a side of the tunnel accepts, and how it paces itself."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from attrs.validators import ge, le

from .frames import HEADER_SIZE, MAX_PAYLOAD, Limits

VERSION: Final = 1
SUBPROTOCOL: Final = "onprem-tunnel.v1"

PACK_SIZE: Final = 64 * 1024
"""A message is closed once it holds this many bytes."""
MAX_MESSAGE: Final = PACK_SIZE + HEADER_SIZE + MAX_PAYLOAD
"""The largest WebSocket message of the protocol: PACK_SIZE and one more frame."""
DATA_SIZE: Final = PACK_SIZE - HEADER_SIZE
"""The largest DATA payload we send: one fills a message. A producer that chooses the size of its
pieces chooses this one, since each remainder costs the frames of a whole piece."""
QUANTUM: Final = 16 * 1024
"""Bytes of a stream's turn while other streams wait."""
INTERACTIVE_SIZE: Final = 64 * 1024
"""The first bytes of each stream count as interactive."""
INTERACTIVE_TURNS: Final = 8
"""Turns of interactive streams for each turn of a bulk one."""
LONG_STREAM: Final = 1024 * 1024
"""A stream whose consumer has taken this many bytes and keeps up gets at least LONG_WINDOW, if the
budget allows: its sender needs to be told of new credit less often."""
LONG_WINDOW: Final = 512 * 1024


@frozen
class Settings:
    """One side's choices. Sizes in bytes, times in seconds.

    ``streams`` and ``window`` are announced in HELLO: the peer may open that many streams at once
    and send that much on each before it hears of us. ``budget`` bounds the sum of all credit given
    out; what is left of it after ``streams * window`` goes to streams that need a wider window.
    ``resumable``: what is not acknowledged is kept, at most ``retained``, for the next socket.
    """

    streams: int = field(default=256, validator=[ge(1), le(65536)])
    window: int = field(default=128 * 1024, validator=[ge(16 * 1024), le(16 * 1024 * 1024)])
    max_window: int = 16 * 1024 * 1024
    budget: int = 64 * 1024 * 1024
    map_size: int = field(default=60 * 1024, validator=[ge(1024), le(MAX_PAYLOAD)])
    resumable: bool = True
    retained: int = 16 * 1024 * 1024
    control_queue: int = 4 * 1024 * 1024
    ack_frames: int = 64
    ack_bytes: int = 256 * 1024
    resets_burst: int = 10_000
    resets_per_second: float = 1_000.0
    high_water: int = 128 * 1024
    low_water: int = 64 * 1024

    def limits(self) -> Limits:
        """What HELLO says of these settings."""
        return Limits(streams=self.streams, window=self.window, map_size=self.map_size)
