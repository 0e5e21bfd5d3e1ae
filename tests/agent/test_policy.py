"""What the customer's policy lets through."""

from __future__ import annotations

import re
from datetime import datetime

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.bodies import StreamBody
from workato_agent.config.pathpatterns import PathPattern
from workato_agent.config.policies import DatabasePolicy, FilesPolicy, HttpPolicy, Policy, Window
from workato_agent.policy import LONGEST_PATH, check, plain_path
from workato_agent.requests import Request
from workato_tunnel.problems import Problem

MONDAY = datetime(2026, 3, 2, 12, 0)  # noqa: DTZ001 - policies speak of local time


@frozen
class NoStream:
    """The stream of a body that nobody reads."""

    closed: bool = True
    request_ended: bool = True


def a_request(method: str = "GET", path: str = "x") -> Request:
    body = StreamBody(NoStream())  # type: ignore[arg-type]
    return Request("http", "crm", method, path, "", (), body, "me", 0.0, "", "r1")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY.replace(day=2 + day, hour=hour, minute=minute)


class Rules(SynchronousTestCase):
    def denied(self, policy: Policy, operation: str, request: Request | None = None) -> Problem:
        problem = self.assertRaises(
            Problem, check, policy, "http", operation, request or a_request(), MONDAY
        )
        self.assertEqual(problem.code, "policy_denied")
        return problem

    def allowed(self, policy: Policy, operation: str, request: Request | None = None) -> None:
        check(policy, "http", operation, request or a_request(), MONDAY)

    def test_no_rule_allows_everything(self) -> None:
        for policy in (DatabasePolicy(), FilesPolicy(), HttpPolicy()):
            self.allowed(policy, "anything")

    def test_only_the_named_operations_are_allowed(self) -> None:
        policy = DatabasePolicy(operations=("query",))
        self.allowed(policy, "query")
        problem = self.denied(policy, "execute")
        self.assertEqual(problem.extra, {"rule": "operations"})
        self.assertIn("'operations' of profile http/crm", problem.detail)
        self.assertIn("allows query, not execute", problem.detail)
        self.assertIn("http.crm.policy", problem.hint or "")

    def test_the_profiles_test_is_bound_by_windows_alone(self) -> None:
        self.allowed(DatabasePolicy(operations=("query",)), "test")
        policy = HttpPolicy(methods=frozenset({"POST"}), paths=(PathPattern.parse("/a"),))
        self.allowed(policy, "test", a_request(path=""))
        self.denied(DatabasePolicy(windows=(Window.parse("Sun"),)), "test")

    def test_only_the_named_methods_are_allowed(self) -> None:
        policy = HttpPolicy(methods=frozenset({"GET", "HEAD"}))
        self.allowed(policy, "get")
        problem = self.denied(policy, "post", a_request("POST"))
        self.assertEqual(problem.extra, {"rule": "methods"})
        self.assertIn("allows GET, HEAD, not POST", problem.detail)

    def test_only_the_named_paths_are_allowed(self) -> None:
        policy = HttpPolicy(paths=(PathPattern.parse("/api/**"), PathPattern.parse("/x/*/y")))
        for path in ("api", "api/", "api/a/b", "x/1/y", "%61pi/c", "x/a%20b/y", "x/%C3%A4/y"):
            self.allowed(policy, "get", a_request(path=path))
        for path in ("", "ap", "apis", "x/1/2/y", "x/y", "Api/a", "y/api/a"):
            self.assertEqual(
                self.denied(policy, "get", a_request(path=path)).extra, {"rule": "paths"}
            )

    def test_the_root_is_a_path_like_any_other_with_and_without_its_slash(self) -> None:
        for pattern, allowed in (("/", True), ("/**", True), ("/*", True), ("/api/**", False)):
            policy = HttpPolicy(paths=(PathPattern.parse(pattern),))
            for path in ("", "/"):
                request = a_request(path=path)
                if allowed:
                    self.allowed(policy, "get", request)
                else:
                    self.assertEqual(self.denied(policy, "get", request).extra, {"rule": "paths"})
        root = HttpPolicy(paths=(PathPattern.parse("/**"),))
        self.denied(root, "get", a_request(path="//"))

    def test_paths_that_can_be_read_two_ways_are_refused_whatever_they_match(self) -> None:
        policy = HttpPolicy(paths=(PathPattern.parse("/**"),))
        for path in (
            "api/../admin",
            "api/%2e%2e/admin",
            "api/%2E./admin",
            "api/./x",
            "api/..",
            "api/..;x=1/admin",
            "api/%2e%2e%3bx/admin",
            "api%2fadmin",
            "api%5Cadmin",
            "api\\admin",
            "api//admin",
            "/admin",
            "api/%252e%252e/admin",
            "api/%00",
            "api/%0d%0aX:y",
            "api/%ff",
            "a" * (LONGEST_PATH + 1),
        ):
            self.denied(policy, "get", a_request(path=path))

    def test_paths_are_as_they_come_where_no_rule_speaks_of_them(self) -> None:
        self.allowed(HttpPolicy(), "get", a_request(path="a//b/../c%2f"))


