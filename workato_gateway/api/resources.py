"""The table of the gateway's own resources: path and method to what answers.

Everything else below ``/v1/groups/{group}/`` is a call to an agent. A service can therefore not be
called ``agents`` or ``activation-codes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen
from twisted.logger import Logger

from workato_tunnel.problems import CONTENT_TYPE, Problem

from ..storage.interface import StoreError
from .activation import ActivationCodes
from .agents import Agents
from .figures import Figures
from .groups import Groups
from .health import Health
from .messages import AdminRequest, AdminResource, AdminResponse
from .problems import refusal
from .tokens import AuditResource, TokenResource

RESERVED: Final = frozenset({"agents", "activation-codes"})
"""What follows a group's name in a path of the table, and so is no service."""


@frozen
class Route:
    """A path and what its methods do. A part in braces stands for any one segment."""

    path: tuple[str, ...]
    methods: Mapping[str, AdminResource]

    def matches(self, path: tuple[str, ...]) -> bool:
        """Whether a request's path is one of these."""
        return len(path) == len(self.path) and all(
            mine == its or mine.startswith("{") for mine, its in zip(self.path, path, strict=True)
        )

    @property
    def template(self) -> str:
        """As in the API's description."""
        return "/v1/" + "/".join(self.path)


class Resources:
    """Answers what is not a call to an agent."""

    _log = Logger()

    def __init__(
        self,
        *,
        groups: Groups,
        agents: Agents,
        codes: ActivationCodes,
        tokens: TokenResource,
        audit: AuditResource,
        health: Health,
        figures: Figures,
    ) -> None:
        one_group = ("groups", "{group}")
        self.routes: tuple[Route, ...] = (
            Route(("groups",), {"GET": groups.list, "POST": groups.create}),
            Route(one_group, {"GET": groups.read, "PATCH": groups.change, "DELETE": groups.delete}),
            Route((*one_group, "agents"), {"GET": agents.list}),
            Route(
                (*one_group, "agents", "{agent}"),
                {"GET": agents.read, "PATCH": agents.change, "DELETE": agents.revoke},
            ),
            Route((*one_group, "activation-codes"), {"POST": codes.create}),
            Route(("tokens",), {"GET": tokens.list, "POST": tokens.create}),
            Route(("tokens", "{token}"), {"GET": tokens.read, "DELETE": tokens.revoke}),
            Route(("audit",), {"GET": audit.list}),
            Route(("metrics",), {"GET": figures.read}),
        )
        self.public: Mapping[str, AdminResource] = {
            "/healthz": health.live,
            "/readyz": health.ready,
            "/metrics": figures.public,
        }
        """By the whole path; no token is asked for."""

    async def answer(self, request: AdminRequest) -> AdminResponse:
        """The answer to a request from outside. Raises Problem, whatever went wrong."""
        try:
            return await self.dispatch(request)
        except StoreError as error:
            self._log.failure(
                "The store failed in {request_id}",
                event="store_failed_in_request",
                request_id=request.request_id,
            )
            raise Problem(
                "internal_error",
                "the gateway's store failed",
                hint="the gateway's log says why, beside this request's id",
            ) from error

    async def dispatch(self, request: AdminRequest) -> AdminResponse:
        """The answer to a request below ``/v1``, whose path is in the table and whose caller is an
        administrator. HEAD is answered as GET; the server leaves the body out.

        Raises Problem and StoreError.
        """
        for route in self.routes:
            if route.matches(request.path):
                return await self._dispatch(route, request)
        raise Problem(
            "not_found",
            f"there is nothing at /v1/{'/'.join(request.path)}",
            hint="a call to an agent is /v1/groups/GROUP/SERVICE/PROFILE",
        )

    async def _dispatch(self, route: Route, request: AdminRequest) -> AdminResponse:
        if not request.caller.is_admin:
            raise Problem(
                "forbidden",
                f"the token of {request.caller.owner} does not have the scope admin",
                hint="make one with workato-gateway token create --scope admin",
            )
        resource = route.methods.get("GET" if request.method == "HEAD" else request.method)
        if resource is None:
            return _not_allowed(route, request)
        return await resource(request)


def _not_allowed(route: Route, request: AdminRequest) -> AdminResponse:
    allowed = ", ".join(route.methods)
    problem = refusal(
        405,
        "Method not allowed",
        f"{route.template} does not know {request.method}",
        f"it knows {allowed}",
    )
    return AdminResponse(
        405, problem.body(request.request_id), (("content-type", CONTENT_TYPE), ("allow", allowed))
    )
