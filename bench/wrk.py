"""Many small calls, by wrk."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from demo.processes import ProgramError, run, usage

from .peers import Way

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@frozen
class Calls:
    """What a burst of small calls showed; milliseconds, microseconds of CPU a call for the way."""

    per_second: float
    p50: float
    p99: float
    cpu: float


def small_calls(way: Way, *, callers: int, seconds: int = 3) -> Calls:
    """Small GETs on ``callers`` keep-alive connections. Any answer but a success is an error."""
    before = usage(*way.pids).cpu
    headers = [argument for name, value in way.headers for argument in ("-H", f"{name}: {value}")]
    output = run(
        ["wrk", "--threads", "1", "--connections", str(callers), "--duration", f"{seconds}s",
         "--timeout", "30s", "--latency", *headers, f"http://127.0.0.1:{way.port}{way.small}"],
        cwd=Path(),
        seconds=seconds + 60,
    )  # fmt: skip
    cpu = usage(*way.pids).cpu - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise ProgramError(f"small calls by {way.name} failed:\n{output}")
    total = int(_found(r"(\d+) requests in", output))
    return Calls(
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        p50=_milliseconds(_found(r"^ +50%\s+(\S+)", output)),
        p99=_milliseconds(_found(r"^ +99%\s+(\S+)", output)),
        cpu=cpu / total * 1e6,
    )


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise ProgramError(f"wrk printed no {pattern}:\n{output}")
    return match[1]


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise ProgramError(f"wrk's time {text!r} is not understood")
    return float(match[1]) * _UNITS[match[2]]
