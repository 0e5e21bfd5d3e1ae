"""Small HTTP calls: latency with one caller, rate with 64."""

from __future__ import annotations

from functools import partial

from .peers import Way
from .results import Result, Target, compared, interleaved
from .site import Site
from .wrk import small_calls


def measure(site: Site) -> list[Result]:
    """A GET of about 100 bytes from nginx on keep-alive connections."""

    def both(way: Way) -> dict[str, float]:
        alone = small_calls(way, callers=1)
        crowd = small_calls(way, callers=64)
        return {
            "p50": alone.p50,
            "p99": alone.p99,
            "rate": crowd.per_second,
            "crowd_p99": crowd.p99,
            "cpu": crowd.cpu,
        }

    ways = site.ways()
    for way in ways.values():
        small_calls(way, callers=8, seconds=1)
    medians = interleaved({name: partial(both, way) for name, way in ways.items()})
    direct = medians["direct"]["p50"]
    mine = medians.get("ours")
    return [
        Result(
            "small call, 1 caller, added to direct at p50, ms",
            mine["p50"] - direct if mine else None,
            medians["ssh -R"]["p50"] - direct,
            Target("ours", most=1.0),
        ),
        *compared("small call, 1 caller, p50 ms", medians, "p50"),
        *compared("small call, 1 caller, p99 ms", medians, "p99"),
        *compared(
            "small calls/s, 64 callers",
            medians,
            "rate",
            {"ssh -R": Target("ratio", least=0.3)},
        ),
        *compared("small call, 64 callers, p99 ms", medians, "crowd_p99"),
        *[
            result
            for result in compared("CPU a small call, 64 callers, µs", medians, "cpu")
            if not result.figure.endswith("direct")
        ],
    ]
