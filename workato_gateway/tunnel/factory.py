"""Builds the gateway's tunnels and serves them on one TLS port, beside enrolment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem
from workato_tunnel.settings import SUBPROTOCOL, Settings
from workato_tunnel.tx.session import Accept
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport
from workato_tunnel.tx.websocket import OPTIONS
from workato_tunnel.windows import CreditBudget

from ..agents.registry import Registry
from ..api.messages import AdminResponse
from .admission import Admission
from .protocol import GatewayTunnel
from .renewal import RenewalCall

Enrol = Callable[[bytes, str], Awaitable[AdminResponse]]

MAX_ENROLMENT: Final = 16 * 1024
REQUEST_TIMEOUT: Final = 15
MAX_SOCKETS: Final = 20_000


class TunnelFactory(WebSocketServerFactory):
    """Everything that the gateway's tunnels share."""

    protocol = GatewayTunnel

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        admission: Admission,
        *,
        settings: Settings,
        hold: float,
        software: str,
        shared_budget: CreditBudget | None = None,
    ) -> None:
        super().__init__(protocols=[SUBPROTOCOL], server=software, reactor=clock)
        self.setProtocolOptions(
            **OPTIONS, webStatus=False, requireMaskedClientFrames=True, maxConnections=MAX_SOCKETS
        )
        self.clock = clock
        self.registry = registry
        self.admission = admission
        self.settings = settings
        self.hold = hold
        self.software = software
        self.shared_budget = shared_budget
        self._sockets: set[GatewayTunnel] = set()

    def opened(self, socket: GatewayTunnel) -> None:
        """A socket has finished its WebSocket handshake."""
        self._sockets.add(socket)

    def closed(self, socket: GatewayTunnel) -> None:
        """A socket is gone."""
        self._sockets.discard(socket)

    def terminate_agent(self, agent_id: str, code: str, message: str) -> None:
        """Cut an agent's sessions, and its sockets that have not said HELLO yet."""
        self.registry.terminate_agent(agent_id, code, message)
        for socket in list(self._sockets):
            if socket.admitted is not None and socket.admitted.agent_id == agent_id:
                socket.close(1008, message)

    def accept_for(self, agent_id: str) -> Accept:
        """Serves the streams that this agent opens: the renewal of its certificate."""

        def accept(stream: StreamTransport, head: Open) -> StreamReceiver:
            return RenewalCall(stream, head, lambda csr: self.admission.renew(agent_id, csr))

        return accept

    def site(self, enrol: Enrol) -> Site:
        """What the tunnel's port answers: ``/tunnel`` and ``POST /enrol``."""
        root = Resource()
        root.putChild(b"tunnel", WebSocketResource(self))
        root.putChild(b"enrol", _Enrolment(enrol))
        site = _Site(root, requestFactory=_SmallRequest, timeout=REQUEST_TIMEOUT)
        site.displayTracebacks = False
        site.noisy = False
        return site


class _Site(Site):
    def log(self, request: object) -> None:
        """Nothing: what matters of these requests is logged where it is decided."""


class _SmallRequest(Request):
    """Strangers reach this port: no body beyond :data:`MAX_ENROLMENT` is taken."""

    _taken = 0

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        if length is not None and length > MAX_ENROLMENT:
            self._too_large()
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self._taken += len(data)
        if self._taken > MAX_ENROLMENT:
            self._too_large()
        else:
            super().handleContentChunk(data)

    def _too_large(self) -> None:
        self.channel.forceAbortClient()


class _Enrolment(Resource):
    isLeaf = True  # noqa: N815
    _log = Logger()

    def __init__(self, enrol: Enrol) -> None:
        super().__init__()
        self._enrol = enrol

    def render_POST(self, request: Any) -> int:  # noqa: N802
        body = request.content.read(MAX_ENROLMENT + 1)
        work = Deferred.fromCoroutine(self._answer(request, body))
        gone = request.notifyFinish()
        gone.addErrback(lambda _lost: work.cancel())
        work.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: HttpRequest, body: bytes) -> None:
        peer = request.getClientAddress().host
        try:
            answer = await self._enrol(body, peer)
        except Problem as problem:
            answer = AdminResponse(problem.status, problem.body(""), tuple(problem.headers()))
        self._write(request, answer)

    def _write(self, request: HttpRequest, answer: AdminResponse) -> None:
        request.setResponseCode(answer.status)
        headers = dict(answer.headers)
        headers.setdefault("content-type", "application/json")
        for name, value in headers.items():
            request.setHeader(name.encode("latin-1"), value.encode("latin-1"))
        body = answer.body()
        request.setHeader(b"content-length", str(len(body)).encode("ascii"))
        request.write(body)
        request.finish()

    def _failed(self, failure: Any, request: Any) -> None:
        if request._disconnected:  # noqa: SLF001 - Twisted has no public word for it
            return
        self._log.failure("Enrolment failed", failure=failure)
        self._write(request, AdminResponse(500, {"code": "internal_error"}))
