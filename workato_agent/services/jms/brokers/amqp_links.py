"""Links of AMQP: one that publishes, and what it shares with the one that receives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field
from proton import Delivery, Endpoint, Event, Link, Terminus, symbol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from workato_tunnel.problems import Problem

from ..broker import Destination
from .amqp_connection import AmqpConnection
from .amqp_errors import Condition, condition_problem

_UNSENT: Final = 256 * 1024
"""Bytes that may wait in proton for the socket or the broker before the next message is encoded."""
_GOODBYE: Final = 2.0
_NUMBERS = itertools.count(1)


def link_name(prefix: str) -> str:
    """A name that no other link of this process has."""
    return f"{prefix}-{next(_NUMBERS)}"


@define(eq=False)
class SessionUser:
    """Who has a session: waits for what happens on it.

    :ivar what: it is for, in the words of an error: "the queue a".
    :ivar failure: why it has ended before its time.
    """

    clock: IReactorTime
    connection: AmqpConnection
    where: str
    what: str
    session: Any = field(init=False)
    failure: Problem | None = field(init=False, default=None)
    _over: bool = field(init=False, default=False)
    _waiting: list[Deferred[None]] = field(init=False, factory=list)

    async def until(self, ready: Callable[[], object], seconds: float | None = None) -> bool:
        """Wait; whether it came to that within so many seconds. Raises the link's failure."""
        end = None if seconds is None else self.clock.seconds() + seconds
        while self.failure is None:
            if ready():
                return True
            left = None if end is None else end - self.clock.seconds()
            if left is not None and left <= 0:
                return False
            await self._change(left)
        raise self.failure

    async def _change(self, seconds: float | None) -> None:
        changed: Deferred[None] = Deferred()
        timer = None if seconds is None else self.clock.callLater(seconds, _fire, changed)
        self._waiting.append(changed)
        try:
            await changed
        finally:
            if changed in self._waiting:
                self._waiting.remove(changed)
            if timer is not None and timer.active():
                timer.cancel()

    def wake(self) -> None:
        """Something has changed."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            _fire(each)

    def lost(self, problem: Problem) -> None:
        """The connection is gone."""
        self._let_go()
        self.fail(problem)

    def _let_go(self) -> None:
        """It is over. What is proton's goes now, and its parts before the whole.

        Proton frees a session with its links, and reads a link again afterwards, when the last
        reference to it is let go later than that to its session; and so with links and deliveries.
        """
        self._over = True
        self.session = None

    def fail(self, problem: Problem) -> None:
        """It can't be used any more; the first reason counts."""
        if self.failure is None:
            self.failure = problem
        self.wake()


@define(eq=False)
class SessionCheck(SessionUser):
    """Sees whether the broker begins a session, which is kept for who wants one next.

    It is at this that RabbitMQ looks at the virtual host.
    """

    _begun: bool = field(init=False, default=False)

    @classmethod
    async def make(
        cls, clock: IReactorTime, connection: AmqpConnection, where: str, patience: float
    ) -> None:
        """Raises Problem."""
        made = cls(clock, connection, where, "a session")
        made.session = connection.session(made)
        if made.session.state & Endpoint.REMOTE_ACTIVE:
            connection.keep(made.session)
            made._let_go()
            return
        connection.pump()
        if not await made.until(lambda: made._begun, patience):
            raise _no_answer(where, made.what, patience)

    def happened(self, event: Event) -> None:
        """An event of proton's."""
        if event.type == Event.SESSION_REMOTE_OPEN:
            self._begun = True
            self.connection.keep(self.session)
            self._let_go()
        elif event.type == Event.SESSION_REMOTE_CLOSE:
            condition = Condition.of(self.session.remote_condition)
            self.connection.forget(self.session)
            self.session.close()
            self.session.free()
            self._let_go()
            self.fail(condition_problem(self.where, condition, f"refused {self.what}"))
        self.wake()


