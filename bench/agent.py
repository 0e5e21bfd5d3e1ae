"""The agent itself: how soon it is connected, and what it uses while nobody calls."""

from __future__ import annotations

import time
from statistics import median

from demo.processes import usage

from .results import ROUNDS, Result, Target
from .site import Site

_IDLE_SECONDS = 20


def measure(site: Site) -> list[Result]:
    """From the start of the process until a call would succeed; CPU and memory while idle."""
    if site.peers_only:
        return []
    deployment = site.deploy("agent")
    starts = []
    for _ in range(ROUNDS):
        if deployment.agent is not None:
            deployment.agent.stop()
        while deployment.connected():
            time.sleep(0.02)
        began = time.perf_counter()
        deployment.start_agent()
        starts.append(time.perf_counter() - began)
    time.sleep(2)
    pids = {
        name: process.pid
        for name, process in (("agent", deployment.agent), ("gateway", deployment.gateway))
        if process is not None
    }
    before = {name: usage(pid) for name, pid in pids.items()}
    time.sleep(_IDLE_SECONDS)
    return [
        Result("agent, start to connected, s", median(starts), None, Target("ours", most=2.0)),
        Result("agent, idle, resident MB", before["agent"].resident / 1e6),
        *[
            Result(
                f"{name}, idle, % of a CPU",
                (usage(pid).cpu - before[name].cpu) / _IDLE_SECONDS * 100,
                None,
                Target("ours", most=0.5) if name == "agent" else None,
            )
            for name, pid in pids.items()
        ],
    ]
