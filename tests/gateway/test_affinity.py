"""Calls that name what one agent keeps go to that agent, and the log keeps their secret."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import HttpGateway, MemoryTransport, parse_answer, request
from tests.support.memory_agents import MemoryAgent
from workato_gateway.agents.affinity import pinned_agent, without_secret
from workato_tunnel.errors import ErrorCode, StreamRefused

SECRET = "k3v-yR0_q"


class Ids(SynchronousTestCase):
    def test_an_id_behind_its_word_names_the_agent(self) -> None:
        for path, expected in (
            ("sessions/one~x", "one"),
            ("sessions/one~x/query", "one"),
            ("sessions/a.b-c_2~x~y/queries/z", "a.b-c_2"),
            ("sessions/one%7Ex/commit", "one"),
            ("%73essions/one%7ex", "one"),
            ("receipts/one~x", "one"),
            ("runs/one~x", "one"),
            ("cursors/one~x", "one"),
        ):
            self.assertEqual(pinned_agent("database", path), expected, path)

    def test_other_paths_name_none(self) -> None:
        for path in (
            "", "/", "sessions", "sessions/", "sessions/x", "sessions/~x", "sessions//one~x",
            "query/one~x", "content/sessions/one~x", "sessions/a b~x", "sessions/-a~x",
            "Sessions/one~x", "sessions/" + "a" * 65 + "~x",
        ):  # fmt: skip
            self.assertIsNone(pinned_agent("database", path), path)

    def test_an_applications_own_paths_mean_nothing(self) -> None:
        self.assertIsNone(pinned_agent("http", "sessions/one~x"))

    def test_the_secret_is_left_out(self) -> None:
        for path, expected in (
            (f"/v1/groups/g/database/p/sessions/one~{SECRET}", "/sessions/one~*"),
            (f"/v1/groups/g/database/p/sessions/one%7E{SECRET}/query", "/sessions/one~*/query"),
            (f"/v1/groups/g/database/p/%73essions/one~{SECRET}/query", "/%73essions/one~*/query"),
            (f"/v1/groups/g/database/p/runs/~{SECRET}", "/runs/~*"),
        ):
            self.assertEqual(without_secret(path), "/v1/groups/g/database/p" + expected)
        for path in ("/v1/groups/g/files/p/content/a~b", "/a%20b", "/", ""):
            self.assertEqual(without_secret(path), path)

    @given(st.text("/~%7Eesion\x00é"))
    def test_no_path_is_too_odd(self, path: str) -> None:
        pinned_agent("database", path)
        without_secret(path)


class Relayed(SynchronousTestCase):
    def setUp(self) -> None:
        self.agents = (MemoryAgent("one"), MemoryAgent("two"), MemoryAgent("three"))
        self.gateway = HttpGateway(agents=self.agents)

    def begin(self, path: str, headers: bytes = b"") -> MemoryTransport:
        target = f"/v1/groups/sales/database/erp/{path}".encode()
        return self.gateway.send(request(b"POST", target, headers))

    def taken(self) -> list[int]:
        return [len(agent.opened) for agent in self.agents]

    def test_only_its_agent_takes_a_call(self) -> None:
        for headers in (b"", b"X-Agent: one\r\n"):
            for _ in range(5):
                self.begin(f"sessions/two~{SECRET}/query", headers)
        self.assertEqual(self.taken(), [0, 10, 0])

    def test_the_path_reaches_it_as_it_was_sent(self) -> None:
        self.begin(f"sessions/two%7E{SECRET}/query")
        self.assertEqual(self.agents[1].opened[0].head.path, f"sessions/two%7E{SECRET}/query")

    def test_an_agent_that_is_gone_is_named(self) -> None:
        self.agents[1].connected = False
        for name in ("two", "four"):
            answer = parse_answer(self.begin(f"sessions/{name}~{SECRET}/commit").take())
            found = json.loads(answer.body)
            self.assertEqual((answer.status, found["code"]), (503, "agent_inactive"))
            self.assertIn(f"agent '{name}'", found["detail"])
            self.assertIn("ends when that agent stops", found["detail"])
            self.assertNotIn(SECRET, answer.body.decode())
        self.assertEqual(self.taken(), [0, 0, 0])

    def test_it_never_goes_elsewhere(self) -> None:
        self.agents[1].refusal = StreamRefused("full", ErrorCode.OVERLOADED)
        answer = parse_answer(self.begin(f"sessions/two~{SECRET}/query").take())
        self.assertEqual(json.loads(answer.body)["code"], "overloaded")
        self.assertEqual(self.taken(), [0, 0, 0])

    def test_the_secret_stays_out_of_the_access_log(self) -> None:
        self.begin(f"sessions/two~{SECRET}/query")
        self.agents[1].opened[0].agent_answers(200)
        self.gateway.log.flush()
        line = self.gateway.lines.data.decode()
        self.assertIn("/sessions/two~*/query 200", line)
        self.assertNotIn(SECRET, line)
