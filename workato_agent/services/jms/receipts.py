"""Batches that callers have and have not settled, and what became of those that they had.

A receipt has the form ``AGENT~RANDOM``: by its first part the gateway finds this agent, the second
part can't be guessed. It is only there for the caller who received the messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, Literal

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.problems import Problem

from .broker import Batch
from .settings import JmsSettings

REMEMBERED: Final = 600.0
"""Seconds for which the outcome of a receipt is told again."""
CLOSING: Final = 2.0
MOST_REMEMBERED: Final = 20_000
_RANDOM_BYTES: Final = 24

Outcome = Literal["acknowledged", "released", "expired", "lost"]
"""``expired``: not settled in time; ``lost``: the broker took the messages back before."""


@frozen
class Settled:
    """What became of a receipt."""

    owner: str
    outcome: Outcome
    count: int
    detail: str = ""


@define(eq=False)
class Receipt:
    """A batch that is out.

    :ivar on_settled: told once, whatever becomes of it.
    """

    id: str
    owner: str
    batch: Batch
    on_settled: Callable[[], None]
    timer: IDelayedCall | None = None
    settling: bool = False
    waiting: list[Deferred[Settled]] = field(factory=list)

    @property
    def count(self) -> int:
        """Its messages."""
        return len(self.batch.messages)


@define(eq=False)
class Room:
    """The right to one batch; given back when that is settled, or when there was none."""

    _receipts: Receipts
    held: bool = True

    def give_back(self) -> None:
        """Safe to repeat."""
        if self.held:
            self.held = False
            self._receipts.rooms -= 1


@define(eq=False)
class Receipts:
    """The receipts of one profile.

    :ivar rooms: batches that are out, or may come out of a receive that waits.
    """

    _clock: Any
    _settings: JmsSettings
    rooms: int = 0
    _open: dict[str, Receipt] = field(factory=dict, init=False)
    _settled: dict[str, Settled] = field(factory=dict, init=False)
    _order: list[tuple[float, str]] = field(factory=list, init=False)
    _work: set[Deferred[Any]] = field(factory=set, init=False)
    _log: Logger = field(factory=Logger, init=False)

    def __len__(self) -> int:
        return len(self._open)

    def room(self) -> Room:
        """Raises Problem ``overloaded`` where there are enough."""
        if self.rooms >= self._settings.max_batches:
            raise Problem(
                "overloaded",
                f"the profile has {self._settings.max_batches} batches that are waited for or not "
                "settled, its limit",
                hint="settle what has been received (POST receipts/{receipt}), or raise "
                "limits.batches in the agent's configuration",
                retry_after=max(1, round(self._settings.ack_timeout)),
            )
        self.rooms += 1
        return Room(self)

    def open(self, owner: str, batch: Batch, room: Room, ended: Callable[[], None]) -> Receipt:
        """Keep a batch for its caller, for ``ack_timeout`` from now on."""
        identifier = f"{self._settings.agent}~{secrets.token_urlsafe(_RANDOM_BYTES)}"

        def on_settled() -> None:
            room.give_back()
            ended()

        receipt = Receipt(identifier, owner, batch, on_settled)
        self._open[identifier] = receipt
        self.restart(receipt)
        return receipt

    def restart(self, receipt: Receipt) -> None:
        """The caller has its messages only now: its time begins."""
        if receipt.id not in self._open or receipt.settling:
            return
        if receipt.timer is not None:
            receipt.timer.cancel()
        receipt.timer = self._clock.callLater(self._settings.ack_timeout, self._expire, receipt)

    def is_open(self, receipt: Receipt) -> bool:
        """Whether it waits for its caller."""
        return receipt.id in self._open

    async def settle(
        self, identifier: str, owner: str, action: Literal["ack", "release"]
    ) -> Settled:
        """Do what the caller wants, or tell what has been done.

        A call that is cancelled stops waiting, but what the broker has been told stays told: the
        next call with this receipt hears of it. Raises Problem ``not_found``, ``conflict``.
        """
        receipt = self._open.get(identifier)
        if receipt is None:
            return self._told(identifier, owner, action)
        if receipt.owner != owner:
            raise _absent()
        waiting: Deferred[Settled] = Deferred(receipt.waiting.remove)
        receipt.waiting.append(waiting)
        if not receipt.settling:
            if action == "ack":
                self._begin(receipt, self._acknowledge(receipt))
            else:
                self._begin(receipt, self._release(receipt, "released"))
        await waiting
        return self._told(identifier, owner, action)

    def give_back(self, receipt: Receipt) -> None:
        """The caller doesn't want it, or has gone."""
        if self.is_open(receipt) and not receipt.settling:
            self._begin(receipt, self._release(receipt, "released"))

    async def close(self) -> None:
        """Give all back, and see to the end what is being settled, but not for long."""
        for receipt in list(self._open.values()):
            self.give_back(receipt)
        ended: Deferred[Any] = gatherResults(list(self._work))
        ended.addTimeout(CLOSING, self._clock)
        try:
            await ended
        except DeferredTimeout:
            self._log.warn(
                "The broker has not confirmed what became of some messages",
                event="receipts_not_confirmed",
            )

    # -- inside ----------------------------------------------------------------------------------

    def _begin(self, receipt: Receipt, work: Any) -> None:
        """Settling is the profile's own work, whoever asked for it."""
        receipt.settling = True
        if receipt.timer is not None:
            receipt.timer.cancel()
            receipt.timer = None
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._work.add(running)
        running.addBoth(self._ended, running, receipt)

    def _ended(self, result: object, running: Deferred[None], receipt: Receipt) -> None:
        self._work.discard(running)
        if isinstance(result, Failure) and result.check(CancelledError):
            self._over(receipt, "lost", "the profile was closed before the broker had confirmed")
        elif isinstance(result, Failure):
            self._log.failure(
                "Settling a receipt failed", event="receipt_settling_failed", failure=result
            )
            self._over(receipt, "lost", "settling it failed unexpectedly")

    async def _acknowledge(self, receipt: Receipt) -> None:
        try:
            await receipt.batch.acknowledge()
        except Problem as problem:
            await receipt.batch.release()
            self._over(receipt, "lost", problem.detail)
        else:
            self._over(receipt, "acknowledged")

    async def _release(self, receipt: Receipt, outcome: Outcome) -> None:
        await receipt.batch.release()
        self._over(receipt, outcome)

    def _expire(self, receipt: Receipt) -> None:
        receipt.timer = None
        self._log.info(
            "{count} messages were not acknowledged within {seconds:g} s and go back to the broker",
            event="messages_not_acknowledged",
            count=receipt.count,
            seconds=self._settings.ack_timeout,
        )
        self._begin(receipt, self._release(receipt, "expired"))

    def _over(self, receipt: Receipt, outcome: Outcome, detail: str = "") -> None:
        if self._open.pop(receipt.id, None) is None:
            return
        now = self._clock.seconds()
        settled = Settled(receipt.owner, outcome, receipt.count, detail)
        self._settled[receipt.id] = settled
        self._order.append((now, receipt.id))
        self._forget(now)
        receipt.on_settled()
        waiting, receipt.waiting = receipt.waiting, []
        for each in waiting:
            each.callback(settled)

    def _forget(self, now: float) -> None:
        old = 0
        for moment, identifier in self._order:
            if now - moment < REMEMBERED and len(self._order) - old <= MOST_REMEMBERED:
                break
            del self._settled[identifier]
            old += 1
        del self._order[:old]

    def _told(self, identifier: str, owner: str, action: str) -> Settled:
        settled = self._settled.get(identifier)
        if settled is None or settled.owner != owner:
            raise _absent()
        if settled.outcome == "acknowledged" and action == "ack":
            return settled
        if settled.outcome != "acknowledged" and action == "release":
            return settled
        raise Problem(
            "conflict",
            _CONFLICTS[settled.outcome] + (f" ({settled.detail})" if settled.detail else ""),
            hint=_HINTS[settled.outcome == "acknowledged"],
            extra={"outcome": settled.outcome},
        )


_CONFLICTS: Final = {
    "acknowledged": "the messages have been acknowledged and can't be given back",
    "released": "the messages have been given back to the broker",
    "expired": "the messages were not acknowledged in time and went back to the broker",
    "lost": "the broker has taken the messages back",
}
_HINTS: Final = {
    True: "there is nothing left to do",
    False: "they come again, marked as redelivered; settle within the profile's ack_timeout",
}


def _absent() -> Problem:
    return Problem(
        "not_found",
        "there is no such receipt",
        hint=f"outcomes are kept for {REMEMBERED / 60:g} minutes, and not beyond a restart of the "
        "agent; what was not acknowledged comes again, marked as redelivered",
    )
