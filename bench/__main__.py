"""``make bench``: ``python -m bench [--peers] [FAMILY …]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo.processes import ProgramError, clean_up_on_sigterm

from . import (
    agent,
    beside,
    bigfile,
    brokers,
    bulk,
    calls,
    databases,
    forward,
    kafka,
    links,
    memory,
    messaging,
    rows,
)
from .results import Result, save, table
from .site import Site

FAMILIES: dict[str, Callable[[Site], list[Result]]] = {
    "calls": calls.measure,
    "bulk": bulk.measure,
    "rows": rows.measure,
    "databases": databases.measure,
    "brokers": brokers.measure,
    "kafka": kafka.measure,
    "beside": beside.measure,
    "links": links.measure,
    "forward": forward.measure,
    "memory": memory.measure,
    "bigfile": bigfile.measure,
    "agent": agent.measure,
    "messaging": messaging.measure,
}


def main() -> int:
    """Measure, print the table, write results.json; 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="only the peers, nothing of ours")
    parser.add_argument("family", nargs="*", help=f"of: {', '.join(FAMILIES)} (default: all)")
    options = parser.parse_args()
    unknown = [family for family in options.family if family not in FAMILIES]
    if unknown:
        parser.error(f"no such figures: {', '.join(unknown)} (there are: {', '.join(FAMILIES)})")
    clean_up_on_sigterm()
    results: list[Result] = []
    broken = []
    site = Site(options.peers)
    try:
        for family in options.family or FAMILIES:
            began = time.monotonic()
            try:
                results += FAMILIES[family](site)
            except ProgramError as error:
                broken.append(family)
                print(f"{family}: {error}", file=sys.stderr)
            print(f"{family}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    finally:
        site.close()
    save(results, Path(__file__).with_name("results.json"))
    print(table(results))
    judged = [result for result in results if result.met is not None]
    print(f"{sum(bool(result.met) for result in judged)} of {len(judged)} targets met")
    if broken:
        print(f"could not be measured: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
