"""The pool: bounded, fair, and never lending what is broken."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.connections import TRUST_SECONDS, ConnectionPool
from workato_agent.services.database.settings import PoolSettings
from workato_tunnel.problems import Problem


@define(eq=False)
class Connection:
    """A connection to nothing."""

    kind: str = "a"
    alive: bool = True
    answering: bool = True
    renewable: bool = True
    closed: bool = False
    questions: int = 0

    def seems_alive(self) -> bool:
        return self.alive

    async def answers(self) -> bool:
        self.questions += 1
        return self.answering

    async def renew(self) -> bool:
        return self.renewable

    async def close(self) -> None:
        self.closed = True


@define
class Database:
    """Opens connections, or doesn't."""

    opened: list[Connection] = field(factory=list)
    failure: Exception | None = None
    slow: Deferred[None] | None = None

    async def open(self, kind: str) -> Connection:
        if self.slow is not None:
            await self.slow
        if self.failure is not None:
            raise self.failure
        self.opened.append(Connection(kind))
        return self.opened[-1]


class Pool(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.database = Database()
        settings = PoolSettings(min=1, max=2, idle=60, wait=10)
        self.pool = ConnectionPool[Connection](self.clock, settings, self.database.open)

    def acquire(self, kind: str = "a") -> Deferred[Connection]:
        return Deferred.fromCoroutine(self.pool.acquire(kind))

    def take(self, kind: str = "a") -> Connection:
        return self.successResultOf(self.acquire(kind))

    def give(self, connection: Connection, *, reusable: bool = True) -> None:
        self.successResultOf(
            Deferred.fromCoroutine(self.pool.release(connection, reusable=reusable))
        )

    def close(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.pool.close()))

    def test_a_connection_is_used_again(self) -> None:
        first = self.take()
        self.give(first)
        self.assertIs(self.take(), first)
        self.assertEqual(len(self.database.opened), 1)

    def test_no_more_than_max_are_open(self) -> None:
        self.take(), self.take()
        waiting = self.acquire()
        self.assertNoResult(waiting)
        self.assertEqual(len(self.database.opened), 2)

    def test_who_waits_is_served_in_order(self) -> None:
        first, _second = self.take(), self.take()
        waiting, later = self.acquire(), self.acquire()
        self.give(first)
        self.assertIs(self.successResultOf(waiting), first)
        self.assertNoResult(later)

    def test_waiting_ends_with_overloaded(self) -> None:
        self.take(), self.take()
        waiting = self.acquire()
        self.clock.advance(10)
        problem = self.failureResultOf(waiting, Problem).value
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 10))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_is_cancelled_waits_no_more(self) -> None:
        first, _second = self.take(), self.take()
        waiting, later = self.acquire(), self.acquire()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.give(first)
        self.assertIs(self.successResultOf(later), first)

    def test_a_place_is_not_lost_when_opening_fails(self) -> None:
        self.database.failure = Problem("target_unreachable", "no")
        for _attempt in range(5):
            self.failureResultOf(self.acquire(), Problem)
        self.database.failure = None
        self.take(), self.take()

    def test_a_place_is_not_lost_when_opening_is_cancelled(self) -> None:
        self.database.slow = Deferred()
        waiting = self.acquire()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.pool.lent, 0)

    def test_what_may_be_broken_is_closed(self) -> None:
        for change in ({"reusable": False}, {"renewable": False}):
            connection = self.take()
            connection.renewable = change.get("renewable", True)
            self.give(connection, reusable=change.get("reusable", True))
            self.assertTrue(connection.closed)
            self.assertEqual((self.pool.lent, self.pool.idle), (0, 0))

    def test_a_dead_connection_is_not_lent(self) -> None:
        first = self.take()
        self.give(first)
        first.alive = False
        self.assertIsNot(self.take(), first)
        self.assertTrue(first.closed)

    def test_one_that_was_idle_for_long_is_asked_first(self) -> None:
        first = self.take()
        self.give(first)
        self.assertIs(self.take(), first)
        self.assertEqual(first.questions, 0)
        self.give(first)
        self.clock.advance(TRUST_SECONDS)
        self.assertIs(self.take(), first)
        self.assertEqual(first.questions, 1)
        self.give(first)
        self.clock.advance(TRUST_SECONDS)
        first.answering = False
        self.assertIsNot(self.take(), first)

    def test_an_idle_one_of_another_kind_makes_room(self) -> None:
        first, second = self.take("a"), self.take("a")
        self.give(first)
        self.give(second)
        self.assertEqual(self.take("b").kind, "b")
        self.assertEqual([first.closed, second.closed], [True, False])

    def test_unused_connections_are_closed_down_to_min(self) -> None:
        first, second = self.take(), self.take()
        self.give(first)
        self.give(second)
        self.clock.advance(60)
        self.assertEqual([first.closed, second.closed], [True, False])
        self.clock.advance(60)
        self.assertEqual(self.pool.idle, 1)
        self.close()

    def test_closing_ends_everything(self) -> None:
        first, second = self.take(), self.take()
        waiting = self.acquire()
        self.close()
        self.failureResultOf(waiting, Problem)
        self.give(first)
        self.give(second)
        self.assertEqual([first.closed, second.closed], [True, True])
        self.failureResultOf(self.acquire(), Problem)
        self.assertEqual(self.clock.getDelayedCalls(), [])
