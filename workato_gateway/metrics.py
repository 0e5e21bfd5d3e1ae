"""What the gateway counts, for Prometheus.

The hot path adds to plain integers; prometheus_client sees them when it is scraped. Label values
are bounded: groups and services that exist, and no more than :data:`MAX_SERIES` pairs of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .agents.groups import Candidate
from .webhooks.endpoint import EndpointFigures

MAX_SERIES: Final = 1000
OTHER: Final = "other"
CALLER_LEFT: Final = "caller_left"
PREFIX: Final = "onprem_gateway_"

LATENCY: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)


class Histogram:
    """Counts per bucket, in seconds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Prometheus' form: counts up to each bound, and the sum."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound is None else repr(bound), total))
        return buckets, self._sum


class CallSeries:
    """The calls of one group and service."""

    __slots__ = ("bytes_in", "bytes_out", "codes", "latency")

    def __init__(self) -> None:
        self.codes: dict[int | str, int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.latency = Histogram(LATENCY)


class Metrics(Collector):
    """All figures of one gateway.

    :param agents: gives the live agents, asked at each scrape.
    :param connections: gives the number of open API connections.
    :param duplicate_logins: gives how often an agent logged in beside its own live session.
    :param webhooks: gives what became of events, by endpoint.
    :param certificates: gives those of a kind, ``agent`` or ``gateway``: labels, and the share of
        its life that each has left.
    """

    def __init__(
        self,
        agents: Callable[[], Iterable[Candidate]] = tuple,
        connections: Callable[[], int] | None = None,
        duplicate_logins: Callable[[], int] = int,
        webhooks: Callable[[], Iterable[EndpointFigures]] = tuple,
        certificates: Callable[[str], Iterable[tuple[Mapping[str, str], float]]] = lambda _: (),
    ) -> None:
        self._agents = agents
        self._connections = connections
        self._duplicate_logins = duplicate_logins
        self._webhooks = webhooks
        self._certificates = certificates
        self._calls: dict[tuple[str, str], CallSeries] = {}
        self._problems: dict[str, int] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def call_ended(
        self,
        group: str,
        service: str,
        code: int | str,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
    ) -> None:
        """Count one relayed call.

        :param group: a group that exists, else empty.
        :param service: a service that an agent offers, else empty.
        :param code: the HTTP status of a call that was answered whole; else the code of the problem
            that cut it, or :data:`CALLER_LEFT`.
        """
        series = self._calls.get((group, service))
        if series is None:
            series = self._new_series(group, service)
        codes = series.codes
        codes[code] = codes.get(code, 0) + 1
        series.bytes_in += bytes_in
        series.bytes_out += bytes_out
        series.latency.observe(seconds)

    def _new_series(self, group: str, service: str) -> CallSeries:
        key = (group or OTHER, service or OTHER)
        if len(self._calls) >= MAX_SERIES:
            key = (OTHER, OTHER)
        return self._calls.setdefault(key, CallSeries())

    def problem_answered(self, code: str) -> None:
        """Count a problem of the gateway's own (the agents' pass uncounted, inside bodies)."""
        self._problems[code] = self._problems.get(code, 0) + 1

    def exposition(self) -> tuple[str, bytes]:
        """``(content type, text)`` for ``GET /metrics``."""
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: all figures as they are now."""
        yield from self._collect_calls()
        yield from self._collect_agents()
        yield from self._collect_webhooks()
        yield from self._collect_certificates()
        problems = CounterMetricFamily(
            f"{PREFIX}problems", "Problems answered by the gateway itself", labels=["code"]
        )
        for code, count in self._problems.items():
            problems.add_metric([code], count)
        yield problems

    def _collect_calls(self) -> Iterator[Metric]:
        labels = ["group", "service"]
        calls = CounterMetricFamily(
            f"{PREFIX}calls", "Relayed calls that have ended", labels=[*labels, "code"]
        )
        received = CounterMetricFamily(
            f"{PREFIX}request_body_bytes", "Bytes of request bodies relayed", labels=labels
        )
        sent = CounterMetricFamily(
            f"{PREFIX}response_body_bytes", "Bytes of response bodies relayed", labels=labels
        )
        latency = HistogramMetricFamily(
            f"{PREFIX}call_seconds",
            "Time from a call's head to the end of its answer",
            labels=labels,
        )
        for key, series in self._calls.items():
            for code, count in series.codes.items():
                calls.add_metric([*key, str(code)], count)
            received.add_metric(key, series.bytes_in)
            sent.add_metric(key, series.bytes_out)
            buckets, total = series.latency.cumulative()
            latency.add_metric(key, buckets, total)
        yield from (calls, received, sent, latency)

    def _collect_agents(self) -> Iterator[Metric]:
        counts: dict[tuple[str, str], int] = {}
        streams: dict[str, int] = {}
        trips: dict[tuple[str, str], float] = {}
        round_trip = GaugeMetricFamily(
            f"{PREFIX}tunnel_round_trip_seconds",
            "Round trip of the latest ping",
            labels=["group", "agent"],
        )
        for agent in self._agents():
            group = agent.group if agent.group in streams or len(streams) < MAX_SERIES else OTHER
            state = (group, "connected" if agent.connected else "held")
            counts[state] = counts.get(state, 0) + 1
            streams[group] = streams.get(group, 0) + agent.streams
            seconds = agent.round_trip()
            if seconds is not None and len(trips) < MAX_SERIES:
                trips[group, agent.name] = seconds
        for labels, seconds in trips.items():
            round_trip.add_metric(labels, seconds)
        yield round_trip
        sessions = GaugeMetricFamily(
            f"{PREFIX}sessions", "Sessions of agents", labels=["group", "state"]
        )
        for state, count in counts.items():
            sessions.add_metric(state, count)
        yield sessions
        opened = GaugeMetricFamily(f"{PREFIX}streams", "Calls in flight", labels=["group"])
        for group, count in streams.items():
            opened.add_metric([group], count)
        yield opened
        yield CounterMetricFamily(
            f"{PREFIX}duplicate_logins",
            "Logins of an agent beside a live session of its own: one identity on two machines",
            self._duplicate_logins(),
        )
        if self._connections is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}api_connections", "Open connections of callers", self._connections()
            )

    def _collect_certificates(self) -> Iterator[Metric]:
        agents = GaugeMetricFamily(
            f"{PREFIX}agent_certificate_left_ratio",
            "Share of its life that an agent's certificate has left; renewal is due at a third",
            labels=["group", "agent"],
        )
        for data, left in islice(self._certificates("agent"), MAX_SERIES):
            agents.add_metric([data["group"], data["agent"]], left)
        own = GaugeMetricFamily(
            f"{PREFIX}certificate_left_ratio",
            "Share of its life that a certificate of the gateway has left",
            labels=["use"],
        )
        for data, left in self._certificates("gateway"):
            own.add_metric([data["use"]], left)
        yield from (agents, own)

    def _collect_webhooks(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            f"{PREFIX}webhook_events",
            "Events handed over, given up after long enough, or dropped as too many waited",
            labels=["endpoint", "outcome"],
        )
        failed = CounterMetricFamily(
            f"{PREFIX}webhook_failed_attempts",
            "Attempts to hand an event over that failed",
            labels=["endpoint"],
        )
        waiting = GaugeMetricFamily(
            f"{PREFIX}webhook_waiting", "Events not handed over yet", labels=["endpoint"]
        )
        for each in self._webhooks():
            events.add_metric([each.name, "delivered"], each.delivered)
            events.add_metric([each.name, "given_up"], each.given_up)
            events.add_metric([each.name, "dropped"], each.dropped)
            failed.add_metric([each.name], each.failed_attempts)
            waiting.add_metric([each.name], each.waiting)
        yield from (events, failed, waiting)
