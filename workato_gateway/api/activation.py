"""``/v1/groups/{group}/activation-codes``: codes for agents to come."""

from __future__ import annotations

import time

import msgspec

from ..identity.enrolment import Enrolment, IssuedCode, issue_code
from ..storage.interface import Store, Transaction
from .documents import Now, actor, audit, moment, read_body
from .messages import AdminRequest, AdminResponse


class NewCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/groups/{group}/activation-codes``; unnamed, the agent chooses."""

    name: str | None = None


class ActivationCodes:
    """The resource. Codes are redeemed on the tunnel's listener."""

    def __init__(self, store: Store, enrolment: Enrolment, now: Now = time.time) -> None:
        self._store = store
        self._enrolment = enrolment
        self._now = now

    async def create(self, request: AdminRequest) -> AdminResponse:
        """A code for one agent, good for an hour and one use. It is shown here and never again."""
        group = request.path[1]
        name = read_body(request, NewCode).name

        def thd_create(transaction: Transaction) -> IssuedCode:
            issued = issue_code(
                transaction, group=group, name=name, created_by=actor(request), now=self._now()
            )
            subject = group if name is None else f"{group}/{name}"
            audit(transaction, request, "code.create", subject, None, self._now)
            return issued

        issued = await self._store.write(thd_create)
        agent = issued.agent
        return AdminResponse(
            201,
            {
                "code": self._enrolment.code_text(issued),
                "group": group,
                "name": name,
                "replaces": agent is not None and agent.serial is not None,
                "expires": moment(issued.record.expires),
            },
            (("cache-control", "no-store"),),
        )
