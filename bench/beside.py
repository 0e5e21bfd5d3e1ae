"""Small calls while others move a lot, or read slowly."""

from __future__ import annotations

import time
from functools import partial

from attrs import evolve

from .peers import Way
from .results import Result, Target, compared, interleaved
from .site import Site
from .transfers import download, running
from .wrk import small_calls

_SLOW = 20_000


def measure(site: Site) -> list[Result]:
    """One caller beside two downloads; 64 callers beside four readers of 20 kB/s."""

    def bulk(way: Way) -> dict[str, float]:
        endless = evolve(download(way), forever=True)
        with running(site.folder, endless, endless):
            time.sleep(0.5)
            calls = small_calls(way, callers=1)
        return {"p50": calls.p50, "p99": calls.p99}

    def slow(way: Way) -> dict[str, float]:
        alone = small_calls(way, callers=64).per_second
        with running(site.folder, *[evolve(download(way), rate=_SLOW)] * 4):
            time.sleep(1)
            beside = small_calls(way, callers=64).per_second
        return {"kept": beside / alone}

    def both(way: Way) -> dict[str, float]:
        return {**bulk(way), **slow(way)}

    ways = site.ways()
    medians = interleaved({name: partial(both, way) for name, way in ways.items()})
    ours = {"ssh -R": Target("ours", most=5.0)}
    return [
        *compared("small call beside 2 downloads, p50 ms", medians, "p50", ours),
        *compared(
            "small call beside 2 downloads, p99 ms",
            medians,
            "p99",
            {"ssh -R": Target("ours", most=25.0)},
        ),
        *compared(
            "small calls/s beside 4 readers of 20 kB/s, share of those without",
            medians,
            "kept",
            {"ssh -R": Target("ours", least=0.8)},
        ),
    ]
