"""An on-prem HTTP application of twisted.web, and a test case that runs the service against it."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import ClassVar

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.support.files import Chunks
from tests.support.http import RawTarget, http_request, whole_body
from workato_agent.requests import Headers, Response
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings

ZIPPED = gzip.compress(b"zipped " * 100, mtime=0)


class Application(Resource):
    """Answers by the last segment of the path; everything else is echoed as JSON."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        super().__init__()
        self.disconnected: Deferred[None] = Deferred()

    def render(self, request: Request) -> bytes | int:
        name = request.path.rpartition(b"/")[2].decode("ascii")
        answer = getattr(self, f"answer_{name.replace('-', '_')}", self.echo)
        result: bytes | int = answer(request)
        return result

    def echo(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"server", b"Application/1.0")
        if request.method == b"HEAD":
            request.setHeader(b"content-length", b"10")
            return b""
        body = request.content.read()
        seen = {
            "method": request.method.decode(),
            "uri": request.uri.decode(),
            "headers": [
                [name.decode().lower(), value.decode("latin-1")]
                for name, values in request.requestHeaders.getAllRawHeaders()
                for value in values
            ],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(seen).encode()

    def answer_status(self, request: Request) -> bytes:
        request.setResponseCode(int(request.args[b"code"][0]))
        return b"" if request.args[b"code"][0] in (b"204", b"304") else b"as you wish"

    def answer_redirect(self, request: Request) -> bytes:
        request.setResponseCode(302)
        request.setHeader(b"location", b"http://elsewhere.example/")
        return b""

    def answer_cookies(self, request: Request) -> bytes:
        request.addCookie(b"a", b"1", path=b"/")
        request.addCookie(b"b", b"2", secure=True)
        return request.getHeader(b"cookie") or b"none"

    def answer_zipped(self, request: Request) -> bytes:
        request.setHeader(b"content-encoding", b"gzip")
        return ZIPPED

    def answer_chunked(self, request: Request) -> int:
        request.write(b"one ")
        reactor.callLater(0, request.write, b"two ")  # type: ignore[attr-defined]
        reactor.callLater(0.01, request.write, b"three")  # type: ignore[attr-defined]
        reactor.callLater(0.02, request.finish)  # type: ignore[attr-defined]
        return NOT_DONE_YET

    def answer_unauthorized(self, request: Request) -> bytes:
        request.setResponseCode(401)
        request.setHeader(b"www-authenticate", b'Basic realm="app"')
        return b"who are you"

    def answer_never(self, request: Request) -> int:
        request.notifyFinish().addBoth(lambda _result: self.disconnected.callback(None))
        return NOT_DONE_YET

    def answer_slowly(self, request: Request) -> int:
        request.write(b"x" * 100)
        return self.answer_never(request)


class HttpTestCase(TestCase):
    """Runs services against targets on 127.0.0.1; everything is closed after the test.

    Bounded: a test that hangs fails after ``timeout`` seconds.
    """

    timeout = 60
    settings: ClassVar[HttpSettings] = HttpSettings("http://127.0.0.1/")

    def setUp(self) -> None:
        self.application = Application()

    def listen(self, factory: Factory, identity: object = None) -> int:
        """Serve on a free port, with TLS where there is an identity."""
        if identity is None:
            port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        else:
            port = reactor.listenSSL(0, factory, identity, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def serve(self, settings: HttpSettings = settings, base: str = "") -> HttpService:
        """A service in front of the application."""
        port = self.listen(Site(self.application))
        return self.service(evolve(settings, base_url=f"http://127.0.0.1:{port}{base}"))

    def serve_raw(self, target: RawTarget, settings: HttpSettings = settings) -> HttpService:
        """A service in front of a scripted target."""
        return self.service(evolve(settings, base_url=f"http://127.0.0.1:{self.listen(target)}"))

    def service(self, settings: HttpSettings) -> HttpService:
        """A service that is closed after the test."""
        service = HttpService(reactor, settings)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return service

    async def call(
        self,
        service: HttpService,
        method: str = "GET",
        path: str = "x",
        query: str = "",
        headers: Headers = (),
        body: object = (),
    ) -> tuple[Response, bytes]:
        """A call and its whole body."""
        request = http_request(method, path, query, headers, body)
        response = await service.handle(request)
        return response, await whole_body(response)

    async def echoed(
        self, service: HttpService, *args: object, **kwargs: object
    ) -> dict[str, object]:
        """What the application saw of a call."""
        response, body = await self.call(service, *args, **kwargs)  # type: ignore[arg-type]
        self.assertEqual(response.status, 200)
        seen: dict[str, object] = json.loads(body)
        return seen


def sized(*chunks: bytes) -> dict[str, object]:
    """Arguments of a call whose body has a known length."""
    length = str(sum(map(len, chunks)))
    return {"headers": (("content-length", length),), "body": Chunks(list(chunks))}
