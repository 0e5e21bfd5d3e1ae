"""A query of a million rows of ten columns, to each format, beside psycopg2 reading directly."""

from __future__ import annotations

import json

from demo.processes import ProgramError

from .postgres import ROWS, SQL, read_directly
from .results import Result, Target, compared, interleaved
from .site import GROUP, Site
from .transfers import Transfer, transfer

_CURSOR = "psycopg2 server-side cursor"
_FORMATS = {
    "JSON": ("application/json", Target("ratio", least=0.7)),
    "NDJSON": ("application/x-ndjson", None),
    "CSV": ("text/csv", Target("ratio", least=1.5)),
}


def measure(site: Site) -> list[Result]:
    """Rows a second; the caller takes the bytes in without decoding them."""
    port = site.postgres()

    def turn() -> dict[str, float]:
        return {name: _query(site, media) for name, (media, _) in _FORMATS.items()}

    measures = {
        _CURSOR: lambda: {"rows": read_directly(port, "cursor")},
        "psycopg2 fetchall": lambda: {"rows": read_directly(port, "fetchall")},
    }
    if not site.peers_only:
        measures["ours"] = turn
    medians = interleaved(measures)
    mine = medians.pop("ours", None)
    results = []
    for name, (_, target) in _FORMATS.items():
        ours = {"ours": {"rows": mine[name]}} if mine else {}
        results += compared(
            f"rows/s to {name}",
            {**ours, **medians},
            "rows",
            {_CURSOR: target} if target else {},
        )
    return results


def _query(site: Site, media: str) -> float:
    ours = site.ours()
    moved = transfer(
        Transfer(
            ours.port,
            f"/v1/groups/{GROUP}/database/warehouse/query",
            (*ours.headers, ("Accept", media), ("Content-Type", "application/json")),
            method="POST",
            text=json.dumps({"sql": SQL}),
        )
    )
    whole = (
        f'"row_count":{ROWS}' in moved.tail.replace(" ", "")
        if media == "application/json"
        else moved.lines == ROWS + (media == "text/csv")
    )
    if not whole:
        raise ProgramError(f"{media}: not {ROWS} rows: {moved}")
    return ROWS / moved.seconds
