"""Sessions by the clock: how long they live, whose they are, how many there may be."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.sessions import Sessions
from workato_agent.services.database.settings import PoolSettings, SessionSettings
from workato_tunnel.problems import Problem


@define(eq=False)
class Session:
    """A session in which nothing happens. Closing it takes until ``closing`` fires."""

    ended: bool = False
    closed: int = 0
    closing: Deferred[None] | None = None

    async def close(self) -> None:
        self.closed += 1
        self.ended = True
        if self.closing is not None:
            await self.closing


@define(eq=False)
class Adapter:
    """Makes them, when ``opening`` fires."""

    opening: Deferred[None] | None = None
    failure: Problem | None = None
    made: list[Session] = field(factory=list)

    async def session(self) -> Session:
        if self.opening is not None:
            await self.opening
        if self.failure is not None:
            raise self.failure
        self.made.append(Session())
        return self.made[-1]


class SessionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.adapter = Adapter()
        settings = SessionSettings("agent-1", 10, 2)
        self.sessions = Sessions.of(self.clock, self.adapter, settings)

    def open(self, owner: str = "alice") -> str:
        return self.successResultOf(ensureDeferred(self.sessions.open(owner)))

    def refused(self, code: str, identifier: str, owner: str = "alice") -> None:
        with self.assertRaises(Problem) as caught:
            self.sessions.use(identifier, owner)
        self.assertEqual(caught.exception.code, code)

    def test_a_session_ends_when_nobody_uses_it(self) -> None:
        identifier = self.open()
        self.clock.advance(9)
        self.sessions.use(identifier, "alice").release()
        self.clock.advance(9)
        self.assertEqual(self.adapter.made[0].closed, 0)
        self.clock.advance(1)
        self.assertEqual(self.adapter.made[0].closed, 1)
        self.refused("not_found", identifier)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_does_not_end_while_it_is_used(self) -> None:
        identifier = self.open()
        lease = self.sessions.use(identifier, "alice")
        self.clock.advance(1000)
        self.refused("conflict", identifier)
        lease.release()
        lease.release()
        self.clock.advance(9)
        self.sessions.use(identifier, "alice").release()
        self.assertEqual(self.adapter.made[0].closed, 0)
        self.sessions.use(identifier, "alice")

    def test_it_is_there_for_its_owner_only(self) -> None:
        identifier = self.open("alice")
        self.refused("not_found", identifier, "bob")
        self.refused("not_found", identifier, "")
        self.sessions.use(identifier, "alice")
        self.refused("not_found", identifier, "bob")

    def test_one_that_has_ended_is_forgotten(self) -> None:
        first, second = self.open(), self.open()
        self.adapter.made[0].ended = True
        self.refused("not_found", first)
        lease = self.sessions.use(second, "alice")
        self.adapter.made[1].ended = True
        lease.release()
        self.assertEqual(len(self.sessions), 0)
        self.refused("not_found", second)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_being_opened_count(self) -> None:
        self.adapter.opening = Deferred()
        opening = [ensureDeferred(self.sessions.open("alice")) for _ in range(2)]
        failed = self.failureResultOf(ensureDeferred(self.sessions.open("alice")), Problem)
        self.assertEqual((failed.value.code, failed.value.retry_after), ("overloaded", 10))
        opening[0].cancel()
        self.failureResultOf(opening[0])
        self.adapter.opening = None
        self.open()

    def test_one_that_can_not_be_opened_counts_no_longer(self) -> None:
        self.adapter.failure = Problem("target_unreachable", "refused")
        for _ in range(5):
            failed = self.failureResultOf(ensureDeferred(self.sessions.open("alice")), Problem)
            self.assertEqual(failed.value.code, "target_unreachable")

    def test_ending_waits_for_the_rollback(self) -> None:
        identifier = self.open()
        self.adapter.made[0].closing = closing = Deferred()
        ended = ensureDeferred(self.sessions.end(identifier, "alice"))
        self.assertNoResult(ended)
        self.refused("not_found", identifier)
        closing.callback(None)
        self.successResultOf(ended)
        self.assertEqual((self.adapter.made[0].closed, self.clock.getDelayedCalls()), (1, []))

    def test_closing_ends_them_all_and_opens_none(self) -> None:
        used, idle = self.open(), self.open()
        lease = self.sessions.use(used, "alice")
        self.adapter.made[1].closing = closing = Deferred()
        closed = ensureDeferred(self.sessions.close())
        self.assertNoResult(closed)
        closing.callback(None)
        self.successResultOf(closed)
        lease.release()
        self.assertEqual([each.closed for each in self.adapter.made], [1, 1])
        self.refused("not_found", idle)
        failed = self.failureResultOf(ensureDeferred(self.sessions.open("alice")), Problem)
        self.assertEqual(failed.value.code, "overloaded")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_opened_while_they_are_closed_is_closed_too(self) -> None:
        self.adapter.opening = opening = Deferred()
        opened = ensureDeferred(self.sessions.open("alice"))
        self.successResultOf(ensureDeferred(self.sessions.close()))
        opening.callback(None)
        self.failureResultOf(opened, Problem)
        self.assertEqual(self.adapter.made[0].closed, 1)

    def test_a_pool_leaves_room_for_plain_calls(self) -> None:
        for connections, sessions in ((1, 1), (2, 1), (5, 4)):
            settings = SessionSettings.beside(PoolSettings(max=connections), agent="a", timeout=1)
            self.assertEqual(settings.max, sessions)
