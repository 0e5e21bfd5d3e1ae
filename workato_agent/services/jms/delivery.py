"""Batches on their way to a caller: what never arrives there goes back to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ...requests import Request
from .broker import Batch, Broker, Source
from .messages import SubscribeDocument, encoded, incoming
from .receipts import Receipt, Receipts, Room
from .settings import JmsSettings

HEARTBEAT: Final = 15.0
"""Seconds after which an idle stream shows that it is alive."""
_PIECE: Final = 64 * 1024
_ENDS_BEFORE: Final = 1.0
EMPTY: Final = b'{"receipt":null,"messages":[]}'


def pieces(receipt: Receipt, tail: bytes = b"") -> Iterator[tuple[bytes, bool]]:
    """The document of a batch in pieces, each with whether it is the last."""
    held = bytearray(b'{"receipt":' + encoded(receipt.id) + b',"messages":[')
    for number, message in enumerate(receipt.batch.messages):
        if number:
            held += b","
        held += encoded(incoming(message))
        if len(held) >= _PIECE:
            yield bytes(held), False
            held.clear()
    yield bytes(held) + b"]}" + tail, True


@define(eq=False)
class BatchBody:
    """The answer of ``receive``; one that is not taken to its end gives the batch back."""

    _receipts: Receipts
    _receipt: Receipt
    _pieces: Iterator[tuple[bytes, bool]] = field(init=False)
    _last: bool = field(default=False, init=False)
    _done: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._pieces = pieces(self._receipt)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._last:
            # A quick caller may have settled it already.
            self._done = True
            self._receipts.restart(self._receipt)
            raise StopAsyncIteration
        if not self._receipts.is_open(self._receipt):
            self._done = True
            raise _too_slow()
        piece, self._last = next(self._pieces)
        return piece

    async def aclose(self) -> None:
        """The dispatcher: nobody takes the rest."""
        if not self._done:
            self._done = True
            self._receipts.give_back(self._receipt)


@define(eq=False)
class Subscription:
    """The answer of ``subscribe``: a line for each batch.

    As many batches are out as the caller allows; the next is received when one is settled. When the
    caller leaves, what it has not settled goes back at once; when the call's time is over, the
    caller keeps its receipts until their own time is.
    """

    _clock: Any
    _broker: Broker
    _receipts: Receipts
    _settings: JmsSettings
    _request: Request
    _source: Source
    _wanted: SubscribeDocument
    _room: Room
    _out: set[Receipt] = field(factory=set, init=False)
    _line: Iterator[tuple[bytes, bool]] | None = field(default=None, init=False)
    _current: Receipt | None = field(default=None, init=False)
    _said: float = field(default=0.0, init=False)
    _begun: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)
    _failed: Problem | None = field(default=None, init=False)
    _wake: Deferred[None] | None = field(default=None, init=False)
    _ends: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        left = self._request.deadline - self._clock.seconds()
        self._ends = self._clock.seconds() + max(left - _ENDS_BEFORE, left / 2)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._failed is not None:
            raise self._failed
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._next()
        except Problem as problem:
            self._failed = problem
            self._leave()
            return problem.body(self._request.request_id) + b"\n"

    async def aclose(self) -> None:
        """The dispatcher: the caller has gone, or the stream has ended."""
        if not self._over:
            self._over = True
            self._leave()
        self._room.give_back()

    async def _next(self) -> bytes:
        if not self._begun:
            # Whoever is on the way sees at once that the stream stands.
            self._begun = True
            return self._alive()
        if self._line is not None and self._current is not None:
            return self._piece(self._line, self._current)
        batch = await self._batch()
        if batch is None:
            if self._clock.seconds() < self._ends:
                return self._alive()
            self._over = True
            return b'{"receipt":null,"messages":[],"end":true}\n'
        return self._piece(*self._keep(batch))

    def _keep(self, batch: Batch) -> tuple[Iterator[tuple[bytes, bool]], Receipt]:
        room, self._room = self._room, Room(self._receipts, held=False)

        def settled() -> None:
            self._out.discard(receipt)
            if self._wake is not None and not self._wake.called:
                self._wake.callback(None)

        receipt = self._receipts.open(self._request.caller, batch, room, settled)
        self._out.add(receipt)
        self._current, self._line = receipt, pieces(receipt, b"\n")
        usage = self._request.usage
        usage.rows = (usage.rows or 0) + receipt.count
        return self._line, receipt

    def _piece(self, line: Iterator[tuple[bytes, bool]], receipt: Receipt) -> bytes:
        """The next piece of the line."""
        if not self._receipts.is_open(receipt):
            raise _too_slow()
        piece, last = next(line)
        self._said = self._clock.seconds()
        if last:
            self._line = self._current = None
            self._receipts.restart(receipt)
        return piece

    def _alive(self) -> bytes:
        self._said = self._clock.seconds()
        return EMPTY + b"\n"

    async def _batch(self) -> Batch | None:
        """The next one; None when it is time for a sign of life, or for the end."""
        until = min(self._said + HEARTBEAT, self._ends)
        while (held := len(self._out) >= self._wanted.max_unacknowledged) or not self._has_room():
            left = until - self._clock.seconds()
            if left <= 0:
                return None
            # Room comes from other callers of the profile, who wake nobody here.
            await self._settled(left if held else min(left, 1.0))
        left = max(0.0, until - self._clock.seconds())
        wanted, settings = self._wanted, self._settings
        return await self._broker.receive(self._source, wanted.max, left, settings.max_batch)

    def _has_room(self) -> bool:
        if not self._room.held:
            try:
                self._room = self._receipts.room()
            except Problem:
                return False
        return True

    async def _settled(self, seconds: float) -> None:
        wake: Deferred[None] = Deferred()
        self._wake = wake
        timer = self._clock.callLater(seconds, wake.callback, None)
        try:
            await wake
        finally:
            self._wake = None
            if timer.active():
                timer.cancel()

    def _leave(self) -> None:
        self._room.give_back()
        for receipt in list(self._out):
            self._receipts.give_back(receipt)


def _too_slow() -> Problem:
    return Problem(
        "conflict",
        "the messages were not taken in time and went back to the broker",
        hint="read the answer faster, ask for fewer messages at once, or raise ack_timeout",
    )
