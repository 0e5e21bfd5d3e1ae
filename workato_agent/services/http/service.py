"""The http service: calls of the profile's on-prem HTTP application."""

from __future__ import annotations

from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from . import failures, fields, redirects, switching
from .client import HttpClient
from .credentials import Basic, Bearer, Ntlm
from .messages import Incoming, Outgoing
from .settings import HttpSettings
from .streaming import IncomingBody, Upload, first_chunk
from .target import parse_base_url, request_target

_TEST: Final = "test"
_REFUSED: Final = frozenset({"connect", "trace", _TEST, switching.WEBSOCKET})
_OPERATIONS: Final = (
    "test",
    "get",
    "head",
    "post",
    "put",
    "patch",
    "delete",
    "options",
    switching.WEBSOCKET,
)
_EXPECTS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_WITHOUT_LENGTH: Final = 204
_NO_HEAD: Final = frozenset({405, 501})
_MARK: Final = (fields.TARGET_STATUS, "1")
_METHOD_LENGTH: Final = 64
_SKIPPED: Final = 64 * 1024
"""Bytes of a redirect's body that are read to keep its connection."""
_HANDSHAKE: Final = 60.0
"""Seconds for a WebSocket's request to be answered: its call has no deadline that would do."""


class HttpService:
    """Serves one http profile (see ``docs/services/http.md``).

    Raises ValueError for settings that can't work.

    :param reactor: IReactorTime, IReactorTCP and IReactorPluggableNameResolver.
    """

    type = "http"
    operations = _OPERATIONS

    def __init__(self, reactor: IReactorTime, settings: HttpSettings) -> None:
        self._reactor = reactor
        self._origin = parse_base_url(settings.base_url)
        self._client = HttpClient(reactor, settings, self._origin)
        self._authenticates = settings.auth is not None
        self._preamble = f" HTTP/1.1\r\nHost: {self._origin.authority}"
        self._redirects = settings.redirects
        self._admits = settings.admits
        self._logs_in = isinstance(settings.auth, Ntlm)
        if isinstance(settings.auth, Basic | Bearer):
            self._preamble += f"\r\nAuthorization: {settings.auth.authorization()}"

    def operation(self, request: Request) -> str:
        """``websocket``, ``test`` for GET of the profile itself, else the method in lower case."""
        if switching.asks(request):
            return switching.WEBSOCKET
        if not request.path and request.method == "GET":
            return _TEST
        operation = request.method.lower()
        if (
            operation in _REFUSED
            or len(operation) > _METHOD_LENGTH
            or not fields.valid_name(operation)
        ):
            raise Problem(
                "operation_not_found",
                f"The http service has no method {request.method[:_METHOD_LENGTH]!r}",
                hint="CONNECT and TRACE are not passed on",
            )
        return operation

    async def handle(self, request: Request) -> Response:
        """Pass the call on; the answer is the target's own, marked as such."""
        operation = self.operation(request)
        if operation == _TEST:
            return await self._test(request)
        if operation == switching.WEBSOCKET:
            return await self._websocket(request)
        outgoing = await self._outgoing(request)
        answer = await self._client.call(outgoing, request.deadline)
        if self._redirects:
            answer = await self._followed(request, outgoing, answer)
        return _response(answer)

    async def close(self) -> None:
        """Close the connections to the target."""
        await self._client.close()

    async def _followed(self, request: Request, outgoing: Outgoing, answer: Incoming) -> Incoming:
        """The answer at the end of the redirects that may be followed."""
        method = request.method
        if outgoing.upload is not None and method in redirects.READING:
            return answer
        target = request_target(self._origin, request.path, request.query)
        for _ in range(redirects.MOST):
            hop = redirects.next_hop(self._origin, method, target, answer)
            if hop is None or not self._admits(hop.method, hop.path):
                return answer
            if isinstance(answer.body, IncomingBody):
                await answer.body.skip(_SKIPPED)
            method, target = hop.method, hop.target
            lines, _ = fields.outgoing(fields.without_body(request.headers))
            onward = Outgoing(method, self._head(method, target, lines))
            answer = await self._client.call(onward, request.deadline)
        return answer

    async def _websocket(self, request: Request) -> Response:
        """Ask for a WebSocket; where the target agrees, the answer's body is what it sends."""
        target = request_target(self._origin, request.path, request.query)
        lines, _ = fields.outgoing(request.headers, upgrading=True)
        head = self._head("GET", target, [*lines, *switching.ASKING])
        opening = self._head("GET", target, lines) if self._logs_in else None
        outgoing = Outgoing("GET", head, passage=aiter(request.body), opening=opening)
        calling = Deferred.fromCoroutine(self._client.call(outgoing, request.deadline))
        calling.addTimeout(_HANDSHAKE, self._reactor)
        try:
            return _response(await calling)
        except DeferredTimeout as error:
            raise failures.no_handshake(self._origin, _HANDSHAKE) from error

    async def _outgoing(self, request: Request) -> Outgoing:
        method = request.method
        target = request_target(self._origin, request.path, request.query)
        lines, framing = fields.outgoing(request.headers)
        upload: Upload | None = None
        opening: bytes | None = None
        length = framing.length
        if length is not None:
            lines.append(f"Content-Length: {length}")
            if length:
                upload = Upload(aiter(request.body), length=length, expect=framing.expect)
        elif framing.chunked:
            upload = Upload(aiter(request.body), length=None, expect=framing.expect)
        else:
            body, first = await first_chunk(request.body)
            if first:
                upload = Upload(body, first=first, length=None, expect=framing.expect)
            elif method in _EXPECTS_BODY:
                lines.append("Content-Length: 0")
        if upload is not None:
            if self._logs_in:
                plain = lines[:-1] if length is not None else lines
                opening = self._head(method, target, [*plain, "Content-Length: 0"])
            if length is None:
                lines.append("Transfer-Encoding: chunked")
            if framing.expect:
                lines.append("Expect: 100-continue")
        return Outgoing(method, self._head(method, target, lines), upload, opening=opening)

    def _head(self, method: str, target: str, lines: list[str]) -> bytes:
        head = "\r\n".join([method + " " + target + self._preamble, *lines, "\r\n"])
        return head.encode("latin-1")

    async def _test(self, request: Request) -> Response:
        """Whether the application answers, and who it says it is."""
        answer = await self._probe("HEAD", request.deadline)
        if answer.status in _NO_HEAD:
            answer = await self._probe("GET", request.deadline)
        if answer.status == 401 and self._authenticates:
            raise Problem(
                "target_login_failed",
                f"{self._origin} answered 401 to the profile's credentials",
                hint="Check the profile's auth: user and password, or the token",
                extra={"host": self._origin.host, "port": self._origin.port},
            )
        server = dict(answer.fields).get("server") or "HTTP/1.1"
        content = msgspec.json.encode({"ok": True, "target": server, "status": answer.status})
        headers = (("content-type", "application/json"), ("content-length", str(len(content))))
        return Response(200, headers, content)

    async def _probe(self, method: str, deadline: float) -> Incoming:
        target = request_target(self._origin, "", "")
        lines = ["Accept: */*", "User-Agent: workato-agent"]
        outgoing = Outgoing(method, self._head(method, target, lines))
        answer = await self._client.call(outgoing, deadline)
        if isinstance(answer.body, IncomingBody):
            await answer.body.aclose()
        return answer


def _response(answer: Incoming) -> Response:
    headers = answer.fields
    headers.append(_MARK)
    if answer.length is not None and answer.status != _WITHOUT_LENGTH:
        headers.append(("content-length", str(answer.length)))
    return Response(answer.status, tuple(headers), answer.body)
