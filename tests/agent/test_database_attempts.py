"""Attempts to connect in threads: how many may run, how many may hang."""

from __future__ import annotations

from threading import Barrier, Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.database.adapters.attempts import MOST_HANGING, Attempts
from workato_tunnel.problems import Problem

MANY = 3 * MOST_HANGING


class Connecting(SynchronousTestCase):
    def setUp(self) -> None:
        self.attempts: Attempts[str] = Attempts("db.intra:5432")
        self.closed: list[str] = []

    def connect(self, connect: object, seconds: float = 10.0) -> str:
        return self.attempts.thd_within(seconds, connect, self.closed.append)  # type: ignore[arg-type]

    def test_any_number_may_connect_at_the_same_time(self) -> None:
        together = Barrier(MANY, timeout=10)
        results: list[str] = []

        def connect() -> str:
            together.wait()
            return "connected"

        threads = [
            Thread(target=lambda: results.append(self.connect(connect))) for _ in range(MANY)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(results, ["connected"] * MANY)

    def test_so_many_that_hang_are_waited_for_no_more_until_they_end(self) -> None:
        may_end = Event()

        def hang() -> str:
            may_end.wait(10)
            return "late"

        for _ in range(MOST_HANGING):
            problem = self.assertRaises(Problem, self.connect, hang, 0.01)
            self.assertIn("no connection within", problem.detail)
        problem = self.assertRaises(Problem, self.connect, lambda: "connected")
        self.assertIn("still hang", problem.detail)
        may_end.set()
        while len(self.closed) < MOST_HANGING:
            may_end.wait(0.01)
        self.assertEqual(self.connect(lambda: "connected"), "connected")
        self.assertEqual(self.closed, ["late"] * MOST_HANGING)

    def test_an_error_is_raised_as_it_is(self) -> None:
        def fail() -> str:
            raise LookupError("no such host")

        for _ in range(MANY):
            self.assertRaises(LookupError, self.connect, fail)
