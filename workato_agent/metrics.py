"""The agent's Prometheus metrics, and the local listener that shows them.

A registry of its own, never the library's global one, so that two agents live in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest
from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTCP

from workato_tunnel.frames import Open

NAMESPACE: Final = "workato_agent"
_SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)
_UNROUTABLE: Final = frozenset({"service_not_found", "profile_not_found"})


class MetricsListenerError(Exception):
    """The listener can't be opened; the message says why and what to do."""


class EndedCall(Protocol):
    """What the metrics take of a call that has ended (the dispatcher's ``CallEnd``)."""

    @property
    def head(self) -> Open: ...
    @property
    def code(self) -> str: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def duration(self) -> float: ...


class AgentMetrics:
    """What the agent counts. One of the dispatcher's observers."""

    def __init__(self, version: str = "", *, process: bool = True) -> None:
        self.registry = registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=registry)
        Info(NAMESPACE, "The running agent", registry=registry).info({"version": version})
        self._calls = Counter(
            "calls", "Calls ended", ("service", "profile", "code"), NAMESPACE, registry=registry
        )
        self._seconds = Histogram(
            "call_seconds",
            "Duration of calls",
            ("service", "profile"),
            NAMESPACE,
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "call_bytes",
            "Body bytes of calls, in (requests) and out (answers)",
            ("service", "profile", "direction"),
            NAMESPACE,
            registry=registry,
        )
        self._rows = Counter(
            "call_rows",
            "Rows sent or changed",
            ("service", "profile"),
            NAMESPACE,
            registry=registry,
        )
        self._in_flight = Gauge(
            "calls_in_flight",
            "Calls that have begun and not ended",
            (),
            NAMESPACE,
            registry=registry,
        )
        self.connected = Gauge(
            "tunnel_connected", "1 while the tunnel is up", (), NAMESPACE, registry=registry
        )
        """The tunnel's client sets it: 1 once a call would reach the agent, else 0."""
        self._connections = Counter(
            "tunnel_connections",
            "Attempts to connect the tunnel",
            ("outcome",),
            NAMESPACE,
            registry=registry,
        )
        self.round_trip = Gauge(
            "tunnel_round_trip_seconds", "Last ping's round trip", (), NAMESPACE, registry=registry
        )
        self._children: dict[tuple[str, str], _Profile] = {}

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """A further gauge, read when it is asked for: ``audit_waiting``, ``open_streams`` …"""
        Gauge(name, documentation, (), NAMESPACE, registry=self.registry).set_function(value)

    def tunnel_attempted(self, outcome: str) -> None:
        """Count an attempt to connect by how it ended (the tunnel client's ``Outcome``)."""
        self._connections.labels(outcome).inc()

    def call_began(self, head: Open) -> None:
        """Count a call as in flight."""
        self._in_flight.inc()

    def call_ended(self, end: EndedCall) -> None:
        """Count a call that has ended."""
        self._in_flight.dec()
        head = end.head
        # A name that the config lacks is the caller's invention: it must not make a series.
        unknown = end.code in _UNROUTABLE
        key = ("unknown", "unknown") if unknown else (head.service, head.profile)
        profile = self._children.get(key)
        if profile is None:
            profile = self._children[key] = _Profile(self, *key)
        profile.count(end)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Profile:
    """One profile's series, looked up once."""

    def __init__(self, metrics: AgentMetrics, service: str, profile: str) -> None:
        self._calls: Callable[[str], Counter] = lambda code: metrics._calls.labels(  # noqa: SLF001
            service, profile, code
        )
        self._by_code: dict[str, Counter] = {}
        self._seconds = metrics._seconds.labels(service, profile)  # noqa: SLF001
        self._in = metrics._bytes.labels(service, profile, "in")  # noqa: SLF001
        self._out = metrics._bytes.labels(service, profile, "out")  # noqa: SLF001
        self._rows = metrics._rows.labels(service, profile)  # noqa: SLF001

    def count(self, end: EndedCall) -> None:
        counter = self._by_code.get(end.code)
        if counter is None:
            counter = self._by_code[end.code] = self._calls(end.code)
        counter.inc()
        self._seconds.observe(end.duration)
        if end.bytes_in:
            self._in.inc(end.bytes_in)
        if end.bytes_out:
            self._out.inc(end.bytes_out)
        if end.rows:
            self._rows.inc(end.rows)


class MetricsListener(Service):
    """``GET /metrics`` on a loopback address. ``startService`` raises MetricsListenerError."""

    def __init__(
        self, metrics: AgentMetrics, listen: tuple[str, int], reactor: IReactorTCP
    ) -> None:
        self.setName("metrics")  # type: ignore[no-untyped-call]
        self._metrics = metrics
        self._listen = listen
        self._reactor = reactor
        self._port: IListeningPort | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens while it runs; the real port where 0 was asked for."""
        if self._port is None:
            return self._listen
        host: Any = self._port.getHost()
        return host.host, host.port

    def startService(self) -> None:
        """Listen."""
        # Twisted's web server is 2 MB of memory that an agent without a listener need not spend.
        from .metrics_page import metrics_site  # noqa: PLC0415

        site = metrics_site(self._metrics.exposition)
        host, port = self._listen
        try:
            self._port = self._reactor.listenTCP(port, site, backlog=16, interface=host)
        except CannotListenError as error:
            raise MetricsListenerError(
                f"metrics can't be served on {host}:{port}: {error.socketError}"
                " (metrics.listen in config.yml)"
            ) from error
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Any:
        """Stop listening."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        return port.stopListening() if port is not None else None
