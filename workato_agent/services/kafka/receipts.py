"""Who reads in which group, and what is with callers until they acknowledge it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from .asking import Settled
from .consuming import GroupConsumer, Start
from .ledger import Portion
from .settings import KafkaSettings

MOST_RECEIPTS: Final = 20_000
REMEMBERED: Final = 1000
"""Receipts that were acknowledged, so that a caller who asks again is told so."""
_RANDOM_BYTES: Final = 18


@define(eq=False)
class Receipt:
    """Messages that one caller has.

    :ivar settled: told when it is none any more.
    :ivar before: those that are acknowledged with it when a caller says so, itself included.
    :ivar expires: seconds of the reactor.
    """

    id: str
    owner: str
    kept: KeptConsumer
    portions: Sequence[Portion]
    expires: float
    settled: Callable[[Receipt], None]
    before: Callable[[Receipt], Sequence[Receipt]]
    busy: bool = False


@define(eq=False)
class KeptConsumer:
    """A consumer between calls.

    :ivar users: calls that read with it; ``receipts``: those that wait for their acknowledgement.
    """

    consumer: GroupConsumer
    users: int = 0
    receipts: int = 0
    idle: IDelayedCall | None = None

    def stay(self) -> None:
        """It is in use: it leaves its group later."""
        if self.idle is not None and self.idle.active():
            self.idle.cancel()
        self.idle = None


@define(eq=False)
class Readers:
    """The consumers and receipts of one profile.

    A receipt's id is ``AGENT~RANDOM``: by its first part the gateway finds this agent, the second
    part can't be guessed. Even so it is only there for the caller who got it.
    """

    _reactor: Any
    _pool: ThreadPool
    _settings: KafkaSettings
    _kept: dict[tuple[str, str], KeptConsumer] = field(factory=dict, init=False)
    _closing: set[KeptConsumer] = field(factory=set, init=False)
    _receipts: OrderedDict[str, Receipt] = field(factory=OrderedDict, init=False)
    _done: OrderedDict[str, tuple[str, Settled]] = field(factory=OrderedDict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=Logger, init=False)

    def use(self, group: str, topic: str, start: Start | None) -> KeptConsumer:
        """The consumer of a group and topic, for a call that says :meth:`leave` at its end.

        Raises Problem ``overloaded`` where there are enough, ``conflict`` where the one that there
        is began elsewhere.
        """
        if self._closed:
            raise Problem("agent_inactive", "the profile is being closed", retry_after=1)
        kept = self._kept.get((group, topic))
        if kept is not None and kept.consumer.gone:
            self._forget(kept)
            kept = None
        if kept is None:
            kept = self._begin(group, topic, start or "earliest")
        elif start is not None and start != kept.consumer.start:
            raise Problem(
                "conflict",
                f"this agent reads {topic} for group {group} since before, and began at"
                f" {kept.consumer.start!r}",
                hint="leave start out, or use another group",
            )
        kept.users += 1
        kept.stay()
        return kept

    def leave(self, kept: KeptConsumer) -> None:
        """A call does not read any more."""
        kept.users -= 1
        self._look_whether_idle(kept)

    def new_id(self) -> str:
        """Of a receipt or a subscription."""
        return f"{self._settings.agent}~{secrets.token_urlsafe(_RANDOM_BYTES)}"

    def check_room(self) -> None:
        """Raises Problem ``overloaded`` while too many receipts wait."""
        if len(self._receipts) >= MOST_RECEIPTS:
            raise Problem(
                "overloaded",
                f"{MOST_RECEIPTS} receipts of this profile wait for their acknowledgement",
                hint="acknowledge what was received before more is",
                retry_after=5,
            )

    def hand_out(
        self,
        kept: KeptConsumer,
        identifier: str,
        owner: str,
        portions: Sequence[Portion],
        settled: Callable[[Receipt], None] = lambda _: None,
        before: Callable[[Receipt], Sequence[Receipt]] = lambda receipt: (receipt,),
    ) -> Receipt:
        """A caller gets messages."""
        expires = self._reactor.seconds() + self._settings.ack_timeout
        receipt = Receipt(identifier, owner, kept, portions, expires, settled, before)
        self._receipts[identifier] = receipt
        kept.receipts += 1
        kept.stay()
        if self._timer is None:
            self._timer = self._reactor.callLater(self._settings.ack_timeout, self._expire)
        return receipt

    def find(self, identifier: str, owner: str) -> Receipt | Settled:
        """A caller's receipt, or what became of it. Raises Problem ``not_found``."""
        receipt = self._receipts.get(identifier)
        if receipt is not None and receipt.owner == owner:
            return receipt
        whose, settled = self._done.get(identifier, ("", None))
        if settled is not None and whose == owner:
            return settled
        raise Problem(
            "not_found",
            "there is no such receipt",
            hint=f"what is not acknowledged within {self._settings.ack_timeout:g} s is delivered"
            " again, as is what an agent had that ended; or it was released",
        )

    async def settle(self, receipts: Sequence[Receipt], *, ack: bool) -> Settled:
        """Acknowledge receipts of one consumer, or give them back. Raises Problem; they are then
        still there."""
        kept = receipts[0].kept
        portions = [portion for receipt in receipts for portion in receipt.portions]
        if not ack:
            for receipt in receipts:
                self._drop(receipt)
            return await kept.consumer.settle(portions, ack=False)
        for receipt in receipts:
            receipt.busy = True
        try:
            settled = await kept.consumer.settle(portions, ack=True)
        finally:
            for receipt in receipts:
                receipt.busy = False
        for receipt in receipts:
            self._drop(receipt)
            self._done[receipt.id] = (receipt.owner, settled)
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        return settled

    async def close(self) -> None:
        """Leave all groups; what was not acknowledged is delivered to others."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._receipts.clear()
        kept = [*self._kept.values(), *self._closing]
        for each in kept:
            each.stay()
        for ended in [each.consumer.stop() for each in kept]:
            await ended

    def _begin(self, group: str, topic: str, start: Start) -> KeptConsumer:
        if len(self._kept) >= self._settings.max_consumers:
            self._make_room()
        consumer = GroupConsumer(self._reactor, self._pool, self._settings, group, topic, start)
        kept = self._kept[group, topic] = KeptConsumer(consumer)
        consumer.run()
        return kept

    def _make_room(self) -> None:
        unused = [each for each in self._kept.values() if not each.users and not each.receipts]
        if unused:
            self._retire(min(unused, key=_idle_until))
        # Those that are leaving may hang with their broker: they are as few.
        most = self._settings.max_consumers
        if len(self._kept) >= most or len(self._closing) > most:
            raise Problem(
                "overloaded",
                f"the profile has {self._settings.max_consumers} consumers, its limit",
                hint="one is kept for each group and topic; raise max_consumers in the agent's"
                " configuration",
                retry_after=2,
            )

    def _look_whether_idle(self, kept: KeptConsumer) -> None:
        if kept.users or kept.receipts or kept.idle is not None or self._closed:
            return
        kept.idle = self._reactor.callLater(self._settings.idle_timeout, self._retire, kept)

    def _retire(self, kept: KeptConsumer) -> None:
        """Let a consumer leave its group."""
        kept.stay()
        self._forget(kept)

    def _forget(self, kept: KeptConsumer) -> None:
        place = (kept.consumer.group, kept.consumer.topic)
        if self._kept.get(place) is kept:
            del self._kept[place]
        self._closing.add(kept)
        kept.consumer.stop().addBoth(lambda _: self._closing.discard(kept))

    def _drop(self, receipt: Receipt) -> None:
        if self._receipts.pop(receipt.id, None) is not None:
            receipt.kept.receipts -= 1
            self._look_whether_idle(receipt.kept)
            receipt.settled(receipt)

    def _expire(self) -> None:
        """Give back what was not acknowledged in time. All have the same time, so that the oldest
        are the first."""
        self._timer = None
        now = self._reactor.seconds()
        late: dict[KeptConsumer, list[Receipt]] = {}
        for receipt in self._receipts.values():
            if receipt.expires > now:
                break
            if not receipt.busy:
                late.setdefault(receipt.kept, []).append(receipt)
        for kept, receipts in late.items():
            self._log.info(
                "{count} receipts of {topic} in group {group} were not acknowledged in time",
                event="kafka_receipts_expired",
                count=len(receipts),
                topic=kept.consumer.topic,
                group=kept.consumer.group,
            )
            for receipt in receipts:
                self._drop(receipt)
            kept.consumer.give_back(_portions(receipts))
        if self._receipts:
            first = next(iter(self._receipts.values()))
            pause = max(first.expires - now, 0.25)
            self._timer = self._reactor.callLater(pause, self._expire)


def _portions(receipts: Iterable[Receipt]) -> list[Portion]:
    return [portion for receipt in receipts for portion in receipt.portions]


def _idle_until(kept: KeptConsumer) -> float:
    return 0.0 if kept.idle is None else kept.idle.getTime()
