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
    "JSON": ("application/json", Target("ratio", least=0.9)),
    "NDJSON": ("application/x-ndjson", Target("ratio", least=1.0)),
    "CSV": ("text/csv", Target("ratio", least=2.0)),
    "MessagePack": ("application/vnd.msgpack", Target("ratio", least=0.9)),
    "Arrow": ("application/vnd.apache.arrow.stream", Target("ratio", least=2.0)),
}


def measure(site: Site) -> list[Result]:
    """Rows a second; the caller decodes MessagePack and Arrow, and only takes the others in."""
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
            decode=media if media.startswith("application/vnd.") else "",
        )
    )
    whole = (
        f'"row_count":{ROWS}' in moved.tail.replace(" ", "")
        if media == "application/json"
        else (moved.rows or moved.lines - (media == "text/csv")) == ROWS
    )
    if not whole:
        raise ProgramError(f"{media}: not {ROWS} rows: {moved}")
    return ROWS / moved.seconds