@define(eq=False)
class AmqpLink(SessionUser):
    """A link in a session that nobody else uses meanwhile: some brokers end the session where a
    link fails.

    :ivar attached: the broker has agreed to it.
    :ivar durable: what it is attached to stays when it leaves.
    :ivar detached: the broker has taken leave of the link, all before it has been done.
    """

    link: Any = field(init=False)
    attached: bool = field(init=False, default=False)
    durable: bool = field(init=False, default=False)
    detached: bool = field(init=False, default=False)
    leaving: bool = field(init=False, default=False)
    _answered: bool = field(init=False, default=False)
    _detaching: bool = field(init=False, default=False)

    async def open(self, patience: float) -> None:
        """Wait until the broker has agreed. Raises Problem for why it has not."""
        self.link.open()
        self.connection.pump()
        if not await self.until(lambda: self.attached, patience):
            raise _no_answer(self.where, self.what, patience)

    def detach(self) -> None:
        """Give the link up, or as soon as the broker has answered to its opening. Idempotent."""
        if not self._detaching:
            self._detaching = True
            if self._answered and not self._over:
                self.link.close()
                self.connection.pump()

    def leave(self) -> None:
        """End it; what is unsettled goes back to the broker. Idempotent."""
        if not self.leaving:
            self.leaving = True
            if not self._over:
                self.end()
                self.connection.pump()

    def end(self) -> None:
        """How it is ended, by the kind of link."""
        raise NotImplementedError

    async def left(self) -> None:
        """After :meth:`leave`: wait until the broker has heard of it, or for a while."""
        end = self.clock.seconds() + _GOODBYE
        while not self._over and (left := end - self.clock.seconds()) > 0:
            await self._change(left)

    # What the connection calls (a ``Channel``).

    def happened(self, event: Event) -> None:
        """An event of proton's."""
        kind = event.type
        if kind == Event.LINK_REMOTE_OPEN:
            self._opened()
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            self._parted()
        elif kind == Event.SESSION_REMOTE_CLOSE:
            if not self.leaving:
                self._refused(Condition.of(self.session.remote_condition))
            self._free()
        elif kind == Event.DELIVERY:
            self.delivered(event.delivery)
        elif kind == Event.LINK_FLOW:
            self.flowed()
        self.wake()

    def delivered(self, delivery: Any) -> None:
        """A delivery has come, or is heard of."""
        raise NotImplementedError

    def flowed(self) -> None:
        """The broker has told its state of the link."""

    def agreed(self) -> bool:
        """Whether the broker's attach has the terminus that was asked for."""
        raise NotImplementedError

    def _opened(self) -> None:
        # Without a terminus it is a refusal, and a detach with the reason follows (2.6.3).
        self._answered = True
        self.attached = self.agreed()
        if self._detaching:
            self.link.close()

    def _parted(self) -> None:
        self.detached = True
        if not self._detaching:
            self._refused(Condition.of(self.link.remote_condition))
        if not self._over:
            self.link.close()

    def _refused(self, condition: Condition | None) -> None:
        verb = "ended the link to" if self.attached else "refused"
        self.fail(condition_problem(self.where, condition, f"{verb} {self.what}"))
        self.leave()

    def _free(self) -> None:
        """Proton keeps sessions until they are freed."""
        self.connection.forget(self.session)
        self.session.close()
        self.link.free()
        self.session.free()
        self._let_go()
        self.fail(Problem("target_unreachable", f"{self.where}: the link has been closed"))

    def _let_go(self) -> None:
        self.link = None
        super()._let_go()


