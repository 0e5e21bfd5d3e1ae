"""An example of an extension: prices that are kept in a CSV file.

    extensions:
      prices:
        controllerClass: prices.Prices
        python_path: /etc/workato-agent/extensions
        file: /srv/prices.csv

The file's first line names the columns, one of which is ``article``. ``GET prices/4711`` gives the
article's row as JSON, ``GET prices/?prefix=47`` all rows that begin with that, as they are read.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

from workato_agent.extension import Extension, Problem, Request, Response


class Prices(Extension):
    """Answers from a local file, which is read anew for each call."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        super().__init__(settings)
        self.file = Path(str(settings["file"]))

    def test(self) -> Mapping[str, object]:
        """The file is there and has the column."""
        with self._open() as file:
            columns = csv.DictReader(file).fieldnames or []
        if "article" not in columns:
            raise Problem("target_wrong_type", f"{self.file} has no column 'article'")
        return {"target": str(self.file), "columns": list(columns)}

    def handle(self, request: Request) -> Response:
        """One article, or all with a prefix."""
        if request.method != "GET":
            raise Problem("operation_not_found", "prices can only be read")
        if request.path == "" or "prefix" in request.parameters:
            rows = self._rows(request.parameters.get("prefix", ""))
            return Response(200, {"content-type": "application/x-ndjson"}, _lines(rows))
        article = unquote(request.path)
        for row in self._rows(article):
            if row["article"] == article:
                return Response.json(row)
        raise Problem("not_found", f"there is no article {article[:100]!r}")

    def _rows(self, prefix: str) -> Iterator[dict[str, str]]:
        with self._open() as file:
            for row in csv.DictReader(file):
                if row["article"].startswith(prefix):
                    yield row

    def _open(self) -> TextIO:
        try:
            return self.file.open(encoding="utf-8", newline="")
        except OSError as error:
            raise Problem("target_not_found", f"{self.file}: {error.strerror}") from None


def _lines(rows: Iterator[dict[str, str]]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row).encode() + b"\n"
