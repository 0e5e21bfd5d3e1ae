"""Databases beyond reading a table: MariaDB, loading, big results, and many callers on one pool."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from demo.deployment import Deployment
from demo.processes import ProgramError, run, usage

from . import mariadb
from .crowd import CALLERS, EACH, Crowd, crowd
from .memory import Peak, process_of
from .peers import Way
from .postgres import ROWS, dsn
from .results import ROUNDS, Result, Target, compared, interleaved
from .site import GROUP, Site, through
from .transfers import Transfer, transfer

_MB = 1e6
_BIG = 10_000_000
_BIG_SQL = f"select m.* from measurements m cross join generate_series(1, {_BIG // ROWS})"
_LOAD_ROUNDS = 3


def measure(site: Site) -> list[Result]:
    """Each beside what a caller on the database's own network has."""
    maria, postgres = site.mariadb(), site.postgres()
    deployment = None if site.peers_only else site.deploy("databases")
    ours = None if deployment is None else through(deployment)
    results = _read_mariadb(maria, ours)
    results += _load(site, postgres, ours)
    if deployment is not None and ours is not None:
        results += _first_row(ours)
        results += _memory(deployment, ours)
    return [*results, *_crowd(postgres, ours)]


def _post(ours: Way, path: str, media: str, sql: str) -> Transfer:
    return Transfer(
        ours.port,
        f"/v1/groups/{GROUP}/database/{path}",
        (*ours.headers, ("Accept", media), ("Content-Type", "application/json")),
        method="POST",
        text=json.dumps({"sql": sql}),
    )


def _read_mariadb(port: int, ours: Way | None) -> list[Result]:
    def csv(way: Way) -> dict[str, float]:
        moved = transfer(_post(way, "shop/query", "text/csv", mariadb.SQL))
        if moved.lines != mariadb.ROWS + 1:
            raise ProgramError(f"MariaDB: {moved.lines} lines of {mariadb.ROWS} rows")
        return {"rows": mariadb.ROWS / moved.seconds}

    measures = {"PyMySQL SSCursor": lambda: {"rows": mariadb.read_directly(port)}}
    if ours is not None:
        measures["ours"] = partial(csv, ours)
    targets = {"PyMySQL SSCursor": Target("ratio", least=0.8)}
    return compared("rows/s of MariaDB to CSV", interleaved(measures), "rows", targets)


def _load(site: Site, port: int, ours: Way | None) -> list[Result]:
    """A million rows of CSV into an empty table of the same columns."""
    source = site.folder / "measurements.csv"
    _psql(site, port, "create table loaded (like measurements)")
    _psql(site, port, f"\\copy measurements to '{source}' csv header")

    def copy() -> dict[str, float]:
        _psql(site, port, "truncate loaded")
        began = time.perf_counter()
        _psql(site, port, f"\\copy loaded from '{source}' csv header")
        return {"rows": ROWS / (time.perf_counter() - began)}

    def load(way: Way) -> dict[str, float]:
        _psql(site, port, "truncate loaded")
        moved = transfer(
            Transfer(
                way.port,
                f"/v1/groups/{GROUP}/database/warehouse/load/loaded",
                (*way.headers, ("Content-Type", "text/csv")),
                method="POST",
                send=str(source),
            )
        )
        if _psql(site, port, "select count(*) from loaded").strip() != str(ROWS):
            raise ProgramError("load: not all rows are in the table")
        return {"rows": ROWS / moved.seconds}

    measures = {"psql \\copy": copy}
    if ours is not None:
        measures["ours"] = partial(load, ours)
    medians = interleaved(measures, _LOAD_ROUNDS)
    source.unlink()
    return compared(
        "rows/s loaded into PostgreSQL",
        medians,
        "rows",
        {"psql \\copy": Target("ratio", least=0.5)},
    )


def _psql(site: Site, port: int, command: str) -> str:
    argv = ["psql", dsn(port), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
            "--set=ON_ERROR_STOP=1", f"--command={command}"]  # fmt: skip
    return run(argv, cwd=site.folder, seconds=300)


def _first_row(ours: Way) -> list[Result]:
    """Until the first row of ten million is there; the caller then leaves."""
    results = []
    for name, media, head in (("CSV", "text/csv", 1), ("NDJSON", "application/x-ndjson", 0)):
        took = [_until_row(_post(ours, "warehouse/query", media, _BIG_SQL), head)
                for _ in range(ROUNDS)]  # fmt: skip
        results.append(
            Result(
                f"first row of 10,000,000 as {name}, ms",
                median(took),
                None,
                Target("ours", most=100),
            )
        )
    return results


def _until_row(what: Transfer, head: int) -> float:
    """Milliseconds until a whole line after ``head`` lines has arrived."""
    connection = http.client.HTTPConnection("127.0.0.1", what.port, timeout=60)
    began = time.perf_counter()
    connection.request(what.method, what.path, what.text, dict(what.headers))
    response = connection.getresponse()
    content = b""
    while content.count(b"\n") <= head:
        block = response.read1(65536)
        if response.status != 200 or not block:
            raise ProgramError(f"first row: {response.status} {content[:500]!r}")
        content += block
    took = time.perf_counter() - began
    connection.close()
    return took * 1000


def _memory(deployment: Deployment, ours: Way) -> list[Result]:
    """How much the agent grows while ten million rows go through it."""
    agent = process_of(deployment.agent)
    results = []
    for name, media, more in (("CSV", "text/csv", 1), ("NDJSON", "application/x-ndjson", 0)):
        transfer(_post(ours, "warehouse/query", media, "select * from measurements limit 1000"))
        before = usage(agent).resident
        peak = Peak({"agent": agent})
        with peak.watching():
            moved = transfer(_post(ours, "warehouse/query", media, _BIG_SQL))
        if moved.lines != _BIG + more:
            raise ProgramError(f"{name}: {moved.lines} lines of {_BIG} rows")
        grown = (peak.highest["agent"] - before) / _MB
        figure = f"agent, MB grown while 10,000,000 rows go to {name}"
        results.append(Result(figure, grown, None, Target("ours", most=50)))
    return results


def _crowd(port: int, ours: Way | None) -> list[Result]:
    """200 callers, 25 small queries each, on a pool of ten connections."""
    lost = 0

    def met(what: Crowd) -> dict[str, float]:
        nonlocal lost
        found = crowd(what)
        lost += found.lost
        return {"p50": found.p50, "p99": found.p99}

    measures: dict[str, Callable[[], dict[str, float]]] = {}
    measures["psycopg2, pool of 10"] = partial(met, Crowd(dsn=dsn(port)))
    if ours is not None:
        path = f"/v1/groups/{GROUP}/database/crowd/query"
        asked = Crowd(port=ours.port, path=path, headers=ours.headers)
        measures["ours"] = partial(met, asked)
    medians = interleaved(measures)
    peers = {name: met for name, met in medians.items() if name != "ours"}
    mine = medians.get("ours")
    results = compared(
        "small query, 200 callers, p99 ms",
        {**({"ours": mine} if mine else {}), **peers},
        "p99",
        dict.fromkeys(peers, Target("ratio", most=10)),
    )
    if mine is not None:
        asked_for = CALLERS * EACH * ROUNDS
        results.append(Result(f"queries lost of {asked_for:,}", lost, None, Target("ours", most=0)))
    return results
