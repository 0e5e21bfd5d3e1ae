"""What has been handed out of one partition, and how far the group may commit. Pure.

Kafka remembers one number for a group and partition: the offset at which a consumer that comes
next begins. Callers acknowledge in any order, and some never do. So the ledger keeps a span for
each run of offsets that was handed out and not yet committed, and the number moves only over what
was acknowledged without a gap. What is given back is read again from its first offset; what others
have of the offsets behind it is known here and passed over.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum, auto

from attrs import define, field, frozen


class State(Enum):
    """Of a span: with a caller, acknowledged, or to be read again."""

    OUT = auto()
    DONE = auto()
    BACK = auto()


@define(eq=False)
class Span:
    """The offsets from ``start`` up to, not including, ``end``."""

    start: int
    end: int
    state: State
    receipt: object = None


@frozen(eq=False)
class Portion:
    """A part of a receipt: offsets of one partition, as one assignment of it handed them out."""

    ledger: PartitionLedger
    start: int
    end: int


def _start(span: Span) -> int:
    return span.start


@define(eq=False)
class PartitionLedger:
    """One partition from its assignment to its revocation.

    :ivar revoked: it belongs to another consumer now; nothing here counts any more.
    :ivar low: everything before it is acknowledged; None before anything was handed out.
    """

    topic: str
    partition: int
    revoked: bool = False
    low: int | None = None
    _spans: list[Span] = field(factory=list, init=False)

    def wants(self, offset: int) -> bool:
        """Whether to hand this message out: not when somebody has it or has acknowledged it."""
        if self.low is not None and offset < self.low:
            return False
        span = self._at(offset)
        return span is None or span.state is State.BACK

    def hand_out(self, offset: int, receipt: object) -> bool:
        """A message goes to a caller; whether it may have been with one before.

        Messages of a partition come in their order, so what lies between two that follow one
        another does not exist (removed by compaction, or marks of transactions).
        """
        if self.low is None:
            self.low = offset
        span = self._at(offset)
        if span is not None:
            self._split(span, offset, receipt)
            return True
        index = bisect_right(self._spans, offset, key=_start)
        before = self._spans[index - 1] if index else None
        if before is not None and before.state is State.OUT and before.receipt is receipt:
            before.end = offset + 1
        else:
            self._spans.insert(index, Span(offset, offset + 1, State.OUT, receipt))
        return False

    def portions(self, receipt: object) -> list[Portion]:
        """What a receipt has of this partition."""
        return [
            Portion(self, span.start, span.end)
            for span in self._spans
            if span.receipt is receipt and span.state is State.OUT
        ]

    def acknowledge(self, portion: Portion) -> None:
        """A caller is done with it. Safe to repeat."""
        for span in self._out(portion):
            span.state, span.receipt = State.DONE, None
            self._join(self._spans.index(span))
        if self._spans and self._spans[0].state is State.DONE:
            self.low = self._spans.pop(0).end

    def give_back(self, portion: Portion) -> int | None:
        """It is to be handed out again; where to read from, None where nothing of it is out."""
        spans = self._out(portion)
        for span in spans:
            span.state, span.receipt = State.BACK, None
        if not spans:
            return None
        return next(span.start for span in self._spans if span.state is State.BACK)

    def _out(self, portion: Portion) -> list[Span]:
        first = max(0, bisect_right(self._spans, portion.start, key=_start) - 1)
        last = bisect_right(self._spans, portion.end - 1, key=_start)
        return [
            span
            for span in self._spans[first:last]
            if span.start >= portion.start and span.state is State.OUT
        ]

    def _split(self, span: Span, offset: int, receipt: object) -> None:
        """A part of a span that came back goes out; what is before it is not there any more."""
        index = self._spans.index(span)
        going = Span(offset, offset + 1, State.OUT, receipt)
        parts = [going]
        if offset > span.start:
            parts.insert(0, Span(span.start, offset, State.DONE))
        if offset + 1 < span.end:
            parts.append(Span(offset + 1, span.end, State.BACK))
        self._spans[index : index + 1] = parts
        self._join(self._spans.index(going))

    def _join(self, index: int) -> None:
        """Let a span and the neighbours that are as it is be one."""
        span = self._spans[index]
        for other in (index + 1, index - 1):
            if not 0 <= other < len(self._spans):
                continue
            near = self._spans[other]
            if near.state is span.state and near.receipt is span.receipt:
                span.start, span.end = min(span.start, near.start), max(span.end, near.end)
                del self._spans[other]

    def _at(self, offset: int) -> Span | None:
        index = bisect_right(self._spans, offset, key=_start) - 1
        if index < 0:
            return None
        span = self._spans[index]
        return span if offset < span.end else None
