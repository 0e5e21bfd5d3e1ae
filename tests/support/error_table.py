"""Tests of errors: one landscape for all of them, and what has to hold of every problem."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel.problems import CONTENT_TYPE, PROBLEM_TYPES

from .landscape import Answer, Body, Landscape

reactor: Any = _reactor
_running: Final[list[Landscape]] = []


def landscape() -> Landscape:
    """The one that all tests of this process share; it ends with the reactor."""
    if not _running:
        _running.append(Landscape.start())
        reactor.addSystemEventTrigger("after", "shutdown", lambda: _running.pop().stop())
    return _running[0]


class ErrorTableCase(SynchronousTestCase):
    """Calls that fail, and what has to hold of each of them."""

    def setUp(self) -> None:
        self.land = landscape()

    def tearDown(self) -> None:
        for name, text in self.land.logs().items():
            self.assert_secretless(text, name)
            self.assertNotIn("Traceback", text, name)
            self.assertNotIn("Unhandled", text, name)

    def fails(
        self, code: str, method: str, path: str, body: Body = None, *words: str, **fields: Any
    ) -> dict[str, Any]:
        """The problem document; ``words`` are in its detail."""
        return self.assert_problem(code, self.land.call(method, path, body, **fields), *words)

    def assert_problem(self, code: str, answer: Answer, *words: str) -> dict[str, Any]:
        row = PROBLEM_TYPES[code]
        self.assertEqual(answer.headers["content-type"], CONTENT_TYPE, (words, answer))
        problem = answer.json()
        self.assertEqual((problem["code"], answer.status), (code, row.status), problem)
        self.assertEqual(problem["status"], row.status)
        self.assertEqual(problem["title"], row.title)
        self.assertEqual(problem["type"], f"urn:onprem:problem:{code}")
        self.assertEqual(problem["request_id"], answer.headers["x-request-id"])
        self.assertGreater(len(problem["hint"]), 10)
        for word in words:
            self.assertIn(word, problem["detail"])
        if code in ("overloaded", "agent_inactive"):
            self.assertGreater(int(answer.headers["retry-after"]), 0)
        self.assert_secretless(repr(answer), path := f"{code}: {problem['detail']}")
        self.assertNotIn("Traceback", path)
        return problem

    def assert_secretless(self, text: str, where: str) -> None:
        for secret in self.land.secrets:
            self.assertNotIn(secret, text, where)
            self.assertNotIn(secret.encode("unicode_escape").decode(), text, where)