@define(eq=False)
class Sending(AmqpLink):
    """A link that publishes; its session is kept for the next one.

    :ivar accepted: how many the broker has taken responsibility for.
    """

    accepted: int = field(init=False, default=0)
    _pending: set[str] = field(init=False, factory=set)
    _refusal: Problem | None = field(init=False, default=None)

    @classmethod
    def to(
        cls,
        clock: IReactorTime,
        connection: AmqpConnection,
        where: str,
        destination: Destination,
        address: str,
    ) -> Sending:
        """A link to an address, not yet opened. Raises Problem."""
        made = cls(clock, connection, where, f"the {destination.kind} {destination.name}")
        made.session = connection.session(made)
        made.link = made.session.sender(link_name("publish"))
        made.link.snd_settle_mode = Link.SND_UNSETTLED
        made.link.source.address = made.link.name
        made.link.target.address = address
        # RabbitMQ 3 declares a durable queue for a durable target.
        made.link.target.durability = Terminus.CONFIGURATION
        made.link.target.capabilities.put_object(symbol(destination.kind))
        return made

    async def publish(self, contents: Iterable[bytes]) -> None:
        """Send messages in order; returns when the broker has accepted every one.

        Raises Problem with the extra ``published`` for how many certainly are.
        """
        try:
            for number, content in enumerate(contents):
                await self._until_sendable()
                if self._refusal is not None:
                    break
                self._check_size(content)
                tag = str(number)
                self._pending.add(tag)
                self.link.delivery(tag)
                self.link.stream(content)
                self.link.advance()
                self.connection.pump()
            if self._pending:
                await self.until(lambda: not self._pending)
            if self._refusal is not None:
                raise self._refusal
        except Problem as problem:
            raise _counted(problem, self.accepted) from None
        finally:
            self.connection.senders.discard(self)

    async def _until_sendable(self) -> None:
        self.connection.senders.add(self)
        await self.until(
            lambda: (
                self._refusal is not None
                or (self.link.credit > 0 and self.session.outgoing_bytes < _UNSENT)
            )
        )

    def _check_size(self, content: bytes) -> None:
        largest = self.link.remote_max_message_size
        if largest and len(content) > largest:
            raise Problem(
                "payload_too_large",
                f"{self.where}: a message of {len(content)} bytes; the broker takes {largest} bytes"
                f" for {self.what}",
            )

    def end(self) -> None:
        self.detach()

    def happened(self, event: Event) -> None:
        super().happened(event)
        if self.detached and self._detaching and not self._over:
            self.link.free()
            self.connection.keep(self.session)
            self._let_go()
            self.fail(Problem("target_unreachable", f"{self.where}: the link has been closed"))

    def agreed(self) -> bool:
        return bool(self.link.remote_target.type != Terminus.UNSPECIFIED)

    def delivered(self, delivery: Any) -> None:
        state = delivery.remote_state
        if not delivery.settled and state not in _OUTCOMES:
            return
        if delivery.tag in self._pending:
            self._pending.discard(delivery.tag)
            # Settled without an outcome: the broker has forgotten it, and says nothing against it.
            if state in (Delivery.ACCEPTED, 0):
                self.accepted += 1
            elif self._refusal is None:
                self._refusal = self._turned_down(delivery)
        delivery.settle()

    def _turned_down(self, delivery: Any) -> Problem:
        if delivery.remote_state == Delivery.REJECTED:
            condition = Condition.of(delivery.remote.condition)
            return condition_problem(self.where, condition, f"rejected a message for {self.what}")
        return Problem(
            "target_not_found",
            f"{self.where}: the broker gave a message for {self.what} back: nothing takes it there",
            hint="check that the queue exists, or that something is bound to the topic",
        )


_OUTCOMES: Final = frozenset(
    {Delivery.ACCEPTED, Delivery.REJECTED, Delivery.RELEASED, Delivery.MODIFIED}
)


def _no_answer(where: str, what: str, patience: float) -> Problem:
    return Problem(
        "target_unreachable",
        f"{where}: the broker did not answer about {what} in {patience:g} s",
        hint="look into the broker's log",
    )


def _counted(problem: Problem, accepted: int) -> Problem:
    return Problem(
        problem.code,
        problem.detail,
        hint=problem.hint,
        retry_after=problem.retry_after,
        extra={**problem.extra, "published": accepted},
    )


def _fire(waiting: Deferred[None]) -> None:
    if not waiting.called:
        waiting.callback(None)
