"""Patterns of queues and topics: ``orders.*``, ``queue:orders.*``, ``topic:prices``."""

from __future__ import annotations

import re
from typing import Final, Literal

from attrs import field, frozen

_AMBIGUOUS: Final = re.compile(r"[,?*>#|()\\%&;]|://|\.\.|^/|^ | $|[\x00-\x1f\x7f]")
"""What brokers take for more than a name: lists (``a,b``), wildcards (``a.>``, ``a.#``), options
(``a?consumer.x=y``), URLs and encodings."""


@frozen
class DestinationPattern:
    """``*`` stands for any characters. Without ``queue:`` or ``topic:`` it is for both.

    A name that a broker may take for more than one destination matches no pattern at all.
    """

    text: str
    kind: Literal["queue", "topic"] | None
    _pattern: re.Pattern[str] = field(repr=False, eq=False)

    @classmethod
    def parse(cls, text: str) -> DestinationPattern:
        """Raises ValueError."""
        kind, colon, name = text.partition(":")
        known: Literal["queue", "topic"] | None = None
        if colon and kind in ("queue", "topic"):
            known = "queue" if kind == "queue" else "topic"
        else:
            name = text
        if not name or name != name.strip() or re.search(r"[\x00-\x1f\x7f]", name):
            raise ValueError
        pattern = ".*".join(re.escape(part) for part in name.split("*"))
        return cls(text, known, re.compile(pattern))

    def matches(self, kind: Literal["queue", "topic"], name: str) -> bool:
        """Whether it allows the queue or topic of that name."""
        if self.kind not in (None, kind) or _AMBIGUOUS.search(name):
            return False
        return self._pattern.fullmatch(name) is not None
