"""Receiving from one source over one STOMP connection.

A subscription of STOMP is sent messages as long as it has room (its prefetch), whether somebody
wants them or not, and neither server takes a single message back from it: ActiveMQ puts what is
NACKed aside as dead. So each message has a subscription of its own, a slot with room for one. Slots
are opened as callers want messages: for whoever waits as many as the last one got, then more as
they are filled. What is released goes back by ending its slot; an acknowledged slot is filled again
by the broker, and stays open for :data:`STANDING` seconds for the caller's next receive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from workato_tunnel.problems import Problem

from ..broker import IncomingMessage, Source
from .stomp_dialects import Dialect
from .stomp_dialling import lost, refusal
from .stomp_frames import Frame
from .stomp_link import LinkLost, Refused, StompLink
from .stomp_slots import Receiver, Slot, State, Taken

STANDING: Final = 0.5
GROWTH: Final = 3
"""Slots that are opened for each message that has come."""
SURPLUS: Final = 2.0
"""Seconds for which a message may be held although callers come and go."""
FIRST_LOOK: Final = 0.1
"""Seconds that a broker is given to send the first message, however short the wait."""
QUIET: Final = 0.015
"""Seconds without a message after which nothing more is there."""
GATHERING: Final = 0.2
"""Seconds for gathering a batch, at most."""


class Moved(Exception):
    """This consumer takes no more callers: another has to be asked."""


@define(eq=False)
class StompBatch:
    """Messages of one receive (a ``Batch``)."""

    _consumer: StompConsumer
    taken: list[Taken]
    settled: bool = False
    acknowledging: bool = False

    @property
    def messages(self) -> tuple[IncomingMessage, ...]:
        """In the broker's order."""
        return tuple(each.message for each in self.taken)

    async def acknowledge(self) -> None:
        """Returns when the broker has confirmed. Raises Problem ``conflict``."""
        if self.settled:
            raise Problem("conflict", "the messages have been given back to the broker")
        await self._consumer.acknowledge(self)

    async def release(self) -> None:
        """Give all back."""
        self._consumer.release(self)