class Windows(SynchronousTestCase):
    def test_working_hours(self) -> None:
        window = Window.parse("Mon-Fri 08:00-18:00")
        for when, open_ in (
            (at(0, 8), True),
            (at(4, 17, 59), True),
            (at(0, 7, 59), False),
            (at(0, 18), False),
            (at(5, 12), False),
        ):
            self.assertIs(window.contains(when), open_, when)

    def test_a_window_over_midnight_belongs_to_the_day_it_opens(self) -> None:
        window = Window.parse("fri 22:00-06:00")
        for when, open_ in (
            (at(4, 22), True),
            (at(5, 5, 59), True),
            (at(5, 6), False),
            (at(4, 5), False),
            (at(5, 22), False),
        ):
            self.assertIs(window.contains(when), open_, when)

    def test_days_alone_and_hours_alone(self) -> None:
        self.assertTrue(Window.parse("Sat,Sunday").contains(at(6, 0)))
        self.assertFalse(Window.parse("Sat,Sun").contains(at(0, 0)))
        self.assertTrue(Window.parse("0:00-24:00").contains(at(3, 23, 59)))
        self.assertTrue(Window.parse("Fri-Mon").contains(at(0, 12)))
        self.assertFalse(Window.parse("Fri-Mon").contains(at(1, 12)))

    def test_nonsense_is_refused(self) -> None:
        for text in (
            "",
            "Mon-",
            "Foo",
            "08:00",
            "24:00-25:00",
            "08:60-09:00",
            "Mon Tue 08:00-09:00",
        ):
            self.assertRaises(ValueError, Window.parse, text)

    def test_any_of_several_windows_is_enough(self) -> None:
        policy = Policy(windows=(Window.parse("Sun"), Window.parse("Mon 12:00-13:00")))
        check(policy, "http", "read", a_request(), MONDAY)
        late = MONDAY.replace(hour=13)
        problem = self.assertRaises(Problem, check, policy, "http", "read", a_request(), late)
        self.assertEqual(problem.extra, {"rule": "windows"})
        self.assertIn("Sun, Mon 12:00-13:00", problem.detail)


class Patterns(SynchronousTestCase):
    def test_nonsense_is_refused(self) -> None:
        for text in ("", "api", "*", "/a//b", "/a/../b", "/a?x", "/a#b", "/a b", "/a\\b"):
            self.assertRaises(ValueError, PathPattern.parse, text)

    @given(
        st.text("ab/*", max_size=8).map(lambda text: "/" + text),
        st.text("ab/", max_size=10).map(lambda text: "/" + text),
    )
    def test_matching_is_what_an_expression_would_say(self, pattern: str, path: str) -> None:
        try:
            parsed = PathPattern.parse(pattern)
        except ValueError:
            return
        body, tail = (pattern[:-3], "(/.*)?") if pattern.endswith("/**") else (pattern, "")
        parts = re.split(r"(\*+)", body)
        expression = "".join(
            ".*" if "**" in part else "[^/]*" if part == "*" else re.escape(part) for part in parts
        )
        self.assertIs(parsed.matches(path), re.fullmatch(expression + tail, path) is not None)

    def test_a_hostile_path_takes_linear_time(self) -> None:
        pattern = PathPattern.parse("/**/a/**/a*a*a/**/b")
        self.assertFalse(pattern.matches("/a" * (LONGEST_PATH // 2)))

    @given(st.text("a./%2eEfFcC5;\\", max_size=12))
    def test_a_plain_path_has_no_dot_segments(self, raw: str) -> None:
        path = plain_path(raw)
        if path is not None:
            self.assertFalse({".", ".."} & set(path.split("/")))
            self.assertTrue(path.startswith("/"))
