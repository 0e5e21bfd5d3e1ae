"""What the agent counts, and who can read it."""

from __future__ import annotations

import treq
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent

from tests.support.audits import an_end
from workato_agent.metrics import AgentMetrics, MetricsListener, MetricsListenerError
from workato_agent.tunnel.client import Outcome


class Counting(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = AgentMetrics("1.2", process=False)

    def lines(self) -> set[str]:
        return set(self.metrics.exposition().decode().splitlines())

    def call(self, code: str = "ok") -> None:
        end = an_end(code)
        self.metrics.call_began(end.head)
        self.metrics.call_ended(end)

    def test_calls_bytes_rows_and_durations_are_counted_by_profile(self) -> None:
        self.call()
        self.call()
        self.call("query_failed")
        labels = 'profile="sales",service="database"'
        for line in (
            'workato_agent_calls_total{code="ok",profile="sales",service="database"} 2.0',
            'workato_agent_calls_total{code="query_failed",profile="sales",service="database"} 1.0',
            f'workato_agent_call_bytes_total{{direction="in",{labels}}} 30.0',
            f'workato_agent_call_bytes_total{{direction="out",{labels}}} 60.0',
            f"workato_agent_call_rows_total{{{labels}}} 9.0",
            f"workato_agent_call_seconds_count{{{labels}}} 3.0",
            'workato_agent_info{version="1.2"} 1.0',
        ):
            self.assertIn(line, self.lines())

    def test_calls_in_flight_go_up_and_down(self) -> None:
        self.metrics.call_began(an_end().head)
        self.assertIn("workato_agent_calls_in_flight 1.0", self.lines())
        self.metrics.call_ended(an_end())
        self.assertIn("workato_agent_calls_in_flight 0.0", self.lines())

    def test_attempts_to_connect_are_counted_by_outcome(self) -> None:
        for outcome in (Outcome.CONNECTED, Outcome.FAILED, Outcome.FAILED):
            self.metrics.tunnel_attempted(outcome)
        name = "workato_agent_tunnel_connections_total"
        self.assertIn(f'{name}{{outcome="connected"}} 1.0', self.lines())
        self.assertIn(f'{name}{{outcome="failed"}} 2.0', self.lines())

    def test_invented_names_make_no_series(self) -> None:
        self.call("profile_not_found")
        text = self.metrics.exposition().decode()
        self.assertNotIn("sales", text)
        self.assertIn('profile="unknown",service="unknown"', text)

    def test_two_agents_in_a_process_count_for_themselves(self) -> None:
        other = AgentMetrics()
        self.call()
        self.assertNotIn("sales", other.exposition().decode())

    def test_further_gauges_are_read_when_asked_for(self) -> None:
        value = [1.0]
        self.metrics.watch("open_streams", "Streams", lambda: value[0])
        self.assertIn("workato_agent_open_streams 1.0", self.lines())
        value[0] = 2.0
        self.assertIn("workato_agent_open_streams 2.0", self.lines())


class Listening(TestCase):
    def listener(self, port: int = 0) -> MetricsListener:
        metrics = AgentMetrics()
        listener = MetricsListener(metrics, ("127.0.0.1", port), reactor)  # type: ignore[arg-type]
        listener.startService()
        self.addCleanup(listener.stopService)
        return listener

    async def get(self, listener: MetricsListener, path: str) -> tuple[int, str, str]:
        host, port = listener.address
        client = treq.client.HTTPClient(Agent(reactor))
        response = await client.get(f"http://{host}:{port}{path}")
        types = response.headers.getRawHeaders("content-type", [""])
        return response.code, types[0], await treq.text_content(response)

    async def test_metrics_are_at_their_usual_place(self) -> None:
        code, kind, text = await self.get(self.listener(), "/metrics")
        self.assertEqual(code, 200)
        self.assertTrue(kind.startswith("text/plain; version="))
        self.assertIn("workato_agent_calls_in_flight", text)
        self.assertIn("process_resident_memory_bytes", text)

    async def test_nothing_else_is_there(self) -> None:
        code, _, text = await self.get(self.listener(), "/")
        self.assertEqual(code, 404)
        self.assertIn("/metrics", text)

    async def test_a_port_in_use_is_named(self) -> None:
        _, port = self.listener().address
        error = self.assertRaises(MetricsListenerError, self.listener, port)
        self.assertIn(f"127.0.0.1:{port}", str(error))
        self.assertIn("metrics.listen", str(error))
