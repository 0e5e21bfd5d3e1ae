"""The http service sees of a server what treq, another client, sees of it."""

from __future__ import annotations

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site

from tests.support.files import Chunks
from tests.support.http_app import HttpTestCase
from workato_agent.services.http.settings import HttpSettings

_NOT_COMPARED = frozenset(
    {"connection", "transfer-encoding", "date", "x-onprem-target-status", "keep-alive"}
)


@frozen
class Seen:
    """An answer, as far as clients may not differ on it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


def seen(status: int, fields: list[tuple[str, str]], body: bytes) -> Seen:
    """An answer without the fields that are the client's affair."""
    dropped = _NOT_COMPARED | ({"content-length"} if status in (204, 304) else set())
    kept = sorted(field for field in fields if field[0] not in dropped)
    return Seen(status, tuple(kept), body)


class ClientContractTests(HttpTestCase):
    def setUp(self) -> None:
        super().setUp()
        port = self.listen(Site(self.application))
        self.base = f"http://127.0.0.1:{port}"
        self.ours = self.service(HttpSettings(self.base))
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.agent = Agent(reactor, pool=pool)

    async def by_treq(self, method: str, path: str, query: str, body: bytes | None) -> Seen:
        url = f"{self.base}/{path}" + (f"?{query}" if query else "")
        headers = {"accept": "*/*", "accept-encoding": "identity", "x-a": "1"}
        answer = await HTTPClient(self.agent).request(  # a new one has no cookies
            method, url, headers=headers, data=body, allow_redirects=False, unbuffered=True
        )
        fields = [
            (name.decode().lower(), value.decode("latin-1"))
            for name, values in answer.headers.getAllRawHeaders()
            for value in values
            if value  # treq adds an empty Content-Encoding
        ]
        if isinstance(answer.length, int) and method != "HEAD":  # there it is 0, beside the field
            fields.append(("content-length", str(answer.length)))
        chunks: list[bytes] = []
        if method != "HEAD":
            await answer.collect(chunks.append)
        return seen(answer.code, fields, b"".join(chunks))

    async def by_service(self, method: str, path: str, query: str, body: bytes | None) -> Seen:
        headers: tuple[tuple[str, str], ...] = (
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
            ("x-a", "1"),
        )
        if body is not None:
            headers = (*headers, ("content-length", str(len(body))))
        chunks = Chunks([body] if body else [])
        answer, content = await self.call(self.ours, method, path, query, headers, chunks)
        return seen(answer.status, list(answer.headers), content)

    async def compare(
        self, method: str, path: str, query: str = "", body: bytes | None = None
    ) -> None:
        by_treq = await self.by_treq(method, path, query, body)
        by_service = await self.by_service(method, path, query, body)
        if path.startswith("echo"):  # the application tells of each request's own fields
            self.assertEqual(by_service.status, by_treq.status)
            self.assertEqual(len(by_service.fields), len(by_treq.fields))
            return
        self.assertEqual(by_service, by_treq, f"{method} {path}?{query}")

    async def test_status_fields_and_body_are_the_same(self) -> None:
        for path, query in (
            ("status", "code=200"),
            ("status", "code=204"),
            ("status", "code=304"),
            ("status", "code=404"),
            ("status", "code=503"),
            ("redirect", ""),
            ("cookies", ""),
            ("chunked", ""),
            ("unauthorized", ""),
            ("echo", "a=1&b=%2F"),
        ):
            await self.compare("GET", path, query)

    async def test_methods_with_and_without_a_body_are_answered_the_same(self) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for body in (b"x", b"x" * 100_000):
                await self.compare(method, "echo/x", body=body)
                await self.compare(method, "cookies", body=body)
        await self.compare("HEAD", "anything")
        await self.compare("OPTIONS", "cookies")

    async def test_calls_side_by_side_do_not_mix(self) -> None:
        calls = [
            Deferred.fromCoroutine(self.compare("GET", "status", f"code={400 + number}"))
            for number in range(20)
        ]
        for call in calls:
            await call
