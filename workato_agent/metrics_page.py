"""The metrics as a web page, for :class:`.metrics.MetricsListener`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.web.http import Request
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Site


class _MetricsPage(Resource):
    isLeaf = True  # noqa: N815

    def __init__(self, exposition: Callable[[], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._exposition = exposition

    def render_GET(self, request: Request) -> bytes:  # noqa: N802
        request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
        return self._exposition()


class _QuietSite(Site):
    """A scrape each few seconds is nothing to log."""

    def log(self, request: Request) -> None:
        """Nothing."""


def metrics_site(exposition: Callable[[], bytes]) -> Any:
    """A site with the page at ``/metrics``, and nothing else."""
    root = Resource()
    root.putChild(b"metrics", _MetricsPage(exposition))
    root.putChild(b"", NoResource("the metrics are at /metrics"))
    site: Any = _QuietSite(root, timeout=30)  # type: ignore[no-untyped-call]
    site.noisy = False
    return site
