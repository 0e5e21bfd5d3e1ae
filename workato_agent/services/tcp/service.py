"""Raw TCP to one target, for callers that speak its protocol themselves."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import msgspec
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory
from websockets.utils import accept_key

from workato_tunnel.problems import Problem
from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.windows import CreditBudget

from ...requests import Request, Response
from .bundle import METHOD, Bundle, wants_bundle
from .forward import Forward, WebSocketForward
from .link import TargetLink
from .settings import TcpSettings

OPERATIONS: Final = ("test", "connect")
BUNDLED: Final = 64 * 1024 * 1024
"""Bytes that all bundles of a profile may promise to take beyond their first windows."""


@define(eq=False)
class TcpService:
    """Serves one profile of the ``tcp`` section (a ``ProfileService``)."""

    type = "tcp"

    _reactor: Any
    _settings: TcpSettings
    operations: tuple[str, ...] = OPERATIONS
    _links: set[TargetLink] = field(factory=set, init=False)
    _connecting: int = field(default=0, init=False)
    _bundled: CreditBudget = field(factory=lambda: CreditBudget(BUNDLED), init=False)

    def operation(self, request: Request) -> str:
        """``connect`` for a WebSocket and for a connection in one, ``test`` for a plain GET."""
        if request.path == "" and request.method == METHOD:
            return "connect"
        if request.path == "" and request.method in ("GET", "HEAD"):
            return "connect" if request.header("upgrade") == "websocket" else "test"
        raise Problem(
            "operation_not_found",
            f"tcp has no {request.method} {request.path[:100]!r}",
            hint="open a WebSocket to the profile, or GET it to test it",
        )

    async def handle(self, request: Request) -> Response:
        """Connect, and forward from then on. Raises Problem."""
        if self.operation(request) == "test":
            link = await self._connect(request.deadline)
            link.close()
            target = f"{self._settings.host}:{self._settings.port}"
            body = msgspec.json.encode({"ok": True, "target": target})
            return Response(200, (("content-type", "application/json"),), body)
        if request.method == METHOD:
            link = await self._connect(request.deadline)
            passage = Forward(self._reactor, link, self._settings.idle_timeout)
            return Response(200, passage=passage)
        key = request.header("sec-websocket-key")
        if not key or request.header("sec-websocket-version") != "13":
            raise Problem(
                "bad_request",
                "the WebSocket's handshake has no Sec-WebSocket-Key, or is not of version 13",
                hint="use a WebSocket client of RFC 6455",
                extra={"field": "Sec-WebSocket-Key"},
            )
        accepted = ("sec-websocket-accept", accept_key(key))
        if wants_bundle(request.header("sec-websocket-protocol")):
            bundle = Bundle(self._reactor, request.begin_inner, self._bundled)
            return Response(
                101, (accepted, ("sec-websocket-protocol", SUBPROTOCOL)), passage=bundle
            )
        link = await self._connect(request.deadline)
        forward = WebSocketForward(self._reactor, link, self._settings.idle_timeout)
        return Response(101, (accepted,), passage=forward)

    async def close(self) -> None:
        """Cut what is open."""
        for link in list(self._links):
            link.close()

    async def _connect(self, deadline: float) -> TargetLink:
        settings = self._settings
        self._links = {link for link in self._links if not link.gone}
        if len(self._links) + self._connecting >= settings.max_connections:
            raise Problem(
                "overloaded",
                f"{settings.max_connections} connections of the profile are open",
                hint="close some, or raise max_connections in the agent's configuration",
                retry_after=5,
            )
        timeout = max(0.1, min(settings.connect_timeout, deadline - self._reactor.seconds()))
        endpoint = HostnameEndpoint(self._reactor, settings.host, settings.port, timeout=timeout)
        link = TargetLink(self._reactor)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(lambda: link))
        connecting.addTimeout(timeout + 1, self._reactor, onTimeoutCancel=_timed_out)
        self._connecting += 1
        try:
            await connecting
        except (ConnectError, DNSLookupError, DeferredTimeout, OSError) as error:
            raise self._unreachable(error, timeout) from None
        except ConnectingCancelledError as error:
            raise CancelledError from error
        finally:
            self._connecting -= 1
        self._links.add(link)
        return link

    def _unreachable(self, error: Exception, timeout: float) -> Problem:
        host, port = self._settings.host, self._settings.port
        if isinstance(error, DNSLookupError):
            why, hint = "the name is not known", "check host in the agent's configuration, and DNS"
        elif isinstance(error, Refused):
            why, hint = "the connection was refused", "check port, and that the server runs"
        elif isinstance(error, ConnectTimeout | DeferredTimeout):
            why, hint = f"no answer within {timeout:g} s", "check firewalls on the way"
        else:
            why, hint = str(error) or type(error).__name__, "check the network on the agent's side"
        return Problem(
            "target_unreachable",
            f"{host}:{port}: {why}",
            hint=hint,
            extra={"host": host, "port": port},
        )


def _timed_out(_cancelled: object, seconds: float) -> NoReturn:
    # Twisted's own way takes an endpoint's ConnectingCancelledError for some other failure.
    raise DeferredTimeout(seconds)
