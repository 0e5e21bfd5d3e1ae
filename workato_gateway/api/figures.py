"""``/metrics``: Prometheus' text, for those networks that the config names."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from workato_tunnel.problems import Problem

from ..addresses import IPNetwork, admits
from .messages import AdminRequest, AdminResponse

Exposition = Callable[[], tuple[str, bytes]]
"""Gives the content type and the text."""


def nothing_counted() -> tuple[str, bytes]:
    """For a process that counts nothing."""
    return "text/plain; charset=utf-8", b""


@frozen
class Figures:
    """The resource, in two places."""

    exposition: Exposition
    allowed_networks: tuple[IPNetwork, ...]

    async def public(self, request: AdminRequest) -> AdminResponse:
        """``/metrics``: by address, without a token. Raises Problem ``forbidden``."""
        if not admits(self.allowed_networks, request.peer):
            raise Problem(
                "forbidden",
                "this address may not read the metrics",
                hint="add its network to metrics.allowed_networks in gateway.yml,"
                " or read /v1/metrics with an admin token",
            )
        return await self.read(request)

    async def read(self, request: AdminRequest) -> AdminResponse:
        """``/v1/metrics``: for administrators, from anywhere."""
        content_type, text = self.exposition()
        return AdminResponse(200, text, (("content-type", content_type),))
