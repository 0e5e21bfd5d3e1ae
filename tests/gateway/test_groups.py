"""Which agent takes a call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory_agents import MemoryAgent
from workato_gateway.agents.groups import candidates
from workato_tunnel.problems import Problem

OFFERS = (("http", "crm"),)


def pick(agents: list[MemoryAgent], profile: str = "crm", pinned: str | None = None) -> list[str]:
    return [each.name for each in candidates(agents, "sales", "http", profile, pinned)]


class Candidates(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=8))
    def test_those_who_can_least_busy_last(self, states: list[tuple[int, bool, bool]]) -> None:
        agents = [
            MemoryAgent(str(n), profiles=OFFERS if offers else (), connected=up, streams=streams)
            for n, (streams, up, offers) in enumerate(states)
        ]
        able = {each.name for each in agents if each.connected and each.profiles}
        if not able:
            self.assertRaises(Problem, pick, agents)
            return
        order = candidates(agents, "sales", "http", "crm")
        self.assertEqual({each.name for each in order}, able)
        streams = [each.streams for each in order]
        self.assertEqual(streams, sorted(streams, reverse=True))

    def test_equals_share_the_work(self) -> None:
        agents = [MemoryAgent(str(n)) for n in range(3)]
        self.assertEqual({pick(agents)[-1] for _ in range(200)}, {"0", "1", "2"})

    def test_a_pin_leaves_one(self) -> None:
        agents = [MemoryAgent("a"), MemoryAgent("b")]
        self.assertEqual(pick(agents, pinned="b"), ["b"])

    def test_each_absence_has_its_own_code_and_words(self) -> None:
        down = MemoryAgent("a", connected=False)
        up = MemoryAgent("b", profiles=(("files", "hr"), ("http", "erp")))
        for agents, service, pinned, code, word in (
            ([], "http", None, "agent_inactive", "no agent"),
            ([down], "http", None, "agent_inactive", "reconnecting"),
            ([down], "http", "a", "agent_inactive", "'a'"),
            ([MemoryAgent("c", profiles=()), up], "jms", None, "agent_inactive", "'c'"),
            ([up], "http", None, "profile_not_found", "'crm'"),
            ([up, down], "jms", None, "service_not_found", "'jms'"),
            ([up], "http", "b", "profile_not_found", "'b'"),
            ([up], "jms", "b", "service_not_found", "'b'"),
        ):
            error = self.assertRaises(Problem, candidates, agents, "sales", service, "crm", pinned)
            self.assertEqual(error.code, code)
            self.assertIn(word, error.detail)
            self.assertEqual(error.retry_after is not None, code == "agent_inactive")
