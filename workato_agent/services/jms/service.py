"""Message brokers: one profile of the ``jms`` section."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import define

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .broker import Broker
from .settings import JmsSettings


@define(eq=False)
class JmsService:
    """Serves one profile of the ``jms`` section (a ``ProfileService``)."""

    _reactor: Any
    _broker: Broker
    _settings: JmsSettings

    @property
    def type(self) -> str:
        """What is spoken to the broker."""
        return self._broker.type

    @property
    def operations(self) -> tuple[str, ...]:
        """Those that the policy allows."""
        return ("test",)

    def operation(self, request: Request) -> str:
        """``test``."""
        if request.path == "" and request.method in ("GET", "HEAD"):
            return "test"
        raise Problem("operation_not_found", f"jms has no {request.method} {request.path[:100]!r}")

    async def handle(self, request: Request) -> Response:
        """Test the profile. Raises Problem."""
        self.operation(request)
        facts = await self._broker.test()
        body = msgspec.json.encode({"ok": True, **facts})
        return Response(200, (("content-type", "application/json"),), body)

    async def close(self) -> None:
        """Disconnect."""
        await self._broker.close()
