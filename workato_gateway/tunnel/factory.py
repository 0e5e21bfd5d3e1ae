"""Builds the gateway's tunnels and serves them on one TLS port, beside enrolment."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem
from workato_tunnel.settings import SUBPROTOCOL, Settings
from workato_tunnel.tx.session import Accept
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport
from workato_tunnel.tx.websocket import OPTIONS, ExactTimer
from workato_tunnel.windows import CreditBudget

from ..agents.registry import Registry
from ..identity.admission import Admission
from ..identity.enrolment import Enrolment
from .protocol import GatewayTunnel
from .renewal import RenewalCall

MAX_ENROLMENT: Final = 16 * 1024
REQUEST_TIMEOUT: Final = 15
MAX_SOCKETS: Final = 20_000


class TunnelFactory(WebSocketServerFactory):
    """Everything that the gateway's tunnels share."""

    protocol = GatewayTunnel
    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        admission: Admission,
        enrolment: Enrolment,
        *,
        settings: Settings,
        hold: float,
        software: str,
        shared_budget: CreditBudget | None = None,
    ) -> None:
        super().__init__(protocols=[SUBPROTOCOL], server=software, reactor=clock)
        self._batched_timer = ExactTimer(clock)
        self.setProtocolOptions(
            **OPTIONS, webStatus=False, requireMaskedClientFrames=True, maxConnections=MAX_SOCKETS
        )
        self.clock = clock
        self.registry = registry
        self.admission = admission
        self.enrolment = enrolment
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
            return RenewalCall(stream, head, lambda csr: self.enrolment.renew(agent_id, csr))

        return accept

    def site(self) -> Site:
        """What the tunnel's port answers: ``/tunnel`` and ``POST /enrol``."""
        root = Resource()
        root.putChild(b"tunnel", WebSocketResource(self))
        root.putChild(b"enrol", _Enrolment(self.enrolment))
        site = _Site(root, requestFactory=_SmallRequest, timeout=REQUEST_TIMEOUT)
        site.displayTracebacks = False
        site.noisy = False
        return site


class _HastyChannel(HTTPChannel):
    """A request has :data:`REQUEST_TIMEOUT` seconds in all, however steadily its bytes trickle."""

    abortTimeout = 5  # noqa: N815

    def resetTimeout(self) -> None:  # noqa: N802
        """Bytes buy no time."""


class _Site(Site):
    protocol = _HastyChannel  # type: ignore[assignment]  # HTTP 1 only: no protocol to choose

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

    def __init__(self, enrolment: Enrolment) -> None:
        super().__init__()
        self._enrolment = enrolment

    def render_POST(self, request: Any) -> int:  # noqa: N802
        body = request.content.read(MAX_ENROLMENT + 1)
        work = Deferred.fromCoroutine(self._answer(request, body))
        work.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any, body: bytes) -> None:
        """A stranger who leaves early has used up the code all the same: the work is not cut."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            answer = await self._enrolment.enrol(body, request.getClientAddress().host)
        except Problem as problem:
            if not gone:
                _write(request, problem.status, problem.body(""), problem.headers())
        else:
            if not gone:
                _write(request, 200, msgspec.json.encode(answer), [_JSON])

    def _failed(self, failure: Failure, request: Any) -> None:
        self._log.failure("enrolment failed", event="enrolment_broke", failure=failure)
        if not request.finished and request.channel is not None:
            problem = Problem("internal_error", "the gateway's log says more")
            _write(request, problem.status, problem.body(""), problem.headers())


_JSON: Final = ("content-type", "application/json")


def _write(request: Any, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    request.setResponseCode(status)
    for name, value in headers:
        request.setHeader(name.encode("latin-1"), value.encode("latin-1"))
    request.setHeader(b"content-length", str(len(body)).encode("ascii"))
    request.write(body)
    request.finish()
