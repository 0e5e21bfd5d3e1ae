"""What a problem may carry beside its own members."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel.problems import PROBLEM_TYPES, Problem


class ProblemTests(SynchronousTestCase):
    def test_members_of_one_kind_stand_beside_those_of_all(self) -> None:
        problem = Problem("query_failed", "no", extra={"sqlstate": "42601"})
        members = problem.members("r1")
        self.assertEqual((members["code"], members["sqlstate"]), ("query_failed", "42601"))
        self.assertEqual(members["request_id"], "r1")

    def test_no_member_of_all_can_be_covered(self) -> None:
        for name in Problem("bad_request", "x").members("r"):
            with self.assertRaises(ValueError):
                Problem("bad_request", "x", extra={name: 1})

    def test_every_code_has_a_hint(self) -> None:
        for code in PROBLEM_TYPES:
            self.assertTrue(Problem(code, "x").hint)