@define(eq=False)
class StompConsumer:
    """The consumer of a source on a connection of its own.

    :ivar retired: nobody is to ask it any more; it ends once all that it gave out is settled.
    :ivar single: all messages come by one slot: durable subscriptions that have one consumer, and
        topics, where each slot would get its own copy.
    """

    _clock: Any
    link: StompLink
    dialect: Dialect
    source: Source
    single: bool
    batches: set[StompBatch] = field(factory=set)
    retired: bool = False
    idle_since: float = 0.0
    _strayed: bool = False
    _gathering: int = 0
    _last_batch: int = 0
    _slots: dict[str, Slot] = field(factory=dict)
    _last_slot: int = 0
    _filled: deque[Slot] = field(factory=deque)
    _receivers: list[Receiver] = field(factory=list)
    _wakes: list[Deferred[None]] = field(factory=list)
    _standing: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self.link.strays = self._stray
        self.link.on_lost = self._on_lost
        self.link.stray_error = self.dialect.stray_error
        self.idle_since = self._clock.seconds()

    @property
    def busy(self) -> bool:
        """Whether somebody waits or has messages."""
        return bool(self.batches or self._receivers)

    # -- receiving -------------------------------------------------------------------------------

    async def receive(self, limit: int, wait: float, max_bytes: int) -> StompBatch | None:
        """As of ``Broker``. Raises Problem, and Moved where another consumer has to be asked."""
        clock = self._clock
        receiver = Receiver(limit, limit if self.single else min(limit, max(1, self._last_batch)))
        taken: list[Taken] = []
        until = clock.seconds() + wait
        try:
            self._receivers.append(receiver)
            while self.single and self.batches:
                left = until - clock.seconds()
                if left <= 0:
                    return None
                await self._change(left)
            confirmed = self._open()
            if confirmed is not None:
                await confirmed
            until = max(until, clock.seconds() + FIRST_LOOK)
            while not self._filled and (left := until - clock.seconds()) > 0:
                await self._change(left)
            if self._filled:
                self._gathering += 1
                try:
                    await self._gather(receiver, taken, limit, max_bytes)
                finally:
                    self._gathering -= 1
            return self._batch(taken)
        except (LinkLost, Refused) as error:
            raise _problem(error) from None
        except BaseException:
            self._give_back(taken)
            raise
        finally:
            self._receivers.remove(receiver)
            self._rest()

    def _batch(self, taken: list[Taken]) -> StompBatch | None:
        if self.link.lost is not None:
            raise self.link.lost
        self._last_batch = len(taken)
        if not taken:
            return None
        batch = StompBatch(self, taken)
        self.batches.add(batch)
        return batch

    async def _gather(
        self, receiver: Receiver, taken: list[Taken], limit: int, max_bytes: int
    ) -> None:
        """Take what is there, opening as many slots as have come until one stays empty."""
        clock = self._clock
        until = clock.seconds() + GATHERING
        size = 0
        while True:
            while self._filled and len(taken) < limit and not (taken and size >= max_bytes):
                each = self._take(self._filled[0])
                taken.append(each)
                size += len(each.message.body or "")
            left = until - clock.seconds()
            if len(taken) >= limit or size >= max_bytes or left <= 0:
                return
            room = max(1, (max_bytes - size) * len(taken) // max(size, 1))
            receiver.demand = min(limit - len(taken), GROWTH * len(taken), room)
            confirmed = None if self.single else self._open()
            if confirmed is not None:
                await confirmed
            if not self._filled:
                await self._change(min(left, QUIET))
            if not self._filled:
                return

    def _open(self) -> Deferred[None] | None:
        """Open the slots that are wanted; None if they are there."""
        if self.link.lost is not None:
            raise self.link.lost
        wanted = sum(each.demand for each in self._receivers)
        there = sum(1 for slot in self._slots.values() if slot.state in (State.OPEN, State.FILLED))
        missing = (0 if self._slots else 1) if self.single else wanted - there
        confirmed = None
        for number in range(missing):
            self._last_slot += 1
            slot = Slot(str(self._last_slot), wanted if self.single else 1)
            headers = [("id", slot.id), *self.dialect.subscription(self.source, slot.room)]
            self._slots[slot.id] = slot
            self.link.messages[slot.id] = self._received
            if number == missing - 1:
                confirmed = self.link.request("SUBSCRIBE", headers)
            else:
                self.link.send("SUBSCRIBE", headers)
        return confirmed

    def _received(self, frame: Frame) -> None:
        slot = self._slots[frame.headers["subscription"]]
        slot.frames.append(frame)
        slot.since = self._clock.seconds()
        if slot.state is State.OPEN:
            slot.state = State.FILLED
        self._filled.append(slot)
        self._wake()

    def _take(self, slot: Slot) -> Taken:
        self._filled.popleft()
        frame = slot.frames.popleft()
        slot.state = State.TAKEN
        slot.taken += 1
        message = self.dialect.received(frame)
        return Taken(slot, frame.headers.get("ack", ""), message)

    # -- settling --------------------------------------------------------------------------------

    async def acknowledge(self, batch: StompBatch) -> None:
        """Returns when the broker has confirmed."""
        if self.link.lost is not None or batch.acknowledging:
            raise _conflict()
        batch.acknowledging = True
        *others, last = batch.taken
        for each in others:
            self.link.send("ACK", [("id", each.ack)])
        confirmed = self.link.request("ACK", [("id", last.ack)])
        for each in batch.taken:
            self._refilling(each.slot)
        try:
            await confirmed
        except (LinkLost, Refused) as error:
            raise _conflict(str(error)) from None
        finally:
            # Cancelled or not, the broker has been told.
            batch.settled = True
            self.batches.discard(batch)
            self._settled()

    def release(self, batch: StompBatch) -> None:
        """Give all messages of a batch back."""
        if batch.settled or batch.acknowledging:
            return
        batch.settled = True
        self.batches.discard(batch)
        self._give_back(batch.taken)
        self._settled()

    def close(self) -> Deferred[None]:
        """Give back everything: the broker takes what a connection had when it ends."""
        if self._standing is not None:
            self._standing.cancel()
            self._standing = None
        return self.link.end()

    def _refilling(self, slot: Slot) -> None:
        """The broker sends the next message to a slot whose message is acknowledged."""
        slot.taken -= 1
        if not slot.taken and slot.state is State.TAKEN:
            slot.state = State.FILLED if slot.frames else State.OPEN

    def _settled(self) -> None:
        self._rest()
        self._wake()

    def _rest(self) -> None:
        """Somebody wants less than before: soon end what nobody wants."""
        self.idle_since = self._clock.seconds()
        if self.retired and not self.busy:
            self.close()
        elif self.link.lost is None and self._standing is None:
            self._standing = self._clock.callLater(STANDING, self._stood)

    def _stood(self) -> None:
        """What a busy time has left goes when it is quiet; before, what is too much for long."""
        now = self._clock.seconds()
        self._standing = None
        if now - self.idle_since >= STANDING * 0.9 and not self._gathering:
            self._trim(0)
            if self.single and not self.busy:
                # Another agent may want it, and the broker knows one holder at a time.
                self.retired = True
                self._rest()
            return
        if self._filled and now - self._filled[0].since > SURPLUS:
            self._trim(self._last_batch)
        self._standing = self._clock.callLater(STANDING, self._stood)

    def _give_back(self, taken: Iterable[Taken]) -> None:
        """By ending the slots; a shared one takes back all that it had."""
        taken = list(taken)
        if not taken or self.link.lost is not None:
            return
        if self.dialect.returns_on_unsubscribe:
            for each in taken:
                if each.slot.state is not State.CLOSED:
                    self._end_slot(each.slot)
        else:
            self._return(taken)

    def _return(self, taken: list[Taken]) -> None:
        """NACK and end the slots in one step, else they would be filled again in between."""
        self._last_slot += 1
        transaction = ("transaction", f"t{self._last_slot}")
        self.link.send("BEGIN", [transaction])
        for each in taken:
            self.link.send("NACK", [("id", each.ack), transaction])
        for slot in {each.slot.id: each.slot for each in taken}.values():
            if slot.state is not State.CLOSED:
                self._end_slot(slot)
        self.link.send("COMMIT", [transaction])

    def _trim(self, keep: int) -> None:
        """End the slots that nobody wants, but for so many; a message that is in one goes back."""
        if self.link.lost is not None or (self.single and self.busy):
            return
        free = [slot for slot in self._slots.values() if slot.state is State.OPEN]
        free += [slot for slot in self._slots.values() if slot.state is State.FILLED]
        wanted = sum(each.limit for each in self._receivers)
        excess = max(0, len(free) - wanted - keep)
        held = []
        for slot in free[:excess]:
            if not slot.frames:
                self._end_slot(slot)
            while slot.frames:
                frame = slot.frames.popleft()
                self._filled.remove(slot)
                held.append(Taken(slot, frame.headers.get("ack", ""), self.dialect.received(frame)))
        self._give_back(held)

    def _end_slot(self, slot: Slot) -> None:
        slot.state = State.CLOSED
        for _ in range(len(slot.frames)):
            self._filled.remove(slot)
        slot.frames.clear()
        del self._slots[slot.id]
        del self.link.messages[slot.id]
        self.link.send("UNSUBSCRIBE", [("id", slot.id)])

    def _stray(self, frame: Frame) -> None:
        """A message came while its slot was being ended. ActiveMQ has taken it back; RabbitMQ takes
        it back when the connection ends, which is as soon as nobody has messages of it."""
        if not self.dialect.returns_on_unsubscribe:
            self.retired = self._strayed = True
            self._wake()
            self._rest()

    def _on_lost(self) -> None:
        if self._standing is not None:
            self._standing.cancel()
            self._standing = None
        self.batches.clear()
        self._slots.clear()
        self._filled.clear()
        self._wake()

    # -- waiting ---------------------------------------------------------------------------------

    async def _change(self, seconds: float) -> None:
        """Wait until a message has come, or so long. Raises LinkLost, Moved."""
        wake: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, wake.callback, None)
        self._wakes.append(wake)
        try:
            await wake
        finally:
            if wake in self._wakes:
                self._wakes.remove(wake)
            if timer.active():
                timer.cancel()
        if self.link.lost is not None:
            raise self.link.lost
        if self._strayed and not self._filled:
            raise Moved

    def _wake(self) -> None:
        """Let the one who has waited longest look."""
        wakes, self._wakes = self._wakes, []
        for each in wakes:
            if not each.called:
                each.callback(None)


def _problem(error: LinkLost | Refused) -> Problem:
    return refusal(str(error)) if isinstance(error, Refused) else lost(error)


def _conflict(words: str = "the connection was lost") -> Problem:
    return Problem(
        "conflict",
        f"the broker has taken the messages back: {words}",
        hint="receive again: they come again, marked as redelivered",
    )
