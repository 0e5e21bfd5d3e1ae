"""1 GiB down and up."""

from __future__ import annotations

from functools import partial

from attrs import evolve

from demo.processes import usage

from .peers import Way
from .results import Result, Target, compared, interleaved
from .site import GROUP, Site
from .transfers import download, transfer, upload


def measure(site: Site) -> list[Result]:
    """Peers move it from and to nginx; ours through ``files``, and once through ``http`` to nginx.

    MB are 10⁶ bytes.
    """

    def both(way: Way) -> dict[str, float]:
        before = usage(*way.pids).cpu
        down = transfer(download(way)).megabytes_per_second
        between = usage(*way.pids).cpu
        up = transfer(upload(way, site.bulk_file)).megabytes_per_second
        after = usage(*way.pids).cpu
        return {"down": down, "up": up, "down_cpu": between - before, "up_cpu": after - between}

    ways = site.ways()
    medians = interleaved({name: partial(both, way) for name, way in ways.items()})
    results = [
        *compared(
            "download 1 GiB, MB/s",
            medians,
            "down",
            {"ssh -R": Target("ratio", least=0.6), "asyncssh -R": Target("ratio", least=1.0)},
        ),
        *compared("upload 1 GiB, MB/s", medians, "up", {"ssh -R": Target("ratio", least=0.5)}),
        *_without_direct(compared("download, CPU s a GiB", medians, "down_cpu")),
        *_without_direct(compared("upload, CPU s a GiB", medians, "up_cpu")),
    ]
    if not site.peers_only:
        results += _by_http(site, ways["ours"], medians["ssh -R"])
    return results


def _by_http(site: Site, ours: Way, ssh: dict[str, float]) -> list[Result]:
    target = f"/v1/groups/{GROUP}/http/target"
    way = evolve(ours, bulk=f"{target}/bulk.bin", upload=f"{target}/upload.bin")

    def both() -> dict[str, float]:
        return {
            "down": transfer(download(way)).megabytes_per_second,
            "up": transfer(upload(way, site.bulk_file)).megabytes_per_second,
        }

    medians = interleaved({"ours": both})
    return [
        Result(
            "download 1 GiB of the HTTP app, MB/s / ssh -R", medians["ours"]["down"], ssh["down"]
        ),
        Result("upload 1 GiB to the HTTP app, MB/s / ssh -R", medians["ours"]["up"], ssh["up"]),
    ]


def _without_direct(results: list[Result]) -> list[Result]:
    return [result for result in results if not result.figure.endswith("direct")]
