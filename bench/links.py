"""Links slower and longer than loopback, by a relay (:mod:`bench.relay`) between the two sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from attrs import evolve, frozen

from demo.processes import free_port

from .peers import Way
from .results import Result, Target, compared, interleaved
from .site import Site, through
from .transfers import download, running, transfer, upload
from .wrk import small_calls


@frozen
class Link:
    """Bytes a second (0: no limit), seconds one way, bytes unacknowledged at most."""

    rate: float
    delay: float
    window: int


# 5 MB/s with 20 ms there and back hold 100 kB; a little more is under way, as on a real link.
_SLOW = Link(5e6, 0.010, 160 * 1024)
# 4 MiB is what Linux lets a sending socket grow to, so the most that plain TCP has under way.
_LONG = Link(0, 0.050, 4 * 1024 * 1024)


def measure(site: Site) -> list[Result]:
    """A slow link with a bulk upload on it, and a long one with a download."""
    return [*_slow(site), *_long(site)]


def _slow(site: Site) -> list[Result]:
    def beside_upload(way: Way) -> dict[str, float]:
        with running(site.folder, evolve(upload(way, site.bulk_file), forever=True)):
            time.sleep(2)
            calls = small_calls(way, callers=1)
        return {"p50": calls.p50, "p99": calls.p99}

    measures: dict[str, Callable[[], dict[str, float]]] = {}
    ssh = _ssh_through(site, _SLOW)
    measures["ssh -R"] = lambda: beside_upload(ssh)
    if not site.peers_only:
        ours = _ours_through(site, "slow-link", _SLOW)
        measures["ours"] = lambda: beside_upload(ours)
    medians = interleaved(measures)
    return [
        *compared(
            "5 MB/s, 10 ms: small call beside an upload, p50 ms",
            medians,
            "p50",
            {"ssh -R": Target("ours", most=80.0)},
        ),
        *compared("5 MB/s, 10 ms: small call beside an upload, p99 ms", medians, "p99"),
    ]


def _long(site: Site) -> list[Result]:
    def down(way: Way) -> dict[str, float]:
        return {"down": transfer(download(way)).megabytes_per_second}

    plain_port = free_port()
    _relay(site, plain_port, site.target(), _LONG)
    plain = Way("plain TCP", plain_port, bulk="/part.bin")
    ssh = evolve(_ssh_through(site, _LONG), bulk="/part.bin")
    ways = {"plain TCP": plain, "ssh -R": ssh}
    if not site.peers_only:
        ours = _ours_through(site, "long-link", _LONG)
        ways["ours"] = evolve(ours, bulk=ours.bulk.replace("bulk.bin", "part.bin"))
    medians = interleaved({name: partial(down, way) for name, way in ways.items()})
    return compared(
        "100 ms round trip: download 256 MiB, MB/s",
        medians,
        "down",
        {"plain TCP": Target("ratio", least=0.8)},
    )


def _relay(site: Site, listen: int, target: int, link: Link) -> None:
    site.relay(listen, target, link.rate, link.delay, link.window)


def _ours_through(site: Site, name: str, link: Link) -> Way:
    relay, tunnel = free_port(), free_port()
    _relay(site, relay, tunnel, link)
    return through(site.deploy(name, tunnel=tunnel, relay=relay))


def _ssh_through(site: Site, link: Link) -> Way:
    relay, server = free_port(), free_port()
    _relay(site, relay, server, link)
    return site.ssh(server, relay)
