"""How large the blocks are in which files pass through memory."""

from __future__ import annotations

from typing import Final

from attrs import define

LARGEST_BLOCK: Final = 512 * 1024
SMALLEST_BLOCK: Final = 64 * 1024
BUDGET: Final = 8 * 1024 * 1024
"""Bytes that the transfers of one profile hold together, two blocks each, up to 64 of them."""


@define
class Transfers:
    """The transfers under way: the more there are, the smaller the blocks of each."""

    active: int = 0

    def begin(self) -> None:
        """One more."""
        self.active += 1

    def end(self) -> None:
        """One less."""
        self.active -= 1

    def block(self) -> int:
        """The size for a transfer's next block, in bytes."""
        share = BUDGET // (2 * max(1, self.active))
        return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, share))
