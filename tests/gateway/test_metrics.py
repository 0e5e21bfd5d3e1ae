"""The gateway's figures as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory_agents import MemoryAgent
from workato_gateway.metrics import MAX_SERIES, Metrics
from workato_gateway.webhooks.endpoint import EndpointFigures

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    content_type, text = metrics.exposition()
    assert content_type.startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (
                sample.name.removeprefix("onprem_gateway_"),
                tuple(sorted(sample.labels.items())),
            )
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


class Figures(SynchronousTestCase):
    def test_calls(self) -> None:
        metrics = Metrics()
        metrics.call_ended("g", "http", 200, 10, 20, 0.003)
        metrics.call_ended("g", "http", 200, 1, 2, 0.3)
        metrics.call_ended("g", "http", "tunnel_lost", 0, 0, 100.0)
        metrics.call_ended("", "", 404, 0, 0, 0.0)
        found = samples(metrics)
        labels = (("group", "g"), ("service", "http"))
        self.assertEqual(found["calls_total", (("code", "200"), *labels)], 2)
        self.assertEqual(found["calls_total", (("code", "tunnel_lost"), *labels)], 1)
        self.assertEqual(found["request_body_bytes_total", labels], 11)
        self.assertEqual(found["response_body_bytes_total", labels], 22)
        self.assertEqual(found["call_seconds_count", labels], 3)
        self.assertAlmostEqual(found["call_seconds_sum", labels], 100.303)
        for bound, count in (("0.0025", 0), ("0.005", 1), ("0.5", 2), ("10.0", 2), ("+Inf", 3)):
            key = (("group", "g"), ("le", bound), ("service", "http"))
            self.assertEqual(found["call_seconds_bucket", key], count)

    def test_the_number_of_series_is_bounded(self) -> None:
        metrics = Metrics()
        for n in range(3 * MAX_SERIES):
            metrics.call_ended(f"g{n}", "http", 200, 0, 0, 0.0)
        calls = {key: value for key, value in samples(metrics).items() if key[0] == "calls_total"}
        self.assertLessEqual(len(calls), MAX_SERIES + 1)
        self.assertEqual(sum(calls.values()), 3 * MAX_SERIES)

    def test_sessions_streams_and_round_trips_are_those_of_now(self) -> None:
        one = MemoryAgent("one", streams=3)
        twin = MemoryAgent("one", streams=1, ping=None)
        held = MemoryAgent("two", group="h", connected=False, ping=0.25)
        agents = [one, twin, held]
        metrics = Metrics(lambda: agents, lambda: 7)
        found = samples(metrics)
        self.assertEqual(found["sessions", (("group", "sales"), ("state", "connected"))], 2)
        self.assertEqual(found["sessions", (("group", "h"), ("state", "held"))], 1)
        self.assertEqual(found["streams", (("group", "sales"),)], 4)
        self.assertEqual(found["api_connections", ()], 7)
        key = (("agent", "two"), ("group", "h"))
        self.assertEqual(found["tunnel_round_trip_seconds", key], 0.25)
        agents.clear()
        self.assertNotIn("sessions", {name for name, _ in samples(metrics)})

    def test_an_identity_in_use_twice_is_counted(self) -> None:
        logins = 0
        metrics = Metrics(duplicate_logins=lambda: logins)
        self.assertEqual(samples(metrics)["duplicate_logins_total", ()], 0)
        logins = 2
        self.assertEqual(samples(metrics)["duplicate_logins_total", ()], 2)

    def test_problems_of_the_gateway_are_counted_by_code(self) -> None:
        metrics = Metrics()
        for _ in range(3):
            metrics.problem_answered("forbidden")
        self.assertEqual(samples(metrics)["problems_total", (("code", "forbidden"),)], 3)

    def test_certificates_and_webhooks(self) -> None:
        left = {
            "agent": [({"group": "g", "agent": f"a{n}"}, 0.5) for n in range(MAX_SERIES + 5)],
            "gateway": [({"use": "ca"}, 0.9)],
        }
        told = EndpointFigures("ops", delivered=3, failed_attempts=2, waiting=1)
        found = samples(Metrics(webhooks=lambda: [told], certificates=left.__getitem__))
        self.assertEqual(found["certificate_left_ratio", (("use", "ca"),)], 0.9)
        agents = [value for (name, _), value in found.items() if name.startswith("agent_cert")]
        self.assertEqual(agents, [0.5] * MAX_SERIES)
        labels = (("endpoint", "ops"), ("outcome", "delivered"))
        self.assertEqual(found["webhook_events_total", labels], 3)
        self.assertEqual(found["webhook_failed_attempts_total", (("endpoint", "ops"),)], 2)
        self.assertEqual(found["webhook_waiting", (("endpoint", "ops"),)], 1)
