"""``/healthz`` and ``/readyz``: whether the process lives, and whether a call would succeed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IReactorTime

from workato_tunnel.problems import Problem

from ..storage.interface import Store, StoreError
from .messages import AdminRequest, AdminResponse

STORE_DEADLINE: Final = 2.0
NO_STORE: Final = (("cache-control", "no-store"),)

Condition = Callable[[], str | None]
"""Why the gateway is not ready; None when nothing is in the way."""


@define
class Health:
    """Both resources. ``conditions``: what else must hold, beside a store that answers."""

    _store: Store
    _clock: IReactorTime
    _conditions: list[Condition] = field(factory=list)

    def add_condition(self, condition: Condition) -> None:
        """One more."""
        self._conditions.append(condition)

    async def live(self, request: AdminRequest) -> AdminResponse:
        """The process serves HTTP: that this is answered says it all."""
        return AdminResponse(200, {"status": "ok"}, NO_STORE)

    async def ready(self, request: AdminRequest) -> AdminResponse:
        """200 when a call could succeed, 503 with the reasons when not."""
        reasons = [reason for condition in self._conditions if (reason := condition())]
        if (reason := await self._store_fault()) is not None:
            reasons.append(reason)
        if reasons:
            return AdminResponse(503, {"status": "not ready", "reasons": reasons}, NO_STORE)
        return AdminResponse(200, {"status": "ready"}, NO_STORE)

    async def _store_fault(self) -> str | None:
        asked = Deferred.fromCoroutine(self._store.read(lambda rows: rows.changes_after(None)))
        try:
            await asked.addTimeout(STORE_DEADLINE, self._clock)
        except TimeoutError:
            return f"the store did not answer within {STORE_DEADLINE:g} s"
        except (StoreError, Problem):
            return "the store fails; the log says why"
        return None
